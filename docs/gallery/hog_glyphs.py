"""As HOG sees it
==============

A histogram of oriented gradients keeps the directions of edges in each cell and forgets the rest. The glyphs show its
numbers; the pictures beside them are made from the numbers alone: by a linear guess and a dictionary of pairs, which
learned from three other photos, and by a search that learned nothing. The suit's folds and the background, hardly
there in the photo, are as strong as the face: HOG normalises contrast away.
"""

import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attrib.analysis import see_hog
from attrib.core.synth import PixelSpace
from attrib.io import demo_images
from attrib.models import HOG
from attrib.synthesis import invert

photos = demo_images()
seen = photos.pop("astronaut")
hog = HOG(signed=True, orientations=18, pixels_per_cell=4, cells_per_block=2)

found = see_hog(seen, photos, hog=hog, atoms=128, per_image=300)
grey = found.pictures["image"].mean(0)[None, None]
searched = invert(hog, grey, "blocks", pixels=PixelSpace(), steps=120)
drawn = found.with_view("search", {"image": searched.pictures[0]}).plot()

canvas = FigureCanvasAgg(drawn)
canvas.draw()
plt.figure(figsize=drawn.get_size_inches(), dpi=drawn.dpi).figimage(canvas.buffer_rgba())
