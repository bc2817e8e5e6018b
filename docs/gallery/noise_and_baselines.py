"""Noise and baselines
===================

Slopes averaged over noisy copies of a photo, and over the way from a baseline to it. Half of the photo is a cat, half
an espresso, and each class is asked about; the number says how much of the highest tenth of the map lies on its half
(by chance: 50 %). Red speaks for the class and blue against it, where the method knows of signs.
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
    "smoothgrad": {"n_samples": 16},
    "smoothgrad_squared": {"n_samples": 16},
    "vargrad": {"n_samples": 16},
    "integrated_gradients": {"n_steps": 16},
    "gradient_shap": {"n_samples": 12},
}

figure, axes = plt.subplots(1 + len(methods), 2, figsize=(6.4, 10.4), layout="constrained")
for asked, column in zip(("tiger cat", "espresso"), axes.T):
    column[0].imshow(view)
    column[0].set(title=f"asked about: {asked}", xticks=[], yticks=[])
    for axis, (name, options) in zip(column[1:], methods.items()):
        found = METHODS[name](net.model, **options).attribute(x, target=net.categories.index(asked))
        places = found.flatten().topk(found.numel() // 10).indices % found.shape[3]  # columns of the highest tenth
        right = ((places < found.shape[3] / 2) == (asked == "tiger cat")).float().mean()
        heatmap(found[0], view, axis).set_title(f"{name}: {right:.0%}")
