"""Deletion and insertion curves of several methods on one axes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any
from typing import Protocol as Kind

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation
from torch import Tensor

from attrib import checks
from attrib.errors import InputError
from attrib.plot.colour import QUIET, new_axes
from attrib.plot.layout import DPI, SMALL, TITLE, WIDTH, wrap
from attrib.plot.scale import Floats

# Okabe and Ito's colours for every kind of colour vision; their yellow is too pale for a line
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1)), (0, (1, 1)))  # the same colours again, told apart by dashes
CONTROLS: tuple[Any, ...] = ((0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (2, 3)))
GRID = 201  # points to which curves with fractions of their own are brought
BETTER = {"deletion": "lower", "morf": "lower", "insertion": "higher", "lerf": "higher"}
SPACES = {"logit": "logit", "probability": "probability", "log_probability": "log probability", "log_odds": "log-odds"}


class HasCurves(Kind):
    """What `attrib.metrics.curves` returns: curves of ``N`` images by name, and how they were measured."""

    @property
    def protocol(self) -> object: ...  # noqa: D102

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102

    def curve(self, name: str) -> tuple[Tensor, Tensor]: ...  # noqa: D102

    def auc(self, name: str) -> Tensor: ...  # noqa: D102


def curves(
    found: Mapping[str, HasCurves],
    name: str = "deletion",
    ax: Axes | None = None,
    *,
    controls: Collection[str] = (),
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Axes:
    """Draw the mean curve of each method, with a bootstrap band over images.

    Convention:
        - x: fraction of the pixels removed or inserted, 0 to 1; y: the score as measured, not normalised.
        - the band is pointwise, a percentile interval of the mean under resampled images; controls have none.
        - the legend gives the mean area, and how many images have no curve (NaN maps): they are left out of both.

    Args:
        found: curves by method, as `attrib.metrics.curves` returns them for a mapping of maps.
        name: ``"deletion"``, ``"insertion"``, ``"morf"`` or ``"lerf"``.
        ax: where to draw; a new figure if None.
        controls: labels of the rows that a method must beat, drawn dashed and grey.
        level: of the band, in (0, 1).
        resamples: bootstrap samples; 0 draws no band.
        seed: of the bootstrap; the global random state is not touched.

    Returns:
        The axes.

    Example:
        >>> from attrib.metrics import Protocol, curves as measure
        >>> maps = {"random": torch.rand(2, 1, 12, 12), "centre": torch.rand(2, 1, 12, 12)}
        >>> ax = curves(measure(model, x, 3, maps, Protocol(steps=5)), controls=["random"])
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('fraction of pixels removed', 'probability')
    """
    ax = _draw(new_axes() if ax is None else ax, found, name, controls, _Bootstrap(level, resamples, seed))
    note = "\n".join(wrap(_protocol(found, level if resamples else None), 4.5, SMALL))
    below = ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)  # half an inch: clear of the ticks and the label
    words: dict[str, Any] = {"size": SMALL, "alpha": QUIET, "va": "top", "parse_math": False}
    ax.text(0, 0, note, transform=ax.transAxes + below, **words)
    return ax


def comparison(
    found: Mapping[str, HasCurves],
    names: Sequence[str] = ("deletion", "insertion"),
    *,
    controls: Collection[str] = (),
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Figure:
    """Draw several kinds of curves side by side.

    Args:
        found: see `curves`.
        names: the curves to draw, one panel each.
        controls: see `curves`.
        level: see `curves`.
        resamples: see `curves`.
        seed: see `curves`.

    Returns:
        A figure 1600 pixels wide for two kinds; pyplot does not know it.

    Example:
        >>> from attrib.metrics import Protocol, curves as measure
        >>> figure = comparison(measure(model, x, 3, {"random": torch.rand(2, 1, 12, 12)}, Protocol(steps=5)))
        >>> [ax.get_xlabel() for ax in figure.axes]
        ['fraction of pixels removed', 'fraction of pixels inserted']
    """
    if not names:
        raise InputError("names must hold at least one curve; got none.")
    high = max(3.1, 1.3 + 0.165 * len(found))  # inches: room for the legend
    figure = Figure(figsize=(WIDTH / 2 * len(names), high), dpi=DPI, layout="constrained")
    for ax, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _draw(ax, found, name, controls, _Bootstrap(level, resamples, seed), size=TITLE)
    note = wrap(_protocol(found, level if resamples else None), WIDTH / 2 * len(names) - 0.5, SMALL)
    figure.supxlabel("\n".join(note), size=SMALL, alpha=QUIET, parse_math=False)
    return figure


@dataclass(frozen=True)
class _Bootstrap:
    level: float
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        checks.number("level", self.level, 0, 1)
        checks.integer("resamples", self.resamples, 0)
        checks.integer("seed", self.seed, 0)

    def band(self, values: Floats) -> tuple[Floats, Floats]:
        """Percentile interval of the mean of the rows, at each point."""
        n = len(values)
        weights = np.random.default_rng(self.seed).multinomial(n, np.full(n, 1 / n), self.resamples) / n
        low, high = np.quantile(weights @ values, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return low, high


def _draw(
    ax: Axes,
    found: Mapping[str, HasCurves],
    name: str,
    controls: Collection[str],
    bootstrap: _Bootstrap,
    size: float | None = None,
) -> Axes:
    checks.choice("curve", name, tuple(BETTER))
    if not found:
        raise InputError("found must hold the curves of at least one method; got none.")
    for label in controls:
        checks.choice("control", label, list(found))
    means = {label: _Mean.of(curves, name) for label, curves in found.items()}
    lines = {}
    for label, look in _looks(list(found), controls).items():
        mean = means[label]
        lines[label] = ax.plot(mean.x, mean.y, label=mean.legend(label), **look)[0]
        if label not in controls and bootstrap.resamples and len(mean.values) > 1:
            ax.fill_between(mean.x, *bootstrap.band(mean.values), color=look["color"], alpha=0.08, linewidth=0)
    sign = 1 if BETTER[name] == "lower" else -1
    best_first = sorted(lines, key=lambda label: (isnan(means[label].area), sign * means[label].area))
    _words(ax, name, next(iter(found.values())).protocol, size)
    _legend(ax, [lines[label] for label in best_first], f"{name} area\n({BETTER[name]} is better)", size)
    return ax


@dataclass(frozen=True)
class _Mean:
    """Curves of the images that have one, on common fractions."""

    x: Floats
    values: Floats
    images: int
    area: float

    @classmethod
    def of(cls, found: HasCurves, name: str) -> _Mean:
        fraction, score = (part.numpy() for part in found.curve(name))
        defined = ~np.isnan(score).any(1)
        areas = found.auc(name).numpy()[defined]
        area = float(areas.mean()) if len(areas) else float("nan")
        if (fraction == fraction[0]).all():
            return cls(fraction[0], score[defined], len(score), area)
        x = np.linspace(0, 1, GRID)  # units at the lower and right edges are smaller: the fractions differ by image
        rows = [np.interp(x, *pair) for pair in zip(fraction[defined], score[defined], strict=True)]
        return cls(x, np.reshape(rows, (-1, GRID)), len(score), area)

    @property
    def y(self) -> Floats:
        """The mean, NaN without any curve."""
        mean: Floats = self.values.mean(0) if len(self.values) else np.full_like(self.x, np.nan)
        return mean

    def legend(self, label: str) -> str:
        """The method, its mean area, and how many images are missing from both."""
        missing = self.images - len(self.values)
        return f"{label}  {self.area:.3f}" + (f" ({missing} of {self.images} undefined)" if missing else "")


def _looks(labels: list[str], controls: Collection[str]) -> dict[str, dict[str, Any]]:
    """Colour and dashes by label; controls are grey and lie below."""
    methods = [label for label in labels if label not in controls]
    looks: dict[str, dict[str, Any]] = {}
    for i, label in enumerate(methods):
        dashes = DASHES[i // len(COLOURS) % len(DASHES)]
        looks[label] = {"color": COLOURS[i % len(COLOURS)], "linestyle": dashes, "linewidth": 1.5, "zorder": 3}
    for i, label in enumerate(label for label in labels if label in controls):
        looks[label] = {"color": "0.55", "linestyle": CONTROLS[i % len(CONTROLS)], "linewidth": 1.2, "zorder": 2}
    return looks


def _words(ax: Axes, name: str, protocol: object, size: float | None) -> None:
    """Axes and units."""
    ax.set_xlabel(f"fraction of pixels {'inserted' if name == 'insertion' else 'removed'}", size=size)
    ax.set_ylabel(SPACES.get(str(getattr(protocol, "score", None)), "score"), size=size)
    ax.tick_params(labelsize=size)
    ax.set_xlim(0, 1)
    ax.spines[["top", "right"]].set_visible(False)


def _legend(ax: Axes, lines: list[Line2D], title: str, size: float | None) -> None:
    """Outside, where it hides nothing; the best on top."""
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "alignment": "left"}
    legend = ax.legend(handles=lines, title=title, fontsize=size, title_fontsize=size, frameon=False, **place)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _protocol(found: Mapping[str, HasCurves], level: float | None) -> str:
    """How the numbers were measured, and over how many images."""
    first = next(iter(found.values()))
    images = len(first.auc(next(iter(first.names))))
    band = f", band: {level:.0%} bootstrap interval of the mean" if level and images > 1 else ""
    return f"{images} image{'s' * (images > 1)}{band}. {first.protocol}"
