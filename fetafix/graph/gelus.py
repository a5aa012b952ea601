"""GELU in its forms: x·Φ(x) by the error function, or by a tanh that comes near it; one operator or spelled out.

Φ(x) = (1 + erf(x/√2)) / 2 ≈ (1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2 (Hendrycks & Gimpel, arXiv 1606.08415).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fetafix.edits import Edit, SetAttribute, SetOperator
from fetafix.graph.writer import Writer
from fetafix.ir import Graph, Node

ERF, TANH = "none", "tanh"  # as ONNX's attribute `approximate` names them
_ROOT, _SLOPE, _CUBIC = float(np.sqrt(2.0)), float(np.sqrt(2.0 / np.pi)), 0.044715
_CONTRIB = {"Gelu": ERF, "BiasGelu": ERF, "FastGelu": TANH}
_ARITHMETIC = frozenset({"Mul", "Add", "Div", "Pow"})
_CONE, _BEHIND = 8, 4


@dataclass(frozen=True, slots=True)
class Gelu:
    """form: ERF or TANH. node: the operator, or the Erf or Tanh in the middle of what is spelled out; start: x."""

    form: str
    node: Node
    start: str
    spelled: bool

    def edit(self, graph: Graph, form: str) -> Edit | None:
        """The edit that gives it another form; None where its operator knows no other."""
        if self.spelled:
            return _spelled(graph, self.node, self.start, form)
        if not self.node.domain:
            return SetAttribute(self.node.key, "approximate", form)
        if len([t for t in self.node.inputs if t]) != 1:
            return None
        op = next(o for o in ("Gelu", "FastGelu") if _CONTRIB[o] == form)
        return SetOperator(self.node.key, op, {}, self.node.inputs, self.node.domain)


def gelus(graph: Graph) -> list[Gelu]:
    """All GELUs of a graph that are recognised, in order."""
    return [g for node in graph.nodes if (g := _gelu(graph, node)) is not None]


def _gelu(graph: Graph, node: Node) -> Gelu | None:
    if node.op == "Gelu" and not node.domain:
        return Gelu(str(node.attrs.get("approximate", ERF)), node, node.input(0), False)
    if node.domain == "com.microsoft" and node.op in _CONTRIB:
        return Gelu(_CONTRIB[node.op], node, node.input(0), False)
    if node.op in ("Erf", "Tanh") and not node.domain:
        start, numbers = _spelled_from(graph, node)
        form = _form(node, numbers)
        if start is not None and form is not None:
            return Gelu(form, node, start, True)
    return None


def forms(graph: Graph) -> list[tuple[str, Node]]:
    """(form, node) of all GELUs, those included of which only the beginning lies in the graph."""
    found = []
    for node in graph.nodes:
        known = _gelu(graph, node)
        form = known.form if known is not None else _begun(graph, node)
        if form is not None:
            found.append((form, node))
    return found


def _begun(graph: Graph, node: Node) -> str | None:
    if node.op not in ("Erf", "Tanh") or node.domain or graph.consumers.get(node.key):
        return None
    return _form(node, _spelled_from(graph, node)[1])


def _form(node: Node, numbers: list[float]) -> str | None:
    """Which form an Erf or Tanh is the middle of, by the numbers before it; None for any other use."""
    telling = (_ROOT, 1 / _ROOT) if node.op == "Erf" else (_CUBIC, _SLOPE * _CUBIC)
    known = any(abs(n - t) < 1e-3 * t for n in numbers for t in telling)
    return (ERF if node.op == "Erf" else TANH) if known else None


def _spelled_from(graph: Graph, node: Node) -> tuple[str | None, list[float]]:
    """The tensor that the middle is computed from and multiplied with in the end; the numbers on the way to it."""
    factors, numbers = _factors(graph, node), list[float]()
    stack, budget, found = [node.input(0)], _CONE, None
    while stack and budget:
        tensor = stack.pop()
        value, maker = graph.value_of(tensor), graph.producers.get(tensor)
        if value is not None:
            numbers += [float(value.reshape(-1)[0])] if value.size == 1 else []
        elif tensor in factors:
            found = tensor
        elif maker is not None and maker.op in _ARITHMETIC:
            budget -= 1
            stack += [t for t in maker.inputs if t]
    return found, numbers


def _factors(graph: Graph, node: Node) -> set[str]:
    """What the middle is multiplied with behind it, and what that is a multiple of."""
    found: set[str] = set()
    tensor = node.key
    for _ in range(_BEHIND):
        reader = next((n for n, _ in graph.consumers.get(tensor, ()) if n.op in _ARITHMETIC), None)
        if reader is None:
            break
        for other in (t for t in reader.inputs if t != tensor and not graph.fixed(t) and reader.op != "Add"):
            maker = graph.producers.get(other)
            found |= {other, *(maker.inputs if maker is not None and maker.op in ("Mul", "Div") else ())}
        tensor = reader.key
    return {t for t in found if not graph.fixed(t)}


def _spelled(graph: Graph, node: Node, start: str, form: str) -> Edit:
    """The Erf or Tanh in the middle computed anew: half of one and it is Φ in either case."""
    w = Writer(graph, node)
    if form == ERF:
        return w.replacing(node.key, w.op("Erf", w.op("Div", start, w.number(_ROOT))))
    cube = w.op("Mul", w.op("Mul", w.op("Mul", start, start), start), w.number(_CUBIC))
    return w.replacing(node.key, w.op("Tanh", w.op("Mul", w.op("Add", start, cube), w.number(_SLOPE))))
