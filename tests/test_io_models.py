"""Models by name: the right preprocessing and names, weights loaded safely and strictly, nothing else touched."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from attrib import io as aio
from attrib.errors import InputError, MissingDependency, ModelError
from tests import data

ROOT = Path(__file__).parent.parent


def small(classes: int = 4, seed: int = 1) -> nn.Sequential:
    """Conv, BatchNorm, Linear; weights depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = OrderedDict(
            conv=nn.Conv2d(3, 5, 3), norm=nn.BatchNorm2d(5), gap=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()
        )
        return nn.Sequential(layers).append(nn.Linear(5, classes)).eval()


def random_state() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module into a fresh working directory, under a new name each time."""
    monkeypatch.chdir(tmp_path)
    made: list[str] = []

    def write(code: str) -> str:
        name = f"made_{tmp_path.name}_{len(made)}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(f"import torch\nfrom torch import nn\nfrom attrib.io import *\n{code}")
        made.append(name)
        return name

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return write


# --- torchvision names ---


def test_random_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = aio.load_model("squeezenet1_1", weights="none", seed=3)
    torch.manual_seed(2)
    second = aio.load_model("squeezenet1_1", weights="none", seed=3)
    other = aio.load_model("squeezenet1_1", weights="none", seed=4)
    assert first.sha256 == second.sha256 != other.sha256
    assert first.weights == "random, seed 3"


@pytest.mark.parametrize("spec", ["squeezenet1_1", "efficientnet_lite0", "timm:resnet10t"])
def test_making_a_model_leaves_every_random_generator_alone(spec: str) -> None:
    before = random_state()
    aio.load_model(spec, weights="none")
    assert random_state() == before


@pytest.mark.parametrize("spec", ["squeezenet1_1", "efficientnet_lite0", "timm:resnet10t"])
def test_a_random_model_is_in_evaluation_mode_and_has_no_class_names(spec: str) -> None:
    loaded = aio.load_model(spec, weights="none")
    assert not any(module.training for module in loaded.model.modules())
    assert loaded.categories is None
    assert loaded.label(7) == "class 7"
    assert loaded.name == spec


def test_the_preprocessing_is_that_of_the_published_weights() -> None:
    loaded = aio.load_model("efficientnet_b1", weights="none")
    recipe = torchvision.models.EfficientNet_B1_Weights.DEFAULT.transforms()
    image = aio.as_image(np.random.default_rng(0).integers(0, 256, (300, 401, 3), dtype=np.uint8))
    assert torch.equal(loaded.preprocess(image), recipe(image))
    assert (loaded.mean, loaded.std) == (tuple(recipe.mean), tuple(recipe.std))


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], None]:
    """Stand in for torchvision's download: it delivers the weights of the given module."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))

    def serve(model: nn.Module) -> None:
        torch.save(model.state_dict(), tmp_path / "served.pth")
        monkeypatch.setattr(
            torch.hub, "download_url_to_file", lambda url, to, *_, **__: shutil.copy(tmp_path / "served.pth", to)
        )

    return serve


def test_published_weights_come_with_names_and_a_description(download: Callable[[nn.Module], None]) -> None:
    served = torchvision.models.squeezenet1_1(weights=None)
    download(served)
    loaded = aio.load_model("squeezenet1_1")
    assert loaded.sha256 == aio.model_hash(served)
    assert loaded.label(281) == "tabby"
    assert loaded.weights == "SqueezeNet1_1_Weights.IMAGENET1K_V1"


def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(ModelError, match=r"'squeezenet1_1' could not .*no route.*--weights FILE.*--weights none"):
        aio.load_model("squeezenet1_1")


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("resnet-18", "'resnet18'"), ("efficientnet-lite0", "'efficientnet_lite0'"), ("fcn_resnet50", "Did you mean")],
)
def test_an_unknown_name_gets_suggestions(spec: str, hint: str) -> None:
    with pytest.raises(InputError, match=rf"must be a torchvision classification network.*got '{spec}'.*{hint}"):
        aio.load_model(spec)


@pytest.mark.parametrize("spec", [None, 18, nn.ReLU()])
def test_a_model_is_asked_for_by_name(spec: object) -> None:
    with pytest.raises(InputError, match=r"model must be a name; got .*LoadedModel"):
        aio.load_model(spec)  # type: ignore[arg-type]


def test_a_seed_is_a_whole_number() -> None:
    with pytest.raises(InputError, match="seed must be an integer"):
        aio.load_model("squeezenet1_1", weights="none", seed=0.5)  # type: ignore[arg-type]


# --- weights files ---


def save_npz(state: dict[str, Tensor], path: Path) -> None:
    np.savez(path, **{name: value.numpy() for name, value in state.items() if "num_batches" not in name})


def save_safetensors(state: dict[str, Tensor], path: Path) -> None:
    pytest.importorskip("safetensors.torch").save_file(state, path)


SAVERS = {".pt": torch.save, ".pth.tar": torch.save, ".npz": save_npz, ".safetensors": save_safetensors}


@pytest.mark.parametrize("suffix", SAVERS)
def test_weights_make_the_round_trip_through_every_kind_of_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    SAVERS[suffix](small(seed=2).state_dict(), path)
    model = small(seed=3)
    aio.load_weights(model, path)
    assert aio.model_hash(model) == aio.model_hash(small(seed=2))


@pytest.mark.parametrize("key", ["state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "_orig_mod.module."])
def test_checkpoints_are_unpacked_and_prefixes_removed(key: str, prefix: str, tmp_path: Path) -> None:
    state = {prefix + name: value for name, value in small(seed=2).state_dict().items()}
    torch.save({"epoch": 3, key: state, "optimizer": {"lr": 0.1}}, tmp_path / "a.pth")
    model = small(seed=3)
    aio.load_weights(model, tmp_path / "a.pth")
    assert aio.model_hash(model) == aio.model_hash(small(seed=2))


def test_a_compiled_part_of_a_model_is_named_as_the_part(tmp_path: Path) -> None:
    state = {name.replace("conv.", "conv._orig_mod."): value for name, value in small(seed=2).state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    model = small(seed=3)
    aio.load_weights(model, tmp_path / "a.pth")
    assert aio.model_hash(model) == aio.model_hash(small(seed=2))


def test_a_module_that_is_really_called_module_keeps_its_name(tmp_path: Path) -> None:
    wrapped = nn.Sequential(OrderedDict(module=nn.Linear(2, 2)))
    torch.save(wrapped.state_dict(), tmp_path / "a.pth")
    other = nn.Sequential(OrderedDict(module=nn.Linear(2, 2)))
    aio.load_weights(other, tmp_path / "a.pth")
    assert aio.model_hash(other) == aio.model_hash(wrapped)


def test_half_precision_files_are_widened(tmp_path: Path) -> None:
    torch.save(small(seed=2).half().state_dict(), tmp_path / "a.pth")
    model = small(seed=3)
    aio.load_weights(model, tmp_path / "a.pth")
    torch.testing.assert_close(model.conv.weight, small(seed=2).conv.weight, atol=1e-3, rtol=0)
    assert model.conv.weight.dtype == torch.float32


def test_every_misfit_is_reported_at_once(tmp_path: Path) -> None:
    state = small(classes=7).state_dict()
    del state["conv.bias"]
    state["head.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(InputError, match="must fit Sequential") as caught:
        aio.load_weights(small(), tmp_path / "a.pth")
    message = str(caught.value)
    assert "1 missing (conv.bias)" in message
    assert "1 unexpected (head.weight)" in message
    assert "2 of another shape (4.weight: file (7, 5), model (4, 5), 4.bias: file (7,), model (4,))" in message
    assert "pass 'package.module:function'" in message


def test_a_refused_file_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    torch.save(small(classes=7, seed=2).state_dict(), tmp_path / "a.pth")
    model = small()
    with pytest.raises(InputError, match="of another shape"):
        aio.load_weights(model, tmp_path / "a.pth")
    assert aio.model_hash(model) == aio.model_hash(small())


class Renamed(nn.Linear):
    """Its weight was once called ``kernel``; a layer that knows may translate, or refuse in its own words."""

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        if f"{prefix}kernel" in state:
            state[f"{prefix}weight"] = state.pop(f"{prefix}kernel")
        if f"{prefix}packed" in state:
            rest[-1].append("packed weights are of version 0")  # type: ignore[attr-defined]
        super()._load_from_state_dict(state, prefix, *rest)


def test_names_that_a_layer_translates_itself_are_accepted(tmp_path: Path) -> None:
    torch.save({"0.kernel": torch.full((1, 2), 7.0)}, tmp_path / "a.pth")
    model = nn.Sequential(Renamed(2, 1, bias=False))
    aio.load_weights(model, tmp_path / "a.pth")
    assert model[0].weight.tolist() == [[7.0, 7.0]]


def test_what_a_layer_says_against_a_file_is_reported(tmp_path: Path) -> None:
    torch.save({"0.packed": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"1 missing \(0\.weight\); 1 unexpected \(0\.packed\); .*") as caught:
        aio.load_weights(nn.Sequential(Renamed(2, 1, bias=False)), tmp_path / "a.pth")
    assert "packed weights are of version 0" in str(caught.value)


@pytest.mark.parametrize("gone", ["conv.bias", "norm.running_mean"])
def test_a_missing_tensor_is_never_left_random(gone: str, tmp_path: Path) -> None:
    state = small().state_dict()
    del state[gone]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(InputError, match=rf"got 1 missing \({gone}\)\.$"):
        aio.load_weights(small(), tmp_path / "a.pth")


def test_only_the_batch_counter_may_be_missing(tmp_path: Path) -> None:
    state = small().state_dict()
    del state["norm.num_batches_tracked"]
    torch.save(state, tmp_path / "a.pth")
    aio.load_weights(small(), tmp_path / "a.pth")


def test_a_long_report_is_cut_short(tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"52 unexpected \(.* and 47 more\)"):
        aio.load_weights(small(), tmp_path / "a.pth")


class Payload:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "wrap", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))], ids=["zip", "raw"]
)
def test_a_malicious_file_is_refused_and_its_code_not_run(wrap: Callable[..., None], tmp_path: Path) -> None:
    wrap({"weight": Payload(tmp_path / "ran")}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="weights must be"):
        aio.load_weights(nn.Linear(1, 1), tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


def test_a_malicious_file_is_said_to_want_to_run_code(tmp_path: Path) -> None:
    torch.save({"weight": Payload(tmp_path / "ran")}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"asks to run '\w+\.mkdir' on loading. It was not run"):
        aio.load_weights(nn.Linear(1, 1), tmp_path / "a.pth")


def test_a_malicious_npz_is_refused_and_its_code_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weight=np.array([Payload(tmp_path / "ran")], dtype=object))
    with pytest.raises(InputError, match="weights must be an undamaged file of tensors"):
        aio.load_weights(nn.Linear(1, 1), tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_model_is_refused_with_the_remedy(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "a.pth")
    with pytest.raises(
        InputError, match=r"asks to run 'torch\.nn\..*Linear'.*torch\.save\(model\.state_dict\(\), FILE"
    ):
        aio.load_weights(nn.Linear(1, 1), tmp_path / "a.pth")


@pytest.mark.parametrize("suffix", SAVERS)
def test_a_damaged_file_is_called_so(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    SAVERS[suffix](small().state_dict(), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"must be an undamaged file of tensors; got '.*'"):
        aio.read_weights(path)


def test_a_missing_file_of_weights_is_named_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "resnet18.pth").touch()
    with pytest.raises(
        InputError, match=r"existing file or 'none'; got '.*resnet81.pth'\. Did you mean 'resnet18.pth'"
    ):
        aio.load_model("resnet18", weights=tmp_path / "resnet81.pth")


@pytest.mark.parametrize(
    ("content", "got"), [({"epoch": 1}, r"1 keys \(epoch\)"), ([1, 2], "list"), ({"model": {"a": 1}}, "keys")], ids=str
)
def test_a_file_without_weights_says_what_it_holds(content: object, got: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(InputError, match=rf"must be a state dict.*got .*{got}"):
        aio.read_weights(tmp_path / "a.pth")


def test_safetensors_without_the_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.safetensors").touch()
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingDependency, match="pip install safetensors"):
        aio.read_weights(tmp_path / "a.safetensors")


def test_a_named_model_takes_a_file_and_keeps_its_class_names(tmp_path: Path) -> None:
    source = torchvision.models.squeezenet1_1(weights=None)
    torch.save({"state_dict": nn.DataParallel(source).state_dict()}, tmp_path / "mine.pth")
    loaded = aio.load_model("squeezenet1_1", weights=tmp_path / "mine.pth")
    assert loaded.sha256 == aio.model_hash(source)
    assert loaded.weights == "file mine.pth"
    assert loaded.label(281) == "tabby"


def test_the_names_of_torchvisions_published_densenet_files_are_understood(tmp_path: Path) -> None:
    source = torchvision.models.densenet121(weights=None)
    old = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in name else name: value
        for name, value in source.state_dict().items()
    }
    assert any(".norm.1." in name for name in old)
    torch.save(old, tmp_path / "a.pth")
    assert aio.load_model("densenet121", weights=tmp_path / "a.pth").sha256 == aio.model_hash(source)


@pytest.mark.parametrize("helpers", [True, False])
def test_a_googlenet_file_gives_the_network_that_torchvision_publishes(
    helpers: bool, tmp_path: Path, download: Callable[[nn.Module], None]
) -> None:
    served = torchvision.models.googlenet(weights=None, init_weights=False)
    download(served)
    published = aio.load_model("googlenet").model
    torch.save((served if helpers else published).state_dict(), tmp_path / "a.pth")
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ours = aio.load_model("googlenet", weights=tmp_path / "a.pth").model
    assert torch.equal(ours(x), published(x))


def test_a_format_without_versions_is_taken_as_written_today(tmp_path: Path) -> None:
    source = torchvision.models.mnasnet0_5(weights=None).eval()  # rebuilds itself when it reads version 1
    save_npz(source.state_dict(), tmp_path / "a.npz")
    ours = aio.load_model("mnasnet0_5", weights=tmp_path / "a.npz").model
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(x), source(x))


# --- the hash ---


def test_the_hash_of_known_weights_does_not_change_between_releases() -> None:
    model = nn.Linear(2, 1)
    model.load_state_dict({"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])})
    assert aio.model_hash(model) == "4297e6beae3ec2a06621cdd1bbef61b41b1479a53926f2be87e4462e459fa594"


def test_the_hash_ignores_order_layout_and_compilation() -> None:
    model = small()
    expected = aio.model_hash(model)
    reordered = nn.Module()
    for name, child in reversed(list(model.named_children())):
        reordered.add_module(name, child)
    assert aio.model_hash(reordered) == expected
    assert aio.model_hash(small().to(memory_format=torch.channels_last)) == expected
    assert aio.model_hash(torch.compile(small())) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.conv.weight.data.view(-1)[0].add_(1e-6),
        lambda m: m.norm.running_mean.add_(1),
        lambda m: m.norm.num_batches_tracked.add_(1),
        lambda m: m.double(),
        lambda m: setattr(m.conv, "weight", nn.Parameter(m.conv.weight.reshape(5, 3, 9, 1))),
        lambda m: m.add_module("conv2", m._modules.pop("conv")),
    ],
    ids=["weight", "running mean", "counter", "dtype", "shape", "name"],
)
def test_the_hash_notices_any_change(change: Callable[[nn.Module], object]) -> None:
    model = small()
    change(model)
    assert aio.model_hash(model) != aio.model_hash(small())


def test_bfloat16_is_hashed_and_weights_that_are_not_there_are_refused() -> None:
    assert aio.model_hash(small().bfloat16()) != aio.model_hash(small(seed=2).bfloat16())
    with pytest.raises(ModelError, match=r"got none for 'weight'"):
        aio.model_hash(nn.Linear(2, 2, bias=False, device="meta"))
    with pytest.raises(ModelError, match=r"got none for 'weight'"):
        aio.model_hash(nn.LazyLinear(2, bias=False))


# --- timm ---


def test_timm_brings_its_own_transform_and_the_crop_can_be_seen() -> None:
    timm = pytest.importorskip("timm")
    loaded = aio.load_model("timm:resnet10t", weights="none")
    image = aio.as_image(np.random.default_rng(0).integers(0, 256, (300, 401, 3), dtype=np.uint8))
    settings = timm.data.resolve_model_data_config(loaded.model)
    expected = timm.data.create_transform(**settings, is_training=False)(image)
    assert torch.equal(loaded.preprocess(image), expected)
    assert loaded.mean == pytest.approx(settings["mean"])
    seen = torch.from_numpy(aio.as_array(loaded.view(image))).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (settings["mean"], settings["std"]))
    torch.testing.assert_close((seen - mean) / std, expected)


def test_timm_weights_come_with_class_names(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: make(name, pretrained=False))
    loaded = aio.load_model("timm:resnet10t")
    assert loaded.label(281).startswith("tabby")
    assert loaded.weights == "timm c3_in1k"


def test_timm_weights_from_a_file(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    source = timm.create_model("resnet10t", pretrained=False)
    torch.save(source.state_dict(), tmp_path / "a.pth")
    assert aio.load_model("timm:resnet10t", weights=tmp_path / "a.pth").sha256 == aio.model_hash(source)


def test_a_failed_timm_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")

    def unreachable(*_: object, **__: object) -> None:
        raise FileNotFoundError("not in the local cache")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ModelError, match=r"'timm:resnet10t' could not be had.*local cache.*--weights none"):
        aio.load_model("timm:resnet10t")


def test_an_unknown_timm_name_gets_suggestions() -> None:
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=r"timm knows; got 'timm:resnet10tt'\. Did you mean 'resnet10t'"):
        aio.load_model("timm:resnet10tt")


def test_timm_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependency, match=r"needs timm: pip install 'attrib\[timm\]'"):
        aio.load_model("timm:resnet10t")


# --- functions ---

NET = "nn.Sequential(nn.Conv2d(3, 2, 3), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten())"
PREPROCESS = "Preprocess(resize=8, crop=6, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))"


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        (f"({NET}, {PREPROCESS})", None),
        (f"({NET}, {PREPROCESS}, ['cat', 'dog'])", ("cat", "dog")),
        (f"LoadedModel({NET}, {PREPROCESS}, ('cat', 'dog'))", ("cat", "dog")),
    ],
    ids=["pair", "triple", "LoadedModel"],
)
def test_a_function_may_return(returned: str, names: object, modules: Callable[[str], str]) -> None:
    spec = f"{modules(f'def make(): return {returned}')}:make"
    loaded = aio.load_model(spec)
    assert loaded.categories == names
    assert loaded.name == spec
    assert loaded.mean == (0.1, 0.2, 0.3)
    assert not any(module.training for module in loaded.model.modules())
    assert loaded.inputs(Image.new("RGB", (9, 9))).shape == (1, 3, 6, 6)


def test_a_function_that_returns_a_module_alone_gets_imagenets_preprocessing_and_a_warning(
    modules: Callable[[str], str],
) -> None:
    name = modules(f"def make(): return {NET}")
    with pytest.warns(UserWarning, match="gave no preprocessing: ImageNet's is used"):
        loaded = aio.load_model(f"{name}:make")
    assert loaded.preprocess == aio.Preprocess(resize=256, crop=224)


def test_a_grey_network_alone_has_to_bring_its_preprocessing(modules: Callable[[str], str]) -> None:
    name = modules("def make(): return nn.Conv2d(1, 2, 3)")
    with pytest.raises(ModelError, match=r"1 input channels alone. Return \(module, preprocess\)"):
        aio.load_model(f"{name}:make")


def test_a_function_is_found_inside_a_class_and_in_the_working_directory_only_while_it_runs(
    modules: Callable[[str], str],
) -> None:
    name = modules(f"class Zoo:\n    @staticmethod\n    def make(): return {NET}, {PREPROCESS}")
    before = list(sys.path)
    aio.load_model(f"{name}:Zoo.make")
    assert sys.path == before


def test_a_functions_random_weights_depend_on_the_seed(modules: Callable[[str], str]) -> None:
    spec = f"{modules(f'def make(): return {NET}, {PREPROCESS}')}:make"
    assert aio.load_model(spec, seed=1).sha256 == aio.load_model(spec, seed=1).sha256
    assert aio.load_model(spec, seed=1).sha256 != aio.load_model(spec, seed=2).sha256


def test_a_function_takes_weights_from_a_file(modules: Callable[[str], str], tmp_path: Path) -> None:
    spec = f"{modules(f'def make(): return {NET}, {PREPROCESS}')}:make"
    source = aio.load_model(spec, seed=5)
    torch.save(source.model.state_dict(), tmp_path / "a.pth")
    loaded = aio.load_model(spec, weights=tmp_path / "a.pth")
    assert (loaded.sha256, loaded.weights) == (source.sha256, "file a.pth")


@pytest.mark.parametrize(
    ("code", "asked", "error", "message"),
    [
        ("", "missing_module_xyz:make", InputError, "no module 'missing_module_xyz'"),
        ("def make(): pass", "{}.py:make", InputError, r"no module '.*\.py'\. Write '\w+:make'\.$"),
        ("", "./nets/birds.py:make", InputError, r"got './nets/birds.py:make'\. Write 'nets.birds:make'\.$"),
        ("", "../birds.py:make", InputError, r"Write 'birds:make' in the folder '\.\.'\.$"),
        ("", ".birds:make", InputError, r"Write 'birds:make'\.$"),
        ("import missing_module_xyz", "{}:make", ModelError, "itself needs 'missing_module_xyz'"),
        ("raise OSError('disk')", "{}:make", ModelError, "must be importable; got OSError: disk"),
        ("def make(): pass", "{}:mke", InputError, r"has no 'mke'\. Did you mean 'make'"),
        ("def make(): pass", "{}:", InputError, "must name a function"),
        ("make = 3", "{}:make", InputError, "must name a function; '.*:make' is int"),
        ("def make(size): pass", "{}:make", ModelError, "needs no argument; it raised TypeError"),
        ("def make(): raise ValueError('no')", "{}:make", ModelError, "raised ValueError: no"),
        ("def make(): return load_model('resnt18')", "{}:make", InputError, "^model must be a torchvision classif"),
        ("def make(): pass", "{}:make", ModelError, r"must return an nn.Module.*got NoneType"),
        ("def make(): return (1, 2)", "{}:make", ModelError, r"must return an nn.Module.*got tuple"),
    ],
)
def test_what_is_wrong_with_a_function_is_said(
    code: str, asked: str, error: type[Exception], message: str, modules: Callable[[str], str]
) -> None:
    before = list(sys.path)
    with pytest.raises(error, match=message):
        aio.load_model(asked.format(modules(code)))
    assert sys.path == before


# --- LoadedModel ---


def loaded_with(preprocess: object, **options: object) -> aio.LoadedModel:
    return aio.LoadedModel(nn.Flatten(), preprocess, **options)  # type: ignore[arg-type]


def test_the_view_of_a_foreign_transform_is_its_crop() -> None:
    t = torchvision.transforms
    steps = [t.Resize(20), t.CenterCrop(16), t.ToTensor(), t.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))]
    loaded = loaded_with(t.Compose(steps))
    image = aio.as_image(np.random.default_rng(0).integers(0, 256, (30, 45, 3), dtype=np.uint8))
    assert loaded.mean == pytest.approx((0.4, 0.5, 0.6))
    np.testing.assert_array_equal(aio.as_array(loaded.view(image)), aio.as_array(t.Compose(steps[:2])(image)))


def test_the_view_of_a_grey_transform_is_a_grey_picture() -> None:
    loaded = loaded_with(lambda image: torch.full((1, 2, 3), 0.2))
    assert aio.as_array(loaded.view(Image.new("RGB", (9, 9)))).tolist() == [[[51] * 3] * 3] * 2


def test_a_transform_that_cannot_be_undone_has_to_tell_its_mean() -> None:
    image = Image.new("RGB", (2, 2))
    x = torch.full((3, 2, 2), -2.0)
    with pytest.raises(InputError, match=r"reversible.*\[-2, -2\].*Give the LoadedModel its mean and std"):
        loaded_with(lambda _: x).view(image)
    view = loaded_with(lambda _: x, mean=(0.5,) * 3, std=(0.25,) * 3).view(image)
    assert view.getpixel((0, 0)) == (0, 0, 0)


def test_a_preprocess_with_a_view_of_its_own_is_asked() -> None:
    class Mirror:
        def __call__(self, image: Image.Image) -> Tensor:
            raise AssertionError("the view needs no tensor")

        def view(self, image: Image.Image) -> Image.Image:
            return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    assert aio.as_array(loaded_with(Mirror()).view(image)).tolist() == [[[4, 5, 6], [1, 2, 3]]]


def test_a_mean_without_a_std_is_refused() -> None:
    with pytest.raises(InputError, match="given together"):
        loaded_with(lambda _: None, mean=(0.5,))


def test_a_loaded_model_is_a_module_and_a_function() -> None:
    with pytest.raises(ModelError, match=r"an nn\.Module and a callable preprocess; got Flatten and int"):
        loaded_with(3)


@pytest.mark.parametrize("row", [np.zeros((3, 2, 2)), torch.zeros(1, 3, 2, 2), torch.zeros(3, 2, 2, dtype=torch.uint8)])
def test_a_preprocess_that_gives_something_else_is_named(row: object) -> None:
    with pytest.raises(ModelError, match=r"must give a float tensor \(C, H, W\); got "):
        loaded_with(lambda _: row).inputs(Image.new("RGB", (2, 2)))


def test_images_of_different_shapes_do_not_make_a_batch() -> None:
    loaded = loaded_with(lambda image: torch.zeros(3, image.height, image.width))
    with pytest.raises(InputError, match=r"one shape for a batch; got \(3, 2, 2\), \(3, 2, 5\)"):
        loaded.inputs([Image.new("RGB", (5, 2)), Image.new("RGB", (2, 2))])
    with pytest.raises(InputError, match="at least one picture"):
        loaded.inputs([])


def test_a_batch_holds_the_pictures_in_order() -> None:
    preprocess = aio.Preprocess(resize=4, crop=4)
    images = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    x = loaded_with(preprocess).inputs(images)
    assert torch.equal(x[1], preprocess(images[1]))


def test_a_class_outside_the_names_is_refused() -> None:
    with pytest.raises(InputError, match=r"index must lie in \[0, 1\] for model; got 2"):
        loaded_with(lambda _: None, categories=("cat", "dog")).label(2)


# --- the demo ---

CATS = {"tabby", "tiger cat", "Egyptian cat"}


def test_the_demo_network_names_the_demo_photos() -> None:
    demo = aio.demo_model()
    photos = aio.demo_images()
    with torch.no_grad():
        best = demo.model(demo.inputs(list(photos.values()))).argmax(1)
    named = dict(zip(photos, map(demo.label, best.tolist()), strict=True))
    assert named.pop("chelsea") in CATS  # .40 tiger cat, .36 Egyptian cat, .17 tabby
    assert named == {"astronaut": "football helmet", "coffee": "espresso", "rocket": "missile"}


def test_the_demo_network_is_the_published_one() -> None:
    demo = aio.load_model("efficientnet_lite0")
    assert demo.sha256 == "9386950811f5b0b7de76b04f7ee4f4fb1d1eed524bd6eb1008a769a6e596fd16"
    assert demo.preprocess == aio.Preprocess(256, 224, (127 / 255,) * 3, (128 / 255,) * 3, "bicubic")


@data.needs_data
def test_the_demo_network_gets_the_accuracy_that_its_preprocessing_gives() -> None:
    demo = aio.demo_model()
    images, labels = zip(*[(p.image, p.target) for p in data.photos()], *data.samples("imagenet"), strict=True)
    with torch.no_grad():
        best = torch.cat([demo.model(rows) for rows in demo.inputs(images).split(25)]).argmax(1)
    assert int((best == torch.tensor(labels)).sum()) >= 64


def test_demo_photos_without_scikit_image_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attrib.io.models.find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"scikit-image: pip install 'attrib\[demo\]'"):
        aio.demo_images()


# --- a torchvision that cannot be imported ---

BLOCKED = """
import sys, warnings

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")

sys.meta_path.insert(0, Broken())
import torch
from PIL import Image
from attrib.io import LoadedModel, Preprocess, demo_images, load_model
"""


def run(code: str, cwd: Path) -> str:
    """What ``code`` prints in a new interpreter without torchvision."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + code], capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_demo_works_without_torchvision_and_says_that_names_are_missing(tmp_path: Path) -> None:
    code = """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    demo = load_model("efficientnet_lite0")
print([str(w.message)[:23] for w in caught])
best = demo.model(demo.inputs(demo_images()["coffee"])).argmax(1)
print(demo.label(int(best)))
"""
    assert run(code, tmp_path) == "['class names are missing']\nclass 967"  # espresso


def test_a_function_works_without_torchvision(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from attrib.io import Preprocess\nfrom torch import nn\n"
        "def make(): return nn.Conv2d(3, 2, 3), Preprocess(8, 6), ['a', 'b']\n"
    )
    code = """
net = load_model("mine:make")
print(net.inputs(Image.new("RGB", (9, 7))).shape, net.view(Image.new("RGB", (9, 7))).size, net.label(1))
"""
    assert run(code, tmp_path) == "torch.Size([1, 3, 6, 6]) (6, 6) b"


def test_a_torchvision_name_without_torchvision_says_what_works(tmp_path: Path) -> None:
    code = """
from attrib.errors import MissingDependency
try:
    load_model("resnet18", weights="none")
except MissingDependency as error:
    print(error)
"""
    message = run(code, tmp_path)
    assert "importing it failed (operator torchvision::nms does not exist)" in message
    assert "'efficientnet_lite0' or 'package.module:function'" in message
