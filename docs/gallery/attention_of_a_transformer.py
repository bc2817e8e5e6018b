"""Attention of a transformer
==========================

A small vision transformer learns in seconds which of four colours are in a picture. Attention rollout says where
it looks, whatever it is asked: at both shapes, and around. Gradient-weighted attention knows the class. The number says
how much of the map lies on the shape of the colour that was asked about, which covers some 7 % of the picture.
"""

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models import VisionTransformer

from attrib import METHODS
from attrib.core.reduce import upsample
from attrib.models.coloured_shapes import COLOURS, coloured_shapes
from attrib.plot import heatmap

torch.manual_seed(0)
net = VisionTransformer(32, 4, num_layers=2, num_heads=3, hidden_dim=48, mlp_dim=96, num_classes=len(COLOURS))
lessons = coloured_shapes(4096, seed=1)
x, said = lessons.x, [caption.split()[0] for caption in lessons.captions[:2048]] + lessons.captions[2048:]
x[:2048] = x[:2048].where(~lessons.masks[:2048, 1:], 0.5)  # one shape alone, or no colour says that another is missing
y = torch.tensor([[float(colour in words) for colour in COLOURS] for words in said])
optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
for some in torch.randint(len(x), (150, 64), generator=torch.Generator().manual_seed(0)):
    optimiser.zero_grad()
    binary_cross_entropy_with_logits(net(x[some]), y[some]).backward()
    optimiser.step()

words = (scene := coloured_shapes(1, seed=7)).captions[0].split()
figure, axes = plt.subplots(2, 3, figsize=(8, 5.6), layout="constrained")
for row, colour, mask in zip(axes, (words[0], words[-2]), scene.masks[0]):
    row[0].imshow(scene.x[0].permute(1, 2, 0).numpy())
    row[0].set(title=f"asked about: {colour}", xticks=[], yticks=[])
    for axis, name in zip(row[1:], ("attention_rollout", "gradient_attention")):
        found = METHODS[name](net.eval()).attribute(scene.x, target=list(COLOURS).index(colour)).detach()
        on = (upsample(found, (32, 32)) * mask).sum() / upsample(found, (32, 32)).sum()
        heatmap(found[0], scene.x[0], axis).set_title(f"{name}: {on:.0%}")
