"""`fetafix stress`: how many bit flips in storage does a model file survive?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fetafix.cli import options, terminal

if TYPE_CHECKING:
    from fetafix.stress.options import StressOptions


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path())
@click.option("--ber", default="1e-8..1e-2", show_default=True, metavar="LOW..HIGH|LIST",
              help="Bit-error rates: one a decade from LOW to HIGH, or a list with commas.")
@click.option("--per-decade", default=1, type=click.IntRange(1), metavar="N", help="So many rates a decade.")
@click.option("--data", metavar="PATH", help="Folder of images, .npy, .npz, or module:function (with --trust).")
@click.option("--labels", type=click.Path(), metavar="FILE",
              help="Labels as .npy, .txt or .csv; without, those of class folders, else answers are compared with the "
                   "fault-free ones.")
@click.option("--samples", default=500, show_default=True, type=click.IntRange(1), metavar="N", help="How many.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), metavar="S",
              help="What draws samples and flips.")
@click.option("--preprocess", metavar="SPEC", help="Preset (torchvision, keras-tf, …, raw) or key=value,… for images.")
@click.option("--output", "head", metavar="NAME", help="The output that holds class scores (default: the first such).")
@click.option("--scope", default="weights", show_default=True,
              type=click.Choice(["weights", "constants", "tensors", "file"]),
              help="What flips strike: weights, all other tensors, both, or any byte of the file.")
@click.option("--dtype", default="keep", show_default=True, metavar="FORMAT[,…]",
              help="How weights lie in storage: keep (the file's own bytes), fp32, fp16, bf16, q2.5 or any Qm.n, int8.")
@click.option("--scheme", default="none", show_default=True, metavar="SCHEME[,…]",
              help="How they are protected: none, scale, ceiling, guard, secded, rs.")
@click.option("--granularity", default="tensor", show_default=True, type=click.Choice(["tensor", "channel"]),
              help="One constant and bound a tensor, or one an output channel.")
@click.option("--max-drop", default="1pt", show_default=True, metavar="DROP", help="Tolerated drop: 1pt, 1% or 0.01.")
@click.option("--survival", default=0.95, show_default=True, type=float, metavar="SHARE",
              help="How probable it must be to stay within the drop.")
@click.option("--confidence", default=0.95, show_default=True, type=float, metavar="SHARE", help="Of all bounds.")
@click.option("--trials", default="auto", show_default=True, metavar="auto|auto:N|N",
              help="Until decided (at most 200, or N), or exactly N.")
@click.option("--full", default=20, show_default=True, type=click.IntRange(0), metavar="N",
              help="The first N trials run over all samples; later ones end once the drop is certain.")
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="Trials at the same time (default: processors).")
@click.option("--keep", "--resume", "keep", type=click.Path(), metavar="DIR",
              help="Keep every trial in DIR, and go on from what is there.")
@click.option("--plots", type=click.Path(file_okay=False), metavar="DIR",
              help="Write plots there, as PNG and SVG (needs matplotlib: pip install 'fetafix[plots]').")
@click.option("--html", "html_path", type=click.Path(dir_okay=False), metavar="FILE",
              help="Write the report as one HTML page, plots within.")
@click.option("--require", type=float, metavar="BER", help="Exit with 1 unless every model tolerates this rate.")
@click.option("--replay", metavar="BER:TRIAL", help="Write the struck file of one trial to -o, and stop.")
@click.option("-o", "--out", type=click.Path(), metavar="FILE", help="Where --replay writes.")
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Samples a run of the models.")
@click.option("--arch", metavar="MODULE:FACTORY", help="What builds the module that a bare state dict belongs to.")
@click.option("--trust", is_flag=True, help="Run code from the model files and load Python loaders.")
@click.option("--threads", default=0, type=click.IntRange(0), metavar="N", help="Threads of each runtime (default 1).")
@options.output
def stress(**given: Any) -> None:
    """Strike model files with random bit flips, each bit by itself, and count what they survive.

    Each MODEL runs in its own runtime; several are tried on the same samples and the same seeds. Exit codes: 0
    measured, or --require reached; 1 not reached; 2 usage; 3 a model does not run even without a fault.
    """
    from fetafix.outputs import writable

    if given["plots"] is not None:
        from fetafix.render.canvas import drawing

        with drawing():  # before the work: that plots cannot be made is noticed at once
            pass
    for path in (given["out"], given["json_path"], given["html_path"]):
        if path is not None and path != "-":
            writable(path)
    wanted = _options(given)
    if given["replay"] is not None:
        _replay(given, wanted)
        return
    from dataclasses import replace

    from fetafix.cli.progress import Progress
    from fetafix.stress.run import stress as run

    with Progress(not (given["no_progress"] or given["quiet"])) as progress:
        report = run(given["models"], replace(wanted, progress=progress))
    _show(report, given)
    click.get_current_context().exit(report.exit_code)


def _options(given: dict[str, Any]) -> StressOptions:
    from fetafix.formats.base import OpenOptions
    from fetafix.stress.options import StressOptions, share

    same = ("ber", "per_decade", "data", "labels", "samples", "seed", "preprocess", "scope", "granularity", "survival",
            "confidence", "trials", "full", "jobs", "keep", "require", "batch")
    opening = OpenOptions(trust=given["trust"], arch=given["arch"], threads=given["threads"])
    return StressOptions(
        **{k: given[k] for k in same}, output=given["head"], max_drop=share(given["max_drop"]), opening=opening,
        dtypes=_list(given["dtype"]), schemes=_list(given["scheme"]))


def _list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))


def _replay(given: dict[str, Any], wanted: StressOptions) -> None:
    from fetafix.errors import UsageError
    from fetafix.storage.sweep import rates
    from fetafix.stress.run import replay

    ber, _, trial = given["replay"].partition(":")
    if not trial.isdecimal() or len(given["models"]) != 1 or given["out"] is None:
        raise UsageError("--replay BER:TRIAL, such as 1e-5:17, writes the struck file of one MODEL to -o FILE")
    flips = replay(given["models"][0], wanted, rates(ber)[0], int(trial), Path(given["out"]))
    click.echo(f"{given['out']}: {given['models'][0]} with {flips} bits flipped")


def _show(report: Any, given: dict[str, Any]) -> None:
    from fetafix.cli.results import write_text
    from fetafix.stress.record import to_json

    if given["plots"] is not None:
        from fetafix.render import stress_plots

        stress_plots.write(report, given["plots"])
    if given["html_path"] is not None:
        from fetafix.render import stress_html

        write_text(Path(given["html_path"]), stress_html.page(report))
    if given["json_path"] == "-":
        click.echo(to_json(report), nl=False)
        return
    if given["json_path"] is not None:
        write_text(Path(given["json_path"]), to_json(report))
    from fetafix.render import stress as render

    terminal.show(lambda colour: render.render(report, given["verbose"], colour, given["quiet"]))
