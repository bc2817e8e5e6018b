"""The patches of pictures that make a channel respond most, and what in them does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.patches.crops import KEEP, CropReader, CropWindows, Pool, chosen, entries
from attrib.analysis.patches.projections import PROJECTIONS, Projection
from attrib.analysis.patches.top_activations import Search, TopActivations
from attrib.core.network.layers import unwrap
from attrib.core.network.streaming import Data
from attrib.core.receptive.field import ReceptiveField
from attrib.io.preprocess import statistics
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 20  # channels with numbers of their own in the text; all are in the files
_SAME = 1e-3  # share of a channel's largest value by which one may differ when it is computed again


@dataclass(frozen=True, eq=False)
class TopPatches(TopActivations, Finding):
    """The strongest places of channels, with what their units see.

    Attributes:
        box: receptive fields (top, bottom, left, right) in pixels of the input, ``(C, n, 4)``; they may go beyond it.
        again: the values when they were computed again, ``(C, n)``.
        crops: the boxes cut out of the model's inputs, ``(C, n, channels, h, w)``; zero beyond the border. None where
            they take more memory than was allowed, see `read`.
        inside: which pixels of the crops are picture, ``(C, n, h, w)``.
        projections: the units projected back, cut likewise; None unless asked for.
        project: how.
        sees: what all places of the layer see, and how that was found.
        distinct: at most one place of each picture.
        mean: of each input channel, taken back in figures; None where it is not known.
        std: likewise.
    """

    box: Tensor
    again: Tensor
    crops: Tensor | None
    inside: Tensor | None
    projections: Tensor | None
    project: str | None
    distinct: bool
    sees: ReceptiveField = field(repr=False, metadata={"saved": False})
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def reproduced(self) -> Tensor:
        """Whether each value is the same, up to rounding, when it is computed again, ``(C, n)``."""
        allowed = _SAME * self.value.abs().amax(1, keepdim=True)
        same: Tensor = (self.again - self.value).abs() <= allowed
        return same

    def only(self, channels: Iterable[int]) -> TopPatches:
        """The same for some of the channels."""
        known = self.channels.tolist()
        rows = torch.tensor([known.index(checks.choice("channel", one, known)) for one in channels], dtype=torch.long)
        named = ("channels", "value", "index", "y", "x", "box", "again", "crops", "inside", "projections")
        found = {name: getattr(self, name) for name in named}
        picked: dict[str, Any] = {name: one if one is None else one[rows] for name, one in found.items()}
        return replace(self, **picked)

    def read(self, data: Data, *, batch_size: int = 32) -> TopPatches:
        """The same with crops, cut out of the data that were searched."""
        windows, crops = CropWindows(self.sees), None
        for batch in chosen(data, torch.unique(self.index), batch_size):
            crops = windows.stack(self.box, batch.inputs) if crops is None else crops
            which, row = entries(self.index, batch.index)
            windows.fill(crops, which, self.box, batch.inputs.cpu(), row)
        return replace(self, crops=crops, inside=windows.inside(self.box))

    def to_text(self, *, markdown: bool = False) -> str:
        """Say which pictures make each channel respond, how strongly, and what is doubtful."""
        high, wide = CropWindows(self.sees).size
        n = self.value.shape[1]
        channels = f"{len(self.channels)} channel{'s' * (len(self.channels) != 1)}"
        where = f"the {n} strongest {'pictures' if self.distinct else 'places'} of {channels}"
        lines = [f"{self.layer}: {where} among {self.examples} pictures; patches of {high}x{wide} pixels"]
        lines += [f"note: {one}" for one in self.notes]
        rows = [
            {
                "channel": str(int(channel)),
                "strongest": amount(float(value[0])),
                "weakest": amount(float(value[-1])),
                "pictures": " ".join(map(str, index.tolist())),
            }
            for channel, value, index in zip(self.channels[:ROWS], self.value, self.index, strict=False)
        ]
        rest = len(self.channels) - len(rows)
        more = [f"{rest} more channels are in the files and attributes."] if rest else []
        return "\n".join([*lines, "", text_table(rows, markdown=markdown), *more])

    @property
    def notes(self) -> list[str]:
        """What a reader must know before trusting the patches; usually nothing."""
        found = []
        if self.value.shape[1] < self.asked:
            what = "pictures" if self.distinct else "places"
            found.append(f"there are only {self.value.shape[1]} of the {self.asked} {what} that were asked for")
        if not bool(self.reproduced.all()):
            which = self.channels[~self.reproduced.all(1)].tolist()
            found.append(
                f"{int((~self.reproduced).sum())} of {self.reproduced.numel()} values are others when they are "
                f"computed again, of channels {', '.join(map(str, which))}: data or model change from pass to pass"
            )
        if bool((self.value <= 0).any()):
            silent = int((self.value <= 0).any(1).sum())
            found.append(f"{silent} channels have less than {self.value.shape[1]} places where they are above zero")
        if self.sees.reason:
            found.append(
                f"patches are measured with gradients, as the network could not be followed: {self.sees.reason}"
            )
        if self.crops is None:
            found.append(
                "crops were left out, they are too many: name fewer channels, or cut some by .only(channels).read(data)"
            )
        return found

    def plot(self) -> Figure:
        """Draw `attrib.plot.patches.patch_panels`, of the first channels if there are many."""
        from attrib.plot.patches import patch_panels

        return patch_panels(self)


def top_patches(  # noqa: PLR0913  what to find, and what to show of it
    model: Callable[..., Any],
    data: Data,
    layer: str | nn.Module,
    *,
    n: int = 9,
    channels: Sequence[int] | None = None,
    distinct: bool = True,
    project: Projection | None = None,
    preprocess: object = None,
    keep: int = KEEP,
    batch_size: int = 32,
    show_progress: bool = False,
) -> TopPatches:
    """Find what makes each channel respond most: the patches that its strongest units see, and their projections.

    Convention:
        - the strongest places are those of `top_activations`: ties go to the picture that comes first.
        - a patch is the receptive field of the one unit, padding included; factors of whole channels (squeeze and
          excitation) are passed over. Along an axis on which it is as long as the picture, the patch is the picture.
        - ``again`` holds every value computed a second time, from the picture alone: augmented or shuffled data show.
        - projections start with 1 at the unit and with 0 at all others, one place at a time; they keep colours, signs
          and scale.

    Cost: one forward pass per picture, one more for each picture that is among the best, and with ``project`` one
    forward and backward pass per patch. Memory: a batch, ``n`` numbers per channel, and the crops.

    Args:
        model: an ``nn.Module``.
        data: see `attrib.core.network.streaming.batches`. What can be read only once is allowed: pictures that may be
            needed are then held until better ones come.
        layer: a name, an address or a module; tokens of a grid of patches are places, and of a layer without places
            the patch is the picture.
        n: patches of each channel.
        channels: which; all if None.
        distinct: at most one patch of each picture.
        project: ``"deconvnet"``, ``"guided"``, ``"saliency"`` or None.
        preprocess: what made the inputs, such as a `LoadedModel`; its normalisation is taken back in figures.
        keep: bytes that crops and projections may take, or pictures that can be read only once. More crops are left
            out, and can be read later; more of the others is an error.
        batch_size: pictures, or patches to project, in a pass.
        show_progress: a bar on standard error.

    Raises:
        InputError: the data are shuffled, empty, of several sizes or not there again; ``keep`` is too small.
        RuleError: the projection has no rule for the activation functions on the way.

    Example:
        >>> found = top_patches(model, x, "conv3", n=2, channels=[2, 5], project="deconvnet")
        >>> found.crops.shape, found.box[0, 0].tolist() == found.sees.boxes(found.y, found.x)[0, 0].tolist()
        (torch.Size([2, 2, 3, 10, 10]), True)

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4 and figure 2.
    """
    if project is not None:
        checks.choice("project", project, tuple(PROJECTIONS))
    checks.integer("keep", keep, 0)
    search = Search(model, layer, n, channels, distinct)
    pool = Pool(keep) if isinstance(data, Iterator) else None
    for seen in search.seen(data, batch_size, show_progress):
        search.add(seen)
        if pool is not None:
            pool.add(seen.batch, search.pictures)
    top = search.found()
    index = torch.unique(top.index)
    look = CropReader(unwrap(model), top, project, keep, batch_size)
    for batch in chosen(data, index, batch_size) if pool is None else pool.batches(index, batch_size):
        look.add(batch)
    mean, std = statistics(preprocess)
    return TopPatches(**vars(top), **look.found(), project=project, distinct=distinct, mean=mean, std=std)
