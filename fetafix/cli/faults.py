"""`fetafix faults`: the catalogue, or one entry in full."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("code", required=False)
@click.option("--json", "json_path", metavar="FILE", help="Write JSON to FILE; - for stdout.")
@click.option("--markdown", "page_path", metavar="FILE", help="Write the catalogue as a page to FILE; - for stdout.")
def faults(code: str | None, json_path: str | None, page_path: str | None) -> None:
    """List the catalogue of conversion faults, or show the entry CODE in full."""
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
        click.echo(full(entries[0]) if code else listing(entries))


def _put(path: str, text: str) -> None:
    """Write to a file, or to stdout for "-"."""
    if path == "-":
        click.echo(text, nl=False)
        return
    from fetafix.cli.run import write_text

    write_text(Path(path), text)
