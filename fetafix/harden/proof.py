"""Prove that a hardened file restores a model: tensor by tensor, then by running both.

What is stored losslessly has to read back bit by bit. For what is stored in fewer bits, the bound follows from the
stored form (half a step, or half of the last mantissa bit, and what the format's largest value clips); every value has
to lie within it. Everything else in the file has to be as it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fetafix import formats
from fetafix.errors import FetafixError, UnreadableModel
from fetafix.formats import stored as stored_tensors
from fetafix.harden.files import beside
from fetafix.harden.report import Restoration, Verified
from fetafix.harden.undo import restore
from fetafix.options import Options
from fetafix.report import Report, Verdict
from fetafix.storage import index, sidecar
from fetafix.storage.stored_form import error_bound

Array = npt.NDArray[Any]
TORCH = ("torch-state-dict", "safetensors")
_CODED = 2.0**-18  # secded: half of the last of 17 mantissa bits
Pair = tuple[str, Array, "Array | None", Any]  # name, original, as read, bound (a number, or of the original)


@dataclass(frozen=True, slots=True)
class _Ran:
    """What running both gave. outputs: largest difference each, None where they could not be run, for a reason."""

    outputs: dict[str, float] | None
    samples: int = 0
    origin: str = ""
    labels: str = ""
    note: str = ""


def verify(source: str | Path, target: str | Path, options: Options | None = None) -> Verified:
    """Whether `target` reads as `source` does.

    options: which samples both are run on. Raises UnreadableModel where a file cannot be read, UsageError as `check`.
    """
    source, target = Path(source), Path(target)
    with tempfile.TemporaryDirectory(prefix="fetafix-") as folder:
        plain, notes = _plain(target, Path(folder))
        tensors = [_compared(*pair) for pair in _pairs(source, target, plain)]
        bad = [t for t in tensors if t.status not in ("exact", "bounded")]
        if bad:
            reason = f"{len(bad)} of {len(tensors)} tensors do not read as the original's, first {bad[0].name!r}: " \
                     f"{bad[0].status}"
            return Verified(source=str(source), target=str(target), passed=False, reason=reason, tensors=tensors,
                            notes=notes)
        exact = all(t.status == "exact" for t in tensors)
        ran = _run(source, plain, options or Options(search="off"))
    passed, reason = _ruling(tensors, exact, ran)
    return Verified(source=str(source), target=str(target), passed=passed, reason=reason, tensors=tensors,
                    samples=ran.samples, origin=ran.origin, outputs=ran.outputs, labels=ran.labels,
                    notes=[*notes, *([ran.note] if ran.note else [])])


def _plain(target: Path, folder: Path) -> tuple[Path, list[str]]:
    """What is to be run: the file itself where a runtime reads it, else what restoring makes of it."""
    coded = any(beside(target, s).exists() for s in (index.SUFFIX, sidecar.SUFFIX))
    if not coded and formats.recognise(target) not in TORCH:
        return target, []
    done = restore(target, folder / target.name)
    notes = [f"{done.corrected} words or codewords were mended first"] if done.corrected else []
    return Path(done.out), [*notes, *(done.notes if done.corrected or done.lost else [])]


def _pairs(source: Path, target: Path, plain: Path) -> Iterator[Pair]:
    if beside(target, sidecar.SUFFIX).exists():
        yield from _files(source, plain)
        return
    name = formats.recognise(target)
    readings = _readings(target, name)
    table = beside(target, index.SUFFIX)
    coded = {e["name"] for e in index.read(table)} if table.exists() else set()
    originals, others = _tensors(source), _tensors(plain if coded else target)
    for key, load in originals.items():
        original = load()
        if key in readings:
            values, bound = readings[key]()
            yield key, original, values, bound
        elif key in coded:
            size = np.abs(original.astype(np.float64))
            yield key, original, others[key](), size * _CODED + 2.0**-144
        else:
            yield key, original, others[key]() if key in others else None, 0.0


def _files(source: Path, plain: Path) -> Iterator[Pair]:
    """Both files as bytes."""
    a, b = (np.fromfile(p, np.uint8) for p in (source, plain))
    yield "all bytes of the file", a, b, 0.0


def _tensors(path: Path) -> Mapping[str, Any]:
    """Name → what loads the tensor, for every tensor of a file."""
    if formats.recognise(path) in TORCH:
        from fetafix.formats.torch import protect as torch_protect

        held = torch_protect.tensors_of(path)
        return {k: (lambda v=v: v) for k, v in held.items()}
    return {h.name: (lambda h=h: stored_tensors.read(h)) for h in stored_tensors.held(path)}


def _readings(target: Path, name: str) -> Mapping[str, Any]:
    """Name → what loads a protected weight as it is read, and its bound."""
    if name == "onnx":
        from fetafix.formats.onnx.protected import constants, readings

        found = readings(target)
        made = {r.name: (lambda r=r: _bounded(r.values(target.parent), r.codes(target.parent), r.form)) for r in found}
        return made | {k: (lambda v=v: (v, 0.0)) for k, v in constants(target).items()}
    if name in TORCH:
        from fetafix.formats.torch import protect as torch_protect

        return {r.name: (lambda r=r: _bounded(r.values(), r.codes, r.form)) for r in torch_protect.recognise(target)}
    if name == "tflite":
        from fetafix.formats.tflite.protect import readings as tflite_readings

        return {k: (lambda v=v: v) for k, v in tflite_readings(target).items()}
    return {}


def _bounded(values: Array, codes: Array, form: Any) -> tuple[Array, Any]:
    return values, lambda original: error_bound(original.astype(np.float32), codes, form)


def _compared(name: str, original: Array, read: Array | None, bound: Any) -> Restoration:
    if read is None:
        return Restoration(name=name, status="missing")
    if read.shape != original.shape:
        return Restoration(name=name, status="reshaped")
    if read.dtype == original.dtype and read.tobytes() == original.tobytes():
        return Restoration(name=name, status="exact")
    allowed = np.asarray(bound(original) if callable(bound) else bound, np.float64)
    if read.dtype == np.float32 and np.array_equal(read, original.astype(np.float32)):
        return Restoration(name=name, status="exact")
    with np.errstate(invalid="ignore"):
        off = np.abs(read.astype(np.float64) - original.astype(np.float64))
        within = bool((off <= allowed).all())
    return Restoration(name=name, status="bounded" if within else "off", error=float(np.max(off, initial=0.0)),
                       bound=float(np.max(allowed, initial=0.0)))


def _run(source: Path, plain: Path, options: Options) -> _Ran:
    """Both natively on the same samples, where a runtime knows them."""
    from fetafix import api

    try:
        if options.source_arch is None and formats.recognise(source) in TORCH:
            return _Ran(None, note="not run: a state dict holds tensors without the architecture; --arch "
                                   "module:factory names the function that builds it")
        report = api.check(source, plain, replace(options, search="off"))
    except (UnreadableModel, FetafixError) as error:
        return _Ran(None, note=f"not run: {error}")
    if report.verdict is Verdict.UNDECIDED or report.agreement is None:
        return _Ran(None, note=f"not run: {report.reason}")
    outputs = {o.source: float("nan") if o.max_abs is None else o.max_abs for o in report.agreement.outputs}
    return _Ran(outputs, report.agreement.samples, report.samples.origin, _labels(report))


def _labels(report: Report) -> str:
    found = report.agreement
    if found is None or found.top1 is None or found.top1_bounds is None:
        return ""
    low, high = found.top1_bounds
    return f"top-1 agrees on {found.top1:.1%} of {found.samples} samples ({low:.1%} to {high:.1%})"


def _ruling(tensors: list[Restoration], exact: bool, ran: _Ran) -> tuple[bool, str]:
    read = f"all {len(tensors)} tensors read back bit by bit" if exact else \
        f"all {len(tensors)} tensors read back within the bound of their stored form"
    if ran.outputs is None:
        return True, f"{read}; end to end nothing was run"
    worst = max(ran.outputs.values(), default=0.0)
    if exact and worst != 0.0:
        return False, f"{read}, but outputs differ by up to {worst:.3g}: the runtime does not read it exactly"
    same = "outputs are bit by bit the same" if worst == 0.0 else f"outputs differ by up to {worst:.3g}"
    return True, f"{read}; on {ran.samples} samples {same}{'; ' + ran.labels if ran.labels and worst else ''}"
