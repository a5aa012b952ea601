"""The skeleton of every page, its style sheet, and the template engine that fills it.

A page loads nothing and runs nothing: its content security policy allows the one style sheet in it (by its hash) and
pictures that are part of it, nothing else. Pages with plots that bring styles of their own ask for `styles=True`.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fetafix.render.html.findings import MOST_DRAWN
from fetafix.render.html.names import flat, name, visible
from fetafix.render.plain import figure
from fetafix.render.style import percent, plural

FOLDER = Path(__file__).with_name("templates")


@cache
def environment() -> Environment:
    """Templates of this package: everything is escaped, and an unknown name is an error."""
    made = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                       lstrip_blocks=True, finalize=visible)
    made.filters |= {"name": name, "figure": figure, "percent": percent, "flat": flat}
    made.globals |= {"plural": plural, "drawn": MOST_DRAWN}
    return made


@cache
def styles() -> str:
    """The style sheet."""
    return (FOLDER / "style.css").read_text("utf-8")


def page(title: str, body: Markup, styled: bool = False) -> str:
    """A whole page around `body`, which has the heading of the first level. styled: it has styles of its own."""
    return environment().get_template("frame.html").render(
        title=flat(title), body=body, styles=Markup(styles()), policy=policy(styled))


def policy(styled: bool = False) -> str:
    """What a page may do: show its own styles and pictures."""
    digest = base64.b64encode(hashlib.sha256(styles().encode()).digest()).decode()
    allowed = "'unsafe-inline'" if styled else f"'sha256-{digest}'"
    return f"default-src 'none'; style-src {allowed}; img-src data:; base-uri 'none'; form-action 'none'"
