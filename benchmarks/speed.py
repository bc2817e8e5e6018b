"""Time and memory of attrib's methods against Captum and pytorch-grad-cam: ``python benchmarks/speed.py --help``.

``python benchmarks/speed.py curves --help``: deletion and insertion against RISE's loop, torch-cam and Quantus.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if __package__ in {None, ""}:  # run as a script, from a checkout that may not be installed
    sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402

from benchmarks import contenders, measure, table  # noqa: E402

PACKAGES = ("attrib", "torch", "torchvision", "captum", "grad-cam")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {number}")
    return number


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="speed.py", description=__doc__)
    nets, methods = list(contenders.NETS), list(contenders.CONTENDERS)
    made.add_argument("--nets", nargs="+", choices=nets, default=list(contenders.DEFAULT_NETS), metavar="NET")
    made.add_argument(
        "--methods", nargs="+", choices=methods, default=methods, metavar="METHOD", help=", ".join(methods)
    )
    made.add_argument("--repeats", type=_positive, default=9, help="timed calls per contender (default: %(default)s)")
    made.add_argument("--seconds", type=float, default=60.0, help="begin no further repeat after so long, but make 3")
    made.add_argument("--size", type=_positive, default=224, help="side of the input, pixels (default: %(default)s)")
    made.add_argument("--threads", type=_positive, default=os.cpu_count() or 1, help="of torch (default: all cores)")
    made.add_argument("--device", default="cpu", help="such as cuda (default: %(default)s)")
    made.add_argument(
        "--out", type=Path, default=HERE / "results" / "speed.json", help="JSON file (default: %(default)s)"
    )
    made.add_argument("--table", type=Path, nargs="?", const=HERE / "README.md", help="also update this page's table")
    made.add_argument("--no-memory", action="store_true", help="do not measure memory")
    return made


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; progress goes to standard error."""
    results = []
    for net in args.nets:
        task = contenders.task(net, args.size, args.device)
        for method in args.methods:
            cell = measure.cell(task, method, args.repeats, args.seconds)
            if not args.no_memory:
                _add_peaks(cell, args, task.target)
            print(_line(cell), file=sys.stderr)
            results.append(cell)
    return {"schema": 1, "metadata": metadata(args.device), "settings": _settings(args), "results": results}


def _add_peaks(cell: dict[str, Any], args: argparse.Namespace, target: int) -> None:
    task = {"net": cell["net"], "size": args.size, "device": args.device, "target": target}
    for name, found in cell["contenders"].items():
        if "error" not in found:
            found["peak_bytes"] = measure.apart(measure.peak, task, cell["method"], name, args.threads)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    window = max(1, args.size // contenders.WINDOWS)
    given = {"repeats": args.repeats, "seconds": args.seconds, "size": args.size, "threads": args.threads}
    return given | {"device": args.device, "batch": 1, "weights": "random", "occlusion_window": window}


def metadata(device: str, *packages: str) -> dict[str, Any]:
    """When, where and with what; ``packages`` are named beside the usual ones."""
    packages = PACKAGES + packages
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else _processor()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": {"device": name, "cores": os.cpu_count(), "system": platform.platform(), "load": load},
        "versions": {"python": platform.python_version()} | {package: _version(package) for package in packages},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        import attrib

        return attrib.__version__ if package == "attrib" else None


def _line(cell: dict[str, Any]) -> str:
    parts = [
        f"{name} {one['error'][:60]}" if "error" in one else f"{name} {1000 * one['median']:.1f} ms"
        for name, one in cell["contenders"].items()
    ]
    return f"{cell['net']:10} {cell['method']:17} " + ", ".join(parts)


def write(path: Path, results: dict[str, Any]) -> None:
    """Strict JSON, whole or not at all; a list of numbers is one line."""
    text = json.dumps(results, indent=1, allow_nan=False) + "\n"
    text = re.sub(r"\[\n[-+.\deE,\s]*(?:null[-+.\deE,\s]*)*\]", lambda found: " ".join(found[0].split()), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the results, and update the table if asked to; what follows ``curves`` is for that part."""
    argv = sys.argv[1:] if argv is None else argv
    if list(argv[:1]) == ["curves"]:
        from benchmarks import curves

        return curves.main(argv[1:])
    args = parser().parse_args(argv)
    begin, threads = time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        results = run(args)
    finally:
        torch.set_num_threads(threads)
    write(args.out, results)
    if args.table:
        table.update(args.table, results)
    print(f"{args.out}: {len(results['results'])} rows in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
