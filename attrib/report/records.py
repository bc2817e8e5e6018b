"""The small facts that results are made of: what was asked, what it cost, what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Asked:
    """What a target meant for one image.

    Attributes:
        target: what the user passed, in words.
        index: output that was explained, a position for outputs with locations; None if it is not a class.
        name: of the class, or of the target where it is not a class.
        score: value of the goal on the untouched input.
        probability: softmax (or sigmoid, for a single output) of the model's outputs; None if it is not a class.
    """

    target: str
    index: int | tuple[int, ...] | None
    name: str
    score: float
    probability: float | None

    def __str__(self) -> str:
        """As in ``tabby (281), p=0.62``."""
        number = "" if self.index is None else f" ({self.index})"
        chance = f"score={self.score:.3g}" if self.probability is None else f"p={self.probability:.2f}"
        return f"{self.name}{number}, {chance}"


@dataclass(frozen=True)
class Spent:
    """What computing maps took.

    A pass that several methods read (see `attrib.attribute_all`) counts, whole, for each of them; the ``shared``
    numbers say how much of the others that is.

    Attributes:
        forwards: examples that went forward through the model.
        backwards: examples that went backward.
        seconds: wall time.
        peak_bytes: memory at its peak above where it began: allocated by torch on CUDA, resident memory of the process
            on Linux (sampled, so coarse); None elsewhere.
        shared_forwards: those of ``forwards`` that other methods read too.
        shared_backwards: those of ``backwards`` that other methods read too.
        shared_seconds: wall time of these passes.
        error: the largest measured error of approximations that were asked for, as a share of the largest effect (see
            `attrib.core.Deviation`); None where all is exact.
    """

    forwards: int
    backwards: int
    seconds: float
    peak_bytes: int | None
    shared_forwards: int = 0
    shared_backwards: int = 0
    shared_seconds: float = 0.0
    error: float | None = None

    @classmethod
    def total(cls, parts: Sequence[Spent]) -> Spent:
        """Sum of passes and seconds, and the highest peak."""
        peaks = [part.peak_bytes for part in parts if part.peak_bytes is not None]
        return cls(
            sum(part.forwards for part in parts),
            sum(part.backwards for part in parts),
            sum(part.seconds for part in parts),
            max(peaks) if peaks else None,
            sum(part.shared_forwards for part in parts),
            sum(part.shared_backwards for part in parts),
            sum(part.shared_seconds for part in parts),
            max((part.error for part in parts if part.error is not None), default=None),
        )

    def for_several(self) -> Spent:
        """The same, read by several methods."""
        shared = replace(self, shared_forwards=self.forwards, shared_backwards=self.backwards)
        return replace(shared, shared_seconds=self.seconds)

    def row(self, maps: int) -> dict[str, float | None]:
        """Columns of a table: passes and seconds for each of ``maps`` maps, peak memory in MB."""
        share = max(1, maps)
        peak = None if self.peak_bytes is None else self.peak_bytes / 1e6
        return {
            "forwards": self.forwards / share,
            "backwards": self.backwards / share,
            "seconds": self.seconds / share,
            "memory_mb": peak,
        }


@dataclass(frozen=True)
class Failure:
    """Something that could not be computed while the rest went on.

    Attributes:
        image: name of the image, None if all are concerned.
        method: label of the method, None if the image itself failed.
        target: the target in words, None if it does not matter.
        error: name of the exception.
        message: what it said.
        metric: label of the metric, None if it was not measuring that failed.
    """

    image: str | None
    method: str | None
    target: str | None
    error: str
    message: str
    metric: str | None = None

    def __str__(self) -> str:
        """As in ``cat.jpg, guided: RuleError: no ReLU ran ...``."""
        target = self.target and f"target {self.target}"
        where = ", ".join(filter(None, (self.image, self.method, target, self.metric)))
        return f"{where or 'run'}: {self.error}: {self.message}"
