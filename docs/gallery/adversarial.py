"""What fools a network moves its maps
===================================

A cup of coffee, and what turns it into a space shuttle: no value changes by more than two grey levels of 255. The
maps of the second row explain the wrong answer, of a picture that looks the same. The third has the same perturbation
with its pixels in random order: the answer and Grad-CAM stay, and what moves saliency there is not the work of the
attack.
"""

import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attrib.io import demo_images, demo_model
from attrib.synthesis import attack

net, photo = demo_model(), demo_images()["coffee"]
found = attack(net, net.inputs([photo]), 812, eps=2 / 255, steps=20)  # 812: space shuttle
print(found.to_text())
change = found.attribution_change("saliency", "guided", "gradcam")
print(change.to_text())

drawn = change.plot()
canvas = FigureCanvasAgg(drawn)
canvas.draw()
plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi).figimage(canvas.buffer_rgba())
