"""Do eyes and noses mean the same in every face?
===============================================

Zeiler and Fergus hid the same part in several pictures and compared, sign by sign, how the features change. To the left
the pictures change more alike. Against random places, other ones in each picture (grey), parts win wherever a layer
knows of places. But these faces are aligned: hiding any one place in all of them (orange) does nearly as well. Only
what is left of the dots' lead over that is a correspondence of parts.
"""

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage.data import lfw_subset

from attrib.analysis import correspondence
from attrib.io import LoadedModel, Preprocess, demo_model

demo, faces = demo_model(), lfw_subset()[:10]  # grey, 25 x 25 pixels
net = LoadedModel(demo.model, Preprocess(resize=112, crop=112, mean=demo.mean, std=demo.std))
x = net.inputs([Image.fromarray(np.uint8(255 * face)).convert("RGB") for face in faces])
boxes = {"left eye": (3, 6, 10, 11), "right eye": (12, 6, 19, 11), "nose": (8, 10, 15, 15), "mouth": (8, 16, 15, 21)}
parts = {name: [edge * 112 / 25 for edge in box] for name, box in boxes.items()}
layers = ["_blocks.4", "_conv_head", "_avg_pooling"]
own, same = (correspondence(net.model, x, parts, layers, draws=8, aligned=aligned) for aligned in (False, True))
print(own.to_text(), same.to_text(), sep="\n\n")

figure, (photo, *axes) = plt.subplots(1, 4, figsize=(11, 2.8), layout="constrained")
photo.imshow(faces.mean(0), cmap="gray")
photo.set(title="mean face", xticks=[], yticks=[])
for x0, y0, x1, y1 in boxes.values():
    photo.add_patch(plt.Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="white"))
for ax, layer in zip(axes, layers):
    for row in range(len(parts)):
        for found, colour, away in ((own, "0.5", -0.15), (same, "C1", 0.15)):
            ax.plot(found.random[layer][row].mean(1), [row + away] * 8, "|", color=colour)
        ax.plot(own.distances[layer][row].mean(), row, "o", color="C0")
    ax.set(
        title=layer, ylim=(3.5, -0.5), xlim=(0, None), yticks=range(4), yticklabels=parts if layer == layers[0] else []
    )
