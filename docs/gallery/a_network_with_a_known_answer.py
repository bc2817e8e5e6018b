"""A network with a known answer
=============================

The first class of this network is the amount of red, the second the amount of green. Every method is asked about red.
The gradient is as steep on the pale disc as on the red one; what they contribute differs. Units differ too, so every
panel has its own scale.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import attrib
from attrib.plot import heatmap

net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
net[0].weight.data = torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0]]).reshape(2, 3, 1, 1)
net[0].bias.data.zero_()

y, x = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
picture = 0.3 * torch.ones(3, 48, 64)
picture[0] += 0.7 * ((x - 18) ** 2 + (y - 30) ** 2 < 120)  # a red disc
picture[0] += 0.4 * ((x - 32) ** 2 + (y - 12) ** 2 < 40)  # and a pale one
picture[1] += 0.7 * ((x - 47).abs() + (y - 20).abs() < 12)  # a green diamond

methods = {
    "saliency": attrib.Saliency(net),
    "input x gradient": attrib.InputXGradient(net),
    "guided backpropagation": attrib.GuidedBackprop(net),
    "occlusion": attrib.Occlusion(net, window=8, stride=2),
    "Grad-CAM": attrib.GradCAM(net, "1"),
}
figure, axes = plt.subplots(2, 3, figsize=(9, 5), layout="constrained")
axes[0, 0].imshow(picture.permute(1, 2, 0).numpy())
axes[0, 0].set(title="the image", xticks=[], yticks=[])
for axis, (name, method) in zip(axes.flat[1:], methods.items()):
    heatmap(method.attribute(picture[None], target=0)[0], picture, axis).set_title(name)
