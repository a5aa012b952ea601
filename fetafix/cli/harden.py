"""`fetafix harden`: weights stored so that bit flips do less harm, the proof, and what a hardened file is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fetafix.cli import options

_WISH = ("scheme", "dtype", "granularity", "constants", "scope", "design_ber")


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(), metavar="MODEL")
@click.option("-o", "--output", "out", type=click.Path(), metavar="FILE", help="The new file.")
@click.option("--scheme", type=click.Choice(["scale", "ceiling", "guard", "secded", "rs", "auto"]),
              help="How to protect (default auto: the best that a stock runtime reads).")
@click.option("--dtype", metavar="FORMAT", help="Store as keep (default), fp32, fp16, bf16, int8 or Qm.n such as q2.5.")
@click.option("--granularity", type=click.Choice(["tensor", "channel"]),
              help="One constant a tensor, as in the paper, or one a channel (default).")
@click.option("--constants", type=click.Choice(["max", "pow2", "mse"]),
              help="Fixed point: fill the range (default), by a power of two, or clip for the design bit-error rate.")
@click.option("--scope", type=click.Choice(["weights", "all"]),
              help="all (default) stores biases and other small constants three times as well; ONNX and PyTorch.")
@click.option("--design-ber", type=float, metavar="RATE", help="Bit-error rate to design for (default 1e-4).")
@click.option("--labels", type=click.Path(), metavar="FILE", help="Labels of --data, for what auto measures.")
@click.option("--verify", is_flag=True, help="MODEL HARDENED: prove that the second reads as the first.")
@click.option("--explain", is_flag=True, help="Say what protects MODEL, against what, and whether it still does.")
@click.option("--restore", is_flag=True, help="Write the plain model to FILE; secded and rs mend flips.")
@click.option("--trust", is_flag=True, default=None,
              help="Run code from the model files and load Python loaders. Only for files that you trust.")
@click.option("--arch", metavar="MODULE:FACTORY", help="What builds the module that a bare state dict belongs to.")
@options.inputs
@options.output
def harden(**given: Any) -> None:
    """Write a copy of MODEL whose weights survive bit flips in storage, as far as the scheme goes.

    scale, ceiling and guard are read by a stock runtime; secded and rs (any file) need --restore or the loader that
    --explain prints. Exit codes: 0 done, proved, or protected; 1 not proved, stripped, or beyond repair; 2 usage; 3 a
    file cannot be read.
    """
    what = [k for k in ("verify", "explain", "restore") if given[k]]
    wanted = 2 if what == ["verify"] else 1
    if len(what) > 1:
        raise click.UsageError(f"--{what[0]} and --{what[1]} exclude each other")
    if len(given["models"]) != wanted:
        raise click.UsageError(f"expected {wanted} model{'s' if wanted > 1 else ''}, found {len(given['models'])}")
    if (what in ([], ["restore"])) != bool(given["out"]):
        raise click.UsageError("name the new file by -o" if not given["out"] else f"--{what[0]} writes no file; leave "
                               "out -o")
    _check_json(given)
    report = {"verify": _verify, "explain": _explain, "restore": _restore}[what[0]](given) if what else _write(given)
    _show(report, given)
    click.get_current_context().exit(report.exit_code)


def _write(given: dict[str, Any]) -> Any:
    from fetafix.cli.progress import Progress
    from fetafix.harden import Wish
    from fetafix.harden import harden as run

    chosen = {k: given[k] for k in (*_WISH, "data", "labels", "seed", "preprocess") if given[k] is not None}
    with Progress(not (given["no_progress"] or given["quiet"])) as progress:
        return run(given["models"][0], given["out"], Wish(**chosen, progress=progress))


def _verify(given: dict[str, Any]) -> Any:
    from fetafix import api
    from fetafix.cli.progress import Progress
    from fetafix.cli.settings import request
    from fetafix.harden import verify

    source, target = given["models"]
    asked = request({**given, "source": source, "target": target, "gate": None, "task": ()})
    kept = {k: v for k, v in asked.options.items() if k != "search"}
    with Progress(not (given["no_progress"] or given["quiet"])) as progress:
        return verify(source, target, api.Options(**kept, search="off", progress=progress))


def _explain(given: dict[str, Any]) -> Any:
    from fetafix.cli.progress import Progress
    from fetafix.harden import explain

    with Progress(not (given["no_progress"] or given["quiet"]), "reading the model"):
        return explain(given["models"][0])


def _restore(given: dict[str, Any]) -> Any:
    from fetafix.cli.progress import Progress
    from fetafix.harden import restore

    with Progress(not (given["no_progress"] or given["quiet"]), "restoring the model"):
        return restore(given["models"][0], given["out"])


def _check_json(given: dict[str, Any]) -> None:
    """Fail before the work, not after it."""
    from fetafix.outputs import keep_apart, writable

    path = given["json_path"]
    if path not in (None, "-"):
        read = {f"model {i}": m for i, m in enumerate(given["models"])}
        keep_apart({"report": path}, {**read, "output": given["out"], "data": given["data"]})
        writable(path)


def _show(report: Any, given: dict[str, Any]) -> None:
    from fetafix.cli.results import write_text
    from fetafix.render import harden as rendered

    path = given["json_path"]
    if path == "-":
        click.echo(rendered.json(report), nl=False)
        return
    if path is not None:
        write_text(Path(path), rendered.json(report))
    words = rendered.text(report, given["verbose"])
    click.echo(words.splitlines()[0] + "\n" if given["quiet"] else words, nl=False)
