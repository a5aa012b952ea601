"""SVG as text: elements with escaped attributes and content. No style attributes: a page's policy forbids them."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

from fetafix.render.html.names import visible

Value = str | float | int | None


def element(tag: str, *content: str, **attributes: Value) -> Markup:
    """`<tag …>content</tag>`; "class_" and "stroke_width" become "class" and "stroke-width"; None leaves one out."""
    told = [Markup(' {}="{}"').format(k.rstrip("_").replace("_", "-"), _plain(v))
            for k, v in attributes.items() if v is not None]
    inner = Markup("").join(escape(visible(c)) for c in content)
    return Markup("<{0}{1}>{2}</{0}>" if inner else "<{0}{1}/>").format(Markup(tag), Markup("").join(told), inner)


def drawing(width: float, height: float, content: Iterable[str], **attributes: Value) -> Markup:
    """The outermost element, in user units that are CSS pixels."""
    box = f"0 0 {_plain(width)} {_plain(height)}"
    return element("svg", *content, viewBox=box, width=width, height=height, **attributes)


def _plain(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0").replace("-0", "0") if abs(value) < 0.05 else (
            f"{value:.1f}".removesuffix(".0"))
    return str(visible(value))
