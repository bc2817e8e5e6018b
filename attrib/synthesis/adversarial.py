"""Adversarial examples: the smallest changes of a picture that make a network say something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attrib import checks
from attrib.core.network.frozen import frozen
from attrib.core.synth import PixelSpace
from attrib.errors import InputError
from attrib.synthesis.attacked import Adversarial
from attrib.synthesis.ball import BallOptions, BallSearch
from attrib.synthesis.plan import AttackPlan, Classes
from attrib.synthesis.subject import BATCH, Network, Subject

if TYPE_CHECKING:
    from typing_extensions import Unpack

HALVINGS = 8  # of the largest radius where it fails
ROUNDS = 30  # of the bisection: what is smaller than a billionth of the largest radius is rounding


def attack(
    model: Network,
    inputs: Tensor,
    target: Classes | None = None,
    *,
    eps: float = 8 / 255,
    pixels: PixelSpace | None = None,
    labels: Classes | None = None,
    additional_forward_args: object = None,
    batch_size: int = BATCH,
    **search: Unpack[BallOptions],
) -> Adversarial:
    r"""Search, within ``eps`` of each picture, for one that the network takes for something else.

    .. math:: x' = x + \arg\max_{\|\delta\|_p \le \epsilon} L(x + \delta), \qquad
        \delta \leftarrow \Pi_{p, \epsilon}\big(\delta + \alpha\, v(\nabla_\delta L(x + \delta))\big)

    with :math:`v(g) = \mathrm{sign}(g)` for :math:`p = \infty` and :math:`g / \|g\|_2` for :math:`p = 2`. ``steps=1``
    is the fast gradient sign method, :math:`\delta = \epsilon\, \mathrm{sign}(\nabla L)`; more steps are projected
    gradient descent.

    Convention:
        - ``eps`` and all distances are in pixels of the picture in [0, 1], whatever the network's normalisation.
        - ``L`` is minus the log-odds of the class that is attacked, or the log-odds of ``target``: its gradient is that
          of the cross-entropy divided by a positive number, which these steps ignore, and it does not vanish when the
          network is sure.
        - the result never leaves the ball, nor black and white, but for rounding to the inputs' type.
        - every example is searched on its own, for all steps, and the last point counts.
        - an example that the network gets wrong before is left as it is, and is neither success nor failure.

    Cost: ``steps`` forward and backward passes and two forward passes.

    Args:
        model: a `attrib.io.LoadedModel`, or an ``nn.Module`` or callable with outputs ``(N, C)``.
        inputs: ``(N, C, H, W)`` as the network takes them: pixels in [0, 1], normalised.
        target: the class to be reached, one or one for each example; None: any class but the right one.
        eps: radius of the ball, pixels; with ``norm="l2"`` of the whole picture, so that about 0.5 is little.
        pixels: how pixels become inputs; None: as the `attrib.io.LoadedModel` says. ``PixelSpace()`` says that the
            inputs are pixels.
        labels: the right classes; None: what the network says.
        additional_forward_args: as in `attrib.Attribution.attribute`.
        batch_size: examples in a pass; what is found does not depend on it.
        search: see `attrib.synthesis.ball.BallOptions`: ``norm``, ``steps``, ``step``, ``random_start``, ``seed``.

    Raises:
        InputError: the target is already predicted, no label is, or pixels lie beyond black and white.
        ModelError: the network gives no gradient, or a gradient of zero for all examples.

    Example:
        >>> from attrib.core.synth import PixelSpace
        >>> space = PixelSpace(mean=0.5, std=0.02)
        >>> found = attack(model, space.to_input(x.sigmoid()), eps=0.2, pixels=space)
        >>> found.success.tolist(), bool((found.linf <= 0.2 + 1e-6).all())
        ([True, True], True)

    References:
        Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015, section 4.
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, section 2.1.
    """
    how, radius = BallSearch.of(search), _positive("eps", eps)
    subject = Subject.of(model, pixels, additional_forward_args, batch_size)
    with _asking(subject, inputs, target, labels) as asked:
        sizes = asked.picture.new_full((len(asked.x),), radius)
        todo = (~asked.wrong).nonzero()[:, 0]
        found = asked.rows(todo).searched(how, sizes[todo])
        return _finding(asked, asked.picture.index_copy(0, todo, found), sizes.where(~asked.wrong, 0.0), how)


def smallest_eps(  # noqa: PLR0913  what is asked, of what, and how it runs
    model: Network,
    inputs: Tensor,
    target: Classes | None = None,
    *,
    most: float = 16 / 255,
    within: float = 0.1,
    pixels: PixelSpace | None = None,
    labels: Classes | None = None,
    additional_forward_args: object = None,
    batch_size: int = BATCH,
    **search: Unpack[BallOptions],
) -> Adversarial:
    r"""Find how little is enough: the smallest radius at which `attack` succeeds, for each example.

    .. math:: \epsilon^* = \min \{\epsilon : \text{the attack within } \epsilon \text{ succeeds}\}

    Convention:
        - by bisection, which takes success to be monotone in ``eps``. What is found did succeed, so it is an upper
          bound of the distance to another class; on a network of two classes with linear scores it is exact,
          ``margin / dual norm of the difference of their weights``.
        - where ``most`` fails, halves of it are tried, eight times: a single large step may go too far.
        - ``eps`` is infinite where all of these fail, and 0 where the network is wrong before.
        - everything else as in `attack`.

    Cost: those of `attack`, times the rounds of the bisection: about ``log2(most / eps) + log2(1 / within)``.

    Args:
        model: as in `attack`.
        inputs: as in `attack`.
        target: as in `attack`.
        most: the largest radius that is tried, pixels.
        within: how far the result may be above the smallest, as a share of it, from 0.001 to 1.
        pixels: as in `attack`.
        labels: as in `attack`.
        additional_forward_args: as in `attack`.
        batch_size: as in `attack`.
        search: as in `attack`.

    Example:
        >>> from attrib.core.synth import PixelSpace
        >>> space = PixelSpace(mean=0.5, std=0.02)
        >>> found = smallest_eps(model, space.to_input(x.sigmoid()), most=0.5, pixels=space)
        >>> bool((found.linf <= found.eps + 1e-6).all()), bool((found.eps < 0.02).all())
        (True, True)

    References:
        Szegedy et al., "Intriguing properties of neural networks", ICLR 2014, section 4.1.
    """
    how, most, share = BallSearch.of(search), _positive("most", most), checks.number("within", within, 0.001, 1)
    subject = Subject.of(model, pixels, additional_forward_args, batch_size)
    with _asking(subject, inputs, target, labels) as asked:
        todo = (~asked.wrong).nonzero()[:, 0]
        found, sizes = _bisected(asked.rows(todo), how, most, share)
        eps = asked.picture.new_zeros(len(asked.x)).index_copy(0, todo, sizes)
        return _finding(asked, asked.picture.index_copy(0, todo, found), eps, how)


def _bisected(asked: AttackPlan, how: BallSearch, most: float, within: float) -> tuple[Tensor, Tensor]:
    """Pictures, and the smallest radii that were enough; infinite where ``most`` was not."""
    found, high, ok = _enough(asked, how, most)
    low = torch.zeros_like(high)
    for _ in range(ROUNDS):
        rows = (ok & (high - low > within * high)).nonzero()[:, 0]
        if not len(rows):
            break
        middle = (low[rows] + high[rows]) / 2
        part = asked.rows(rows)
        tried = part.searched(how, middle)
        enough = part.succeeds(tried)
        found[rows[enough]] = tried[enough]
        high[rows[enough]], low[rows[~enough]] = middle[enough], middle[~enough]
    return found, high.masked_fill(~ok, float("inf"))


def _enough(asked: AttackPlan, how: BallSearch, most: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, radii and whether they are enough: a large step may go too far, so smaller ones are tried too."""
    radius = asked.picture.new_full((len(asked.x),), most)
    found = asked.searched(how, radius)
    ok = asked.succeeds(found)
    for halved in range(1, HALVINGS + 1):
        rows = (~ok).nonzero()[:, 0]
        if not len(rows):
            break
        part, smaller = asked.rows(rows), radius.new_full((len(rows),), most / 2**halved)
        tried = part.searched(how, smaller)
        enough = part.succeeds(tried)
        found[rows[enough]], radius[rows[enough]], ok[rows] = tried[enough], smaller[enough], enough
    return found, radius, ok


@contextmanager
def _asking(subject: Subject, inputs: Tensor, target: Classes | None, labels: Classes | None) -> Iterator[AttackPlan]:
    """Check the question and open it, with the model `frozen`."""
    (x,) = checks.batch(inputs)
    with frozen(subject.model):
        yield AttackPlan.of(subject, x.detach().clone(), target, labels)


def _finding(asked: AttackPlan, picture: Tensor, eps: Tensor, how: BallSearch) -> Adversarial:
    subject, still = asked.subject, asked.wrong.reshape(-1, *(1 for _ in picture.shape[1:]))
    changed = torch.where(still, asked.x, subject.space.to_input(picture))
    after = subject.chances(changed)
    return Adversarial(
        clean=asked.x,
        adversarial=changed,
        labels=asked.labels,
        target=asked.target,
        before=asked.before,
        after=after,
        eps=eps,
        success=asked.reached(after) & ~asked.wrong,
        search=how,
        subject=subject,
    )


def _positive(what: str, value: float) -> float:
    if not checks.number(what, value, 0) > 0:
        raise InputError(f"{what} must be above 0, in pixels of a picture in [0, 1]; got {value!r}.")
    return float(value)
