"""What the conversion matrix is made of: its plan, and networks with their files, native or converted from such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

from fetafix import api
from fetafix.bench import calibration
from fetafix.bench.conversion_rows import FRAMEWORKS
from fetafix.bench.measure import run as run_python
from fetafix.convert import ConvertOptions, convert
from fetafix.convert.kinds import SUFFIXES
from fetafix.report import Verdict

MODELS = {"digits": 8, "MobileNetV2": 224, "ResNet101": 224, "InceptionV3": 299}
PAIRS = tuple(permutations(FRAMEWORKS, 2))
_KERAS_PRESETS = {"MobileNetV2": "keras-tf", "ResNet101": "keras-caffe", "InceptionV3": "keras-tf"}
_OF_TORCH, _SUFFIX = ("torch", "onnx"), {**SUFFIXES, "torch": ".pt2"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure. size: of the networks' inputs (None: their own). data: a folder of images (None: made up).

    jobs: conversions at a time, in processes of their own; cluster: on a Dask cluster instead.
    """

    folder: Path
    models: tuple[str, ...] = tuple(MODELS)
    pairs: tuple[tuple[str, str], ...] = PAIRS
    samples: int = 60
    size: int | None = None
    seed: int = 0
    data: str | None = None
    routes: int = 3
    timeout: float = 1800.0
    jobs: int = 1
    cluster: str | None = None

    def side(self, model: str) -> int:
        """Height and width of a model's input."""
        return MODELS[model] if self.size is None or model == "digits" else self.size


@dataclass(frozen=True)
class Network:
    """One network and its source files, made when they are first asked for. failures: why one could not be made."""

    plan: Plan
    model: str
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.plan.folder / f"{self.model}-{self.plan.side(self.model)}-{self.plan.seed}"

    def data(self) -> str:
        """The samples: the user's images, or made-up ones; the digits' own."""
        if self.model != "digits" and self.plan.data is not None:
            return self.plan.data
        path = self.folder / "samples.npy"
        if not path.exists() and self.model != "digits":
            count = max(self.plan.samples, 2 * calibration.COUNT)
            calibration.make_images(path, self.plan.side(self.model), count, self.plan.seed)
        return str(path)

    def preset(self, framework: str) -> str:
        """A framework's usual preprocessing of this network; "" where its samples need none."""
        if self.model == "digits":
            return ""
        return "torchvision" if framework in _OF_TORCH else _KERAS_PRESETS[self.model]

    def options(self, source: str, target: str | None = None) -> api.Options:
        """How to compare, with the presets of two frameworks."""
        first, second = (self.preset(f) or None for f in (source, target or source))
        return api.Options(data=self.data(), samples=self.plan.samples, seed=self.plan.seed, source_preprocess=first,
                           target_preprocess=second)

    def source(self, framework: str) -> tuple[Path | None, str]:
        """The network's file in a framework, or None and why there is none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(framework)
        if framework not in self.failures and not path.exists():
            origin = self._origin(framework)
            self.failures[framework] = self._native(framework, path) if origin is None else self._from(origin, path)
        return (path, "") if path.exists() else (None, self.failures.get(framework, ""))

    def missing(self, frameworks: Sequence[str]) -> list[str]:
        """Names of the files that are to be made for some frameworks, those that others are made from among them."""
        needed = [f for g in frameworks for f in (self._origin(g), g) if f is not None]
        return [p.name for f in dict.fromkeys(needed) if not (p := self._path(f)).exists()]

    def _path(self, framework: str) -> Path:
        return self.folder / f"{framework}{_SUFFIX[framework]}"

    def _origin(self, framework: str) -> str | None:
        """What it is converted from; None for a native definition."""
        native = ("torch",) if self.model == "digits" else ("torch", "keras")
        if framework in native:
            return None
        return "torch" if framework in _OF_TORCH or self.model == "digits" else "keras"

    def _native(self, framework: str, path: Path) -> str:
        module = f"fetafix.bench.{framework}_networks"
        side = str(self.plan.side(self.model))
        partial = path.with_name(f"partial-{path.name}")
        try:
            run_python(["-m", module, self.model, str(partial), side, self.data(), self.preset(framework) or "raw",
                        str(self.plan.seed)])
        except RuntimeError as error:
            return str(error)
        partial.rename(path)
        return ""

    def _from(self, origin: str, path: Path) -> str:
        source, why = self.source(origin)
        if source is None:
            return why
        report = convert(source, path, self.options(origin), self.converting)
        if report.rejected and report.verdict is not Verdict.UNDECIDED:
            Path(report.rejected).rename(path)  # a source need not be like where it comes from
        return report.reason

    @property
    def converting(self) -> ConvertOptions:
        """Routes until one passes; the best is kept in any case, for its repair is measured, too."""
        return ConvertOptions(routes=self.plan.routes, timeout=self.plan.timeout, keep_rejected=True, force=True)
