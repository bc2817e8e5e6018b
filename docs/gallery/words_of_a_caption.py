"""The words of a caption
======================

A small captioner is trained on pictures of two coloured shapes, and asked about the words that name something in a
new one. Grad-CAM finds what colour words are about, and spreads over both shapes for shape words: the channels that
see edges are alive on both. Occlusion, below, finds them. Hiding the other shape makes the first colour likelier
(blue): either could have come first.
"""

import matplotlib.pyplot as plt

import attrib
from attrib.models import VOCABULARY, coloured_shapes, train_captioner
from attrib.plot import heatmap

lessons = coloured_shapes(4096, seed=1)
captioner = train_captioner(lessons.x, lessons.tokens, words=len(VOCABULARY))

scene = coloured_shapes(1, seed=7)
words = scene.captions[0].split()
methods = {
    "gradcam": attrib.GradCAM(captioner, "encoder", upsample=True),
    "occlusion": attrib.Occlusion(captioner, window=8, stride=2, baseline=0.5),
}
naming = [0, 1, len(words) - 2, len(words) - 1]  # first colour and shape, second colour and shape
goals = [attrib.Token(scene.tokens, position=place) for place in naming]
maps = attrib.attribute_all(methods, scene.x, goals, additional_forward_args=scene.tokens)

figure, axes = plt.subplots(2, 5, figsize=(11, 5), layout="constrained")
figure.suptitle(" ".join(words))
for row, name in zip(axes, methods):
    row[0].imshow(scene.x[0].permute(1, 2, 0).numpy())
    row[0].set(ylabel=name, xticks=[], yticks=[])
    for axis, place, found in zip(row[1:], naming, maps[name]):
        heatmap(found[0], scene.x[0], axis).set_title(words[place])
