"""`fetafix convert`: by established converters, along as many routes as it takes, and kept only if it passes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fetafix.cli import options, terminal
from fetafix.outputs import keep_apart, writable

if TYPE_CHECKING:
    from fetafix.convert.report import ConversionReport

_CONVERT = (
    "to", "quantise", "opset", "exporter", "routes", "compare", "timeout", "calibration", "repair", "keep_rejected",
    "force", "journal",
)


@click.command()
@click.argument("source", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--to", metavar="FORMAT",
              help="onnx, torch, torchscript, pt2, keras, h5, saved_model, graphdef, tflite, tflite-fp16, "
                   "tflite-dynamic or tflite-int8 (default: by the suffix of OUT).")
@click.option("--quantise", type=click.Choice(["fp16", "dynamic", "int8"]),
              help="Precision of a TFLite file; int8 measures its ranges on --data.")
@click.option("--calibration", type=click.IntRange(min=1), metavar="N",
              help="Samples that int8 ranges are measured on (default 50).")
@click.option("--opset", type=int, metavar="N", help="ONNX operator set of every step that writes ONNX.")
@click.option("--exporter", type=click.Choice(["torchscript", "dynamo"]), help="Which exporter of torch.onnx.")
@click.option("--routes", type=click.IntRange(min=1), metavar="N", help="How many routes to try (default 4).")
@click.option("--compare", is_flag=True, help="Try all of them, though one passes.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="S",
              help="Seconds that a step may take (default 900).")
@click.option("--repair", is_flag=True, help="Repair the best model where no route leads to one that passes.")
@click.option("--keep-rejected", is_flag=True, help="Keep the best model that fails, with .rejected in its name.")
@click.option("--force", is_flag=True, help="Replace OUT where it exists.")
@click.option("--journal", type=click.Path(), metavar="FILE", help="Append everything tried to FILE, as JSON lines.")
@click.option("--trust", is_flag=True, default=None,
              help="Run code from the model file and load Python loaders. Only for files that you trust.")
@click.option("--arch", "source_arch", metavar="MODULE:FACTORY",
              help="What builds the module that a bare state dict belongs to.")
@options.inputs
@options.judging
@options.files
@options.output
def convert(**given: Any) -> None:
    """Convert SOURCE by established converters and keep the result as OUT only if it answers like SOURCE.

    Where the first route's model does not pass, others are tried: another exporter, operator set, option or way round;
    the report compares them. Exit codes: 0 OUT was written and passes; 1 no route led to a model that passes, nothing
    is left at OUT; 2 usage; 3 undecided.
    """
    from fetafix.cli import results
    from fetafix.cli.progress import Progress
    from fetafix.cli.settings import request

    _check_report(given)
    wanted = request({**given, "target": given["out"]})
    chosen = {k: given[k] for k in _CONVERT if given[k] is not None}
    with Progress(not (given["no_progress"] or given["quiet"])) as progress:
        from fetafix import api
        from fetafix.convert import ConvertOptions
        from fetafix.convert import convert as run

        report = run(given["source"], given["out"], api.Options(**wanted.options, progress=progress),
                     ConvertOptions(**chosen))
    show(report, given)
    results.write(report.as_report(given["out"]), given)
    click.get_current_context().exit(report.exit_code)


def show(report: ConversionReport, given: Mapping[str, Any]) -> None:
    """The report where the user wants it: JSON alone on stdout, or text on stdout and JSON in a file."""
    from fetafix.cli.results import write_text
    from fetafix.render import conversion

    path = given["json_path"]
    if path == "-":
        click.echo(conversion.json(report), nl=False)
        return
    if path is not None:
        write_text(Path(path), conversion.json(report))
    terminal.show(lambda colour: conversion.text(report, given["verbose"], colour, given["quiet"]))


def _check_report(given: Mapping[str, Any]) -> None:
    """Fail before the work, not after it."""
    from fetafix.cli import results

    made = results.places(given)
    keep_apart(made, {k: given[k] for k in ("source", "out", "data", "journal")})
    for path in filter(None, made.values()):
        writable(path)
