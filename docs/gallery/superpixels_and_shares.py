"""Superpixels and their shares
============================

Twenty-four regions of like colour are hidden, one by one or many at once, and each gets its part of the score. Half of
the photo is a cat, half an espresso, and each class is asked about; the number says how much of the highest tenth of
the map lies on its half (by chance: 50 %). The face and the coffee win everywhere; small shares are a matter of luck.
"""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch

from attrib import METHODS
from attrib.core.masking.superpixels import superpixels
from attrib.io import demo_images, demo_model
from attrib.plot import heatmap

net, photos = demo_model(), [demo_images()[name] for name in ("chelsea", "coffee")]
half = replace(net.preprocess, resize=160, crop=160)
x, view = torch.cat([half(one) for one in photos], 2)[None], np.hstack([half.view(one) for one in photos])
regions = superpixels(x, n=24)
methods = {
    "feature_ablation": {"feature_mask": regions},
    "lime": {"feature_mask": regions, "n_samples": 100},
    "kernel_shap": {"feature_mask": regions, "n_samples": 100},
    "shapley_sampling": {"feature_mask": regions, "n_samples": 3},
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
