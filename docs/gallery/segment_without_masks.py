"""An object's outline from a map alone
=====================================

Simonyan, Vedaldi and Zisserman cut objects out of photos with a network that learnt no masks: the most salient pixels
teach the colours of the object, the least salient those of the background, and a graph cut does the rest. Noisy
saliency is enough where colours differ, as in the cup; a face that fills the picture and a rocket as thin as a line
show what the recipe needs: an object with colours of its own, and a map that points at it.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attrib import METHODS
from attrib.analysis import segment
from attrib.io import demo_images, demo_model

net, photos = demo_model(), demo_images()
maps, views, names = [], [], []
for name in ("coffee", "chelsea", "rocket"):
    for method in ("saliency", "gradcam"):
        maps.append(METHODS[method](net.model).attribute(net.inputs(photos[name]), "predicted"))
        views.append(net.view(photos[name]))
        names.append(f"{name}, {method}")
maps = [torch.nn.functional.interpolate(one, views[0].size[::-1], mode="bilinear") for one in maps]
found = segment(torch.cat(maps), views, names=names)
print(found.to_text())

drawn = found.plot()
canvas = FigureCanvasAgg(drawn)
canvas.draw()
plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi).figimage(canvas.buffer_rgba())
