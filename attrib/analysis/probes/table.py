"""How well classes can be read off each layer: the numbers, their spread, the table of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan, sqrt
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torch import Tensor

from attrib import checks
from attrib.benchmark.stats import bootstrap_interval, open_unit
from attrib.report.finding import Finding
from attrib.report.table import escape_latex, latex_table, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Ends: TypeAlias = Literal["t", "corrected", "bootstrap"]
LEVEL = 0.95


@dataclass(frozen=True)
class ProbeScore:
    """One probe of one layer with one size of the training set.

    Attributes:
        layer: address.
        features: how many.
        probe: its name.
        size: name of the size of the training set.
        mean: of the accuracies over the splits.
        sd: their standard deviation (with n - 1); NaN with one split.
        low: lower end of the interval of the mean.
        high: upper end.
        shuffled: mean accuracy of the same fit to shuffled labels.
        shuffled_sd: its standard deviation.
    """

    layer: str
    features: int
    probe: str
    size: str
    mean: float
    sd: float
    low: float
    high: float
    shuffled: float
    shuffled_sd: float


@dataclass(frozen=True, eq=False)
class LayerProbes(Finding):
    """What `probe_layers` found.

    Attributes:
        layers: in the order in which they were asked for.
        features: of each layer.
        probes: names.
        sizes: names of the sizes of the training set.
        accuracy: mean of the accuracies of the classes, ``(layers, probes, sizes, repeats)``, in [0, 1].
        shuffled: the same of probes that were fitted to shuffled labels.
        train: examples to learn from, by size.
        test: examples measured on, by size.
        classes: how many; ``1 / classes`` is chance.
        notes: what the fits said of themselves, and how often.
    """

    layers: tuple[str, ...]
    features: tuple[int, ...]
    probes: tuple[str, ...]
    sizes: tuple[str, ...]
    accuracy: Tensor
    shuffled: Tensor
    train: tuple[int, ...]
    test: tuple[int, ...]
    classes: int
    notes: tuple[str, ...] = ()

    @property
    def interval(self) -> Ends:
        """The interval that tables show: corrected where splits divide all data, with the larger part to learn from."""
        return "corrected" if all(n >= m for n, m in zip(self.train, self.test, strict=True)) else "t"

    def scores(self, interval: Ends | None = None, *, level: float = LEVEL) -> list[ProbeScore]:
        """One entry for each layer, probe and size.

        Convention:
            - ``"t"``: Student's interval of the mean over splits; ``"bootstrap"``: percentiles of means of resampled
              splits. They treat splits as independent: they say how far the mean depends on the draw of splits from
              these examples, and are too narrow for what other examples would give.
            - ``"corrected"``: Student's with the variance times ``1 / repeats + test / train`` in place of
              ``1 / repeats``, for splits that share most of what they learn from. With fewer examples to learn from
              than are measured on, their splits share little, and it is far too wide.
            - all are NaN with one split, and cut to [0, 1].

        Args:
            interval: which; `interval` if None.
            level: in (0, 1).

        References:
            Nadeau, Bengio, "Inference for the Generalization Error", Machine Learning 2003, section 3.
        """
        how = checks.choice("interval", interval or self.interval, ("t", "corrected", "bootstrap"))
        open_unit("level", level)
        return [
            self._score((i, j, k), how, level)
            for i in range(len(self.layers))
            for j in range(len(self.probes))
            for k in range(len(self.sizes))
        ]

    def _score(self, at: tuple[int, int, int], interval: Ends, level: float) -> ProbeScore:
        (i, j, k), values, shuffled = at, self.accuracy[at].double(), self.shuffled[at].double()
        mean, sd, several = float(values.mean()), nan, len(values) > 1
        low = high = nan
        if several:
            sd = float(values.std())
            shared = self.test[k] / self.train[k] if interval == "corrected" else 0.0
            half = _student(level, len(values)) * sd * sqrt(1 / len(values) + shared)
            found = bootstrap_interval(values, level) if interval == "bootstrap" else None
            low, high = (found.low, found.high) if found else (max(0.0, mean - half), min(1.0, mean + half))
        about = self.layers[i], self.features[i], self.probes[j], self.sizes[k], mean, sd, low, high
        return ProbeScore(*about, float(shuffled.mean()), float(shuffled.std()) if several else nan)

    @property
    def manifest(self) -> dict[str, Any]:
        """All facts, and the scores with their intervals."""
        return super().manifest | {"scores": [vars(one) for one in self.scores()]}

    def to_text(self, *, markdown: bool = False) -> str:
        """The table of layers, one for each probe."""
        repeats = self.accuracy.shape[3]
        corrected = ", corrected for what splits share" * (self.interval == "corrected")
        told = "mean ± sd" + (f" [{LEVEL:.0%} interval{corrected}]" if repeats > 1 else "")
        parts = [
            f"Accuracy in %, averaged over {self.classes} classes (chance {100 / self.classes:.1f}): {told} "
            f"of {repeats} split{'s' * (repeats != 1)}."
        ]
        parts += [
            f"{name}\n{gap}" + text_table(self._rows(name), markdown=markdown)
            for name in self.probes
            for gap in ["\n" * markdown]
        ]
        return "\n\n".join([*parts, *self.notes])

    def _rows(self, probe: str) -> list[dict[str, str]]:
        rows: dict[str, dict[str, str]] = {}
        for one in self.scores():
            if one.probe == probe:
                row = rows.setdefault(one.layer, {"layer": one.layer, "features": str(one.features)})
                ends = f" [{100 * one.low:.1f}, {100 * one.high:.1f}]" if not isnan(one.low) else ""
                row[one.size] = _percent(one.mean, one.sd) + ends
                row.pop("shuffled labels", None)  # the last, largest, size is the one shown
                row["shuffled labels"] = _percent(one.shuffled, one.shuffled_sd)
        return list(rows.values())

    def to_latex(self) -> str:
        """The table of the paper: one row for each probe and layer, a column for each size, mean ± sd in per cent."""
        cells: dict[tuple[str, str], list[str]] = {}
        for one in self.scores():
            number = f"${_percent(one.mean, one.sd)}$".replace("±", r"\pm")
            cells.setdefault((one.probe, one.layer), [escape_latex(f"{one.probe} ({one.layer})")]).append(number)
        blocks = [[cells[probe, layer] for layer in self.layers] for probe in self.probes]
        return latex_table(["", *map(escape_latex, self.sizes)], *blocks)

    def plot(self) -> Figure:
        """Accuracy by layer, see `attrib.plot.probe_curves`."""
        from attrib.plot.probes import probe_curves

        return probe_curves(self)


def _student(level: float, repeats: int) -> float:
    stats = checks.require("scipy.stats", "the interval of a mean", "analysis")
    return float(stats.t.ppf((1 + level) / 2, repeats - 1))


def _percent(mean: float, sd: float) -> str:
    return f"{100 * mean:.1f}" + (f" ± {100 * sd:.1f}" if not isnan(sd) else "")
