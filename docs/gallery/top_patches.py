"""What channels look for
======================

The patches of pictures that units respond to most, and what in them they respond to. Four photos, cut into pieces,
serve as a data set here; the network is a trained one. Channel 17 finds mostly fur, channel 20 the dark blue of a
night sky, channel 23 upright edges. Left of each block is what guided backpropagation projects back from that one
unit; Zeiler and Fergus used a deconvnet, ``project="deconvnet"``. Light grey is beyond the border of a piece.
"""

from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attrib.analysis import top_patches
from attrib.io import demo_images, demo_model

net = demo_model()
large = replace(net.preprocess, resize=448, crop=448)
photos = [large(photo) for photo in demo_images().values()]
pieces = [x[:, y : y + 112, z : z + 112] for x in photos for y in range(0, 448, 112) for z in range(0, 448, 112)]

layer, channels = "_blocks.4._swish#0", [17, 20, 22, 23]
found = top_patches(net.model, torch.stack(pieces), layer, channels=channels, project="guided", preprocess=net)
drawn = found.plot()

canvas = FigureCanvasAgg(drawn)
canvas.draw()
plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi).figimage(canvas.buffer_rgba())
