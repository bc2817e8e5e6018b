"""Studies of the same methods, pictures and model under several protocols: do the rankings agree?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrib.benchmark.stability import Stability, rank_stability
from attrib.errors import InputError
from attrib.report.table import text_table
from attrib.study.result import StudyResult


def across(studies: Sequence[StudyResult]) -> dict[str, Stability]:
    """Rank stability of each metric that all ``studies`` have; controls are left out.

    Convention:
        - a setting is called after what sets its protocol apart, such as ``baseline=blur, steps=26``.
        - the studies must be finished, of the same pictures, targets, model and methods, and differ in protocol.

    Example:
        >>> from attrib.io import LoadedModel, Preprocess
        >>> from attrib.study import Study, across
        >>> from PIL import Image
        >>> import tempfile
        >>> net = LoadedModel(model, Preprocess(resize=12, crop=12))
        >>> photos = {"one": Image.new("RGB", (16, 12), "red"), "two": Image.new("RGB", (16, 12), "blue")}
        >>> with tempfile.TemporaryDirectory() as home:
        ...     runs = [
        ...         Study(net, photos, ["saliency", "gradcam"], ["srg"], {"steps": n}).run(f"{home}/{n}")
        ...         for n in (5, 9)
        ...     ]
        ...     found = across(runs)
        >>> found["srg"].settings
        ('steps=5', 'steps=9')
    """
    if len(studies) < 2:
        raise InputError(f"studies must be two or more; got {len(studies)}.")
    for what, of in _SAME.items():
        if any(of(one) != of(studies[0]) for one in studies):
            raise InputError(
                f"studies must be of the same {what}; got {' and '.join(sorted({str(of(one)) for one in studies}))}."
            )
    if waiting := [str(one.store.folder) for one in studies if one.missing]:
        raise InputError(f"studies must be finished; got shards missing in {', '.join(waiting)}. Run them first.")
    names = labels([one.protocol.to_dict() for one in studies])
    metrics = [metric for metric in studies[0].metrics if all(metric in one.metrics for one in studies)]
    return {metric: _stability(dict(zip(names, studies, strict=True)), metric) for metric in metrics}


_SAME: dict[str, Callable[[StudyResult], Any]] = {
    "pictures": lambda one: one.manifest["data"]["sha256"],
    "model": lambda one: one.manifest["model"]["sha256"],
    "target": lambda one: one.spec["target"],
    "methods": lambda one: one.methods,
}


def labels(protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """What sets each protocol apart from the others.

    Example:
        >>> labels([{"steps": 5, "unit": 1}, {"steps": 9, "unit": 1}])
        ['steps=5', 'steps=9']
    """
    differing = [name for name in protocols[0] if any(one[name] != protocols[0][name] for one in protocols)]
    found = [", ".join(f"{name}={one[name]}" for name in differing) for one in protocols]
    if len(set(found)) < len(found):
        got = "; ".join(filter(None, found)) or "the same one"
        raise InputError(f"studies must have different protocols; got {got}.")
    return found


def _stability(studies: Mapping[str, StudyResult], metric: str) -> Stability:
    first = next(iter(studies.values()))
    values = {name: one.matrix(metric).values[:, : len(first.methods)] for name, one in studies.items()}
    better = {name: one.higher_is_better(metric) for name, one in studies.items()}
    return rank_stability(values, first.methods, higher_is_better=better)


def stability_text(found: Mapping[str, Stability], *, markdown: bool = False) -> str:
    """For each metric the tau between all settings, what it comes to, and the pairs of methods that swap."""
    parts = []
    for metric, one in found.items():
        rows = [
            {metric: setting, **{other: f"{one.tau[i, j]:.2f}" for j, other in enumerate(one.settings)}}
            for i, setting in enumerate(one.settings)
        ]
        parts.append("\n".join([text_table(rows, markdown=markdown), "", str(one), *map(str, one.swaps)]))
    return "\n\n".join(parts)
