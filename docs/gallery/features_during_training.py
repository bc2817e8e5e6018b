"""Features during training
========================

Zeiler and Fergus followed the same features through training: which picture excites each most, and what deconvnet
leads that back to. A red edge is a jump, where another picture took over. Here a small network learns which colours and
shapes are in generated pictures. Noise becomes patterns within ten epochs; then features mostly keep their picture, and
now and then one jumps. ``print(watch.found())`` lists the pictures, and says by rank correlations how layers settle.
"""

from collections import OrderedDict

import matplotlib.pyplot as plt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from attrib.analysis import TrainingWatch
from attrib.models import coloured_shapes

words = ["blue", "green", "red", "yellow", "circle", "square", "triangle"]
lessons = coloured_shapes(256, seed=1, size=24)
named = torch.tensor([[float(word in caption.split()) for word in words] for caption in lessons.captions])
torch.manual_seed(0)
parts = OrderedDict()
for i, (before, after) in enumerate([(3, 16), (16, 32), (32, 32)], 1):
    parts |= {f"conv{i}": nn.Conv2d(before, after, 3, padding=1), f"relu{i}": nn.ReLU(), f"pool{i}": nn.MaxPool2d(2)}
net = nn.Sequential(parts | {"gap": nn.AdaptiveMaxPool2d(1), "flat": nn.Flatten(), "fc": nn.Linear(32, len(words))})
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
watch = TrainingWatch(coloured_shapes(256, seed=2, size=24).x, ["relu1", "relu2", "relu3"], channels=3, seed=2)
for epoch in range(1, 65):
    for rows in torch.randperm(len(lessons)).split(32):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(lessons.x[rows]), named[rows]).backward()
        optimizer.step()
    watch(net, epoch)  # looks at epochs 1, 2, 5, 10, 20, 30, 40 and 64

canvas = FigureCanvasAgg(watch.found().plot())
canvas.draw()
plt.figure(figsize=canvas.figure.get_size_inches(), dpi=canvas.figure.dpi).figimage(canvas.buffer_rgba())
