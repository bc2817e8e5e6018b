"""What stays the same when a picture moves
========================================

Zeiler and Fergus shifted, scaled and turned pictures and measured how far the features move: at the first layer at
once, as the pixels do, at the last one little by little. Dashed is what lost borders and interpolation do alone: it
is measured by moving a picture there and back. What lies below it says nothing about invariance.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attrib.analysis import invariance
from attrib.io import demo_images, demo_model

net = demo_model()
photos = list(demo_images().values())[:4]
x = torch.cat([net.inputs([photo]) for photo in photos])

sweeps = {"vertical": range(-60, 61, 30), "scale": (1, 1.2, 1.5, 1.8), "rotation": range(0, 360, 60)}
found = invariance(net.model, x, sweeps=sweeps, preprocess=net.preprocess)
print(found.to_text())
drawn = found.plot()

canvas = FigureCanvasAgg(drawn)
canvas.draw()
plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi).figimage(canvas.buffer_rgba())
