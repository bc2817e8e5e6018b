"""What deletion measures
======================

Pixels are removed in the order of a map, most relevant first (solid) and least relevant first (dashed), and the
probability of espresso is followed. Guided backpropagation has the lowest solid line, the best deletion: a few
strange pixels upset the network. But it falls soon when the *least* relevant pixels go, too. The gap between the two
lines, SRG, does not fall for that.
"""

import matplotlib.pyplot as plt
import torch

from attrib import METHODS, Protocol
from attrib.io import demo_images, demo_model
from attrib.metrics import curves

net, photo = demo_model(), demo_images()["coffee"]
x = net.inputs([photo])
maps = {name: METHODS[name](net.model).attribute(x, target="predicted") for name in ("gradcam", "saliency", "guided")}
maps["random"] = torch.rand(1, 1, 224, 224, generator=torch.Generator().manual_seed(0))
found = curves(net.model, x, "predicted", maps, Protocol(steps=15))

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for (name, measured), colour in zip(found.items(), ("C0", "C1", "C2", "grey")):
    for curve, style in (("morf", "-"), ("lerf", "--")):
        fraction, score = measured.curve(curve)
        axis.plot(fraction[0], score[0], style, color=colour)
    axis.plot([], color=colour, label=f"{name}: SRG {measured.srg().item():.2f}")
axis.set(xlabel="fraction of pixels removed", ylabel="probability of espresso", ylim=(0, 1))
axis.legend()
