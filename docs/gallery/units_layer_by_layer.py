"""Units, layer by layer
=====================

What four channels of five layers respond to most, searched for by gradient ascent. Early layers want colours and
stripes, middle ones textures and curves, late ones parts of things. A unit of an early layer costs little: the forward
pass ends there. ``found.sheets()`` gives a figure for each layer.
"""

import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attrib.io import demo_model
from attrib.plot.synthesis import images
from attrib.synthesis import ascend

net = demo_model()
layers = ["_blocks.0", "_blocks.2", "_blocks.4", "_blocks.8", "_blocks.14"]
units = [f"{layer}:{channel}" for layer in layers for channel in (0, 3, 5, 11)]
found = ascend(net, units, size=112, steps=64, batch_size=4)
heads = {row: layer for row, layer in enumerate(layers)}
drawn = images(found.pictures, [unit.partition(":")[2] for unit in units], columns=4, heads=heads)

canvas = FigureCanvasAgg(drawn)
canvas.draw()
plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi).figimage(canvas.buffer_rgba())
