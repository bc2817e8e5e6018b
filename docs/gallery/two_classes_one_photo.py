"""Two classes in one photo
=========================

A cat and an espresso side by side: CAM explains both classes, and their difference, from one forward pass.
"""

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from attrib import CAM, class_maps
from attrib.io import demo_images, demo_model
from attrib.plot import heatmap

net = demo_model()
halves = [net.view(demo_images()[name]).resize((224, 448)) for name in ("chelsea", "coffee")]
photo = Image.fromarray(np.hstack([np.asarray(half) for half in halves]))
x = net.inputs([photo])
cat, espresso = (net.categories.index(name) for name in ("tiger cat", "espresso"))
found = class_maps(CAM(net.model), x, [cat, espresso])

figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
axes[0].imshow(net.view(photo))
axes[0].set(title="photo", xticks=[], yticks=[])
heatmap(found.of(cat)[0], net.view(photo), axes[1]).set_title(f"{net.label(cat)}: score {found.score[0, 0]:.1f}")
heatmap(found.of(espresso)[0], net.view(photo), axes[2]).set_title(f"{net.label(espresso)}: {found.score[0, 1]:.1f}")
heatmap(found.contrast(cat, espresso)[0], net.view(photo), axes[3]).set_title("the one and not the other")
