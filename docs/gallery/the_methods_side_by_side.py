"""The methods side by side
========================

What every method says about the same photo, network and class.
"""

import matplotlib.pyplot as plt

from attrib import METHODS
from attrib.io import demo_images, demo_model
from attrib.plot import heatmap

net, photo = demo_model(), demo_images()["coffee"]
x = net.inputs([photo])
titles = {
    "saliency": "saliency",
    "input_x_gradient": "input x gradient",
    "guided": "guided backpropagation",
    "deconvnet": "deconvnet",
    "occlusion": "occlusion",
    "gradcam": "Grad-CAM",
    "guided_gradcam": "guided Grad-CAM",
}

figure, axes = plt.subplots(2, 4, figsize=(11, 6), layout="constrained")
axes[0, 0].imshow(net.view(photo))
axes[0, 0].set(title=net.label(int(net.model(x).argmax())), xticks=[], yticks=[])
for axis, (name, title) in zip(axes.flat[1:], titles.items()):
    maps = METHODS[name](net.model).attribute(x, target="predicted")
    heatmap(maps[0], net.view(photo), axis).set_title(title)
