"""`fetafix faults`: the catalogue, or one entry in full."""

from __future__ import annotations

from pathlib import Path

import click

from fetafix.cli import complete


@click.command()
@click.argument("code", required=False, shell_complete=complete.codes)
@click.option("--json", "json_path", type=click.Path(), metavar="FILE", help="Write JSON to FILE; - for stdout.")
@click.option("--stats", is_flag=True, help="How often each was suspected, and was the fault; what odds that gives.")
@click.option("--learn", multiple=True, type=click.Path(), metavar="JOURNAL",
              help="Add what this journal counted to your statistics (repeatable); for journals from elsewhere.")
@click.option("--markdown", "page_path", type=click.Path(), metavar="FILE",
              help="Write the catalogue as a page to FILE; - for stdout.")
def faults(
    code: str | None, json_path: str | None, page_path: str | None, stats: bool, learn: tuple[str, ...]
) -> None:
    """List the catalogue of conversion faults, or show the entry CODE in full.

    Repairs that keep a journal count which fault types were suspected and which one it was, in
    $XDG_STATE_HOME/fetafix/odds.json: what is likely is tried first. FETAFIX_NO_STATISTICS=1 switches that off.
    """
    if stats or learn:
        _statistics(code, json_path, learn)
        return
    from fetafix.cli import terminal
    from fetafix.faults import catalogue
    from fetafix.render.catalogue import entry, full, listing, page

    entries = [entry(c) for c in ([code] if code else catalogue())]
    if json_path is not None:
        import msgspec

        data = entries[0] if code else entries
        _put(json_path, msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")
    if page_path is not None:
        _put(page_path, page(entries))
    if json_path is page_path is None:
        terminal.show(lambda _: (full(entries[0]) if code else listing(entries)) + "\n")


def _statistics(code: str | None, json_path: str | None, journals: tuple[str, ...]) -> None:
    from fetafix import odds
    from fetafix.render.odds import figures, table

    if journals:
        runs, counts = odds.learn(journals)
        click.echo(f"{counts} counts of {runs} repairs added to {odds.place()}", err=True)
    found = figures(odds.known(), code)
    if json_path is not None:
        import msgspec

        _put(json_path, msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    else:
        click.echo(table(found), nl=False)


def _put(path: str, text: str) -> None:
    """Write to a file, or to stdout for "-"."""
    if path == "-":
        click.echo(text, nl=False)
        return
    from fetafix.cli.results import write_text

    write_text(Path(path), text)
