"""The map of a random network
===========================

The lower row explains the same network with random weights. A method whose map looks the same in both rows draws the
image and not the network (Adebayo et al. 2018).
"""

import matplotlib.pyplot as plt

import attrib
from attrib.io import demo_images, demo_model, load_model
from attrib.plot import heatmap

trained, photo = demo_model(), demo_images()["chelsea"]
networks = {"trained": trained.model, "random": load_model("efficientnet_lite0", weights="none").model}
methods = {
    "saliency": attrib.Saliency,
    "guided backpropagation": attrib.GuidedBackprop,
    "deconvnet": attrib.Deconvnet,
    "Grad-CAM": attrib.GradCAM,
}
x = trained.inputs([photo])

figure, axes = plt.subplots(2, 5, figsize=(11, 5), layout="constrained")
for row, (weights, model) in zip(axes, networks.items()):
    row[0].imshow(trained.view(photo))
    row[0].set(title=f"{weights} weights", xticks=[], yticks=[])
    for axis, (name, method) in zip(row[1:], methods.items()):
        heatmap(method(model).attribute(x, target=281)[0], ax=axis).set_title(name)
