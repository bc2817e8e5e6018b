"""What each layer knows
=====================

A small network learns which shapes are in generated pictures. Linear probes then ask each layer for the pair of shapes,
and for the pair of colours. What it was asked for emerges with depth; the rest fades, faster than with random weights.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from attrib.analysis import Shots, Softmax, probe_layers
from attrib.models import VOCABULARY, coloured_shapes

KINDS, LAYERS = ["circle", "square", "triangle"], ["conv1@input", "pool1", "pool2", "pool3", "6", "8"]
lessons, test = coloured_shapes(1024, seed=1, size=24), coloured_shapes(600, seed=2, size=24)
named = torch.tensor([[float(kind in caption) for kind in KINDS] for caption in lessons.captions])
pairs = {"shapes": lambda words: {words[1], words[-1]}, "colours": lambda words: {words[0], words[-2]}}
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for epochs, style in ((16, "o-"), (0, "o--")):
    torch.manual_seed(0)
    net = nn.Sequential()
    for i, (before, after) in enumerate([(3, 16), (16, 32), (32, 32)], 1):
        net.add_module(f"conv{i}", nn.Conv2d(before, after, 3, padding=1))
        net.add_module(f"pool{i}", nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)))
    net.extend([nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, 3)])
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for rows in (rows for _ in range(epochs) for rows in torch.randperm(len(lessons)).split(32)):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(lessons.x[rows]), named[rows]).backward()
        optimizer.step()
    for (name, pair), colour in zip(pairs.items(), ("C0", "C1")):
        labels = torch.tensor([sum(1 << VOCABULARY.index(word) for word in pair(one.split())) for one in test.captions])
        scores = probe_layers(net, [(test.x, labels)], LAYERS, probes=[Softmax()], split=Shots((20,), test=30)).scores()
        ax.plot(LAYERS, [one.mean for one in scores], style, color=colour, label=f"{name}, {epochs} epochs")
        ax.fill_between(LAYERS, [one.low for one in scores], [one.high for one in scores], color=colour, alpha=0.15)
ax.axhline(1 / 6, color="black", linestyle=":", label="chance")
ax.set(ylim=(0, 1.02), ylabel="accuracy of a softmax probe")
ax.legend()
