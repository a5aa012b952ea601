"""What `fetafix harden` has to say, as text and as JSON."""

from __future__ import annotations

from collections import Counter

import msgspec

from fetafix.harden.report import Explained, Hardened, Mended, Ranked, Verified
from fetafix.render.style import number

Any_ = Hardened | Verified | Explained | Mended
_MOST = 12


def json(report: Any_) -> str:
    """The report for tools."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def text(report: Any_, verbose: bool = False) -> str:
    """The report for people."""
    if isinstance(report, Hardened):
        lines = _hardened(report, verbose)
    elif isinstance(report, Verified):
        lines = _verified(report, verbose)
    elif isinstance(report, Explained):
        lines = _explained(report)
    else:
        lines = _mended(report)
    return "\n".join(lines) + "\n"


def _hardened(report: Hardened, verbose: bool) -> list[str]:
    what = f"{report.scheme}, dtype {report.dtype}, a constant a {report.granularity}"
    if report.scheme in ("rs", "secded"):
        what = report.scheme
    lines = [f"fetafix harden: {report.model} ({report.format}) → {', '.join(report.files)}",
             f"  scheme      {what}", f"  size        {report.size:.3f} × the model's"]
    if report.weights:
        count = sum(w.values for w in report.weights)
        lines.append(f"  weights     {len(report.weights)} tensors, {count:,} values protected")
    if report.why:
        lines.append(f"  chosen      {report.why}")
    lines += ["", *_ranking(report.ranking)] if report.ranking else []
    if verbose and report.weights:
        wide = max(48, *(len(w.name) + 2 for w in report.weights))  # names are whole: they are there to be copied
        lines += ["", f"  {'predicted RMS error, relative':{wide}}unprotected   protected"]
        lines += [f"  {w.name:{wide}}{_figure(w.unprotected):>11} {_figure(w.protected):>11}" for w in report.weights]
    lines += _left(report.left, verbose)
    return [*lines, *(f"  note        {n}" for n in report.notes)]


def _ranking(rows: list[Ranked]) -> list[str]:
    head = f"  {'scheme':10}{'dtype':7}{'constant a':12}{'RMS error':>11}{'wrecked':>10}{'size':>7}  cost per inference"
    made = [head]
    for r in rows:
        chosen = "  ← chosen" if r.chosen else ""
        more = f"  {r.measured}" if r.measured else ""
        made.append(f"  {r.scheme:10}{r.dtype:7}{r.granularity:12}{r.rms:>11.2g}{r.wrecked:>10.2g}{r.size:>7.3f}  "
                    f"{r.cost}{more}{chosen}")
    return made


def _left(left: list[tuple[str, str]], verbose: bool) -> list[str]:
    if verbose:
        return [f"  left        {name}: {why}" for name, why in left]
    return [f"  left        {n} tensors: {why}" for why, n in Counter(why for _, why in left).items()]


def _verified(report: Verified, verbose: bool) -> list[str]:
    lines = [f"fetafix harden --verify: {'PROVED' if report.passed else 'NOT RESTORED'}", f"  {report.reason}", ""]
    counts = Counter(t.status for t in report.tensors)
    lines.append(f"  tensors     {', '.join(f'{n} {k}' for k, n in counts.items())}")
    shown = [t for t in report.tensors if t.status != "exact"]
    shown.sort(key=lambda t: (t.status == "bounded", -t.error))
    for t in shown if verbose else shown[:_MOST]:
        lines.append(f"              {t.name}: {t.status}, off by {number(t.error)}, bound {number(t.bound)}")
    if len(shown) > _MOST and not verbose:
        lines.append(f"              … {len(shown) - _MOST} more (-v)")
    if report.outputs is not None:
        lines.append(f"  samples     {report.samples} from {report.origin}")
        lines += [f"  output      {name}: differs by up to {number(v)}" for name, v in report.outputs.items()]
    if report.labels:
        lines.append(f"  labels      {report.labels}")
    return [*lines, *(f"  note        {n}" for n in report.notes)]


def _explained(report: Explained) -> list[str]:
    lines = [f"fetafix harden --explain: {report.path} ({report.format}): {report.state.upper()}",
             f"  {report.reason}", ""]
    lines += [f"  protection  {n} × {what}" for what, n in report.schemes]
    lines += [f"  threat      {t}" for t in report.threats]
    lines += [f"  note        {n}" for n in report.notes]
    return [*lines, "", "  a loader without fetafix:", "", report.loader.rstrip()] if report.loader else lines


def _mended(report: Mended) -> list[str]:
    unit = {"rs": "codewords", "secded": "words"}.get(report.scheme, "")
    lines = [f"fetafix harden --restore: {report.path} → {report.out}"]
    if unit:
        lines.append(f"  {report.scheme:12}{report.corrected} {unit} corrected, {report.lost} beyond repair")
    if report.exact is not None:
        same = "the file is bit by bit as it was" if report.exact else "the file is NOT as it was"
        lines.append(f"  sha-256     {same}")
    return [*lines, *(f"  note        {n}" for n in report.notes)]


def _figure(value: float | None) -> str:
    return "?" if value is None else f"{value:.2g}"
