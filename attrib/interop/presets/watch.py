"""What a model runs, and where: the rules of DeepLIFT and LRP are hung on modules, and reach nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from attrib.core import Query
from attrib.errors import ModelError


class Watch(TorchFunctionMode):
    """Counts calls of modules without children, and of functions outside them, in one forward pass.

    Attributes:
        modules: how often each module without children ran, by name.
        functions: how often each function of torch was called outside of such modules, by name.
    """

    def __init__(self, query: Query) -> None:
        super().__init__()
        self.modules: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()
        self._inside = 0
        model = query.model
        parts = model.named_modules() if isinstance(model, nn.Module) else ()
        ends = [(name, part) for name, part in parts if not any(part.children())]
        for name, part in ends:
            if isinstance(part, torch.jit.ScriptModule):
                raise ModelError(
                    f"the rules of this method must be hung on modules that run in Python; {name or 'the model'!r} is "
                    "scripted or traced, and takes no hooks. Pass the module that it was made of."
                )
        handles = [handle for name, part in ends for handle in self._hooked(name, part)]
        try:
            with torch.no_grad(), self:
                query.run(tuple(x.clone() for x in query.inputs))
        finally:
            for handle in handles:
                handle.remove()

    def _hooked(self, name: str, part: nn.Module) -> tuple[Any, Any]:
        def enter(*_: object) -> None:
            self.modules[name] += 1
            self._inside += 1

        def leave(*_: object) -> None:
            self._inside -= 1

        return part.register_forward_pre_hook(enter), part.register_forward_hook(leave)

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not self._inside:
            self.functions[getattr(func, "__name__", repr(func))] += 1
        return func(*args, **(kwargs or {}))
