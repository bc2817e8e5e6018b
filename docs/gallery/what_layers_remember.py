"""What layers remember
====================

Pictures whose features are those of a photo, searched for from noise over the frequencies of natural images, layer by
layer. Colours go first, then places: in the end there is something like a cat, somewhere. Below: the error falls with
the steps, and the distance to the photo grows with depth. The error does not: deep layers ask for less.
"""

import matplotlib.pyplot as plt

from attrib.core.synth import Fourier, Move, PixelSpace
from attrib.io import demo_images, demo_model
from attrib.plot.synthesis import traces
from attrib.synthesis import invert

net, photo = demo_model(), demo_images()["chelsea"]
layers = ["_blocks.0", "_blocks.2", "_blocks.4", "_blocks.8", "_blocks.12", "_bn1"]
how = {"parameters": Fourier(PixelSpace(net.mean, net.std)), "move": Move(0.02, optimiser="adam")}
found = invert(net, net.inputs([photo]), layers, steps=80, **how)

figure = plt.figure(figsize=(12, 5.5), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=(1, 1.5))
panels, (left, right) = above.subplots(1, 7), below.subplots(1, 2)
for ax, name, picture in zip(panels, ["photo", *layers], [found.original, *found.pictures]):
    ax.imshow(picture.movedim(0, -1).numpy())
    ax.set_title(name)
    ax.axis("off")
traces(dict(zip(layers, found.error.T)), left, ylabel="error of the features", log=True)
right.plot(layers, found.psnr, "o-")
right.set_ylabel("PSNR to the photo, dB")
