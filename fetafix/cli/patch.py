"""`fetafix patch`: reviewed repairs, replayed onto another conversion, taken back, or shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fetafix.cli import options, terminal

_FILE = click.argument("file", type=click.Path())
_MODEL = click.argument("model", type=click.Path())


def _use(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that applying and reverting share."""
    decorators = (
        click.option("-o", "--output", type=click.Path(), metavar="FILE",
                     help="The new model (default: <model>.patched or .reverted beside it, with its suffix)."),
        click.option("--partial", is_flag=True, help="Leave out repairs that do not fit (default: refuse the patch)."),
        click.option("--preprocess", metavar="SPEC",
                     help="How the model's inputs are prepared now; checked where the patch changes that."),
        click.option("--trust", is_flag=True, help="Run code from the model file. Only for files that you trust."),
        click.option("--arch", metavar="MODULE:FACTORY",
                     help="What builds the module that a bare state dict belongs to."),
        click.option("--signature", metavar="NAME",
                     help="Which signature of a SavedModel or a TFLite file (default: the only one)."),
        click.option("--json", "json_path", metavar="FILE", help="Write the outcome as JSON; - for stdout alone."),
        click.option("-v", "--verbose", is_flag=True, is_eager=True, callback=options.remember,
                     help="Tracebacks of errors."),
    )
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


@click.group()
def patch() -> None:
    """Replay reviewed repairs onto another conversion of the same model.

    `fetafix repair --save-patch FILE` writes a patch. Where its repairs belong in MODEL is found by structure and
    weights, not by names; a repair that does not find what it replaces is refused, with the reason. MODEL is never
    changed. Exit codes: 0 written, or nothing left to do; 1 refused; 2 usage; 3 the model cannot be opened.
    """


@patch.command()
@_FILE
@_MODEL
@_use
def apply(file: str, model: str, **given: Any) -> None:
    """Make the repairs of the patch FILE in a copy of MODEL."""
    from fetafix.patch import apply as act

    _run(act, file, model, given)


@patch.command()
@_FILE
@_MODEL
@_use
def revert(file: str, model: str, **given: Any) -> None:
    """Take the repairs of the patch FILE back in a copy of MODEL."""
    from fetafix.patch import revert as act

    _run(act, file, model, given)


@patch.command()
@_FILE
@click.option("--json", "json_path", metavar="FILE", help="Write it as JSON; - for stdout alone.")
def show(file: str, json_path: str | None) -> None:
    """Say what the patch FILE would do, why, and where it comes from."""
    from fetafix.patch import load
    from fetafix.patch.outcome import described
    from fetafix.render import patch as text

    data = described(*load(file))
    if json_path is not None:
        _json(data, json_path)
    if json_path != "-":
        terminal.show(lambda _: text.shown(data))


def _run(act: Callable[..., Any], file: str, model: str, given: dict[str, Any]) -> None:
    from fetafix.cli.progress import Progress
    from fetafix.formats.base import OpenOptions
    from fetafix.patch.outcome import Wish
    from fetafix.render import patch as text

    opening = OpenOptions(trust=given["trust"], arch=given["arch"], signature=given["signature"])
    with Progress(True, "replaying the patch"):
        outcome = act(file, model, Wish(given["output"], given["partial"], given["preprocess"], opening))
    if given["json_path"] is not None:
        _json(outcome, given["json_path"])
    if given["json_path"] != "-":
        terminal.show(lambda _: text.outcome(outcome))
    click.get_current_context().exit(outcome.exit_code)


def _json(data: Any, path: str) -> None:
    import msgspec

    from fetafix.cli.results import write_text

    content = msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n"
    if path == "-":
        click.echo(content, nl=False)
    else:
        write_text(Path(path), content)
