"""Six panels
==========

The panels of a figure of the Grad-CAM paper, fine and coarse evidence for each of two classes, on a cat and an espresso
put side by side. The paper has a cat and a dog in one photo, a plain network, and a residual one at the end; this
network is residual throughout, and the last panel is of a shallower layer. ``benchmarks/six_panels.py`` draws the
paper's panels, from networks and a photo that cannot be installed.
"""

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from attrib import GradCAM, GuidedBackprop, GuidedGradCAM, Occlusion
from attrib.io import demo_images, demo_model
from attrib.plot import heatmap

net = demo_model()
halves = [net.view(demo_images()[name]).resize((224, 448)) for name in ("chelsea", "coffee")]
photo = Image.fromarray(np.hstack([np.asarray(half) for half in halves]))
x = net.inputs([photo])
panels = {
    "guided backpropagation": GuidedBackprop(net.model),
    "Grad-CAM": GradCAM(net.model),
    "guided Grad-CAM": GuidedGradCAM(net.model),
    "occlusion": Occlusion(net.model, window=48, stride=16),
    "Grad-CAM, a shallower layer": GradCAM(net.model, "_blocks.10"),
}

figure, axes = plt.subplots(2, 6, figsize=(15, 5.6), layout="constrained")
for line, name in zip(axes, ("tiger cat", "espresso")):
    line[0].imshow(net.view(photo))
    line[0].set(title=name, xticks=[], yticks=[])
    for axis, (title, method) in zip(line[1:], panels.items()):
        maps = method.attribute(x, target=net.categories.index(name))
        heatmap(maps[0], net.view(photo), axis).set_title(title)
