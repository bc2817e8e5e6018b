"""What excites a class
====================

One network, one class, six ways to search for the picture that excites it most. With a penalty on the norm only
(``simonyan``) the network is sure of noise in which hardly anyone sees a flamingo. The settings of Yosinski and others
tame it by blur, decay and clipping: bills and necks come out. The search over frequencies and decorrelated colours,
seen shifted, turned and resized (``natural``), has heads, legs, water and grass.
"""

import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attrib.io import demo_model
from attrib.plot.synthesis import images, stretched
from attrib.synthesis import RECIPES, ascend

net = demo_model()
pictures, titles = [], []
for recipe in RECIPES:
    found = ascend(net, "flamingo", recipe=recipe, steps=160 if recipe == "natural" else 64)
    image = found.inputs[0]
    pictures.append(found.pictures[0] if found.clipped else stretched(image))
    titles.append(f"{recipe}: score {float(found.score[-1]):.0f}")
foot = "All but the first are drawn about their mean colour, each on its own scale."
drawn = images(pictures, titles, columns=3, foot=foot)

canvas = FigureCanvasAgg(drawn)
canvas.draw()
plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi).figimage(canvas.buffer_rgba())
