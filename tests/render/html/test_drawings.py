"""The chart and the graphs: what they show is right, whatever the values, and no name is lost."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetafix.exhibits import LayerError, Sketch, SketchNode
from fetafix.render.html.chart import chart, described
from fetafix.render.html.graph import differing, graph, valid
from fetafix.render.html.layers import LIMIT, picked
from fetafix.render.html.layout import layout
from fetafix.render.html.names import flat, lines, name, visible
from tests.render.html.pages import EDGES, LAYERS, NODES, TWIN, Outline
from tests.render.reports import LONG

errors = st.none() | st.floats(min_value=0) | st.just(float("nan")) | st.just(-1.0)


def layer(i: int, carried: float | None, **more: object) -> LayerError:
    return LayerError(target_layer=f"layer {i}", source_layer="", carried=carried, **more)  # type: ignore[arg-type]


def coordinates(drawn: str) -> list[float]:
    """Every number that places something."""
    found = re.findall(r'\b(?:x|y|x1|x2|y1|y2|cx|cy|width|height)="([^"]*)"', drawn)
    points = re.findall(r' (?:points|d)="([^"]*)"', drawn)
    return [float(v) for v in found] + [float(v) for p in points for v in re.findall(r"-?[\d.]+", p)]


@given(st.lists(st.tuples(errors, errors, errors, st.booleans()), max_size=40))
def test_a_chart_stays_within_its_frame(values: list[tuple[float | None, float | None, float | None, bool]]) -> None:
    layers = [layer(i, c, introduced=n, after=a, guilty=g, findings=[i] if g else []) for i, (c, n, a, g)
              in enumerate(values)]  # fmt: skip
    drawn = chart(layers)
    assert "nan" not in drawn.replace("≤", "") and "inf" not in drawn.replace("introduce", "").replace("finding", "")
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawn)
    if box:
        assert all(-13 <= v <= float(box[1]) for v in coordinates(drawn))


def test_layers_that_introduce_error_are_marked_by_shape_and_number_and_lead_to_their_findings() -> None:
    told = Outline(chart(LAYERS, "p-"))
    mark = next(a for a in told.all("a"))
    assert mark["href"] == "#p-finding-1" and "layer.3 (Conv): carries" in mark["aria-label"]
    assert sum(a.get("class") == "guilty mark" for a in told.all("path")) == 1
    assert "1" in told.words and "One layer introduces error: layer.3" in told.text
    assert sum(a.get("class", "").startswith("line ") for a in told.all("polyline")) == 2  # carried, after


def test_every_layer_is_named_under_the_pointer() -> None:
    told = Outline(chart(LAYERS))
    assert all(f"layer.{i} (Conv)" in told.text for i in range(12))


def test_a_name_of_any_length_is_told() -> None:
    told = Outline(chart([LayerError(target_layer="a" * 5000 + "z", source_layer="", carried=1.0)] * 30))
    assert len(told.text) < 15_000  # whole once, in the description
    assert "aaa…aaa" in told.text and "z: carries 1" in told.text


def test_values_that_are_missing_interrupt_a_line() -> None:
    drawn = chart([layer(0, 1.0), layer(1, None), layer(2, 0.1), layer(3, 0.01)])
    assert drawn.count("<polyline") == 2
    assert chart([layer(0, None)]) == "" and chart([]) == ""


def test_labels_of_neighbours_do_not_cover_each_other() -> None:
    layers = [layer(i, 0.5, introduced=0.5, guilty=True, findings=[i]) for i in range(60)]
    badges = [(float(a["x"]), float(a["y"]), float(a["width"])) for a in Outline(chart(layers)).all("rect")
              if a.get("class") == "badge"]  # fmt: skip
    assert len(badges) > 40
    for k, (x, y, width) in enumerate(badges):
        assert not [b for b in badges[k + 1:] if b[1] == y and abs(b[0] - x) < width]


def test_of_thousands_of_layers_the_peaks_stay() -> None:
    layers = [layer(i, 1e-6) for i in range(4000)]
    layers[1234] = layer(1234, 0.9)
    layers[77] = layer(77, 1e-9, introduced=0.5)
    layers[3001] = layer(3001, 1e-9, guilty=True, findings=[2])
    shown = picked(layers)
    assert {0, 77, 1234, 3001, 3999} <= set(shown) and len(shown) <= LIMIT and shown == sorted(shown)
    everything = [layer(i, 1.0, guilty=True, findings=[i] if i % 50 == 0 else []) for i in range(4000)]
    assert len(picked(everything)) <= LIMIT and {0, 50, 3950} <= set(picked(everything))
    assert picked(layers[:LIMIT]) == list(range(LIMIT))


def test_a_chart_in_words() -> None:
    assert described(LAYERS) == (
        "12 layers from input to output. The error is largest at layer.3, 0.167 of the size of its values, and 0.0455 "
        "at the last layer. One layer introduces error: layer.3. After the repair the error is 10⁻⁷ at most."
    ).replace("10⁻⁷", "1\u202f×\u202f10⁻⁷")


graphs = st.integers(1, 9).flatmap(lambda n: st.tuples(
    st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=14)))


@given(graphs)
def test_a_layout_places_every_node_once_and_follows_the_edges(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = drawn
    plan = layout(count, edges)
    places = [p for row in plan.rows for p in row]
    assert len(places) == len(set(places)) and set(range(count)) <= set(places)
    row = {p: r for r, places in enumerate(plan.rows) for p in places}
    for (start, end), path in zip(edges, plan.paths, strict=True):
        assert (path[0], path[-1]) == (start, end)
        assert all(abs(row[a] - row[b]) <= 1 for a, b in pairwise(path))


def test_a_chain_with_a_branch_flows_downwards() -> None:
    plan = layout(4, [(0, 1), (1, 2), (0, 2), (3, 2)])
    assert [sorted(p for p in row if p < 4) for row in plan.rows] == [[0], [1, 3], [2]]
    with pytest.raises(ValueError, match="expected edges between nodes 0 to 1"):
        layout(2, [(0, 2)])


@given(graphs, st.booleans())
def test_any_graph_is_drawn_within_its_frame(drawn: tuple[int, list[tuple[int, int]]], leaves: bool) -> None:
    count, edges = drawn
    nodes = [SketchNode(layer=f"{LONG}{i}" * (1 + i % 3), op="Conv", role="found" if i == 0 else "near")
             for i in range(count)]  # fmt: skip
    flows = [(a, b, "1×64×56×56") for a, b in edges] + ([(-1, 0, "x"), (count - 1, -1, "y")] if leaves else [])
    made = graph(Sketch(nodes=nodes, edges=flows), "t", "p-")
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', made)
    assert box and all(0 <= v <= max(float(box[1]), float(box[2])) for v in coordinates(made))
    assert made.count('class="box"') == count


def test_a_graph_names_its_place_and_marks_what_differs() -> None:
    told = Outline(graph(TWIN, "Converted", "p-", Sketch(nodes=NODES, edges=EDGES)))
    assert "▲ the finding is here" in told.words and "≠ dilations 1×1" in told.words
    assert "kernel 3×3, weights" in told.words  # what is the same is not marked
    assert told.all("svg")[0]["role"] == "img" and "The finding is at Conv /stem/Conv." in told.text
    assert f"Relu {LONG}" in told.text  # whole, though drawn in lines
    assert differing(NODES[0], None) == differing(NODES[1], TWIN) == set()


def test_nonsense_edges_are_left_out_and_double_ones_joined() -> None:
    sketch = Sketch(nodes=NODES[:2], edges=[(0, 7, ""), (-1, -1, ""), (1, 1, ""), (0, 1, "a"), (0, 1, "b")])
    assert valid(sketch) == [(0, 1, "a, b")]
    assert graph(Sketch(nodes=[], edges=[]), "t", "p-") == ""


@given(st.text(), st.integers(3, 40))
def test_lines_hold_every_letter(text: str, width: int) -> None:
    made = lines(text, width)
    assert "".join(made) == flat(text) and all(len(line) <= width for line in made)


def test_lines_break_after_separators() -> None:
    assert lines("features/stage.one/Conv_0", 12) == ["features/", "stage.one/", "Conv_0"]
    assert lines("x" * 7, 3) == ["xxx", "xxx", "x"]


@given(st.text())
def test_a_name_reads_as_it_is(text: str) -> None:
    assert "".join(Outline(name(text)).words) == flat(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", flat(text))


def test_what_is_invisible_is_spelt_out() -> None:
    assert visible("a\u202eb\x1b\udcff") == "a\\u202eb\\u001b\\udcff" and flat("a\nb\tc") == "a\\nb\\tc"
    assert visible(3) == 3 and visible(name("<")) == name("<")
