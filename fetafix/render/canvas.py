"""Matplotlib as plots here need it: without a screen, the same bytes for the same figure, one look for all.

Matplotlib is an extra (`pip install 'fetafix[plots]'`) and is imported where a figure is made, not before.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from fetafix.errors import UsageError

INK = "#010203"  # what becomes the colour of the surrounding text in SVG, so that a dark page has light axes
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b")  # Okabe and Ito
MARKERS = "osD^vPX*"
_STYLE: dict[str, Any] = {
    "font.size": 9.0, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "grid.color": INK, "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "fetafix",
    "figure.constrained_layout.use": True, "axes.facecolor": "none", "savefig.facecolor": "none",
    "font.family": ["DejaVu Sans"], "path.simplify": False, "axes.axisbelow": True,
}  # fmt: skip
_ID = re.compile(r'(\bid="|url\(#|href="#)')


@contextmanager
def drawing() -> Iterator[Any]:
    """Matplotlib's Figure class, in this package's style. Raises UsageError where matplotlib is not installed."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("plots need matplotlib, which is not installed: pip install 'fetafix[plots]'; without it the "
                         "text and JSON reports hold the same numbers") from error
    style: Any = _STYLE  # its type lists every key
    with matplotlib.rc_context(style):
        yield Figure


def png(figure: Any) -> bytes:
    """As PNG on white, 144 dots an inch."""
    buffer = io.BytesIO()
    with drawing():
        figure.savefig(buffer, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Any, title: str, alt: str) -> str:
    """As SVG in the colour of its surroundings, its text as text, with a title and a description for screen readers."""
    buffer = io.StringIO()
    with drawing():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().replace(INK, "currentColor")
    start = text.index("<svg")
    end = text.index(">", start)
    label = f'<title>{escape(title)}</title><desc>{escape(alt)}</desc>'
    opened = f'{text[start:end]} role="img" aria-label="{escape(f"{title}. {alt}", quote=True)}">{label}'
    return text[:start] + opened + text[end + 1:]


def inline(drawn: str, prefix: str) -> str:
    """An SVG to put into HTML: without the XML heading, its ids apart from those of others."""
    return _ID.sub(rf"\g<1>{prefix}-", drawn[drawn.index("<svg"):])
