"""What a report shows beside its findings: the error layer by layer, the graphs around a finding, samples that differ.

Plain data like the rest of the report. Gathered only where somebody is to read it (`Options.exhibits`): it takes a
further pass over a few samples, and thumbnails make a report of kilobytes one of hundreds.
"""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all result records."""


class LayerError(Record, frozen=True, kw_only=True):
    """How far off one tensor of the target is from its twin in the source, in the order of the target's layers.

    carried: relative L2 error when the target runs by itself, whatever came before; introduced: when its segment alone
    is fed with the source's activations; after: as carried, in the repaired target. null where it was not measured or
    is not finite. guilty: whether it introduces error beyond its rounding noise. findings: positions in
    `Report.findings`.
    """

    target_layer: str
    source_layer: str
    op: str = ""
    carried: float | None = None
    introduced: float | None = None
    after: float | None = None
    guilty: bool = False
    findings: list[int] = []


class SketchNode(Record, frozen=True, kw_only=True):
    """A node of a drawn graph. detail: its attributes and weights' shapes in a few words. role: "found" or "near"."""

    layer: str
    op: str
    detail: str = ""
    role: str = "near"


class Sketch(Record, frozen=True, kw_only=True):
    """A small graph: edges are (from, to, what flows, as "1×64×56×56"); from or to is -1 where one leaves it."""

    nodes: list[SketchNode]
    edges: list[tuple[int, int, str]] = []


class Neighbourhood(Record, frozen=True, kw_only=True):
    """The surroundings of one finding, in both models; null where a model has no such place."""

    source: Sketch | None = None
    target: Sketch | None = None


class Score(Record, frozen=True, kw_only=True):
    """A class and its score, as the model puts it out."""

    label: int
    score: float


class Differing(Record, frozen=True, kw_only=True):
    """A sample on which labels differ: both models' best classes, best first, and the repaired model's.

    image: a small picture as a data URL ("data:image/png;base64,…"), "" where the sample is no image.
    """

    sample: str
    image: str = ""
    source: list[Score] = []
    target: list[Score] = []
    after: list[Score] = []


class Exhibits(Record, frozen=True, kw_only=True):
    """All of them. neighbourhoods: one a finding, in their order. differing: a few of all samples that differ."""

    layers: list[LayerError] = []
    neighbourhoods: list[Neighbourhood] = []
    differing: list[Differing] = []
