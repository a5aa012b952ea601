"""`fetafix review`: read what a repair proposes, decide entry by entry, apply what is approved."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fetafix.cli import options, terminal

if TYPE_CHECKING:
    from fetafix.render.style import Style
    from fetafix.report import Report
    from fetafix.review.decisions import Desk
    from fetafix.review.run import Run


@click.command()
@click.argument("run", type=click.Path())
@click.option("--terminal", is_flag=True, help="Ask here, entry by entry, instead of on a page.")
@click.option("--list", "listing", is_flag=True, help="Show the entries and how they are decided, and end.")
@click.option("--approve", multiple=True, metavar="ID[,ID]", help="Approve entries, without asking; all for all.")
@click.option("--reject", multiple=True, metavar="ID[,ID]", help="Reject entries, without asking.")
@click.option("--withdraw", multiple=True, metavar="ID[,ID]", help="Take decisions back, without asking.")
@click.option("--comment", default="", metavar="TEXT", help="Why, with --approve, --reject and --withdraw.")
@click.option("--by", default="", metavar="NAME", help="Who decides; the page and the terminal ask for it.")
@click.option("--apply", is_flag=True, help="Apply what is approved, without asking.")
@click.option("-o", "--output", type=click.Path(), metavar="FILE",
              help="The repaired model (default: <target>.repaired beside it, with its suffix).")
@click.option("--source", type=click.Path(), metavar="FILE", help="Where the source is now, where it was moved.")
@click.option("--target", type=click.Path(), metavar="FILE", help="Where the target is now, where it was moved.")
@click.option("--data", metavar="PATH", help="Where the samples are now, where they were moved.")
@click.option("--journal", type=click.Path(), metavar="FILE",
              help="Append decisions to FILE (default: the run's, or the one beside the plan).")
@click.option("--trust", is_flag=True,
              help="Run code from the models and from a Python loader of samples. Only for files that you trust.")
@click.option("--no-open", is_flag=True,
              help="Print the page's address only; open no browser. (A browser is given the address as an argument, "
                   "which other users of this machine may be able to see.)")
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="The page's port (default: any).")
@click.option("-v", "--verbose", is_flag=True, is_eager=True, callback=options.remember, help="Tracebacks of errors.")
def review(**given: Any) -> None:
    """Read what a repair proposes, approve or reject it entry by entry, and apply what is approved.

    RUN is a folder that `fetafix repair --save-run` kept, or a plan that a dry run wrote. Without further options a
    page is served on this machine alone, until it is ended there or by Ctrl-C; its address, which holds a secret, is
    printed. Several pages and terminals may decide about one plan at once. Who decided, when and why is kept in the
    plan and the journal; `fetafix repair --apply --plan` takes the plan as well.
    Exit codes: 0 decided, or applied and repaired; 1 applied, but the pair still disagrees; 2 usage; 3 undecided.
    """
    from fetafix.review import run as runs
    from fetafix.review.decisions import Desk

    decided = any(given[k] for k in ("approve", "reject", "withdraw"))
    _check(given, decided)
    places = runs.Places(**{k: given[k] for k in ("source", "target", "data", "output", "journal")})
    found = runs.find(given["run"], places)
    with Desk(found.plan, found.journal) as desk:
        if decided or given["apply"] or given["listing"]:
            report = _unasked(found, desk, given, decided)
        elif given["terminal"]:
            report = _dialogue(found, desk, given)
        else:
            report = None
            _page(found, desk, given)
    click.get_current_context().exit(0 if report is None else report.exit_code)


def _check(given: dict[str, Any], decided: bool) -> None:
    unasked = decided or given["apply"] or given["listing"]
    if given["terminal"] and unasked:
        raise click.UsageError("--terminal asks; --list, --approve, --reject, --withdraw and --apply do not: choose")
    if (decided or given["apply"]) and not given["by"].strip():
        raise click.UsageError("decisions are kept with a name: say who decides with --by")
    if given["comment"] and not decided:
        raise click.UsageError("--comment goes with --approve, --reject or --withdraw")


def _unasked(found: Run, desk: Desk, given: dict[str, Any], decided: bool) -> Report | None:
    """What options say, without a question."""
    from fetafix.review import decisions, terminal

    if decided:
        outcome = terminal.by_ids(desk, given["approve"], given["reject"], given["withdraw"], given["by"],
                                  given["comment"])  # fmt: skip
        for entry in outcome.made:
            click.echo(f"{decisions.word(entry.approved)}  {entry.id}  {entry.code}")
        click.echo(terminal.counted(outcome.plan))
    if given["listing"]:
        click.echo(terminal.listed(found, desk.read(), _style()))
    return _applied(found, desk, given, given["by"]) if given["apply"] else None


def _dialogue(found: Run, desk: Desk, given: dict[str, Any]) -> Report | None:
    from fetafix.review.terminal import Dialogue

    talk = Dialogue(found, desk, _Console(_style()), given["by"], given["trust"])
    return talk.hold(lambda seen: _applied(found, desk, given, talk.by, seen))


def _page(found: Run, desk: Desk, given: dict[str, Any]) -> None:
    """Serve the page until it is ended."""
    from fetafix.review.server import Review, Server

    with Server(Review(found, desk, given["by"], given["trust"]), given["port"]) as server:
        click.echo(server.url)
        click.echo("The page is open to whoever has this address, on this machine alone; Ctrl-C ends it.", err=True)
        if not given["no_open"] and _display():
            import webbrowser

            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo(err=True)
        finally:
            server.review.job.stop()
        click.echo("fetafix: the review has ended; decisions are kept", err=True)


def _display() -> bool:
    """Whether there is a screen for a browser to open on."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _applied(found: Run, desk: Desk, given: dict[str, Any], by: str, seen: str | None = None) -> Report:
    """Apply, and show the report as `repair` does."""
    from fetafix.cli.progress import Progress
    from fetafix.cli.run import show
    from fetafix.errors import UsageError
    from fetafix.review import applying

    held = desk.hold(seen)
    if held is None:
        raise UsageError("somebody decided in the meantime; look at what is approved now, then apply")
    with Progress(wanted=True) as progress:
        report = applying.apply(found, desk, held, by, given["trust"], progress)
    show(report, given)
    return report


def _style() -> Style:
    from fetafix.render.style import Style

    return Style(terminal.colour())


class _Console:
    """Prompts on the terminal, or answers from a pipe."""

    def __init__(self, style: Style) -> None:
        self.style = style

    def say(self, text: str = "") -> None:
        """Print lines."""
        click.echo(text)

    def ask(self, question: str, choices: Sequence[str] = (), default: str | None = None) -> str | None:
        """Prompt; None at the end of the input or on Ctrl-C."""
        kind = click.Choice(choices, case_sensitive=False) if choices else str
        try:
            answer: str = click.prompt(question, default=default, type=kind, show_choices=False,
                                       show_default=bool(default) and not choices)  # fmt: skip
        except click.Abort:
            click.echo()
            return None
        return answer
