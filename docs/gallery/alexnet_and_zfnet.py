"""AlexNet and ZFNet
=================

Zeiler and Fergus changed the first layer of Krizhevsky's network, 7x7 filters for 11x11 and a stride of 2 for 4: few
filters saw middle frequencies, and the stride made aliases. Both networks at a quarter of their width, trained for
seconds on generated stripes, show the same. Six schedules were tried (see ``benchmarks/README.md``): in every run less
was aliased; middle frequencies gained on average wherever anything was learned. Errors here are those of a training
that is too short: after one three times as long both are right. But dead filters in layer 2 became more, never fewer.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from attrib.analysis import diagnose_filters, filter_grid, fit
from attrib.models import ABLATIONS, textures

(x, labels), (test, truth) = textures(900, seed=0, contrast=0.4), textures(300, seed=1, contrast=0.4)

figure, axes = plt.subplots(2, 3, figsize=(9, 6), width_ratios=(1.8, 1, 1), layout="constrained")
for row, name, title in zip(axes, ("krizhevsky", "zfnet"), ("11x11, stride 4", "7x7, stride 2")):
    net = ABLATIONS[name].build(12, scale=1 / 4, image_size=64, fc=(512, 512), dropout=0.2)
    with torch.no_grad():
        net.conv1.weight.mul_(0.03)  # so that what is learned can be seen
    wrong = fit(net, x, labels, epochs=8, batch_size=32, rate=5e-4)(test).argmax(1) != truth
    found, behind = (diagnose_filters(net, test[:100], layer=layer) for layer in ("conv1", "conv2"))

    shown = filter_grid(net, scale="each", sort="frequency").tiles.numpy()
    tiles = np.pad(shown, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=1)
    row[0].imshow(np.concatenate([np.concatenate(tiles[i : i + 8], 1) for i in (0, 8, 16)]), interpolation="nearest")
    row[0].set_title(f"{title}: {wrong.float().mean():.0%} wrong,\n{behind.dead.sum()} of 64 filters of layer 2 dead")
    row[0].axis("off")
    low, middle, high = found.peaks.sum(1).tolist()
    row[1].bar(["low", "middle", "high"], [found.blobs + low, middle, high])
    row[1].set(title="filters by frequency", ylim=(0, 24))
    row[2].bar(
        ["kernels", "answers"], [float(found.aliased.mean()), float(found.shift_error.nanmean())], color="tab:red"
    )
    row[2].set(title="part that is aliased", ylim=(0, 1))
