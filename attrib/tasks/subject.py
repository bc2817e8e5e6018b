"""Who is asked, about which pictures: models, images and targets in every form that users have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image
from torch import Tensor, nn

from attrib import checks
from attrib.core.network.layers import unwrap
from attrib.errors import InputError
from attrib.io import LoadedModel, list_images, load_image, load_model, model_hash
from attrib.io.loaded import named
from attrib.report.facts import SCHEMA, described, device_facts, versions

Model: TypeAlias = "LoadedModel | nn.Module | Callable[..., Any] | str"
Picture: TypeAlias = "str | PathLike[str] | Image.Image"
Images: TypeAlias = "Picture | Sequence[Picture] | Mapping[str, Picture] | Tensor"


@dataclass(frozen=True, eq=False)
class Network:
    """A model in any form, with its preprocessing and class names where they are known."""

    model: Callable[..., Any]
    loaded: LoadedModel | None

    @classmethod
    def of(cls, model: Model) -> Network:
        """Read what users pass as ``model``: a name for `load_model`, a LoadedModel, a module or a callable."""
        if isinstance(model, str):
            model = load_model(model)
        if isinstance(model, LoadedModel):
            return cls(unwrap(model.model), model)
        if not callable(model):
            raise InputError(
                f"model must be a name, a LoadedModel, an nn.Module or a callable; got {type(model).__name__}."
            )
        return cls(unwrap(model), None)

    def seen(self, picture: Image.Image) -> tuple[Tensor, Image.Image]:
        """One picture as ``(1, C, H, W)`` of the model's device and dtype, and as a picture of the same crop."""
        x = self.input(picture)
        return x, self.loaded.view(picture)  # type: ignore[union-attr]  # or there would be no input

    def input(self, picture: Image.Image) -> Tensor:
        """One picture as ``(1, C, H, W)`` of the model's device and dtype."""
        if self.loaded is None:
            raise InputError(
                f"images must be a Tensor (N, C, H, W) for a bare {type(self.model).__name__}, whose preprocessing is "
                "not known; got a picture. Pass LoadedModel(model, preprocess) as the model."
            )
        x = self.loaded.inputs(picture)
        weight = next((w for w in self.loaded.model.parameters() if w.is_floating_point()), x)
        return x.to(weight)

    def place(self, x: Tensor) -> Tensor:
        """``x`` on the model's device, its dtype as it is."""
        weight = next(self.model.parameters(), x) if isinstance(self.model, nn.Module) else x
        return x.to(weight.device)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs; none where they are not known."""
        return (self.loaded.categories if self.loaded else None) or ()

    def label(self, index: int) -> str:
        """Name of an output, or its number in words."""
        return self.names[index] if 0 <= index < len(self.names) else f"class {index}"

    def class_index(self, name: str) -> int | None:
        """Output of the class ``name``; None where it is not the name of a class."""
        return self.loaded.index(name) if self.loaded is not None and named(self.names, name) else None

    def facts(self) -> dict[str, Any]:
        """What the manifest says about the model."""
        kind = type(self.model).__name__ if isinstance(self.model, nn.Module) else described(self.model)
        told: dict[str, Any] = {"name": kind, "class": kind, "weights": "as given", "sha256": None}
        if isinstance(self.model, nn.Module):
            told["sha256"] = model_hash(self.model)
        if self.loaded is not None:
            told |= {"name": self.loaded.name, "weights": self.loaded.weights}
            told["preprocess"] = described(self.loaded.preprocess)
        return told


@dataclass(frozen=True, eq=False)
class Example:
    """One image, not read yet."""

    name: str
    source: Path | Image.Image | Tensor

    def open(self, network: Network) -> tuple[Tensor, Image.Image | None]:
        """The model's input ``(1, C, H, W)``, and what it sees as a picture where there is one."""
        if isinstance(self.source, Tensor):
            return network.place(self.source), None
        return network.seen(load_image(self.source) if isinstance(self.source, Path) else self.source)


def examples(images: Images) -> list[Example]:
    """Read what users pass as ``images``: files, folders, pictures, names to either, or a ready batch."""
    if isinstance(images, Tensor):
        (batch,) = checks.batch(images)
        checks.shape(batch, "n c h w", "images")
        return [Example(f"example {i}", batch[i : i + 1].detach()) for i in range(len(batch))]
    if isinstance(images, Mapping):
        return [Example(str(name), _source(picture)) for name, picture in images.items()]
    given = [images] if isinstance(images, (str, PathLike, Image.Image)) else images
    if not isinstance(given, Iterable):
        raise InputError(
            "images must be files, folders, pictures, a mapping of names to them, or a Tensor (N, C, H, W); "
            f"got {type(images).__name__}."
        )
    found = [source for picture in given for source in _expanded(picture)]
    if not found:
        raise InputError("images must hold at least one picture; got none.")
    return [Example(name, source) for name, source in zip(_names(found), found, strict=True)]


def _source(picture: object) -> Path | Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, (str, PathLike)):
        return Path(fspath(picture))
    raise InputError(f"image must be a file or a PIL image; got {type(picture).__name__}. Pass a batch as one Tensor.")


def _expanded(picture: object) -> list[Path | Image.Image]:
    source = _source(picture)
    return [source] if isinstance(source, Image.Image) else [*list_images(source)]


def _names(sources: Sequence[Path | Image.Image]) -> list[str]:
    """File names, whole paths where two are the same, positions for pictures without a file."""
    files = [str(getattr(source, "filename", "")) if isinstance(source, Image.Image) else source for source in sources]
    names = [Path(file).name or f"image {i}" for i, file in enumerate(files)]
    paths = [str(file) or name for file, name in zip(files, names, strict=True)]
    chosen = [path if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)]
    return [f"{name} #{chosen[:i].count(name) + 1}" if name in chosen[:i] else name for i, name in enumerate(chosen)]


def facts(kind: str, network: Network, x: Tensor) -> dict[str, Any]:
    """What a manifest says before anything is computed: versions, model, device; ``x`` is an input of the run."""
    told: dict[str, Any] = {"schema": SCHEMA, "kind": kind, "command": None, "versions": versions()}
    return told | {"model": network.facts(), "dtype": str(x.dtype).removeprefix("torch."), **device_facts(x.device)}
