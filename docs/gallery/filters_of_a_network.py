"""The filters of a network
========================

The 32 filters of the first layer of EfficientNet-Lite0, on one scale, and what is wrong with them. Four are zero: they
would not show if each had a scale of its own. With 3x3 pixels and a stride of 2, most filters have most of their
energy at frequencies that their own output cannot hold. Of what they answer to photos, little is lost by that (orange
dots): photos have little energy there.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attrib.analysis import diagnose_filters
from attrib.io import demo_images, demo_model

net = demo_model()
found = diagnose_filters(net.model, torch.cat([net.inputs([photo]) for photo in demo_images().values()]))
print(found.to_text())

drawn = found.plot()
canvas = FigureCanvasAgg(drawn)
canvas.draw()
plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi).figimage(canvas.buffer_rgba())
