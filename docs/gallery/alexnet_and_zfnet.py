"""AlexNet and ZFNet
=================

Zeiler and Fergus looked at the first layer of Krizhevsky's network and changed it: filters of 7x7 instead of 11x11 and
a stride of 2 instead of 4, because few filters saw middle frequencies and the stride made aliases. The same is measured
here, on both networks at a quarter of their width, trained for seconds on generated stripes of three frequencies. The
stride of 4 cannot carry the two higher ones. The numbers are ours, of one training each, and not those of the paper:
of dead filters in layer 2, which the paper saw in the old network, the new one has more here.
"""

import matplotlib.pyplot as plt
import torch

from attrib.analysis import diagnose_filters, filter_grid, fit
from attrib.models import ABLATIONS, textures

x, labels = textures(1200, seed=0, contrast=0.4)
test, truth = textures(400, seed=1, contrast=0.4)

figure, axes = plt.subplots(2, 3, figsize=(9, 6), width_ratios=(1.8, 1, 1), layout="constrained")
for (left, middle, right), (name, title) in zip(
    axes, {"krizhevsky": "11x11, stride 4", "zfnet": "7x7, stride 2"}.items()
):
    net = ABLATIONS[name].build(12, scale=1 / 4, image_size=64, fc=(512, 512), dropout=0.2)
    with torch.no_grad():
        net.conv1.weight.mul_(0.03)  # so that what is learned can be seen
    fit(net, x, labels, epochs=8)
    error = float((net(test).argmax(1) != truth).float().mean())
    found = diagnose_filters(net, test[:200])
    behind = diagnose_filters(net, test[:200], layer="conv2")

    tiles = filter_grid(net, scale="each", sort="frequency").tiles
    rows = [
        torch.cat([torch.nn.functional.pad(tile, (0, 0, 0, 1, 0, 1), value=1) for tile in row], 1)
        for row in tiles.split(8)
    ]
    left.imshow(torch.cat(rows), interpolation="nearest")
    left.set_title(f"{title}: {error:.0%} wrong,\n{int(behind.dead.sum())} of 64 filters of layer 2 dead")
    left.axis("off")
    middle.bar(["low", "middle", "high"], [found.blobs + int(found.peaks[0].sum()), *found.peaks[1:].sum(1).tolist()])
    middle.set_title("filters by frequency")
    middle.set_ylim(0, 24)
    right.bar(
        ["kernels", "answers"], [float(found.aliased.mean()), float(found.shift_error.nanmean())], color="tab:red"
    )
    right.set_title("part that is aliased")
    right.set_ylim(0, 1)
