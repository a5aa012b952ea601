"""One line of the conversion matrix, and its table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

FRAMEWORKS = {"torch": "PyTorch", "keras": "Keras", "saved_model": "TensorFlow", "tflite": "TFLite", "onnx": "ONNX"}
_COLUMNS = (
    "model", "source", "target", "preprocessing", "result", "labels differ", "findings", "repairs", "left on held-out",
    "time",
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion, prepared in one way.

    preprocessing: whose usual preprocessing the target got, "source" or "target"; presets: both models' presets.
    status: a verdict, "not converted" or "unavailable". before: share of labels that differ as converted; after: on the
    held-out samples once repaired (None: no repair was tried). findings: codes. repairs: how many were kept.
    """

    model: str
    source: str
    target: str
    preprocessing: str
    presets: tuple[str, str] = ("", "")
    status: str
    route: str = ""
    before: float | None = None
    after: float | None = None
    max_abs: float | None = None
    findings: list[str] = []
    repairs: int = 0
    seconds: float = 0.0
    samples: int = 0
    size: int = 0
    seed: int = 0
    reason: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two rows the same measurement."""
        return (self.model, self.source, self.target, self.preprocessing, self.samples, self.size, self.seed)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table, and in a sentence what became of them."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|" + "---|" * len(_COLUMNS)]
    lines += [f"| {' | '.join(_cells(r))} |" for r in rows]
    return "\n".join([*lines, "", summary(rows)]) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """How many conversions ended how; those that no converter was here for are counted apart."""
    done = [r for r in rows if r.status != "unavailable"]
    counts = {status: sum(r.status == status for r in done) for status in dict.fromkeys(r.status for r in done)}
    told = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts.items())
    missing = len(rows) - len(done)
    tail = f"; {missing} unavailable, and not counted" if missing else ""
    return f"{len(done)} conversions: {told or 'none'}{tail}."


def _cells(row: Row) -> Iterable[str]:
    yield row.model
    yield FRAMEWORKS.get(row.source, row.source)
    yield FRAMEWORKS.get(row.target, row.target)
    yield f"{row.preprocessing}'s ({row.presets[1]})" if row.presets[1] else "none"
    yield row.status.replace("_", " ")
    yield _share(row.before)
    yield ", ".join(row.findings) or "none"
    yield str(row.repairs)
    yield _share(row.after if row.after is not None else row.before)
    yield f"{row.seconds:.0f} s"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.3g}%"
