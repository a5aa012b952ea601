"""What models are asked: the same samples for each of them, as each takes them, with the right answers where known.

Feeds lie in .npy files, which worker processes map: no sample crosses between processes, however many trials there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fetafix.errors import InputDataError
from fetafix.feeding import RowsOfFile
from fetafix.inputs import quantised
from fetafix.inputs.image_source import ImageSource
from fetafix.inputs.pairing import Side, pair_feeds, single_feeds
from fetafix.inputs.preprocess import parse
from fetafix.inputs.samples import SampleSet, Source
from fetafix.inputs.sources import open_source
from fetafix.inputs.splits import draw_from
from fetafix.ir import Array
from fetafix.judge.binding import bind
from fetafix.report import ModelInfo
from fetafix.stress.labels import Labels, of_file, of_folders
from fetafix.stress.options import StressOptions


@dataclass(frozen=True, eq=False)
class Exam:
    """The samples of one model. feeds: by input name; indices: which of the source these are, in the order they run.

    batched: whether several go into one run. digest: tells these questions from others. labels: int64 (N,), None where
    there are none; labelled: where they come from.
    """

    feeds: Mapping[str, RowsOfFile]
    batched: bool
    indices: Sequence[int]
    origin: str
    digest: str
    labels: Array | None = None
    labelled: str = ""
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.indices)


class Examiner:
    """Draws the samples once, in a random order, so that stopping early is fair."""

    def __init__(self, options: StressOptions, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._preprocess = parse(options.preprocess) if options.preprocess is not None else None
        self.data: Source = open_source(options.data, trust=options.opening.trust, seed=options.seed)
        self._order: list[int] = []
        self._first: ModelInfo | None = None
        self._kept: dict[str, SampleSet] = {}

    def exam(self, number: int, info: ModelInfo) -> Exam:
        """The samples for a model, without labels; `number` names its files. Raises InputDataError where none suit."""
        found = self._feeds(info)
        if not len(found):
            raise InputDataError(f"{self.data.origin}: no sample could be read; {'; '.join(self.data.skipped[:5])}")
        feeds, digest = {}, hashlib.sha256()
        for i, (name, array) in enumerate(found.arrays.items()):
            path = self._folder / f"feeds-{number}-{i}.npy"
            np.save(path, array)
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
            feeds[name] = RowsOfFile(path, range(len(found)))
        return Exam(feeds, found.stackable, found.indices, self.data.origin, digest.hexdigest()[:16], notes=found.notes)

    def labelled(self, exam: Exam, classes: int) -> Exam:
        """The same with labels, where there are any, for a model of so many classes. Raises InputDataError."""
        labels = self._labels(exam.indices, classes)
        if labels is None:
            return exam
        digest = hashlib.sha256(exam.digest.encode() + labels.values.tobytes()).hexdigest()[:16]
        return replace(exam, labels=labels.values, labelled=labels.origin, digest=digest)

    def _feeds(self, info: ModelInfo) -> SampleSet:
        if self._first is None:
            self._first = info
            drawn = draw_from(self.data, self._options.samples, self._options.seed, heldout=0.0)[0].indices
            order = np.random.default_rng([self._options.seed, len(drawn)]).permutation(np.asarray(drawn))
            self._order = order.tolist()
        usual = quantised.assumed(info)
        if info is self._first:
            return single_feeds(self.data, self._order, info.inputs, self._preprocess or usual)
        first = Side(self._first.inputs, self._preprocess, assumed=quantised.assumed(self._first))
        names = bind(self._first, info).input_names
        return pair_feeds(self.data, self._order, first, Side(info.inputs, self._preprocess, names, usual))[1]

    def _labels(self, indices: Sequence[int], classes: int) -> Labels | None:
        names = [self.data.files.name(i) for i in range(len(self.data))] if isinstance(self.data, ImageSource) else None
        if self._options.labels is not None:
            found: Labels | None = of_file(Path(self._options.labels), names, len(self.data))
        else:
            found = of_folders(names, classes, str(self._options.data)) if names else None
        if found is None:
            return None
        chosen = found.values[list(indices)]
        if chosen.max(initial=0) >= classes:
            raise InputDataError(f"{found.origin}: label {int(chosen.max())} found, but the model knows the {classes} "
                                 f"classes 0 to {classes - 1} only")
        return replace(found, values=chosen)

