"""One weight or many
==================

The same activations, weighted five ways. Half of the photo is a cat, half an espresso, and each class is asked about;
the number says how much of the positive map lies on its half (by chance: 50 %). At the last layer, before a mean and a
linear layer, Grad-CAM, XGrad-CAM and HiResCAM are one map. A layer earlier they are not.
"""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch

from attrib import METHODS
from attrib.io import demo_images, demo_model
from attrib.plot import heatmap

net, photos = demo_model(), [demo_images()[name] for name in ("chelsea", "coffee")]
half = replace(net.preprocess, resize=160, crop=160)
x, view = torch.cat([half(one) for one in photos], 2)[None], np.hstack([half.view(one) for one in photos])
methods = ("gradcam", "xgradcam", "hirescam", "gradcam_plusplus", "layercam")
columns = [(layer, asked) for layer in (None, "_blocks.15") for asked in ("tiger cat", "espresso")]

figure, axes = plt.subplots(1 + len(methods), 4, figsize=(12, 8), layout="constrained")
for (layer, asked), column in zip(columns, axes.T):
    column[0].imshow(view)
    column[0].set(title=f"{asked}, {layer or 'the last layer'}", xticks=[], yticks=[])
    for axis, name in zip(column[1:], methods):
        found = METHODS[name](net.model, layer).attribute(x, target=net.categories.index(asked))
        left = float(found.clamp(min=0)[..., : found.shape[3] // 2].sum() / found.clamp(min=0).sum())
        heatmap(found[0], view, axis).set_title(f"{name}: {left if asked == 'tiger cat' else 1 - left:.0%}")
