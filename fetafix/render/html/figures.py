"""Figures as tables: before and after a repair, outputs, quantisation, what was searched, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fetafix.render.html.names import beside, name
from fetafix.render.plain import figure
from fetafix.render.style import percent, plural
from fetafix.report import (
    Agreement,
    ModelInfo,
    OutputAgreement,
    Quantisation,
    Report,
    Search,
    TaskAgreement,
    TensorInfo,
)

Cell = str | Markup
_NONE = "–"


@dataclass(frozen=True)
class Table:
    """The first cell of a row is its heading. words: columns, by number, that hold text rather than figures."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: frozenset[int] = frozenset({0})


def figures(report: Report) -> Table | None:
    """How far the models agree, and what each figure means; None where nothing was compared."""
    before, after = report.agreement, report.after
    if before is None:
        return None
    rows = [(what, own(before), *([] if after is None else [own(after)]), meaning)
            for what, own, meaning in _FIGURES if own(before) != _NONE or (after is not None and own(after) != _NONE)]
    rows += _tasks(before, after)
    head = ("figure", "converted model") if after is None else ("figure", "before", "after")
    caption = f"Converted model against original, on {plural(before.samples, 'input')}"
    return Table(caption, (*head, "what it means"), rows, frozenset({0, len(head)}))


def _share(value: float | None) -> str:
    return _NONE if value is None else percent(value)


def _shown(value: float | None, form: str = "") -> str:
    return format(value, form) if form and value is not None else figure(value)


_FIGURES: tuple[tuple[str, Callable[[Agreement], str], str], ...] = (
    ("same answer", lambda a: _share(a.top1), "share of inputs on which both models name the same class first (top-1)"),
    ("same five", lambda a: _share(a.top5), "share on which the original's answer is among the five best (top-5)"),
    ("order of classes", lambda a: _shown(a.kendall_tau, ".4f"),
     "1: both put all classes in the same order; 0: no relation (Kendall's τ)"),
    ("largest difference", lambda a: _shown(a.max_abs), "between two numbers that the models put out"),
    ("mean difference", lambda a: _shown(a.mean_abs), "of all numbers that they put out"),
    ("largest relative difference", lambda a: _shown(a.max_rel), "the same, relative to the number's size"),
    ("direction", lambda a: _shown(a.cosine, ".6f"), "1: the outputs point the same way (cosine)"),
    ("signal to error", lambda a: _NONE if a.sqnr_db is None else f"{a.sqnr_db:.1f} dB".replace("-", "−"),
     "the higher, the closer; above about 100 dB only rounding is left in 32-bit models"),
    ("tolerated", lambda a: _shown(a.tolerance), "the largest difference that counts as harmless"),
    ("noise", lambda a: _shown(a.noise_floor), "how far the original differs from itself under harmless changes"),
)


def _tasks(before: Agreement, after: Agreement | None) -> Iterator[tuple[Cell, ...]]:
    """A row for each comparator other than labels, which have their own rows."""
    later = {(t.task, *t.outputs): t for t in (after.tasks if after is not None else ())}
    for told in before.tasks:
        if told.task == "classification" and before.top1 is not None:
            continue
        mended = later.get((told.task, *told.outputs))
        tail = () if after is None else (_NONE if mended is None else _task(mended),)
        weighs = "" if told.weighs else "; decides nothing here"
        yield f"{told.task} ({', '.join(told.outputs)})", _task(told), *tail, f"{told.why}{weighs}"


def _task(told: TaskAgreement) -> str:
    return f"{_share(told.share)}{f'; {told.words}' if told.words else ''}"


def outputs(report: Report) -> Table | None:
    """Output by output, where there is more than the primary one to tell of."""
    before = report.agreement
    if before is None or not before.outputs:
        return None
    later = {(o.source, o.target): o for o in (report.after.outputs if report.after is not None else ())}
    rows = []
    for o in before.outputs:
        same = later.get((o.source, o.target))
        after = [] if report.after is None else [_NONE if same is None else _off(same)]
        rows.append((name(o.source), name(o.target), _off(o), *after, _shown(o.tolerance)))
    head = ["output of the original", "of the converted model", "largest difference"]
    head += ["after"] if report.after is not None else []
    return Table("Output by output", (*head, "tolerated"), rows, frozenset({0, 1}))


def _off(o: OutputAgreement) -> str:
    within = {True: ", within", False: ", beyond", None: ""}[o.within]
    broken = f", {plural(o.nonfinite, 'value')} not finite" if o.nonfinite else ""
    codes = f", {o.max_codes:.3g} codes" if o.max_codes is not None else ""
    return f"{_shown(o.max_abs)}{codes}{within}{broken}"


def quantisation(found: Quantisation | None, most: int = 50) -> Table | None:
    """What rounding explains, layer by layer, the largest unexplained error first."""
    if found is None or not found.layers:
        return None
    rounded = {"weight": "its weights", "activation": "its values"}
    rows = [(name(r.target_layer), name(r.source_layer), rounded.get(r.rounds, r.rounds), figure(r.measured),
             figure(r.explained), figure(r.unexplained)) for r in found.layers[:most]]
    more = f" (the first {most} of {len(found.layers)})" if len(found.layers) > most else ""
    return Table(f"Error of layers and what rounding explains of it{more}",
                 ("layer", "in the original", "rounded", "measured", "explained", "unexplained"), rows,
                 frozenset({0, 1, 2}))


def search(found: Search | None) -> Table | None:
    """The worst of the inputs that show a difference."""
    if found is None or not found.shown:
        return None
    rows = [(s.what, "yes" if s.inside else "no, beyond it", _shown(s.max_abs) if s.max_abs is not None else
             "another shape, or not finite", _NONE if s.labels is None else str(s.labels[0]),
             _NONE if s.labels is None else str(s.labels[1])) for s in found.shown]
    return Table("Inputs that show a difference, the worst first",
                 ("input", "within the range of real inputs", "largest difference", "original says", "converted says"),
                 rows, frozenset({0, 1}))


def files(report: Report) -> list[Table]:
    """Each model as it was found, and what was written."""
    tables = [_file(f"{role} model", model) for role, model in (
        ("Original", report.source), ("Converted", report.target))]
    rows: list[tuple[Cell, ...]] = []
    if report.output is not None:
        rows += [("repaired model", name(report.output.path)), ("its SHA-256", name(report.output.sha256))]
    for offer in report.offers:
        made = f" made by {offer.converters}" if offer.converters else ""
        written = "written" if offer.sha256 else "would be written"
        rows.append(("also offered", beside(offer.path, f"({offer.format}{made}; {written}): {offer.reason}")))
    if report.journal:
        rows.append(("journal", name(report.journal)))
    rows += [(f"reproduction of finding {k}", name(r)) for k, r in enumerate(report.reproductions, 1) if r]
    if report.search is not None:
        rows += [("inputs kept", name(k)) for k in report.search.kept]
    if rows:
        tables.append(Table("What was written or offered", ("file", "where"), rows, frozenset({0, 1})))
    return tables


def _file(caption: str, model: ModelInfo) -> Table:
    rows: list[tuple[Cell, Cell]] = [("path", name(model.path)), ("format", model.format or "not recognised")]
    rows += [("SHA-256", name(model.sha256))] if model.sha256 else []
    rows += [("inputs", _tensors(model.inputs)), ("outputs", _tensors(model.outputs))]
    rows += [(k.replace("_", " "), {True: "yes", False: "no"}[v] if isinstance(v, bool) else str(v))
             for k, v in model.details.items() if isinstance(v, str | int | float)]
    return Table(caption, ("what", "value"), rows, frozenset({0, 1}))


def _tensors(tensors: Sequence[TensorInfo]) -> Cell:
    told = [beside(t.name, f"{t.dtype} {_shape(t)}") for t in tensors]
    return Markup(", ").join(told) if told else "not known"


def _shape(t: TensorInfo) -> str:
    return "of unknown shape" if t.shape is None else "×".join("?" if d is None else str(d) for d in t.shape)
