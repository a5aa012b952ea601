"""What a terminal can show: colour, width, motion. Pipes and files get plain text of a fixed width and nothing else."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import TextIO

import click

from fetafix.render.style import WIDTH, within

_NARROWEST = 40


def colour(stream: TextIO | None = None) -> bool:
    """Whether text for a stream (default: stdout) is coloured.

    On terminals that know colour; nowhere with NO_COLOR, everywhere with FORCE_COLOR (see no-color.org and
    force-color.org). Empty variables do not count; nor does FORCE_COLOR=0, which switches colour off.
    """
    if os.environ.get("NO_COLOR"):
        return False
    forced = os.environ.get("FORCE_COLOR")
    if forced:
        return forced != "0"
    return moving(stream or sys.stdout)


def moving(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which lines can be drawn again."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def columns(stream: TextIO | None = None) -> int:
    """How wide text for a stream (default: stdout) may be: as the terminal, at most WIDTH; 80 where it does not tell.

    Text that is no terminal's is always WIDTH wide, so that it is the same everywhere.
    """
    if not (stream or sys.stdout).isatty():
        return WIDTH
    return max(_NARROWEST, min(shutil.get_terminal_size((80, 24)).columns, WIDTH))


def show(render: Callable[[bool], str]) -> None:
    """Print what `render` makes, given whether it may use colour, in the terminal's width."""
    wanted = colour()
    with within(columns()):
        text = render(wanted)
    click.echo(text, nl=False, color=wanted)
