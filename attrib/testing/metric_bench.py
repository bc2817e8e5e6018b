"""What the promises of metrics are tried with: a metric, a model, inputs, maps, masks and the method of the maps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attrib.core import Attribution
from attrib.methods import InputXGradient
from attrib.metrics import Metric, Protocol
from attrib.testing.probes import ProbeNet, probe_inputs

MetricFactory = Callable[[], Metric]
MethodFactory = Callable[[nn.Module], Attribution]
_TOLERANCE = 1e-4  # batches of another size go through other kernels


def same(a: Tensor, b: Tensor) -> bool:
    """Tell whether two sets of scores are the same but for rounding; NaN equals NaN."""
    a, b = a.detach().double(), b.detach().double()
    near = _TOLERANCE * max(0.01, float(b.nan_to_num(0, 0, 0).abs().max()))
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan()) | ((a - b).abs() <= near)).all())


@dataclass(frozen=True)
class MetricBench:
    """A metric, and what it is tried on. Every check starts from a fresh copy of the model."""

    metric: MetricFactory
    model: nn.Module
    x: Tensor
    targets: tuple[int, ...]
    masks: Tensor
    maps: Tensor
    method: MethodFactory = InputXGradient

    @classmethod
    def made(cls, metric: MetricFactory, model: nn.Module, x: Tensor, method: MethodFactory) -> MetricBench:
        """Maps of a method and masks for these inputs."""
        targets = tuple((2 * i + 1) % 5 for i in range(len(x)))
        masks = torch.zeros(len(x), *x.shape[2:], dtype=torch.bool, device=x.device)
        for i, mask in enumerate(masks):
            mask[i + 1 : i + 2 + x.shape[2] // 3, 1 : 1 + x.shape[3] // 2 + i] = True
        maps = method(copy.deepcopy(model).eval()).attribute(x, list(targets))
        return cls(metric, model, x, targets, masks, maps, method)

    @classmethod
    def usual(cls, metric: MetricFactory, method: MethodFactory, device: str | torch.device = "cpu") -> MetricBench:
        """The probe network and its inputs."""
        return cls.made(metric, ProbeNet().to(device), probe_inputs().to(device), method)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the metric says that it reads."""
        return tuple(self.metric().needs)

    @property
    def runs(self) -> bool:
        """Whether the metric runs the model, by itself or through the method."""
        return bool({"model", "method"} & set(self.needs))

    def fresh(self) -> nn.Module:
        """Return a copy of the model, in evaluation mode."""
        return copy.deepcopy(self.model).eval()

    def rows(self, rows: Tensor) -> MetricBench:
        """The same with some of the examples, in any order."""
        chosen = tuple(self.targets[row] for row in rows.tolist())
        return replace(self, x=self.x[rows], targets=chosen, masks=self.masks[rows], maps=self.maps[rows])

    def score(
        self,
        protocol: Protocol | str | Mapping[str, Any] = "default",
        *,
        model: nn.Module | None = None,
        x: Any = None,
        target: object = None,
        maps: Any = None,
        masks: Any = None,
        **options: Any,
    ) -> Tensor:
        """Score as `compare` does, with copies of everything that is not given."""
        model = self.fresh() if model is None else model
        extra: dict[str, Any] = {}
        if "masks" in self.needs:
            extra["masks"] = self.masks.clone() if masks is None else masks
        if "method" in self.needs:
            extra["method"] = self.method(model)
        x = self.x.clone() if x is None else x
        maps = self.maps.clone() if maps is None else maps
        target = list(self.targets) if target is None else target
        return self.metric().score(model, x, target, maps, protocol, **extra, **options)


def _known_net(where: Tensor) -> nn.Module:
    """Class 1 has evidence where ``where`` is True and evidence against it everywhere else; class 0 has none."""
    head = nn.Linear(3 * where.numel(), 2)
    share = where.double() / where.sum() - (~where).double() / (~where).sum()
    with torch.no_grad():
        head.bias.zero_()
        head.weight[0].zero_()
        head.weight[1] = (4 / 3 * share).expand(3, -1, -1).flatten()
    return nn.Sequential(nn.Flatten(), head)


def known(metric: MetricFactory, device: str | torch.device) -> MetricBench:
    """A bench whose maps are right: high where the evidence and the object are, low elsewhere, all values different."""
    source = torch.Generator().manual_seed(5)
    where = torch.zeros(12, 10, dtype=torch.bool)
    where[2:7, 3:8] = True
    x = 0.5 + 0.5 * where + 0.1 * torch.rand(3, 3, 12, 10, generator=source)
    maps = where * 2.0 - 1 + 0.2 * torch.rand(3, 1, 12, 10, generator=source)
    maps[..., -1, -1] -= 0.3  # lowest far from the object, so that the highest point of the negative is no near miss
    bench = MetricBench(metric, _known_net(where), x, (1, 1, 1), where.expand(3, -1, -1).clone(), maps)
    moved = {name: getattr(bench, name).to(device) for name in ("model", "x", "masks", "maps")}
    return replace(bench, **moved)
