"""Write a protected copy of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fetafix import formats
from fetafix.errors import UsageError
from fetafix.formats import stored as stored_tensors
from fetafix.formats.staging import staging
from fetafix.harden import choose, words
from fetafix.harden.asked import KEEP, Scheme, Wish
from fetafix.harden.files import beside, files_of, move, sidecars
from fetafix.harden.rank import checks_for, figures, part
from fetafix.harden.report import Hardened, Weight
from fetafix.outputs import keep_apart, writable
from fetafix.storage import index, secded, sidecar
from fetafix.storage.encodings import BF16, encoding
from fetafix.storage.holding import Held
from fetafix.storage.schemes import Plan
from fetafix.storage.stored_form import dtype_encoding

Array = npt.NDArray[Any]
TORCH = ("torch-state-dict", "safetensors")
_NOTHING = "nothing of it can be protected so"


def harden(model: str | Path, out: str | Path, wish: Wish | None = None) -> Hardened:
    """Write a protected copy of `model` to `out`, with sidecars beside it where the scheme has them.

    Raises UsageError where the format or the model cannot take the scheme (with what to do instead), UnreadableModel,
    OutputError where something cannot be written or would be written over an original.
    """
    path, out, wish = Path(model), Path(out), wish or Wish()
    keep_apart({"output": out}, {"source": path, "data": wish.data})
    writable(out)
    if path.is_dir():
        raise UsageError(f"{path}: a folder; give one of its files with --scheme rs, which protects any file, or "
                         "convert the model to ONNX first (fetafix convert)")
    name = "file" if wish.scheme == "rs" and path.is_file() else formats.recognise(path)
    ranking, why = [], ""
    if wish.scheme == "auto":
        chosen = choose.choose(path, name, wish)
        wish, ranking, why = chosen.wish, chosen.ranking, chosen.why
    work = _Work(path, out, name, wish)
    for stale in sidecars(out):
        stale.unlink(missing_ok=True)
    report = work.run()
    return msgspec.structs.replace(report, ranking=ranking, why=why)


class _Work:
    def __init__(self, path: Path, out: Path, format: str, wish: Wish) -> None:
        self.path, self.out, self.format, self.wish = path, out, format, wish
        self.weights: list[Weight] = []
        self.left: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.originals = files_of(path, format)

    def run(self) -> Hardened:
        how: dict[Scheme, Callable[[], list[Path]]] = {"rs": self._beside, "secded": self._within}
        files = how.get(self.wish.scheme, self._stored)()
        before = sum(f.stat().st_size for f in self.originals)
        return Hardened(
            model=str(self.path), format=self.format, out=str(self.out), files=[str(f) for f in files],
            scheme=self.wish.scheme, dtype=self.wish.dtype, granularity=self._granularity(),
            constants=self.wish.constants, design_ber=self.wish.design_ber,
            size=sum(f.stat().st_size for f in files) / before, weights=self.weights, left=self.left, notes=self.notes)

    def _granularity(self) -> str:
        return {"rs": "file", "secded": "word"}.get(self.wish.scheme, self.wish.granularity)

    def plan(self, held: Held, values: Array) -> Plan | str:
        """A weight's plan; noted with what is predicted of it."""
        self.wish.progress("weights", len(self.weights), None)
        plan = self.wish.plan(held, values)
        if isinstance(plan, Plan):
            of = part(held, values, self.wish.seed)
            before = dtype_encoding(held.dtype)
            plain = figures(of, Plan(before), self.wish.design_ber)[0] if before is not None else None
            after = figures(of, plan, self.wish.design_ber)[0] if before is not None else None
            self.weights.append(Weight(name=held.name, dtype=plan.encoding.name if before is not None else
                                       held.dtype.name, values=held.size, unprotected=plain, protected=after))
        return plan

    def _stored(self) -> list[Path]:
        """Weights stored otherwise, and what reads them."""
        done = self._by_format()
        kept = set(done.changed)
        self.weights = [w for w in self.weights if w.name in kept]
        self.left += done.left
        self.notes += done.notes
        if voted := getattr(done, "voted", []):
            self.notes.append(f"{len(voted)} constants (biases, scales of codes) are stored three times and voted on")
        return files_of(self.out, self.format)

    def _by_format(self) -> Any:
        mark, every = self.wish.mark(), self.wish.scope == "all"
        if self.format == "onnx":
            from fetafix.formats.onnx.protect import OLDEST, RAISED, protect

            oldest = RAISED if self.wish.dtype != KEEP and encoding(self.wish.dtype) == BF16 else OLDEST
            return self._checked(lambda out: protect(self.path, out, self.plan, mark, oldest, every))
        if self.format in TORCH:
            from fetafix.formats.torch import protect as torch_protect

            done = self._checked(lambda out: torch_protect.protect(self.path, out, self.plan, mark, every))
            self.notes.append("a loader stands in --explain; it needs torch and numpy alone")
            return done
        if self.format == "tflite":
            from fetafix.formats.tflite.protect import protect as tflite_protect

            return self._checked(lambda out: tflite_protect(self.path, out, self.plan))
        raise UsageError(words.refusal(self.path, self.format, self.wish.scheme))

    def _checked(self, write: Callable[[Path], Any]) -> Any:
        """Write; nothing is left where no weight was protected."""
        with staging(self.out) as folder:
            done = write(folder / self.out.name)
            if not done.changed and not (getattr(done, "voted", []) and self.wish.scheme == "guard"):
                reasons = "; ".join(dict.fromkeys(why for _, why in done.left)) or "it has no weights"
                raise UsageError(f"{self.path}: {_NOTHING}: {reasons}. --scheme rs protects any file")
            move(folder, self.out, self.originals)
        return done

    def _within(self) -> list[Path]:
        """A code within each word of float32."""
        with staging(self.out) as folder:
            copy = stored_tensors.copy(self.path, folder)
            tensors = [t for t in stored_tensors.held(copy) if self._takes_code(t)]
            if not tensors:
                reasons = "; ".join(dict.fromkeys(why for _, why in self.left)) or "it has no weights"
                raise UsageError(f"{self.path}: {_NOTHING}: {reasons}. --scheme rs protects any file")
            for file in dict.fromkeys(t.path for t in tensors):
                own = [t for t in tensors if t.path == file]
                stored_tensors.patch_all(file, ((t, _coded(t)) for t in own))
            (folder / (self.out.name + index.SUFFIX)).write_bytes(index.written(tensors, copy))
            copy.rename(folder / self.out.name)
            move(folder, self.out, self.originals)
        self.notes.append("the file runs as it is, unprotected; fetafix harden --restore, or the loader of --explain, "
                          "corrects flips before it is used")
        return [*files_of(self.out, self.format), beside(self.out, index.SUFFIX)]

    def _takes_code(self, held: Held) -> bool:
        if held.role != "weight":
            return False
        if not held.floating:
            self.left.append((held.name, f"its {held.dtype.name} codes have no bits to spare for a check"))
            return False
        values = stored_tensors.read(held)
        plan = self.plan(held, values.astype(np.float32))
        if isinstance(plan, str):
            self.left.append((held.name, plan))
        return not isinstance(plan, str)

    def _beside(self) -> list[Path]:
        """Check bytes of the whole file, or of each of its files, in a file beside it."""
        made = []
        with staging(self.out) as folder:
            for file in self.originals:
                name = self.out.name if file == self.path else file.name
                checks = checks_for(file.stat().st_size, self.wish.design_ber)
                with (folder / (name + sidecar.SUFFIX)).open("wb") as stream:
                    sidecar.write(file, stream, checks)
                if not (self.out.parent / name).exists() or not file.samefile(self.out.parent / name):
                    (folder / name).write_bytes(file.read_bytes())
                lost = sidecar.expected_lost(file.stat().st_size, checks, self.wish.design_ber)
                self.notes.append(f"RS(255, {255 - checks}): at a bit-error rate of {self.wish.design_ber:g}, "
                                  f"{lost:.1g} codewords of {name} are expected to be beyond repair")
                made += [self.out.parent / name, self.out.parent / (name + sidecar.SUFFIX)]
            move(folder, self.out, self.originals)
        return made


def _coded(held: Held) -> Array:
    return secded.encode(stored_tensors.read(held)).view(np.float32).reshape(held.shape)
