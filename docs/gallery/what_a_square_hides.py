"""What a square hides
===================

Zeiler and Fergus moved a grey square over a photo and showed three things at every place of it: how probable the class
still is, what the network says instead, and how strongly the feature map responds that responded most. With the head
of the rocket hidden, the launch pad becomes a drilling platform. All maps come from one sweep.
"""

import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

import attrib
from attrib.io import demo_images, demo_model
from attrib.plot import occlusion_panels

net, photo = demo_model(), demo_images()["rocket"]
x = net.inputs([photo])

found = attrib.occlusion_maps(net.model, x, "predicted", window=56, stride=28)
names = {index: net.label(index) for index in found.label.unique().tolist()}
winner = net.label(int(found.clean.label[0]))
drawn = occlusion_panels(found, net.view(photo), names=names, target=winner)

canvas = FigureCanvasAgg(drawn)
canvas.draw()
plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi).figimage(canvas.buffer_rgba())
