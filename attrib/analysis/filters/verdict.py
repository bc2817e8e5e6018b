"""A filter diagnosis in words, and as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrib.analysis.filters.grid import listed
from attrib.report.table import amount, text_table

if TYPE_CHECKING:
    from attrib.analysis.filters.diagnosis import FilterDiagnosis

ROWS = 20  # filters with numbers of their own in the text; all are in the files


def said(found: FilterDiagnosis, *, markdown: bool = False) -> str:
    """Sentences, a table of the checks, and the numbers of the filters that fail any."""
    checks = [
        {"check": name, "limit": limit, "filters": str(int(found.flags[name].sum())), "which": _which(found, name)}
        for name, limit in _limits(found).items()
    ]
    parts = [f"{found.about}.", *sentences(found), "", text_table(checks, markdown=markdown)]
    rows = _rows(found)
    if rows:
        parts += ["", text_table(rows[:ROWS], markdown=markdown)]
    if len(rows) > ROWS:
        parts += [f"{len(rows) - ROWS} more filters with something are in the files."]
    return "\n".join(parts)


def sentences(found: FilterDiagnosis) -> list[str]:
    """What one would say on seeing the filters."""
    return [_dead(found), _alike(found), *_frequencies(found), *_folded(found)]


def _dead(found: FilterDiagnosis) -> str:
    count, of = int(found.dead.sum()), len(found)
    if not found.path:
        return f"Whether filters are dead was not tested, as there were no data; {count} of {of} are zero."
    read = f"behind {' and '.join(found.path)}, on {found.examples} examples"
    if math.isnan(float(found.rate[0])):
        return f"{count} of {of} filters say the same to everything ({read}; nothing follows that is silent below 0)."
    return f"{count} of {of} filters are dead ({read})."


def _alike(found: FilterDiagnosis) -> str:
    flags = found.flags
    if found.dead.all():
        return f"{int(flags['duplicate'].sum())} with a duplicate."
    alike, scale = int(flags["duplicate"].sum()), int(flags["out of scale"].sum())
    spread = float(found.rms.max()) / found.median
    return f"{alike} with a duplicate, {scale} out of scale; the strongest is {amount(spread, 2)} times the median."


def _frequencies(found: FilterDiagnosis) -> list[str]:
    if not found.peaks.numel():
        return ["Kernels of one point have no spectrum: frequencies and aliasing are undefined."]
    low, middle, high = (int(count) for count in found.peaks.sum(1))
    alive = low + middle + high + found.blobs
    if not alive:
        return []
    few = middle < found.thresholds.middle * alive
    verdict = "little coverage of middle frequencies" if few else "middle frequencies are covered"
    return [
        f"Of {alive} filters that live, {found.blobs + low} have their peak at low frequencies, {middle} at middle and "
        f"{high} at high ones: {verdict}; {found.coverage:.0%} of the bins of middle and high frequency and "
        "orientation have a filter."
    ]


def _folded(found: FilterDiagnosis) -> list[str]:
    if not found.peaks.numel():
        return []
    if found.aliased.isnan().all():
        return ["A transposed convolution makes its output larger: nothing is aliased."]
    if found.limit == 0.5:  # a stride of 1
        return ["The stride is 1: nothing is aliased."]
    mean = float(found.aliased.nanmean())
    carried = f"The stride carries frequencies up to {found.limit:.3g} cycles per pixel"
    text = f"{carried}; {mean:.0%} of the filters' energy is above"
    moved = found.shift_error[~found.dead]
    if moved.isnan().all():
        return [f"{text}."]
    return [f"{text}, and {float(moved.nanmean()):.0%} of the answers to these examples do not move with the picture."]


def _limits(found: FilterDiagnosis) -> Mapping[str, str]:
    at = found.thresholds
    return {
        "dead": f"answers on < {at.rate:.3g} of the examples" if found.path else "zero",
        "duplicate": f"|cosine| > {at.cosine:.3g}",
        "out of scale": f"rms not within {at.spread:.3g} x median",
        "high frequency": f"> {at.fine:.0%} of energy above 1/3",
        "aliased": f"> {at.aliased:.0%} of energy above {found.limit:.3g}",
        "flickers": f"error > {at.shift:.3g} when moved",
    }


def _which(found: FilterDiagnosis, name: str) -> str:
    values = {
        "duplicate": found.cosine,
        "high frequency": found.bands[:, 2],
        "aliased": found.aliased,
        "flickers": found.shift_error,
    }.get(name)
    if values is not None and values.isnan().all():
        return "undefined" if name != "flickers" or found.path else "no data"
    return listed(found.flags[name].nonzero().flatten().tolist(), 10) or "-"


def _rows(found: FilterDiagnosis) -> list[dict[str, str]]:
    flags = found.flags
    rows = []
    for k in range(len(found)):
        has = [name for name, values in flags.items() if values[k]]
        if has:
            twin = "-" if found.twin[k] < 0 else f"{amount(float(found.cosine[k]), 2)} ({int(found.twin[k])})"
            numbers = {"rms": found.rms, "highest": found.highest, "rate": found.rate}
            spectral = {"frequency": found.frequency, "aliased": found.aliased, "moved": found.shift_error}
            rows.append(
                {"filter": str(k)}
                | {name: amount(float(values[k])) for name, values in numbers.items()}
                | {"twin": twin}
                | {name: amount(float(values[k]), 2) for name, values in spectral.items()}
                | {"has": ", ".join(has)}
            )
    return rows
