"""Digits as a network sees them
===============================

A small network learns digits. Other digits, which it never saw, are laid out by what enters its last layer: t-SNE
finds a place in the plane for each, and an assignment gives each its own cell of a grid. Frames tell the digit. Where
frames of two colours meet, look twice: these are the digits that could be read either way.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sklearn.datasets import load_digits
from torch import nn

from attrib.analysis import feature_bank, nearest, tsne

digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
y = torch.tensor(digits.target)

torch.manual_seed(0)
conv = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
net = nn.Sequential(*conv, nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10))
adam = torch.optim.Adam(net.parameters(), 3e-3)
for _ in range(200):
    rows = torch.randint(1000, (64,))
    adam.zero_grad()
    nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
    adam.step()

bank = feature_bank(net, [(x[1000:1400], y[1000:1400])], names=digits.target_names.astype(str))
print(nearest(None, bank).to_text())
drawn = tsne(bank).plot()

canvas = FigureCanvasAgg(drawn)
canvas.draw()
plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi).figimage(canvas.buffer_rgba())
