"""What a layer knows
==================

Maps of the last layer with places, made without a slope. Half of the photo is a cat, half an espresso, and each class
is asked about; the number says how much of the highest tenth of the map lies on its half (by chance: 50 %). EigenCAM is
not asked about a class: it draws the same twice. Score-CAM tries the 64 most active of 1280 channels, to be quick.
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
methods = {
    "ablationcam": {},
    "scorecam": {"channels": 64},
    "eigencam": {},
    "excitation_backprop": {},
}

figure, axes = plt.subplots(1 + len(methods), 2, figsize=(6.4, 8.7), layout="constrained")
for asked, column in zip(("tiger cat", "espresso"), axes.T):
    column[0].imshow(view)
    column[0].set(title=f"asked about: {asked}", xticks=[], yticks=[])
    for axis, (name, options) in zip(column[1:], methods.items()):
        found = METHODS[name](net.model, **options).attribute(x, target=net.categories.index(asked))
        places = found.flatten().topk(found.numel() // 10).indices % found.shape[3]  # columns of the highest tenth
        right = ((places < found.shape[3] / 2) == (asked == "tiger cat")).float().mean()
        heatmap(found[0], view, axis).set_title(f"{name}: {right:.0%}")
