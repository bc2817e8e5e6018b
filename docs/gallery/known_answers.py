"""Known answers
=============

Networks whose reasons are known; the second column says where they are: a code among random signs (the brighter patch
is a decoy), an L hidden in noise, the colour of the ground, the object that was asked for. The noise over the L is
seen again in its twin, which the network subtracts: methods show the twin as much as the L. The colour of the ground is
so sure that the gradient has nothing to say about it. In the last row saliency shows both objects, occlusion and
Grad-CAM the right one.
"""

from functools import partial

import matplotlib.pyplot as plt

import attrib
from attrib.benchmark.synthetic import suite
from attrib.plot import heatmap

methods = {
    "saliency": attrib.Saliency,
    "guided": attrib.GuidedBackprop,
    "Grad-CAM": partial(attrib.GradCAM, upsample=True),
    "occlusion": partial(attrib.Occlusion, window=6, stride=1),
}
problems = suite(n=2, names=["planted", "suppressor", "shortcut", "several"])

figure, axes = plt.subplots(4, 6, figsize=(10, 7), layout="constrained")
for row, (name, problem) in zip(axes, problems.items()):
    x, target = problem.scenes.x[:1], problem.scenes.target[:1]
    shown = ((x[0] - x.min()) / (x.max() - x.min())).permute(1, 2, 0)
    row[0].imshow(shown.numpy(), cmap="gray")
    row[0].set_ylabel(name)
    row[1].imshow(problem.relevant[0].numpy(), cmap="gray")
    for axis, method in zip(row[2:], methods.values()):
        heatmap(method(problem.model).attribute(x, target)[0], None, axis)
    for axis in row:
        axis.set(xticks=[], yticks=[])
for axis, title in zip(axes[0], ("picture", "truth", *methods)):
    axis.set_title(title)
