"""The one loop behind the images that a network makes: ascent, facets, inversion, dreams."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from attrib import checks
from attrib.core.network import cost
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import unwrap
from attrib.core.network.passes import forward
from attrib.core.objectives.objective import Objective
from attrib.core.objectives.targets import as_objective
from attrib.core.shared import checked_score
from attrib.core.synth.partial import as_far_as_needed
from attrib.core.synth.record import NotFiniteError, Recorder, Step, Stopped, Synthesis, Unfinished
from attrib.core.synth.search import Search
from attrib.core.synth.tiles import tiles
from attrib.core.synth.views import seen
from attrib.errors import InputError, ModelError

log = logging.getLogger("attrib")


def synthesize(
    model: Callable[..., Any],
    objective: object,
    start: Tensor,
    search: Search | None = None,
    *,
    additional_forward_args: object = None,
    resume: Synthesis | None = None,
) -> Synthesis:
    r"""Move images uphill on an objective.

    .. math:: x_{t+1} = \Pi\big(x_t + \eta_t\, m(\nabla_x [S(v_t(x_t)) - \textstyle\sum_k \lambda_k R_k(x_t)])\big)

    with views :math:`v_t`, penalties :math:`R_k`, the move :math:`m` and the projections :math:`\Pi`.

    Convention:
        - the gradient is that of each image's own score: what becomes of an image does not depend on those beside it.
        - penalties are of the image itself, not of what the network sees of it.
        - what the objective leaves open ("predicted", the strongest place) is settled on the start, without views.
        - an image whose score does not change with it at the start is ``dead``: said, and searched on by penalties only
          until a view or a step brings it to life.
        - with ``resume`` the search goes on as if it had never stopped, to the bit: with the same model, objective and
          settings, ``steps`` more steps are made.

    Cost:
        One forward and one backward pass per step, one forward pass to settle the objective and one for the last value.
        Objectives that read layers only end the forward pass there. Images are laid out channels-last.

    Args:
        model: the network, or any callable.
        objective: what to climb, see `as_objective`; a list asks another question of each image.
        start: ``(N, C, H, W)`` as the network takes it, or the codes of `Generated`.
        search: steps, moves, penalties and the like.
        additional_forward_args: further arguments of the model.
        resume: what an earlier call found.

    Returns:
        The images and the record of all steps. Ctrl-C ends the search early and returns what is there.

    Raises:
        ModelError: the score does not depend on the image in a way that can be differentiated.
        NotFiniteError: something became NaN or infinite; it holds what was found up to the step before.

    Example:
        >>> from attrib.core.synth import Move
        >>> found = synthesize(model, 3, torch.zeros(1, 3, 12, 12), Search(steps=5, move=Move(0.1, "unit")))
        >>> bool(found.score[-1] > found.score[0])
        True
    """
    search = search or Search()
    checks.batch(start)
    run = _Run(unwrap(model), as_objective(objective), search, checks.arguments(additional_forward_args))
    with ExitStack() as held:
        for network in (run.model, *search.parameters.networks):
            held.enter_context(frozen(network))
        return run(start.detach(), resume)


@dataclass(eq=False)
class _Run:
    """A search in progress."""

    model: Callable[..., Any]
    objective: Objective
    search: Search
    extra: tuple[Any, ...]

    def __call__(self, start: Tensor, resume: Synthesis | None) -> Synthesis:
        self.random = torch.Generator().manual_seed(self.search.seed)
        self.size = start.shape
        self.layout = torch.channels_last if start.ndim == 4 else torch.contiguous_format  # which most networks like
        self.parameters = self.search.parameters.encode(start)
        self.moves: dict[str, Tensor] = {}
        self.dead = torch.zeros(len(start), dtype=torch.bool)
        first = 0
        if resume is not None:
            first = self._continue(resume.unfinished, resume.dead)
        self.goal = self._bound(start)
        self.record = Recorder(self._image(), resume)
        return self._climb(first, first + self.search.steps)

    def _continue(self, before: Unfinished, dead: Tensor) -> int:
        if before.parameters.shape != self.parameters.shape:
            got, wanted = tuple(self.parameters.shape), tuple(before.parameters.shape)
            raise InputError(f"start must be the one that the search began with, of {wanted}; got {got}.")
        self.parameters, self.moves, self.dead = before.parameters, dict(before.moves), dead
        self.random.set_state(before.random)
        return before.steps

    def _image(self) -> Tensor:
        with torch.no_grad():
            return self.search.parameters.image(self.parameters, self.size)

    def _bound(self, start: Tensor) -> Objective:
        """The objective with what is open settled on the start."""
        if self.search.tile is not None:
            return self.objective
        with torch.no_grad():
            image = self.search.parameters.image(self.search.parameters.encode(start), self.size)
            return self._asked(self.objective, image, bind=True)[0]

    def _asked(self, goal: Objective, image: Tensor, *, bind: bool = False) -> tuple[Objective, Tensor]:
        try:
            return self._answered(goal, image, bind)
        except RuntimeError as exc:
            if self.layout == torch.contiguous_format or "view size is not compatible" not in str(exc):
                raise
            self.layout = torch.contiguous_format
            return self._answered(goal, image, bind)

    def _answered(self, goal: Objective, image: Tensor, bind: bool) -> tuple[Objective, Tensor]:
        output = None
        with as_far_as_needed(self.model, goal) as acts:
            output = forward(self.model, (image.contiguous(memory_format=self.layout),), self.extra)
        goal = goal.bind(output, acts) if bind else goal
        return goal, checked_score(goal(output, acts), len(image))

    def _climb(self, first: int, last: int) -> Synthesis:
        kept = self._state(first)
        stopped: Stopped = "done"
        hidden = None if self.search.show_progress else True
        try:
            for number in tqdm(range(first, last + 1), unit="step", disable=hidden):
                kept = self._state(number)
                with torch.set_grad_enabled(number < last or number == 0):
                    step, slope, image = self._evaluate(number)
                self._check(step, kept)
                self.record.add(step)
                if number < last and self.search.on_step is not None and self.search.on_step(step) is True:
                    stopped = "asked"
                    break
                if number < last:
                    self._advance(slope, image, number)
        except KeyboardInterrupt:
            log.warning("interrupted at step %d; what is there is kept", kept.steps)
            stopped = "interrupted"
        return self.record.found(self.dead, stopped, kept)

    def _state(self, number: int) -> Unfinished:
        return Unfinished(self.parameters, dict(self.moves), self.random.get_state(), number)

    def _evaluate(self, number: int) -> tuple[Step, Tensor, Tensor]:
        """A step's numbers, the gradient of the score at the image, and the image with the graph behind it."""
        search = self.search
        image = search.parameters.image(self.parameters.requires_grad_(), self.size)
        shown = seen(image, search.views, self.random)
        if search.tile is None:
            _, score = self._asked(self.goal, shown)
            slope = self._slope(score, image, keep=image.grad_fn is not None)
        else:
            score, pieces = self._tiled(shown.detach(), search.tile)
            slope = torch.autograd.grad(shown, image, pieces, retain_graph=True)[0] if shown.grad_fn else pieces
        if number == 0:
            self._find_dead(slope)
        with torch.no_grad():
            penalties = {type(one).__name__: one(image) for one in search.penalties}
        return Step(number, image.detach(), score.detach(), penalties), slope, image

    def _tiled(self, shown: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Score and gradient, tile by tile."""
        total, slope = torch.zeros(len(shown)).to(shown), torch.zeros_like(shown)
        for rows, columns in tiles(shown, side):
            piece = shown[..., rows, columns].clone().requires_grad_()
            _, score = self._asked(self.goal, piece)
            slope[..., rows, columns] = self._slope(score, piece)
            total += score.detach()
        return total, slope

    def _slope(self, score: Tensor, image: Tensor, *, keep: bool = False) -> Tensor:
        if not torch.is_grad_enabled():
            return torch.zeros_like(image)  # of the last image, which moves no more
        found = None
        if score.requires_grad:
            (found,) = torch.autograd.grad(score.sum(), image, retain_graph=keep, allow_unused=True)
            cost.add(backwards=len(image))
        if found is None:
            raise ModelError(
                "the score must depend on the image so that it can be differentiated; it does not. Labels, thresholds "
                "and detached layers have no gradient: ask for a score or an earlier layer."
            )
        return found

    def _find_dead(self, slope: Tensor) -> None:
        self.dead = (slope.flatten(1) == 0).all(1).cpu()
        if self.dead.any():
            which = ", ".join(map(str, self.dead.nonzero().flatten().tolist()))
            log.warning(
                "the score of image %s does not change with the image at the start (dead unit?); start from noise, or "
                "from a picture",
                which,
            )

    def _check(self, step: Step, kept: Unfinished) -> None:
        bad = [
            name for name, values in (("objective", step.score), *step.penalties.items()) if not checks.finite(values)
        ]
        if bad or not checks.finite(step.image):
            what = bad[0] if bad else "image"
            raise NotFiniteError(
                f"{what} must stay finite; it became NaN or infinite at step {step.number}. Take a smaller rate, or "
                "bounds; the error's `found` holds the last good image.",
                step.number,
                self.record.found(self.dead, "done", kept),
            )

    def _advance(self, slope: Tensor, image: Tensor, number: int) -> None:
        """Move the parameters, and project where they are pixels."""
        total = slope
        for penalty in self.search.penalties:
            leaf = image.detach().requires_grad_()
            total = total - torch.autograd.grad(penalty(leaf).sum(), leaf)[0]
        if image.grad_fn is not None:
            (total,) = torch.autograd.grad(image, self.parameters, total)
        with torch.no_grad():
            moved = self.parameters.detach() + self.search.move(total, self.moves, number)
            for projection in self.search.projections:
                moved = projection(moved, slope, number)
        self.parameters = moved
