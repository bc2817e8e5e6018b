"""Layers fused
============

LayerCAM of three layers, and what `Fused` makes of them. The deep layer finds the cup, the shallow ones its edges and
those of other things; the product keeps what all layers share.
"""

import matplotlib.pyplot as plt

from attrib import Fused, LayerCAM
from attrib.io import demo_images, demo_model
from attrib.plot import heatmap

net, photo = demo_model(), demo_images()["coffee"]
x = net.inputs([photo])
layers = [LayerCAM(net.model, layer) for layer in ("_blocks.4._swish#1", "_blocks.10._swish#1", "_swish#1")]
methods = dict(zip(("shallow", "middle", "deep"), layers))
methods |= {f"fused: {how}": Fused(layers, how=how) for how in ("max", "mean", "product")}

figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), layout="constrained")
for axis, (name, method) in zip(axes.flat, methods.items()):
    heatmap(method.attribute(x, target="predicted")[0], net.view(photo), axis).set_title(name)
