"""The Convention lines of methods that hide parts: occlusion beside pictures, RISE."""

from __future__ import annotations

import torch

from attrib import Occlusion
from tests import nets
from tests.conventions import pins
from tests.oracles.models import DOUBLE, EXACT
from tests.test_geometry import Patches
from tests.test_occlusion_axes import SIGNAL, VOLUME
from tests.test_sweep_axes import signals, volumes


@pins("occlusion", "signals ``(N, C, L)``")
def test_convention_occlusion_of_tokens_hides_patches_and_keeps_the_class_token() -> None:
    x = nets.batch(2, 6, 4, dtype=DOUBLE)
    model = nets.fill(Patches()).double()
    maps = Occlusion(model, "tokens", window=1, stride=1, baseline=0.7).attribute(x, 2)
    rows = model.relu(model.embed(x)).detach()
    expected = torch.zeros(2, 1, 3, 2, dtype=DOUBLE)
    for i in range(3):
        for j in range(2):
            hidden = rows.clone()
            hidden[:, :, i, j] = 0.7
            lost = model.fc(rows.square().mean((2, 3))) - model.fc(hidden.square().mean((2, 3)))
            expected[:, 0, i, j] = lost.detach()[:, 2]
    torch.testing.assert_close(maps, expected, **EXACT)
    reads_class_token = nets.fill(Patches(read="class")).double()
    nothing = Occlusion(reads_class_token, "tokens", window=3, stride=1, baseline=0.7).attribute(x, 2)
    torch.testing.assert_close(nothing, torch.zeros_like(nothing), **EXACT)
    assert Occlusion(signals(), window=3).attribute(SIGNAL, 1).shape == (2, 1, 23)
    assert Occlusion(volumes(), window=2).attribute(VOLUME, 1).shape == (2, 1, 5, 4, 6)
