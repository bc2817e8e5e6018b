"""Units of a network
==================

In each of three layers: the channel that responds most to the photo, at the place where it does, projected back to the
pixels that it sees. Guided backpropagation draws what excites the unit. The deconvnet needs max-pooling to know where
things are; this network has none, and its picture is that of the strides.
"""

import matplotlib.pyplot as plt
import torch

from attrib import Deconvnet, GuidedBackprop, Neuron, attribute_all
from attrib.core import capture
from attrib.io import demo_images, demo_model
from attrib.plot import gradient_image

net, photo = demo_model(), demo_images()["chelsea"]
x, view = net.inputs([photo]), net.view(photo)
layers = ["_blocks.2", "_blocks.4", "_blocks.9"]
with torch.no_grad(), capture(net.model, *layers) as acts:
    net.model(x)
units = [Neuron(layer, int(acts[layer][0].amax((1, 2)).argmax())) for layer in layers]

signed = {"channels": "none", "absolute": False}
methods = {"guided": GuidedBackprop(net.model, **signed), "deconvnet": Deconvnet(net.model, **signed)}
maps = attribute_all(methods, x, units)

figure, axes = plt.subplots(3, 3, figsize=(8, 8.4), layout="constrained")
for column, (unit, guided, deconvnet) in enumerate(zip(units, *maps.values())):
    rows, columns = (guided[0].abs().amax((0, axis)).nonzero() for axis in (2, 1))  # the receptive field
    seen = slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1)
    axes[0, column].imshow(view.crop((seen[1].start, seen[0].start, seen[1].stop, seen[0].stop)))
    axes[0, column].set(title=f"{unit.layer}, channel {unit.channel}", xticks=[], yticks=[])
    for axis, name, found in zip(axes[1:, column], methods, (guided, deconvnet)):
        gradient_image(found[0][(slice(None), *seen)], axis).set_title(name)
