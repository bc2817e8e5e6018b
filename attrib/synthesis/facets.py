"""Multifaceted feature visualisation: the different things that one unit answers to, an image for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core.network.auto import auto_layer
from attrib.core.network.layers import resolve
from attrib.core.network.streaming import Data, batches, stream
from attrib.core.objectives.objective import Objective
from attrib.core.synth import PixelSpace
from attrib.errors import InputError
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table
from attrib.synthesis.ascent import Ascent, ascend, objectives
from attrib.synthesis.recipes import Recipe
from attrib.synthesis.subject import Network, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 4  # exemplars beside each synthesis in the figure


@dataclass(frozen=True, eq=False)
class Facets(Finding):
    """What one unit answers to, sorted into kinds.

    Attributes:
        unit: in words.
        index: positions in the data of the pictures that excite it most, strongest first, ``(T,)``.
        value: how much, ``(T,)``.
        place: their points in the plane, ``(T, 2)``.
        label: the facet of each, ``(T,)``; facets are numbered from the largest on.
        exemplars: positions in ``index`` of the pictures nearest to each facet's centre, a tensor for each facet.
        pictures: these, in [0, 1], ``(n, C, H, W)`` for each facet.
        starts: their mean, where the search began, ``(F, C, H, W)`` in [0, 1].
        ascent: the images that were searched for, one for each facet.
    """

    unit: str
    index: Tensor
    value: Tensor
    place: Tensor
    label: Tensor
    exemplars: tuple[Tensor, ...]
    pictures: tuple[Tensor, ...] = field(repr=False)
    starts: Tensor = field(repr=False)
    ascent: Ascent = field(repr=False, metadata={"saved": False})

    @property
    def made(self) -> Tensor:
        """The images in [0, 1], ``(F, C, H, W)``."""
        return self.ascent.pictures

    def to_text(self, *, markdown: bool = False) -> str:
        """A row per facet: how many pictures, how strong, and the unit's answer to the image that was made."""
        rows = [
            {
                "facet": str(f + 1),
                "pictures": str(int((self.label == f).sum())),
                "mean answer": amount(float(self.value[self.label == f].mean())),
                "answer to the start": amount(float(self.ascent.score[0, f])),
                "to the image": amount(float(self.ascent.score[-1, f])),
            }
            for f in range(len(self.starts))
        ]
        return f"{self.unit}: {len(self.index)} pictures\n\n{text_table(rows, markdown=markdown)}"

    def plot(self) -> Figure:
        """A row per facet: the image that was made, where it began, and the pictures it stands for."""
        from attrib.plot.synthesis import images

        shown, titles = [], []
        across = 2 + min(SHOWN, *(len(one) for one in self.pictures))
        for f, pictures in enumerate(self.pictures):
            shown += [self.made[f], self.starts[f], *pictures[: across - 2]]
            titles += [f"facet {f + 1}", "start", *("" for _ in range(across - 2))]
        return images(shown, titles, columns=across, foot=f"{self.unit}: each start is the mean of its pictures.")


def facets(  # noqa: PLR0913  the paper's settings
    model: Network,
    data: Data,
    unit: object,
    *,
    count: int = 10,
    layer: str | nn.Module = "auto",
    top: int = 200,
    exemplars: int = 15,
    components: int = 50,
    perplexity: float = 30.0,
    recipe: str | Recipe = "natural",
    pixels: PixelSpace | None = None,
    seed: int = 0,
    **changes: Any,
) -> Facets:
    """Sort the pictures that excite a unit into kinds, and search for an image of each kind.

    The ``top`` strongest pictures are described by their features at ``layer``, averaged over places; these are reduced
    by PCA, laid out by t-SNE, and clustered by k-means. Each search begins with the mean of the pictures nearest to a
    cluster's centre.

    Convention:
        - of ties between pictures the one that comes first wins; facets are numbered by size, ties by their strongest
          picture.
        - distances to a centre are those in the plane, as in the paper.

    Cost: two forward passes per picture of the data, and those of `ascend`.

    Args:
        model: a `attrib.io.LoadedModel`, or a module with ``pixels``.
        data: see `attrib.core.network.streaming.batches`; read twice, so no generator.
        unit: a class (its name, where a LoadedModel knows it), ``"layer4:7"`` or an objective.
        count: facets.
        layer: whose features tell pictures apart; the last spatial one unless given.
        top: pictures; fewer where there are not as many.
        exemplars: pictures of which a start is the mean.
        components: of the PCA; fewer where there are not as many pictures or features.
        perplexity: of the t-SNE, below a third of the pictures.
        recipe: see `ascend`.
        pixels: how pixels become inputs; as the LoadedModel says if None.
        seed: of t-SNE, k-means and the search.
        changes: settings of `attrib.core.synth.Search`.

    Raises:
        MissingDependency: scikit-learn is not installed.
        InputError: there are fewer pictures than facets, the perplexity is too large for them, or they are all alike.

    Example:
        >>> from attrib.core.synth import PixelSpace
        >>> pictures = torch.rand(12, 3, 12, 12)
        >>> how = {"count": 2, "layer": "conv", "perplexity": 3, "pixels": PixelSpace(), "steps": 2}
        >>> found = facets(model, pictures, 3, exemplars=3, **how)
        >>> found.made.shape, [len(one) for one in found.exemplars]
        (torch.Size([2, 3, 12, 12]), [3, 3])

    References:
        Nguyen, Yosinski and Clune, "Multifaceted Feature Visualization", 2016, section 2.
    """
    subject = Subject.of(model, pixels)
    goal, *others = objectives(unit, subject.names)
    if others:
        raise InputError(f"unit must be one class, unit or objective; got {1 + len(others)}. Call it for each.")
    checks.integer("exemplars", exemplars, 1)
    index, value = _strongest(subject, data, goal, checks.integer("top", top, 1))
    _enough(len(index), count, perplexity)
    inputs, features = _features(subject, data, index, layer)
    place, label = _sorted_out(features, count, components, perplexity, seed)
    near = tuple(_nearest(place, label, f, exemplars) for f in range(count))
    starts = torch.stack([inputs[one].mean(0) for one in near])
    ascent = ascend(
        model,
        [goal] * count,
        recipe=recipe,
        start=starts,
        size=(starts.shape[2], starts.shape[3]),
        pixels=pixels,
        seed=seed,
        **changes,
    )
    shown = tuple(subject.space.to_picture(inputs[one]).clamp(0, 1) for one in near)
    means = subject.space.to_picture(starts).clamp(0, 1)
    return Facets(ascent.units[0], index, value, place, label, near, shown, means, ascent)


def _enough(found: int, count: int, perplexity: float) -> None:
    if found < checks.integer("count", count, 1):
        raise InputError(f"data must hold at least one picture for each of {count} facets; got {found}.")
    if not 0 < checks.number("perplexity", perplexity) < found / 3:
        raise InputError(
            f"perplexity must lie between 0 and a third of the {found} pictures; got {perplexity}. Take "
            f"{max(1, (found - 1) // 3)}, or more pictures."
        )


def _strongest(subject: Subject, data: Data, goal: Objective, top: int) -> tuple[Tensor, Tensor]:
    """Positions and answers of the pictures that excite the unit most, strongest first."""
    values = [goal(seen.output, seen.acts).cpu() for seen in stream(subject.model, data, *goal.layers)]
    order = torch.cat(values).sort(descending=True, stable=True)
    return order.indices[:top], order.values[:top]


def _features(subject: Subject, data: Data, index: Tensor, layer: str | nn.Module) -> tuple[Tensor, Tensor]:
    """Pictures and their features, averaged over places, in the order of ``index``."""
    rank: Mapping[int, int] = {int(position): i for i, position in enumerate(index)}
    inputs: list[Tensor | None] = [None] * len(index)
    features: list[Tensor | None] = [None] * len(index)
    address: str | None = None if layer == "auto" else resolve(subject.model, layer)
    for batch in batches(data):
        chosen = [n for n, position in enumerate(batch.index.tolist()) if position in rank]
        if not chosen:
            continue
        x = batch.inputs[chosen].to(subject.like)
        address = address or auto_layer(subject.model, (x,))
        (seen,) = stream(subject.model, x, address, batch_size=len(x))
        acts = seen.acts[address]
        for n, one, act in zip(chosen, x.cpu(), acts.flatten(2).mean(2) if acts.ndim > 2 else acts, strict=True):
            at = rank[int(batch.index[n])]
            inputs[at], features[at] = one, act.cpu()
    kept = [(x, f) for x, f in zip(inputs, features, strict=True) if x is not None and f is not None]
    if len(kept) < len(index):
        raise InputError(
            "data must give the same pictures each time; some are missing now. A generator reads only once."
        )
    return torch.stack([x for x, _ in kept]), torch.stack([f for _, f in kept])


def _sorted_out(features: Tensor, count: int, components: int, perplexity: float, seed: int) -> tuple[Tensor, Tensor]:
    """Points in the plane, and clusters from the largest on."""
    checks.require("sklearn", "sorting pictures into facets", "analysis")
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if not checks.finite(features) or bool((features == features[0]).all()):
        raise InputError(
            "features must be finite and differ among pictures, or there is nothing to sort; got NaN, infinite or "
            "equal ones. Choose another layer, or other pictures."
        )
    values = features.double().numpy()
    few = min(checks.integer("components", components, 2), *values.shape)
    reduced = PCA(few, random_state=seed).fit_transform(values)
    start = "pca" if few >= 2 else "random"
    place = torch.from_numpy(TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(reduced))
    label = torch.from_numpy(KMeans(count, n_init=10, random_state=seed).fit_predict(place.numpy())).long()
    sizes = torch.bincount(label, minlength=count).tolist()
    first = [int((label == f).nonzero()[0]) for f in range(count)]
    order = sorted(range(count), key=lambda f: (-sizes[f], first[f]))
    rank = torch.empty(count, dtype=torch.long)
    rank[torch.tensor(order)] = torch.arange(count)
    return place, rank[label]


def _nearest(place: Tensor, label: Tensor, facet: int, exemplars: int) -> Tensor:
    """Positions of the pictures of a facet that lie nearest to its centre."""
    mine = (label == facet).nonzero()[:, 0]
    away = (place[mine] - place[mine].mean(0)).norm(dim=1)
    return mine[away.argsort(stable=True)[:exemplars]]
