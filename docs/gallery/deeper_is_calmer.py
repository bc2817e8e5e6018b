"""Deeper is calmer
================

Grad-CAM behind activations at four depths of one network: deeper maps have fewer places and more meaning. At a shallow
layer one average gradient per channel says little, and the map is noise with edges in it. LayerCAM (lower row) keeps
the gradient of each place, and finds the cup at every depth.
"""

import matplotlib.pyplot as plt

from attrib import GradCAM, LayerCAM, attribute_all
from attrib.io import demo_images, demo_model
from attrib.plot import heatmap

net, photo = demo_model(), demo_images()["coffee"]
x = net.inputs([photo])
layers = ["_blocks.2._swish#1", "_blocks.4._swish#1", "_blocks.10._swish#1", "_swish#1"]
methods = {(kind, layer): kind(net.model, layer) for kind in (GradCAM, LayerCAM) for layer in layers}
maps = {label: found[0] for label, found in attribute_all(methods, x, ["predicted"]).items()}  # one forward pass

figure, axes = plt.subplots(2, 5, figsize=(12, 5.2), layout="constrained")
for row, (kind, name) in zip(axes, ((GradCAM, "Grad-CAM"), (LayerCAM, "LayerCAM"))):
    row[0].imshow(net.view(photo))
    row[0].set(title=net.label(int(net.model(x).argmax())), xticks=[], yticks=[])
    for axis, layer in zip(row[1:], layers):
        found = maps[kind, layer]
        heatmap(found[0], net.view(photo), axis).set_title(f"{name}, {found.shape[2]} x {found.shape[3]}")
