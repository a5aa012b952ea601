"""The command line: parse, call one function, render, exit.

One file a command. The group knows every command's one-line help by heart, so that `fetafix --help` imports nothing but
click; a command's module is imported when it is called. Exit codes: 0 equivalent or fully repaired, 1 the models
disagree, 2 usage or configuration error, 3 undecided, 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from fetafix import __version__
from fetafix.cli import interrupt
from fetafix.errors import FetafixError

COMMANDS = {
    "check": "Say whether two models give the same answers.",
    "localize": "Say which layers of the target introduce the difference, and why.",
    "repair": "Repair the target and prove it; a dry run without --apply.",
    "convert": "Convert by established converters; keep only what passes.",
    "init": "Write a first fetafix.yaml for two models.",
    "gate": "Check every pair of a fetafix.yaml; one summary, one exit code.",
    "review": "Read, approve or reject proposed repairs on a local page.",
    "patch": "Replay reviewed repairs onto another conversion of the same model.",
    "faults": "List the catalogue of conversion faults, or show one entry.",
    "inject": "Put a seeded fault into a copy of a model.",
    "stress": "Strike model files with bit flips and count what they survive.",
    "harden": "Store a model's weights so that bit flips do less harm; prove it.",
    "bench": "Measure speed, conversions, repairs, or weights under bit flips.",
    "schema": "Print the JSON Schema of fetafix.yaml, or of a report.",
    "completion": "Print what lets bash, zsh or fish complete commands.",
}
INTERRUPTED = 130
UNEXPECTED = 3


class Lazy(click.Group):
    """A group whose commands are imported when they are called, and whose errors become messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module; its command has the module's name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"fetafix.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click does, with the nearest command where the name is unknown."""
        import difflib

        near = difflib.get_close_matches(args[0], COMMANDS, n=1) if args else []
        if args and args[0] not in COMMANDS and near and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"No such command {args[0]!r}; did you mean {near[0]!r}?", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, or the group's own options, without importing the commands."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=said) for name, said in COMMANDS.items() if name.startswith(incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever goes wrong ends in one clear message on stderr and the right exit code."""
        try:
            return super().invoke(ctx)
        except FetafixError as error:
            say_error(str(error), verbose=bool(ctx.find_root().obj))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("\nfetafix: interrupted; no file was changed or left half-written", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:  # the last resort: a bug of fetafix or of a library must not look like a verdict
            verbose = bool(ctx.find_root().obj)
            hint = "" if verbose else "\n  This is a bug in fetafix or in a library it uses; -v shows where."
            say_error(f"unexpected {type(error).__name__}: {error}{hint}", verbose)
            ctx.exit(UNEXPECTED)


def say_error(message: str, verbose: bool) -> None:
    """The message on stderr, with the traceback of the current exception in front of it where that is wanted."""
    if verbose:
        click.echo(traceback.format_exc().rstrip(), err=True)
    click.echo(f"fetafix: {message}", err=True)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="fetafix")
def cli() -> None:
    """Does a converted neural network still answer like its source? If not: where, why, and a proven repair.

    Exit codes: 0 equivalent or fully repaired; 1 the models disagree; 2 usage or configuration error; 3 undecided: a
    model could not be loaded or run.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    interrupt.install()
    try:
        cli.main(args=None if args is None else list(args), prog_name="fetafix")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
