"""A model with its target built in, which Captum's methods can expand, hook and differentiate as they like."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attrib.core import Query
from attrib.core.network import cost
from attrib.errors import AttribError, InputError, LayerError, MissingDependency, ModelError

_NORMAL = (  # said on every normal use
    r"Input Tensor \d+ did not already require gradients",
    "Setting backward hooks on ReLU activations",
    "Setting forward, backward hooks and attributes on non-linear",
    "You are providing multiple inputs for Lime / Kernel SHAP",
)
# What DeepLift and LRP hang on modules; LRP leaves some of it there, and takes the user's own ``rule`` away.
_LEFT_BEHIND = ("rule", "activations", "input", "input_ref", "output")


class Scored(nn.Module):
    """``(*inputs, rows) -> (N,)``: the score of each row, for which ``rows`` tells the example that it comes from.

    Captum repeats the batch for its steps, samples and perturbations, each method in its own order. It repeats further
    arguments in the same order, so the numbers of the examples travel as one, and each row finds its own goal.
    """

    def __init__(self, query: Query, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.query = query
        self.layer = (layer,)  # in a tuple: a child would be registered, and found twice
        self.goal = query.clean.goal  # settled before Captum hooks the model
        if isinstance(query.model, nn.Module):
            self.model = query.model  # a child, where methods that hook modules look for them

    def forward(self, *args: Any) -> Tensor:
        """Run the model and score it."""
        *inputs, rows = args
        goal = self.goal.rows(rows)
        # Clones: the model may change its input in place, which autograd forbids on a leaf.
        with _passed_on(*self.layer):
            output, acts = self.query.run(
                tuple(x.clone() for x in inputs), *goal.layers, extra=self.query.extra_rows(rows)
            )
        score = goal(output, acts)
        if score.requires_grad:
            count = len(score)
            score.register_hook(lambda _: cost.add(backwards=count))  # type: ignore[no-untyped-call]
        return score


@contextmanager
def _passed_on(layer: nn.Module | None) -> Iterator[None]:
    """Let the network go on with a clone of what Captum puts into ``layer``: what follows may change it in place.

    Captum has hooked the layer by now, and hooks run in the order in which they were registered.
    """
    handles = []
    if layer is not None:
        handles.append(layer.register_forward_pre_hook(lambda _, args: _clones(args)))
        handles.append(layer.register_forward_hook(lambda _, __, out: _clones(out)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _clones(value: Any) -> Any:
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(map(_clones, value))
    return value.clone() if isinstance(value, Tensor) else value


@contextmanager
def untouched(model: Callable[..., Any]) -> Iterator[None]:
    """Put back what Captum's LRP and DeepLift leave in modules: attributes, and weights moved to other storage."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    before = [{key: part.__dict__[key] for key in _LEFT_BEHIND if key in part.__dict__} for part in modules]
    weights = [(weight, weight.data) for part in modules for weight in part._parameters.values() if weight is not None]
    try:
        yield
    finally:
        for part, had in zip(modules, before, strict=True):
            for key in _LEFT_BEHIND:
                part.__dict__.pop(key, None)
            part.__dict__.update(had)
        for weight, data in weights:
            if weight.data_ptr() != data.data_ptr():
                weight.data = data


@contextmanager
def borrowed(name: str, query: Query, seed: int) -> Iterator[None]:
    """Make the warnings, random numbers, leftovers and exceptions of Captum's ``name`` ours, asked ``query``."""
    with ExitStack() as undo:
        undo.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002  GradientShap draws from it
        undo.callback(random.setstate, random.getstate())
        undo.enter_context(untouched(query.model))
        undo.enter_context(warnings.catch_warnings())
        for message in _NORMAL:
            warnings.filterwarnings("ignore", message)
        torch.default_generator.manual_seed(seed)  # `frozen` puts torch's states back
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        except (AttribError, torch.OutOfMemoryError) as exc:
            if query.layer is not None and isinstance(exc.__cause__, AttributeError):
                raise _no_tensors(name, query.layer, exc.__cause__) from exc
            raise
        except (AssertionError, ValueError) as exc:
            if "sklearn is not available" in str(exc):
                raise MissingDependency(f"Captum's {name} needs scikit-learn: pip install 'attrib[analysis]'.") from exc
            raise InputError(f"the options must suit Captum's {name}; it says: {_short(exc)}") from exc
        except (RuntimeError, TypeError, AttributeError) as exc:
            if query.layer is not None and isinstance(exc, AttributeError):
                raise _no_tensors(name, query.layer, exc) from exc
            raise ModelError(f"Captum's {name} failed: {_short(exc)}") from exc


def _no_tensors(name: str, layer: str, exc: AttributeError) -> LayerError:
    """What to say where a hook of Captum's takes Tensors for granted: the model itself has run before."""
    return LayerError(
        f"layer must take and give Tensors for Captum's {name}; at {layer!r} it says: {_short(exc)}. "
        "Choose a module inside or after it."
    )


def _short(exc: Exception) -> str:
    """The message on one line; Captum puts whole tensors into some."""
    return shorten(str(exc), 300, placeholder=" ...")
