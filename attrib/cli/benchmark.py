"""The command that runs a study: many pictures, on disk, to be killed and resumed at will."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from attrib.cli import options, prepare
from attrib.cli.session import session, usage
from attrib.errors import InputError

if TYPE_CHECKING:
    from attrib.study import RunOptions, Study, StudyResult

log = logging.getLogger("attrib")

KEPT = "finished shards are kept, and the same command goes on from there"


def benchmark_command(  # noqa: PLR0913  a command has as many arguments as it has options
    *,
    model: options.ModelOption = "",
    data: Annotated[
        str,
        typer.Option(
            "--data", metavar="DATA", help="A folder, .csv, .json, .jsonl, hf:NAME:SPLIT or demo.", show_default=False
        ),
    ] = "",
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR|URL", help="Where results are, or shall be.")],
    methods: Annotated[
        str | None, typer.Option("--methods", metavar="A,B,...", help="See attrib list methods.", show_default=False)
    ] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="A,B,...", help="See attrib list metrics.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME.OPTION=VALUE", help="An option of a method or metric; may be repeated."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="FIELD=NAME,...", help="What the table calls image, label, mask, boxes."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many pictures.")] = None,
    weights: options.WeightsOption = None,
    layer: options.LayerOption = None,
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="TARGET", help="label, predicted, a class number or name.")
    ] = "predicted",
    protocol: options.ProtocolOption = "default",
    controls: Annotated[bool, typer.Option("--controls/--no-controls", help="Rows that ignore the model.")] = True,
    budget: Annotated[
        int | None,
        typer.Option("--budget", min=1, help="Forward passes per map, for all methods with a sample count."),
    ] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Pictures stored together.")] = 32,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Only part I, from 0, of N; for arrays of jobs.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", metavar="local|ray", help="Who computes the shards.")] = "local",
    address: Annotated[
        str | None, typer.Option("--address", help="Of a running Ray cluster.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume/--new", help="Go on in DIR, or refuse one with results.")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first failure.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Go on with other versions or another device.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Compute nothing: print what is in DIR, and write its report anew.")
    ] = False,
    device: options.DeviceOption = None,
    seed: options.SeedOption = 0,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> int:
    """Measure methods on many labelled pictures, in shards that survive being killed; needs 'attrib[study]'."""
    with session(quiet=quiet, debug=debug, interrupted=KEPT):
        if report:
            from attrib.study import load_study

            return show(load_study(out), as_json=json)
        from attrib.study import at_budget

        with usage():
            for name, given in (("--model", model), ("--data", data)):
                if not given:
                    raise InputError(f"{name} must be given, unless --report; got none.")
            study = _study(
                model=model,
                data=_samples(data, columns, limit),
                methods=_names(methods),
                metrics=_names(metrics),
                settings=settings or [],
                more={"weights": weights, "layer": layer, "protocol": protocol, "controls": controls, "seed": seed}
                | {"target": prepare.target(target), "shard_size": shard_size},
            )
            if budget is not None:
                with prepare.output(None):
                    study = at_budget(study, budget)
            how: RunOptions = {"resume": resume, "strict": strict, "force": force, "show_progress": not quiet}
            how |= {"shard": None if shard is None else _part(shard), "device": device}
            how |= {"engine": cast("Any", engine), "address": address}  # told apart by the study
        with prepare.output(None):  # what the model prints goes to standard error
            found = study.run(out, **how)
        return show(found, as_json=json, partly=shard is not None)


def _study(
    *, model: str, data: Any, methods: list[str], metrics: list[str], settings: Sequence[str], more: dict[str, Any]
) -> Study:
    from attrib.study import Study
    from attrib.tasks.comparing import METRICS_SHOWN
    from attrib.tasks.explaining import METHODS_SHOWN

    methods, metrics = methods or list(METHODS_SHOWN), metrics or list(METRICS_SHOWN)
    given = prepare.settings_of(settings, [*methods, *metrics])
    return Study(
        model,
        data,
        methods,
        metrics,
        method_options={name: given[name] for name in methods if name in given},
        metric_options={name: given[name] for name in metrics if name in given},
        **more,
    )


def _samples(data: str, columns: str | None, limit: int | None) -> Any:
    from attrib.io import demo_images, open_samples

    pairs = [one.partition("=") for one in (columns or "").split(",") if one]
    source = demo_images() if data == "demo" else data
    return open_samples(source, columns={field: name for field, _, name in pairs}, limit=limit)


def _names(text: str | None) -> list[str]:
    return [one.strip() for one in (text or "").split(",") if one.strip()]


def _part(text: str) -> tuple[int, int]:
    """``I/N`` as numbers."""
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal()):
        raise InputError(f"--shard must be I/N, such as 0/8; got {text!r}.")
    return int(first), int(second)


def show(found: StudyResult, *, as_json: bool, partly: bool = False) -> int:
    """Print a result, write its report; return the exit code: 1 if anything failed, or is missing that should be there.

    Of several jobs only the last one, that finds everything there, writes a report.
    """
    told = {**found.manifest, "table": found.table(), "failures": found.failures.to_pylist(), "missing": found.missing}
    prepare.say(told, lambda _: found.to_text(), as_json=as_json)
    if not (partly and found.missing):
        from attrib.study import write_report

        log.info("report: %s", write_report(found))
    return 1 if len(found.failures) or (found.missing and not partly) else 0
