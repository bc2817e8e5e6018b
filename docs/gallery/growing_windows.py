"""Windows grow layer by layer
===========================

The first picture has a hidden window; the others show where, and how much, the maps of a ResNet-18 change because of
it (brighter: more). The frames are computed from kernels, strides and padding alone, before any of this runs. Outside
of them nothing changes, so exact occlusion computes only what is inside; behind layer3 that is nearly everything.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle

import attrib
from attrib.core import Windows, capture
from attrib.io import demo_images, load_model

net, photo = load_model("resnet18", weights="none"), demo_images()["coffee"]
x = net.inputs([photo])
masks = Windows.usual((224, 224), window=16, stride=8)
shown = 27 * 10 + 9  # row 10, column 9 of 27 x 27
plan = attrib.explain_plan(net.model, x, masks=masks)
boxes = {row.size: row.box(shown) for row in plan.layers}  # of the last map of each size

layers = ["relu", "layer1", "layer2", "layer3", "layer4"]
with torch.no_grad(), capture(net.model, *layers) as acts:
    net.model(torch.cat([x, x * masks.batch(shown, shown + 1, x)[0]]))
changes = [(acts[layer][0] - acts[layer][1]).abs().mean(0) for layer in layers]

figure, axes = plt.subplots(1, 6, figsize=(13, 3), layout="constrained")
axes[0].imshow(net.view(photo))
axes[0].set(title="window 16 of 224", xticks=[], yticks=[])
axes[0].add_patch(Rectangle((masks.boxes[shown][2], masks.boxes[shown][0]), 16, 16, fc="0.45", ec="white"))
for axis, layer, change in zip(axes[1:], layers, changes):
    top, bottom, left, right = boxes[tuple(change.shape)]
    axis.imshow(change.sqrt().numpy(), cmap="magma")
    axis.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec="white", lw=2))
    share = (bottom - top) * (right - left) / change.numel()
    axis.set(title=f"{layer}: {bottom - top} of {len(change)}, {share:.0%}", xticks=[], yticks=[])
