"""Contributions in a small network
================================

A network of rectifiers learns in two seconds which of four colours are in a picture. DeepLIFT and LRP hand its
answer down to the pixels; EfficientNet-Lite0, whose units saturate at 6, they refuse. The number says how much of the
positive part lies on the shape of the colour that was asked about, which covers some 7 % of the picture.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from attrib import METHODS
from attrib.models.coloured_shapes import COLOURS, coloured_shapes
from attrib.plot import heatmap

torch.manual_seed(0)
eye = [nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU()]
net = nn.Sequential(*eye, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, len(COLOURS)))
lessons = coloured_shapes(4096, seed=1)
x, said = lessons.x, [caption.split()[0] for caption in lessons.captions[:2048]] + lessons.captions[2048:]
x[:2048] = x[:2048].where(~lessons.masks[:2048, 1:], 0.5)  # one shape alone, or no colour says that another is missing
y = torch.tensor([[float(colour in words) for colour in COLOURS] for words in said])
optimiser = torch.optim.AdamW(net.parameters(), 5e-3)
for some in torch.randint(len(x), (400, 64), generator=torch.Generator().manual_seed(0)):
    optimiser.zero_grad()
    binary_cross_entropy_with_logits(net(x[some]), y[some]).backward()
    optimiser.step()

words = (scene := coloured_shapes(1, seed=7)).captions[0].split()
figure, axes = plt.subplots(2, 4, figsize=(9, 5), layout="constrained")
for row, colour, mask in zip(axes, (words[0], words[-2]), scene.masks[0]):
    row[0].imshow(scene.x[0].permute(1, 2, 0).numpy())
    row[0].set(title=f"asked about: {colour}", xticks=[], yticks=[])
    for axis, (name, options) in zip(row[1:], {"deeplift": {"baselines": 0.5}, "deeplift_shap": {}, "lrp": {}}.items()):
        found = METHODS[name](net.eval(), **options).attribute(scene.x, target=list(COLOURS).index(colour)).detach()
        on = (found.clamp(min=0) * mask).sum() / found.clamp(min=0).sum()
        heatmap(found[0], scene.x[0], axis).set_title(f"{name}: {on:.0%}")
