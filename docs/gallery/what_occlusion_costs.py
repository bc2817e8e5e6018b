"""What occlusion costs
====================

How the time of a whole map grows with the picture (windows of 16 pixels in steps of 8), and with the number of windows
on one picture. The numbers are those that ``python -m benchmarks.exact`` wrote; date and machine are in the title.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt

import attrib

checkout = Path(attrib.__file__).resolve().parents[1]
results = json.loads((checkout / "benchmarks" / "results" / "exact.json").read_text())
about, rows = results["metadata"], results["scaling"]
sides = [row for row in rows if row["stride"] == 8]
steps = sorted((row for row in rows if row["side"] == 224), key=lambda row: row["positions"])

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
for key, label in (("captum", "Captum"), ("whole passes", "attrib, whole passes"), ("attrib", "attrib, windows")):
    axes[0].plot([row["side"] for row in sides], [row["seconds"][key] for row in sides], "o-", label=label)
    axes[1].plot([row["positions"] for row in steps], [row["seconds"][key] for row in steps], "o-")
axes[0].set(xlabel="side of the picture, pixels", ylabel="seconds per map", xscale="log", yscale="log")
axes[1].set(xlabel="positions on 224 pixels", xscale="log")
for axis, ticks in zip(axes, ([row["side"] for row in sides], [row["positions"] for row in steps])):
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
axes[0].legend(frameon=False)
figure.suptitle(
    f"{rows[0]['net']}, {about['date']}, {about['machine']['device']}, {results['settings']['threads']} threads"
)
