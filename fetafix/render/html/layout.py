"""Where the nodes of a small graph go: in rows, from what is read to what is made, with few crossings.

Nodes are ranked by the longest path to them. An edge that skips rows gets a place in each of them, so that it passes
between nodes, not through them. Neighbours then move towards the middle of what they are joined with (the barycentre
method of Sugiyama et al., 1981). For drawings of a dozen nodes; any input ends, cycles and nonsense included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_SWEEPS = 4


@dataclass(frozen=True)
class Layout:
    """rows: of places, nodes by their number. paths: for each edge the places that it leads through, ends included."""

    rows: list[list[int]]
    paths: list[list[int]]


def layout(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """The layout of `count` nodes; edges outside of them raise ValueError."""
    if any(not (0 <= a < count and 0 <= b < count) for a, b in edges):
        raise ValueError(f"expected edges between nodes 0 to {count - 1}, found {list(edges)}")
    rank = _ranks(count, edges)
    rows: list[list[int]] = [[] for _ in range(max(rank, default=-1) + 1)]
    for node in range(count):
        rows[rank[node]].append(node)
    paths = []
    for start, end in edges:
        passed = []
        step = 1 if rank[end] >= rank[start] else -1
        for r in range(rank[start] + step, rank[end], step):
            rows[r].append(count)
            passed.append(count)
            count += 1
        paths.append([start, *passed, end])
    _untangle(rows, paths)
    return Layout(rows, paths)


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest path to each node, without the edges that close a cycle."""
    readers: list[list[int]] = [[] for _ in range(count)]
    for start, end in edges:
        readers[start].append(end)
    rank, state = [0] * count, [0] * count  # 0 not seen, 1 on the way, 2 done
    order: list[int] = []
    forward: list[list[int]] = [[] for _ in range(count)]
    for root in range(count):
        stack = [(root, 0)] if not state[root] else []
        while stack:
            node, at = stack.pop()
            state[node] = 1
            if at < len(readers[node]):
                stack.append((node, at + 1))
                reader = readers[node][at]
                if state[reader] != 1:
                    forward[node].append(reader)
                if not state[reader]:
                    stack.append((reader, 0))
            else:
                state[node] = 2
                order.append(node)
    for node in reversed(order):
        for reader in forward[node]:
            rank[reader] = max(rank[reader], rank[node] + 1)
    read = {reader for readers in forward for reader in readers}
    for node in set(range(count)) - read:  # what nothing leads to stands close to what it leads to
        rank[node] = min((rank[r] for r in forward[node]), default=1) - 1
    return rank


def _untangle(rows: list[list[int]], paths: Sequence[Sequence[int]]) -> None:
    """Sort each row by where its neighbours are, downwards and upwards in turn."""
    joined: dict[int, list[int]] = {}
    for path in paths:
        for a, b in pairwise(path):
            joined.setdefault(a, []).append(b)
            joined.setdefault(b, []).append(a)
    for sweep in range(_SWEEPS):
        sequence = range(1, len(rows)) if sweep % 2 == 0 else range(len(rows) - 2, -1, -1)
        for r in sequence:
            other = rows[r - 1 if sweep % 2 == 0 else r + 1]
            at = {p: (k + 0.5) / len(other) for k, p in enumerate(other)}
            own = {p: (k + 0.5) / len(rows[r]) for k, p in enumerate(rows[r])}
            rows[r].sort(key=lambda p: _middle([at[n] for n in joined.get(p, ()) if n in at], own[p]))


def _middle(places: Sequence[float], own: float) -> float:
    return sum(places) / len(places) if places else own
