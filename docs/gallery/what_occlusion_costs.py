"""What occlusion costs
====================

How long does a whole map take, and how does that grow with the picture and with the number of windows? The numbers come from
``benchmarks/results/exact.json``, which ``python -m benchmarks.exact`` writes; its date and machine are in the title.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt

import attrib

results = json.loads((Path(attrib.__file__).resolve().parents[1] / "benchmarks" / "results" / "exact.json").read_text())
about, rows = results["metadata"], results["scaling"]
nets = list(dict.fromkeys(row["net"] for row in rows))
who = {"captum": "Captum", "whole passes": "attrib, whole passes", "attrib": "attrib, windows"}

# %%
# Left of each pair: windows of 16 pixels in steps of 8 on pictures of three sizes, so that the number of positions grows with the area,
# and so does the work of every pass. Right: one size, three strides.

figure, axes = plt.subplots(len(nets), 2, figsize=(9, 3.4 * len(nets)), layout="constrained", squeeze=False)
for (left, right), net in zip(axes, nets, strict=True):
    for key, label in who.items():
        sides = [row for row in rows if row["net"] == net and row["stride"] == 8]
        strides = sorted(
            (row for row in rows if row["net"] == net and row["side"] == 224), key=lambda row: row["positions"]
        )
        left.plot([row["side"] for row in sides], [row["seconds"][key] for row in sides], "o-", label=label)
        right.plot([row["positions"] for row in strides], [row["seconds"][key] for row in strides], "o-", label=label)
    left.set(xlabel="side of the picture, pixels", ylabel=f"{net}: seconds per map", xscale="log", yscale="log")
    right.set(xlabel="positions, 224 pixels", xscale="log", yscale="log")
    left.set_xticks([row["side"] for row in sides], [str(row["side"]) for row in sides], minor=False)
    left.minorticks_off()
axes[0][0].legend(frameon=False)
figure.suptitle(f"{about['date']}, {about['machine']['device']}, {results['settings']['threads']} threads")

# %%
# A pass over a larger picture has larger maps, but a window changes as many cells as before. So windows win more on larger pictures,
# until the deep layers, which see everything, are all that is left.
