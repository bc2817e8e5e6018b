"""Captum's methods as they are registered: what they are tried with where their defaults would take too long."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attrib import METHODS
from attrib.testing.probes import ProbeNet

OURS = [name for name in METHODS if METHODS[name].__module__.startswith("attrib.methods.")]
PRESETS = [name for name in METHODS if METHODS[name].__module__.startswith("attrib.interop.presets.")]

# Small numbers, in batches that leave remainders.
QUICK: dict[str, dict[str, Any]] = {
    "deeplift": {},
    "deeplift_shap": {},
    "feature_ablation": {"batch_size": 3},
    "gradient_shap": {"n_samples": 5, "batch_size": 2},
    "integrated_gradients": {"n_steps": 5, "batch_size": 4},
    "kernel_shap": {"n_samples": 70, "batch_size": 8},
    "lime": {"n_samples": 70, "batch_size": 8},
    "lrp": {},
    "shapley_sampling": {"n_samples": 2, "batch_size": 8},
    "smoothgrad": {"n_samples": 3, "batch_size": 2},
    "smoothgrad_squared": {"n_samples": 3, "batch_size": 2},
    "vargrad": {"n_samples": 3, "batch_size": 2},
}
# Methods whose rules are hung on modules: functional activations are refused.
MODULES_ONLY = ("deeplift", "deeplift_shap", "lrp")


class Modules(ProbeNet):
    """The probe network, its functional ReLU a module."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.stem(x))))
        out: Tensor = self.fc(self.shrink(self.drop(self.relu2(self.conv(x)))).flatten(1))
        return out
