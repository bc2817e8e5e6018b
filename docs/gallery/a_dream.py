"""A dream
=======

Whatever a layer sees in a picture, more of it: the sum of its squared activations is raised on the small picture first,
then on larger ones. A shallow layer sees strokes, a deeper one scales and eyes. With a guide, here the cat, the
features that are raised are those most like the guide's.
"""

import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attrib.io import demo_images, demo_model
from attrib.plot.synthesis import images
from attrib.synthesis import dream

net, photos = demo_model(), demo_images()
photo, guide = net.view(photos["rocket"]), net.view(photos["chelsea"])
dreams = {
    "_blocks.3": dream(net, photo, "_blocks.3", steps=12),
    "_blocks.8": dream(net, photo, "_blocks.8", steps=12),
    "_blocks.8, guided": dream(net, photo, "_blocks.8", guide=guide, steps=12),
}
pictures = [one.picture for one in dreams.values()]
drawn = images(
    pictures, [f"{name}: last octave x {float(d.score[-1][-1] / d.score[-1][0]):.1f}" for name, d in dreams.items()]
)

canvas = FigureCanvasAgg(drawn)
canvas.draw()
plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi).figimage(canvas.buffer_rgba())
