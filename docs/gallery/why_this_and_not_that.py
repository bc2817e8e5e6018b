"""Why this and not that
=====================

Espresso and cup are both in the picture, and both maps show the cup. Objectives can be subtracted: what speaks for
espresso *and not* for cup is the coffee in it. What speaks the other way would be blue; ``relu=False`` keeps both
signs.
"""

import matplotlib.pyplot as plt

from attrib import ClassScore, GradCAM
from attrib.io import demo_images, demo_model
from attrib.plot import heatmap

net, photo = demo_model(), demo_images()["coffee"]
x = net.inputs([photo])
espresso, cup = 967, 968
gradcam = GradCAM(net.model, relu=False, upsample=True)

figure, axes = plt.subplots(1, 4, figsize=(10, 3), layout="constrained")
axes[0].imshow(net.view(photo))
axes[0].set(title="the image", xticks=[], yticks=[])
questions = {
    net.label(espresso): ClassScore(espresso),
    net.label(cup): ClassScore(cup),
    "the first, not the second": ClassScore(espresso) - ClassScore(cup),
}
for axis, (title, target) in zip(axes[1:], questions.items()):
    heatmap(gradcam.attribute(x, target=target)[0], net.view(photo), axis).set_title(title)
