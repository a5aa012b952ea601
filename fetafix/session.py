"""A session: both models open side by side, the samples drawn, everything bound, the source's noise known.

    with Session("a.onnx", "b.pt", Options(data="images/")) as session:
        session.judge()                       both models over all samples
        session.feeds("search", 8)            what eight samples are for each model
        session.agreement("heldout", other)   another target, say a repaired one, on samples it was not made for

The source's outputs are kept, so that judging another target does not run the source again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from fetafix import probing
from fetafix.annex import Annex, Carry, carry
from fetafix.drawing import Samplings, open_data, sample, sides
from fetafix.errors import ModelError
from fetafix.formats.base import OpenOptions
from fetafix.inputs.pairing import pair_feeds
from fetafix.inputs.samples import SampleSet
from fetafix.ir import Array
from fetafix.judge import codes
from fetafix.judge.binding import Bindings, bind, by_content
from fetafix.judge.comparison import Comparison, compare
from fetafix.judge.heads import Head
from fetafix.judge.noise import Noise, Tolerance
from fetafix.judge.outliers import Outliers
from fetafix.judge.tasks.base import Assignment, View
from fetafix.judge.tasks.choice import choose, wishes
from fetafix.judge.tasks.registry import CLASSIFICATION
from fetafix.judging import Judge, Judgement, Opponent
from fetafix.kept import Kept
from fetafix.options import Options, Side
from fetafix.parallel import ModelProcess, threads_each
from fetafix.report import Agreement, ModelInfo, Samples
from fetafix.timed import Timed

if TYPE_CHECKING:
    from fetafix.remembered import Remembering

Which = Literal["search", "heldout", "all"]
Outputs = dict[str, Array]
_CHUNK = 16
_CHUNK_BYTES = 1 << 26
_DOING = {
    "open": "opening both models", "noise": "measuring the source's noise", "lift": "looking into both models",
    "localize": "looking for faults", "operate": "trying repairs on copies", "prove": "proving the repair",
    "offer": "making models of another format", "patch": "writing the patch", "search": "looking beside the samples",
    "reproduce": "cutting out reproductions", "exhibits": "gathering what the report shows",
}  # fmt: skip


class Session:
    """Two models, open until the `with` block ends. Not to be shared between threads.

    Entering raises ModelError where a model cannot be opened, InputDataError or UsageError where the data or the
    options do not suit. `timings` grows as things are done (seconds).
    """

    source: ModelProcess
    target: ModelProcess
    _source_probe: probing.Probe

    def __init__(self, source: str | Path, target: str | Path, options: Options | None = None) -> None:
        self.paths = (Path(source), Path(target))
        self.options = options or Options()
        self.timings: dict[str, float] = {}
        self._infos = [ModelInfo(path=str(p), format="") for p in self.paths]
        self._stack = ExitStack()
        self._kept: dict[int, Kept] = {}
        self._outliers = Outliers()
        self._tasks: tuple[Assignment, ...] | None = None
        self.annexes: tuple[Annex, ...] = ()  # inputs found beside the data; judged with it from then on
        self._remembering: list[Remembering] = []
        self.remarks: list[str] = []  # what a reader should know about how the models were run

    def __enter__(self) -> Self:
        """Open both models, bind inputs, draw samples, probe."""
        try:
            self._open()
            with self.timed("inputs"):
                pair = self.source_info, self.target_info
                self._declared = bind(*pair)
                self.samplings: Samplings = sample(self._data, *pair, self._declared, self.options)
            with self.timed("noise"):
                self._probe()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def reopen(self, options: Options) -> None:
        """Both models again, opened by other options of their runtimes; whatever was measured before is forgotten."""
        for process in (self.source, self.target):
            process.close()
        self.options, self._kept, self._outliers, self._tasks = options, {}, Outliers(), None
        self._open()
        with self.timed("noise"):
            self._probe()

    @property
    def threads(self) -> int:
        """Threads of each runtime: as asked, else the processors shared between the two models."""
        return threads_each() if self.options.threads is None else self.options.threads

    def opening(self, side: Side) -> OpenOptions:
        """How the model of a side is opened, and every copy of it."""
        return self.options.opening(side, self.threads)

    @property
    def source_info(self) -> ModelInfo:
        """What the source file is; only its path while it is not open."""
        return self._infos[0]

    @property
    def target_info(self) -> ModelInfo:
        """What the target file is."""
        return self._infos[1]

    @property
    def quantised(self) -> bool:
        """Whether either model computes in codes."""
        return any(i.details.get("quantised") for i in self._infos)

    @property
    def bindings(self) -> Bindings:
        """How inputs and outputs belong together, outputs by content where names do not tell."""
        return self._opponent.bindings

    @property
    def noise(self) -> Noise:
        """The source's noise floor."""
        return self._source_probe.noise

    @property
    def source_remembered(self) -> bool:
        """Whether the source answered from what earlier sessions remember of it, and was not run for its outputs."""
        return any(p.recalled for p in self._remembering) and not any(p.ran for p in self._remembering)

    def widen(self, noise: Noise) -> None:
        """Count more as the source's noise from now on."""
        self._source_probe = replace(self._source_probe, noise=self._source_probe.noise.wider(noise))

    @property
    def probes(self) -> dict[str, Any]:
        """Facts measured natively on a few samples, for both models: dependence on batch peers, variation, failures.

        changes: output → kind of change → (largest absolute difference, relative L2).
        """
        return {
            name: {
                "batch_dependence": probe.noise.batch_dependence, "run_variation": probe.noise.run_variation,
                "batch_failure": probe.batch_failure,
                "changes": {output: dict(floor.changes) for output, floor in probe.noise.floors.items()},
            }
            for name, probe in (("source", self._source_probe), ("target", self._opponent.probe))
        }

    @property
    def heads(self) -> Mapping[str, Head]:
        """Which source outputs are classifiers' heads, surely or maybe, and why."""
        return {t.outputs[0]: Head("yes" if t.sure else "maybe", t.claim.why) for t in self.tasks
                if t.comparator.name == CLASSIFICATION}

    @property
    def tasks(self) -> tuple[Assignment, ...]:
        """Which comparator judges which source outputs, and why; outputs that none knows are not among them."""
        if self._tasks is None:
            first = self.samplings.source.take(self.samplings.positions("all")[:_CHUNK])
            outputs = self.source.run(probing.sources(first), self.options.batch, first.stackable)
            self._tasks = self._chosen(probing.by_sample(outputs, first))
        return self._tasks

    @property
    def gate(self) -> str:
        """What must agree: "labels", "task" (other answers, or several kinds of them) or "numeric"."""
        return self._judge(self.tasks).gate

    def samples(self, used: int | None = None) -> Samples:
        """The report's record of the samples."""
        return self.samplings.record(used)

    def sets(self, which: Which, limit: int | None = None) -> tuple[SampleSet, SampleSet]:
        """(source's, target's) samples of the search or the held-out set."""
        positions = self.samplings.positions(which)[:limit]
        return self.samplings.source.take(positions), self.samplings.target.take(positions)

    def feeds(self, which: Which, limit: int | None = None) -> tuple[Outputs, Outputs]:
        """What one run of each model gets for up to `limit` samples, by input name; for one where they do not stack."""
        both = self.sets(which, limit)
        count = len(both[0]) if all(s.stackable for s in both) else 1
        first, second = (s.feed(0, count) for s in both)
        return first, second

    def judge(
        self, which: Which = "all", target: ModelProcess | None = None, preprocess: Any = None, stop: bool = False
    ) -> Judgement:
        """Compare the source with the target, or with another process in its place, on native runs.

        preprocess: the other target's preprocessing where that changed. stop: end as soon as the question is decided.
        Raises ModelError where a model fails.
        """
        opponent = self._opponent if target is None and preprocess is None else self._other(target, preprocess)
        beside = [(a, a.positions(which)) for a in self.annexes]
        return self._against(opponent, self.samplings.positions(which), stop, beside=beside)

    def agreement(self, which: Which, target: ModelProcess | None = None, preprocess: Any = None) -> Agreement:
        """The figures of `judge`."""
        return self.judge(which, target, preprocess).agreement

    @property
    def carried(self) -> Carry | None:
        """How the target's inputs follow from the source's; None where that cannot be told."""
        return carry(self.samplings.source, self.samplings.target, self._declared.inputs)

    def tolerances(self, judgement: Judgement, noise: Noise | None = None) -> Mapping[str, Tolerance]:
        """What the outputs of the target were allowed to differ by, by source output; or would be by another noise."""
        judge = self._judge(self.tasks)
        judge = judge if noise is None else replace(judge, probe=replace(judge.probe, noise=noise))
        return judge.tolerances(judgement.comparison, self._opponent)

    def inside(self, limit: int) -> tuple[SampleSet, SampleSet]:
        """(source's, target's) samples to look at inside the models: of the search set, half of them found ones.

        Where the difference shows on few samples only, those come first.
        """
        chosen = self._outliers.first(self.samplings.positions("search"), limit)
        both = self.samplings.source.take(chosen), self.samplings.target.take(chosen)
        found = [(a, a.search[: max(1, limit // 2)]) for a in self.annexes if a.alike and a.search]
        if not found or limit < 2:
            return both
        annex, at = found[0]
        room = limit - len(at)
        return annex.source.take(at).joined(both[0], room), annex.target.take(at).joined(both[1], room)

    def answers(
        self, positions: Sequence[int], target: ModelProcess | None = None, preprocess: Any = None
    ) -> tuple[Outputs, Outputs]:
        """(source's, target's) outputs of the samples at some positions, both by the source's names, in its layout.

        target, preprocess: as in `judge`.
        """
        usual, chunk = target is None and preprocess is None, self._chunk(len(positions))
        opponent = self._opponent if usual else self._other(target, preprocess)
        ours = _joined_rows(self._outputs(self.source, self.samplings.source, positions, chunk))
        theirs = _joined_rows(self._outputs(opponent.process, opponent.samples, positions, chunk, usual))
        bound = opponent.bindings.outputs
        return ours, {b.source: b.to_source(theirs[b.target], ours[b.source].shape) for b in bound}

    def swap_test(self, which: Which = "search", limit: int | None = 16) -> Judgement | None:
        """The target on the tensors that the SOURCE gets, axes turned to its layout: preprocessing plays no part in it.

        None where those do not fit the target's inputs.
        """
        positions = self.samplings.positions(which)[:limit]
        theirs, ours = self.samplings.target, self.samplings.source
        moved = {}
        for b in self._declared.inputs:
            value = b.to_target(ours.arrays[b.source]) if ours.batched[b.source] else ours.arrays[b.source]
            if value.shape[1:] != theirs.arrays[b.target].shape[1:]:
                return None
            moved[b.target] = value.astype(theirs.arrays[b.target].dtype)
        samples = SampleSet(moved, theirs.batched, theirs.indices)
        o = self._opponent
        return self._against(Opponent(o.process, o.info, samples, o.bindings, o.probe), positions, False, False)

    def _open(self) -> None:
        with self.timed("open"):
            both = []
            for path, side in zip(self.paths, ("source", "target"), strict=True):
                process = self._process(path, side)  # type: ignore[arg-type]
                both.append(self._stack.enter_context(closing(process)))
            self.source, self.target = both
            self._data = open_data(self.options)  # while the runtimes start
            failures = []
            for i, process in enumerate(both):
                try:
                    self._infos[i] = process.info()
                except ModelError as error:
                    failures.append(error)
            if failures:
                raise _joined(failures) from failures[0]

    def _process(self, path: Path, side: Side) -> ModelProcess:
        """The model of a side; a source with its memory, where there is to be one."""
        options = self.opening(side)
        if side == "target" or self.options.cache is None:
            return ModelProcess(path, options)
        from fetafix.remembered import Remembering, opened

        process = opened(path, options, self.options.cache)
        self._remembering += [process] if isinstance(process, Remembering) else []
        return process

    def _probe(self) -> None:
        drawn, seed = self.samplings, self.options.seed
        ours = probing.start(self.source, drawn.source, seed, perturb=True)
        theirs = probing.start(self.target, drawn.target, seed, perturb=False)
        self._source_probe, target_probe = ours.result(), theirs.result()
        self._infos = [self.source.info(), self.target.info()]  # some formats tell their outputs once they have run
        self._opponent = self._bound(self.target, drawn.target, target_probe)

    def _bound(self, process: ModelProcess, samples: SampleSet, probe: probing.Probe) -> Opponent:
        info = process.info()
        bindings = by_content(bind(self.source_info, info), self._source_probe.base, probe.base)
        noise = probe.noise.beside(self.noise, bindings.output_names)
        return Opponent(process, info, samples, bindings, replace(probe, noise=noise))

    def _other(self, target: ModelProcess | None, preprocess: Any) -> Opponent:
        process = target or self.target
        info = process.info()
        samples = self.samplings.target
        if preprocess is not None or info.inputs != self.target_info.inputs:
            declared = bind(self.source_info, info)
            both = sides(self.source_info, info, declared, self.options, preprocess)
            samples = pair_feeds(self.samplings.data, self.samplings.source.indices, *both)[1]
        return self._bound(process, samples, probing.start(process, samples, self.options.seed, False).result())

    def _against(
        self, opponent: Opponent, positions: Sequence[int], stop: bool, keep: bool = True,
        beside: Sequence[tuple[Annex, Sequence[int]]] = (),
    ) -> Judgement:  # fmt: skip
        keep = keep and opponent is self._opponent
        if tuple(positions[:_CHUNK]) != self.samplings.positions("all")[:_CHUNK]:
            self._tasks = self.tasks  # before anything runs: always chosen by the same samples
        with self.timed("run"):
            self.options.progress("comparing", 0, len(positions))
            chunk = self._chunk(len(positions))
            ours = self._outputs(self.source, self.samplings.source, positions, chunk)
            theirs = self._outputs(opponent.process, opponent.samples, positions, chunk, keep)
            total = Comparison()
            with closing(ours), closing(theirs):
                for first, second in zip(ours, theirs, strict=True):
                    if self._tasks is None:
                        self._tasks = self._chosen({n: v[:_CHUNK] for n, v in first.items()})
                    judge = self._judge(self._tasks)
                    if keep:
                        here = positions[total.samples : total.samples + len(next(iter(first.values())))]
                        self._outliers.note(here, opponent.bindings.outputs, first, second)
                    total += compare(opponent.bindings.outputs, self._tasks, first, second, self.noise)
                    self.options.progress("comparing", total.samples, len(positions))
                    if stop and judge.settled(total, opponent, len(positions)):
                        break
            names = [self.name(p) for p in positions]
            for annex, at in beside:
                if at:
                    total += self._annexed(opponent, annex, at)
                    names += [annex.names[p] for p in at]
        return self._judge(self.tasks).judgement(total, opponent, names)

    def beside(self) -> Judgement | None:
        """The target judged by the inputs found beside the data alone; None where there are none that show anything."""
        sure = [a for a in self.annexes if a.sure and a.names]
        total = Comparison()
        for annex in sure:
            total += self._annexed(self._opponent, annex, annex.positions("all"))
        return self._judge(self.tasks).judgement(total, self._opponent, []) if sure else None

    def _annexed(self, opponent: Opponent, annex: Annex, positions: Sequence[int]) -> Comparison:
        """The comparison on inputs beside the data."""
        theirs = annex.target
        if opponent.samples is not self.samplings.target:  # the target's inputs are prepared otherwise by now
            again = carry(self.samplings.source, opponent.samples, self._declared.inputs)
            theirs = theirs if again is None else again(annex.source.arrays)
        sets = annex.source.take(positions), theirs.take(positions)
        batch = annex.batch or self.options.batch
        running = [p.start_run(probing.sources(s), batch, s.stackable)
                   for p, s in zip((self.source, opponent.process), sets, strict=True)]
        first, second = (probing.by_sample(r.result(), s) for r, s in zip(running, sets, strict=True))
        return compare(opponent.bindings.outputs, self.tasks, first, second, self.noise)

    def _outputs(
        self, process: ModelProcess, samples: SampleSet, positions: Sequence[int], chunk: int, keep: bool = True
    ) -> Generator[Outputs]:
        """Outputs of the samples at some positions, chunk by chunk: those kept, or those of a run that starts now."""
        kept = self._kept.setdefault(id(process), Kept()) if keep else Kept()
        return kept.run(process, samples, positions, chunk, self.options.batch)

    def _chunk(self, count: int) -> int:
        """Samples a chunk: few where outputs are large, more where there are many samples."""
        batch = self.options.batch or 1
        base = self._source_probe.base.values()
        item = sum(v.nbytes // max(1, len(v)) for v in base)
        chunk = min(max(_CHUNK, count // _CHUNK), max(1, _CHUNK_BYTES // max(1, item)))
        return -(-chunk // batch) * batch

    def _judge(self, tasks: tuple[Assignment, ...]) -> Judge:
        judged = tuple(b.source for b in self.bindings.outputs)
        return Judge(self.options, self.source_info, self._source_probe, judged, tasks)

    def _chosen(self, outputs: Mapping[str, Array]) -> tuple[Assignment, ...]:
        alone = len(self.source_info.outputs) == 1
        names = [b.source for b in self.bindings.outputs]
        views = [View(n, outputs[n], alone, codes.step(self.source_info, n)) for n in names]
        return choose(views, wishes(self.options.task), self.bindings.output_names, self.options.gate)

    def name(self, position: int) -> str:
        """What a report calls the sample at a position."""
        index = self.samplings.source.indices[position]
        files = getattr(self.samplings.data, "files", None)
        return str(files.name(index)) if files is not None else f"sample {index}"

    def timed(self, what: str) -> Timed:
        """Adds the seconds of a `with` block to `timings`, and says what is being done."""
        if what in _DOING:
            self.options.progress(_DOING[what], 0, None)
        return Timed(self.timings, what)


def _joined_rows(chunks: Iterable[Outputs]) -> Outputs:
    rows = list(chunks)
    return {n: np.concatenate([r[n] for r in rows]) for n in rows[0]}


def _joined(failures: Sequence[ModelError]) -> ModelError:
    """The failure, or both in one: whoever has to put it right wants to know of both."""
    first = failures[0]
    return first if len(failures) == 1 else type(first)(". ".join(dict.fromkeys(map(str, failures))))
