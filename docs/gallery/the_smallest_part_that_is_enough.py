"""The smallest part that is enough
================================

Extremal perturbation looks for the region of a given area that keeps most of the score. The upper row shows what the
network sees, the lower row the masks; the number is the share of the score that is left, 0 being the blurred picture.
Each area is a search of its own, and finds one place of many where the score cannot be raised by a little change. That
of 5 %, on the rim of the saucer, is a poor one: a search with more steps may find a better.
"""

import matplotlib.pyplot as plt
import torch

from attrib import ExtremalPerturbation
from attrib.core import Query, as_objective, frozen
from attrib.core.sweeps.mask_search import masked
from attrib.io import demo_images, demo_model
from attrib.plot import heatmap

net, photo = demo_model(), demo_images()["coffee"]
x = net.inputs([photo])
regions = {"all of it": torch.ones(1, 1, *x.shape[2:])}
for area in (0.2, 0.1, 0.05):
    regions[f"{area:.0%}"] = ExtremalPerturbation(net.model, areas=area, steps=30, places=3).attribute(x, "predicted")

figure, axes = plt.subplots(2, 4, figsize=(12, 6.2), layout="constrained")
with frozen(net.model), torch.no_grad():
    (one,) = masked(Query(net.model, (x,), as_objective("predicted")), 0, "pyramid", 1)
    for (area, region), (above, below) in zip(regions.items(), axes.T):
        left = float(one.left(one.score(region)))
        mean, std = (torch.tensor(values)[:, None, None] for values in (net.mean, net.std))
        above.imshow((one.fade(region)[0] * std + mean).clamp(0, 1).permute(1, 2, 0).numpy())
        above.set(title=f"{area}: {left:.0%} of the score", xticks=[], yticks=[])
        heatmap(region[0], net.view(photo), below)
