"""Small studies for tests, some of which run in processes that are killed."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from attrib.io import LoadedModel
from attrib.study import Study
from tests import nets
from tests.tiny import loaded, picture

ROOT = Path(__file__).parent.parent
FEW = {"steps": 5}
MODEL = "tests.studies:network"


def network() -> LoadedModel:
    """A model by name: ``tests.studies:network``."""
    return loaded()


def reds() -> LoadedModel:
    """Another model of the same name and classes."""
    tiny = loaded()
    return LoadedModel(nets.fill(nets.Chain(), 3), tiny.preprocess, tiny.categories)


def photos(folder: Path, count: int = 6, *, masks: bool = True) -> Path:
    """A table of noise with labels and masks; gives the table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        picture(i).save(folder / f"{i}.png")
        page = Image.new("L", (16, 12), 0)
        page.paste(255, (3 + i % 4, 2, 10, 9))
        page.save(folder / f"{i}_mask.png")
        rows.append({"image": f"{i}.png", "label": i % 5} | ({"mask": f"{i}_mask.png"} if masks else {}))
    table = folder / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table


def make(data: object, **options: Any) -> Study:
    """A study that any process can run, of two images a shard."""
    given: dict[str, Any] = {
        "model": MODEL,
        "data": str(data) if isinstance(data, Path) else data,
        "methods": ["saliency", "gradcam"],
        "metrics": ["deletion", "srg"],
        "protocol": FEW,
        "shard_size": 2,
    }
    return Study(**given | options)


def scores(out: Path) -> dict[str, bytes]:
    """What must be the same, byte for byte, however a study was run."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for part in ("shards", "images", "curves")
        for path in sorted((out / part).iterdir())
    }


RUN = """
import sys
from pathlib import Path
from tests import studies
study = studies.make(Path(sys.argv[1]), shard_size=1)
print("ready", flush=True)
study.run(sys.argv[2], show_progress=False)
"""


def started(table: Path, out: Path, code: str = RUN) -> subprocess.Popen[str]:
    """A process that runs a study; it says "ready" when it begins."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(table), str(out)], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
