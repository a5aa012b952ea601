"""Settings in which twin nodes of a segment differ, and the edits that take over the source's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fetafix.edits import Edit
from fetafix.graph.compare import assign, differences
from fetafix.graph.segment import Segment
from fetafix.graph.twins import layout, twins
from fetafix.ir import Node

_HELPS = 0.5


@dataclass(frozen=True, eq=False, slots=True)
class Setting:
    """Twin nodes and the canonical attributes that differ: name → (target's, source's value in the target's layout)."""

    target: Node
    source: Node
    values: Mapping[str, tuple[Any, Any]]

    def adopt(self, segment: Segment, names: Sequence[str]) -> list[Edit]:
        """Edits that give the target's node the source's values of these attributes; [] where it cannot take them."""
        wanted = {n: self.values[n][1] for n in names if n in self.values}
        return assign(self.target, segment.full, wanted)

    def candidates(self, segment: Segment, names: Sequence[str]) -> Iterator[list[Edit]]:
        """Candidate edit lists: the first name alone, all names, the whole node, every setting of the segment."""
        everything = [e for s in settings(segment) for e in s.adopt(segment, list(s.values))]
        seen: set[str] = set()
        for edits in (self.adopt(segment, names[:1]), self.adopt(segment, names),
                      self.adopt(segment, list(self.values)), everything):
            said = "; ".join(e.describe() for e in edits)
            if edits and said not in seen:
                seen.add(said)
                yield edits

    def helpful(self, segment: Segment, names: Sequence[str]) -> list[str]:
        """Those of the names that differ, by what taking over each one alone leaves of the error."""
        own = {n: segment.trial(edits) if (edits := self.adopt(segment, [n])) else float("inf")
               for n in names if n in self.values}
        return sorted(own, key=own.__getitem__)

    def confidence(self, segment: Segment, names: Sequence[str]) -> float:
        """0.95 where taking over these attributes heals the segment, 0.8 where it helps much, else 0.4."""
        tried = (self.adopt(segment, names[:1]), self.adopt(segment, names))
        best = min((segment.trial(e) for e in tried if e), default=float("inf"))
        if segment.healed(best):
            return 0.95
        return 0.8 if best < _HELPS * min(segment.error, 1e30) else 0.4


def settings(segment: Segment) -> list[Setting]:
    """Twins of a segment that differ in some canonical attribute."""
    found = []
    for target, source in twins(segment):
        perm = layout(segment, target, source)
        values = differences(target, source, segment.target, segment.source, perm)
        if values:
            found.append(Setting(target, source, values))
    return found
