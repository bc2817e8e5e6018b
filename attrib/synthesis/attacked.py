"""What an attack found: pictures before and after, what the network says of them, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from attrib.core.attribution import Attribution
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table
from attrib.synthesis.ball import BallSearch
from attrib.synthesis.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attrib.synthesis.change import AttributionChange

Method: TypeAlias = "str | Attribution | Callable[..., Attribution]"


@dataclass(frozen=True, eq=False)
class Adversarial(Finding):
    """Pictures that were changed so that a network says something else of them.

    Attributes:
        clean: inputs as they were given, ``(N, C, H, W)``.
        adversarial: inputs after the attack; equal to ``clean`` where the network was wrong before.
        labels: the right classes, or what the network said, ``(N,)``.
        target: the classes to be reached, ``(N,)``; None: any other.
        before: probability of every class, ``(N, classes)``.
        after: likewise, of the changed pictures.
        eps: the radius of each example, pixels, ``(N,)``; infinite where no radius that was tried is enough.
        success: whether the network says what was asked for, ``(N,)`` bool.
        search: how the ball was searched.
        subject: the network, its normalisation and its class names.
    """

    clean: Tensor
    adversarial: Tensor
    labels: Tensor
    target: Tensor | None
    before: Tensor
    after: Tensor
    eps: Tensor
    success: Tensor
    search: BallSearch
    subject: Subject = field(metadata={"saved": False}, repr=False)

    @property
    def picture(self) -> Tensor:
        """The pixels of the pictures as they were, in [0, 1]."""
        return self.subject.space.to_picture(self.clean)

    @property
    def changed(self) -> Tensor:
        """The pixels after the attack."""
        return self.subject.space.to_picture(self.adversarial)

    @property
    def perturbation(self) -> Tensor:
        """What was added, pixels."""
        return self.changed - self.picture

    @property
    def linf(self) -> Tensor:
        """The largest change of a value, pixels, ``(N,)``."""
        return self.perturbation.flatten(1).abs().amax(1)

    @property
    def l2(self) -> Tensor:
        """The Euclidean norm of the change, pixels, ``(N,)``."""
        found: Tensor = self.perturbation.flatten(1).norm(dim=1)
        return found

    @property
    def wrong(self) -> Tensor:
        """Which examples the network got wrong as they were; they were not attacked."""
        return self.before.argmax(1) != self.labels

    @property
    def rate(self) -> float:
        """Share of successes among the examples that were attacked."""
        return float(self.success.sum() / (~self.wrong).sum())

    def shuffled(self, seed: int = 0) -> Tensor:
        """Inputs with the same perturbations, their pixels in random order, ``(N, C, H, W)``: as large, without aim.

        The order is the same for all examples, the channels of a pixel stay together, and what lies beyond black and
        white is clipped.
        """
        flat = self.perturbation.flatten(2)
        order = torch.randperm(flat.shape[2], generator=torch.Generator().manual_seed(seed)).to(flat.device)
        noise = flat[:, :, order].reshape(self.clean.shape)
        return self.subject.space.to_input((self.picture + noise).clamp(0, 1))

    def attribution_change(
        self, *methods: Method, target: object = "predicted", layer: str | None = None, top: float = 0.05, seed: int = 0
    ) -> AttributionChange:
        """Explain the pictures before and after, and measure how far the maps moved.

        As a control the maps of `shuffled` are measured too.

        Args:
            methods: registry names, methods of this network, or what makes them from it; saliency and Grad-CAM if none.
            target: what is explained, of each picture: ``"predicted"`` is what the network says of it, before and
                after; ``found.labels`` the same class for both.
            layer: where methods that need a layer look; the last spatial one if None.
            top: share of the pixels whose overlap is measured.
            seed: of the random order.

        Returns:
            Maps and distances, see `attrib.synthesis.AttributionChange`.
        """
        from attrib.synthesis.change import attribution_change

        return attribution_change(self, methods, target=target, layer=layer, top=top, seed=seed)

    def table(self) -> list[dict[str, Any]]:
        """One row per example; a class with the probability that the network gives it."""
        said = (self.before.argmax(1), self.after.argmax(1))
        outcomes = ["wrong before" if wrong else "failure" for wrong in self.wrong]
        return [
            {
                "example": i,
                "outcome": "success" if self.success[i] else outcomes[i],
                "before": self.subject.label(int(said[0][i])),
                "probability before": float(self.before[i, said[0][i]]),
                "after": self.subject.label(int(said[1][i])),
                "probability after": float(self.after[i, said[1][i]]),
                "eps": float(self.eps[i]),
                "linf": float(self.linf[i]),
                "l2": float(self.l2[i]),
            }
            for i in range(len(self.clean))
        ]

    @property
    def manifest(self) -> dict[str, Any]:
        """All facts as JSON holds them, with the rows of the table."""
        rows = [{key: None if value == float("inf") else value for key, value in row.items()} for row in self.table()]
        return super().manifest | {"normalisation": self.subject.space.__dict__, "rate": self.rate, "examples": rows}

    def to_text(self, *, markdown: bool = False) -> str:
        """How many were fooled, by how much, and into what."""
        rows = [{key: value if isinstance(value, str) else _number(key, value) for key, value in row.items()}
                for row in self.table()]  # fmt: skip
        return f"{self._told()}\n\n{text_table(rows, markdown=markdown)}"

    def _told(self) -> str:
        done, wrong = int(self.success.sum()), int(self.wrong.sum())
        aim = "another class" if self.target is None else "the target"
        left = f" {wrong} more, wrong before, left as they are." if wrong else ""
        how = "one step" if self.search.steps == 1 else f"{self.search.steps} steps"
        return (
            f"{done} of {len(self.success) - wrong} taken for {aim} ({how}, {self.search.norm} ball).{left}"
            " Distances in pixels of a picture in [0, 1]."
        )

    def plot(self) -> Figure:
        """Draw the pictures before, what was added, magnified, and the pictures after."""
        from attrib.plot.adversarial import adversarial_panels

        return adversarial_panels(self)


def _number(key: str, value: float) -> str:
    if key == "example":
        return str(value)
    return "none" if value == float("inf") else amount(value)
