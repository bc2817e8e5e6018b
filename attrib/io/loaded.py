"""A network with everything needed to ask it about pictures: its preprocessing, its class names, where it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor, nn

from attrib.errors import InputError, ModelError, did_you_mean
from attrib.io import preprocess as pre
from attrib.io.masks import seen_mask
from attrib.io.weights import model_hash


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network, and how pictures become its input.

    Args:
        model: the network.
        preprocess: a PIL image to a float tensor ``(C, H, W)``.
        categories: the name of each output, or ``None`` if they are not known.
        mean: of each channel, as ``preprocess`` normalises; read from ``preprocess`` if it tells.
        std: likewise.
        name: what was asked for, such as ``"resnet18"``.
        weights: where the weights came from, in words.

    Example:
        >>> net = LoadedModel(nn.Flatten(), pre.Preprocess(resize=4, crop=4), categories=("cat", "dog"))
        >>> net.inputs([Image.new("RGB", (6, 5))]).shape, net.label(1)
        (torch.Size([1, 3, 4, 4]), 'dog')
        >>> net.index("Dog")
        1
    """

    model: nn.Module = field(repr=False)
    preprocess: Callable[[Image.Image], Tensor]
    categories: tuple[str, ...] | None = field(default=None, repr=False)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    name: str = "model"
    weights: str = "as given"

    def __post_init__(self) -> None:
        given: tuple[object, object] = self.model, self.preprocess
        if not isinstance(given[0], nn.Module) or not callable(given[1]):
            got = " and ".join(type(part).__name__ for part in given)
            raise ModelError(f"a loaded model must have an nn.Module and a callable preprocess; got {got}.")
        if (self.mean is None) != (self.std is None):
            raise InputError(f"mean and std must be given together; got {self.mean} and {self.std}.")
        if self.mean is None:
            mean, std = pre.statistics(self.preprocess)
            object.__setattr__(self, "mean", mean)  # how a frozen dataclass completes itself
            object.__setattr__(self, "std", std)
        if self.categories is not None:
            object.__setattr__(self, "categories", tuple(map(str, self.categories)))

    @property
    def sha256(self) -> str:
        """Hash of the weights as they are now, see :func:`attrib.io.model_hash`."""
        return model_hash(self.model)

    def inputs(self, images: Image.Image | Sequence[Image.Image]) -> Tensor:
        """Preprocess pictures to one batch ``(N, C, H, W)``."""
        pictures = [images] if isinstance(images, Image.Image) else list(images)
        if not pictures:
            raise InputError("images must hold at least one picture; got none.")
        rows = [self._row(picture) for picture in pictures]
        if len({row.shape for row in rows}) > 1:
            got = sorted({str(tuple(row.shape)) for row in rows})
            raise InputError(
                f"preprocess of {self.name} must give one shape for a batch; got {', '.join(got)}. "
                "Give it a crop, or pass the images one by one."
            )
        return torch.stack(rows)

    def _row(self, picture: Image.Image) -> Tensor:
        row: object = self.preprocess(picture)
        if isinstance(row, Tensor) and row.ndim == 3 and row.is_floating_point():
            return row
        got = f"{row.dtype} {tuple(row.shape)}" if isinstance(row, Tensor) else type(row).__name__
        raise ModelError(f"preprocess of {self.name} must give a float tensor (C, H, W); got {got}.")

    def view(self, image: Image.Image) -> Image.Image:
        """What the network sees of ``image``: resized and cropped, not normalised; maps are drawn over this."""
        return pre.view(image, self.preprocess, self.mean, self.std)

    def mask(self, mask: Image.Image) -> Tensor:
        """What the network sees of an object mask, ``(H, W)`` bool: resized and cropped as its picture is."""
        return seen_mask(mask, self.preprocess)

    def label(self, index: int) -> str:
        """The name of output ``index``, or ``"class 7"`` where names are not known."""
        if self.categories is None:
            return f"class {index}"
        if not 0 <= index < len(self.categories):
            raise InputError(f"index must lie in [0, {len(self.categories) - 1}] for {self.name}; got {index}.")
        return self.categories[index]

    def index(self, name: str) -> int:
        """The output of the class ``name``, in upper or lower case, to be passed as a target.

        Raises:
            InputError: no class has this name, or several have it.
        """
        names = self.categories or ()
        found = named(names, name)
        if len(found) > 1:  # ImageNet has two cranes and two maillots
            raise InputError(f"target must name one class; {name!r} is {' and '.join(map(str, found))}. Pass a number.")
        if not found:
            kind = f"one of {len(names)} names of classes" if names else "a number, as its names are not known"
            raise InputError(f"a class of {self.name} must be {kind}; got {name!r}.{did_you_mean(str(name), names)}")
        return found[0]


def named(names: Sequence[str], name: object) -> list[int]:
    """Where ``name`` stands among ``names``; letters of the other case count where no name is spelled like it."""
    spelled = [i for i, other in enumerate(names) if other == name]
    return spelled or [i for i, other in enumerate(names) if other.casefold() == str(name).casefold()]
