"""The size of the window
======================

Occlusion with a small window hides less than the network needs to lose the cup, and a large one hides the
surroundings with it. The numbers are the greatest loss of probability, in percentage points.
"""

import matplotlib.pyplot as plt

import attrib
from attrib.io import demo_images, demo_model
from attrib.plot import heatmap

net, photo = demo_model(), demo_images()["coffee"]
x = net.inputs([photo])

figure, axes = plt.subplots(1, 4, figsize=(10, 3), layout="constrained")
axes[0].imshow(net.view(photo))
axes[0].set(title=net.label(int(net.model(x).argmax())), xticks=[], yticks=[])
for axis, window in zip(axes[1:], (28, 56, 112)):
    occlusion = attrib.Occlusion(net.model, window=window, stride=28, score="probability")
    drop = occlusion.attribute(x, target="predicted")[0]
    heatmap(drop, net.view(photo), axis).set_title(f"window {window}: {100 * drop.max():.0f} points")
