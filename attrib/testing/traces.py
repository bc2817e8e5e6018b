"""What a model and the process look like, bit for bit, so that a method which leaves a trace can be told which."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as nn_module

_CONTENTS = ("_parameters", "_buffers", "_modules")  # looked at one by one


class ModelTrace:
    """The state of a model when this object was made; `changes` says in words what is different now."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.before = dict(self._look())

    def changes(self) -> list[str]:
        """List what changed, appeared or went away."""
        return _differences(self.before, dict(self._look()))

    def _look(self) -> Iterator[tuple[str, Any]]:
        for path, part in self.model.named_modules(remove_duplicate=False):
            name = repr(path) if path else "the model"
            yield f"identity of {name}", (id(part), type(part))
            yield f"mode of {name}", "train" if part.training else "eval"
            yield from self._attributes(name, part)
            for key, buffer in part._buffers.items():
                yield f"buffer {key!r} of {name}", _content(buffer)
            for key, weight in part._parameters.items():
                yield from self._weight(f"{key!r} of {name}", weight)
        yield "keys of the state dict", list(self.model.state_dict())

    @staticmethod
    def _attributes(name: str, part: nn.Module) -> Iterator[tuple[str, Any]]:
        """Instance attributes, so also a replaced ``forward`` or a flag such as ``inplace``; hooks by their number."""
        for key, value in part.__dict__.items():
            if key.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")):
                yield f"{key.strip('_').replace('_', ' ')} of {name}", len(value or ())
            elif key not in _CONTENTS and key != "training":
                yield (
                    f"attribute {key!r} of {name}",
                    (id(value), value if isinstance(value, (bool, int, str)) else None),
                )

    @staticmethod
    def _weight(name: str, weight: Tensor | None) -> Iterator[tuple[str, Any]]:
        yield f"parameter {name}", _content(weight)
        if weight is not None:
            yield f"requires_grad of {name}", weight.requires_grad
            yield f".grad of {name}", _content(weight.grad)
            yield f"tensor hooks of {name}", len(weight._backward_hooks or ())


class ProcessTrace:
    """Random states, autograd switches and global hooks of the process."""

    def __init__(self) -> None:
        self.before = self._look()

    def changes(self) -> list[str]:
        """List what changed."""
        return _differences(self.before, self._look())

    @staticmethod
    def _look() -> dict[str, Any]:
        return {
            "torch's random state": torch.get_rng_state(),
            "NumPy's random state": [x if isinstance(x, str) else torch.tensor(x) for x in _numpy_state()],
            "Python's random state": random.getstate(),
            "grad mode": torch.is_grad_enabled(),
            "the default dtype": torch.get_default_dtype(),
            "the stack of torch function modes": torch._C._len_torch_function_stack(),
            "global module hooks": {k: len(v) for k, v in vars(nn_module).items() if k.startswith("_global_")
                                    and k.endswith("hooks")},
        }  # fmt: skip


def _numpy_state() -> list[Any]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  the legacy global state is what must not change
    return [str(name), np.asarray(keys).astype(np.int64), *rest]


class TensorTrace:
    """A tensor of the caller's: values, flags, gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.before = self._look()

    def changes(self) -> list[str]:
        """List what changed."""
        return _differences(self.before, self._look())

    def _look(self) -> dict[str, Any]:
        return {
            "values": _content(self.tensor),
            "shape": tuple(self.tensor.shape),
            "requires_grad": self.tensor.requires_grad,
            ".grad": _content(self.tensor.grad if self.tensor.is_leaf else None),
            "number of hooks": len(self.tensor._backward_hooks or ()),
        }


def _content(tensor: Tensor | None) -> tuple[int, Tensor] | None:
    return None if tensor is None else (id(tensor), tensor.detach().clone())


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    changed = [f"{key} changed" for key in before if key in after and not _equal(before[key], after[key])]
    gone = [f"{key} is gone" for key in before if key not in after]
    return changed + gone + [f"{key} is new" for key in after if key not in before]
