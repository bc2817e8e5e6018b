"""Quantus calls our methods: arrays in and out, any model, nothing kept. With Quantus itself where it is installed."""

from __future__ import annotations

import copy
import os
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.testing import assert_close

from attrib import METHODS, GradCAM, Saliency
from attrib.core.reduce import upsample
from attrib.errors import InputError, LayerError, RegistryError
from attrib.interop.quantus import explain_func
from tests import nets

X = nets.batch(4, 8, 6)
Y = np.array([1, 3, 0, 2])


def asked_as_quantus_does(explain: Any, model: Any, **options: Any) -> NDArray[Any]:
    """By keyword, with the device among the options; and what its checks demand of the answer."""
    maps = explain(model=model, inputs=X.numpy().copy(), targets=Y, **{"device": "cpu", **options})
    assert type(maps) is np.ndarray
    assert maps.ndim == 4
    assert maps.shape[0] == 4
    assert all(size in X.shape[1:] for size in maps.shape[1:] if size != 1)
    return maps


@pytest.mark.parametrize("name", ["saliency", "gradcam", "guided_gradcam", "occlusion", "integrated_gradients"])
def test_each_image_gets_the_map_of_its_own_target(name: str) -> None:
    model = nets.make("module")
    maps = asked_as_quantus_does(explain_func(name), model)
    assert maps.shape == (4, 1, 8, 6)
    expected = METHODS[name](model).attribute(X, Y)
    assert_close(torch.from_numpy(maps), upsample(expected, (8, 6)))


def test_options_come_with_the_method_and_with_the_call_which_goes_first() -> None:
    model = nets.make("module")
    explain = explain_func(Saliency, channels="none", absolute=False)
    maps = asked_as_quantus_does(explain, model, method="what evaluate() calls it")
    assert_close(torch.from_numpy(maps), Saliency(model, channels="none", absolute=False).attribute(X, Y))
    other = asked_as_quantus_does(explain, model, absolute=True)
    assert_close(torch.from_numpy(other), Saliency(model, channels="none").attribute(X, Y))
    layered = asked_as_quantus_does(explain_func("gradcam", relu=False), model, layer="conv1")
    assert_close(torch.from_numpy(layered), GradCAM(model, "conv1", relu=False).attribute(X, Y))


def test_a_model_that_is_changed_between_calls_is_explained_anew() -> None:
    model, explain = nets.make("module"), explain_func("saliency")
    before = asked_as_quantus_does(explain, model)
    with torch.no_grad():
        model.conv1.weight.mul_(-1)
    after = asked_as_quantus_does(explain, model)
    assert not np.allclose(before, after)
    assert_close(torch.from_numpy(after), Saliency(model).attribute(X, Y))


def test_arrays_of_other_types_are_taken_and_left_as_they_are() -> None:
    model = nets.make("module")
    x = np.asfortranarray(X.double().numpy())
    x.flags.writeable = False
    maps = explain_func("saliency")(model=model, inputs=x[..., ::-1], targets=Y.astype(np.int32))
    assert maps.dtype == np.float32
    assert_close(torch.from_numpy(maps), Saliency(model).attribute(X.flip(3), Y))


def test_it_can_be_pickled_and_copied() -> None:
    explain = explain_func("saliency", channels="l2")
    assert pickle.loads(pickle.dumps(explain)) == copy.deepcopy(explain) == explain  # noqa: S301  our own


def test_mistakes_are_told_when_it_is_made_and_when_it_is_called() -> None:
    with pytest.raises(RegistryError, match="no method named 'grad-cam'"):
        explain_func("grad-cam")
    with pytest.raises(InputError, match="method must be a name or a class; got 3"):
        explain_func(3)
    with pytest.raises(LayerError, match="no layer 'conv9'"):
        asked_as_quantus_does(explain_func("gradcam"), nets.make("module"), layer="conv9")
    with pytest.raises(TypeError, match="chanels"):
        asked_as_quantus_does(explain_func("saliency"), nets.make("module"), chanels="none")


# --- with Quantus itself


@pytest.fixture(scope="module")
def quantus() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus", reason="Quantus is not installed")


@pytest.mark.filterwarnings("ignore")  # Quantus warns much
@pytest.mark.parametrize("name", ["saliency", "gradcam", "integrated_gradients"])
def test_quantus_measures_our_maps(quantus: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PYTEST", "1")  # no progress bars
    options = {"relu": False} if name == "gradcam" else {}  # Quantus divides by the map, which ReLU may leave empty
    model, explain = nets.make("module"), explain_func(name, **options)
    given = {"model": model, "x_batch": X.numpy(), "y_batch": Y, "a_batch": None, "device": "cpu"}
    quiet = {"disable_warnings": True, "display_progressbar": False}
    moved = quantus.MaxSensitivity(nr_samples=2, lower_bound=0.0, **quiet)(**given, explain_func=explain)
    assert len(moved) == 4
    assert np.isfinite(moved).all()
    flipped = quantus.PixelFlipping(features_in_step=6, **quiet)(**given, explain_func=explain)
    assert np.shape(flipped)[0] == 4
    randomised = quantus.MPRT(layer_order="top_down", **quiet)(**given, explain_func=explain)
    assert len(randomised) > 0
    layer = {"layer": "conv1"} if name == "gradcam" else {}
    sparse = quantus.Sparseness(**quiet)(**given, explain_func=explain, explain_func_kwargs=layer)
    assert len(sparse) == 4
