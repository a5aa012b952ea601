"""Reports with everything a page can show, and what holds for every page, whatever is in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import msgspec

from fetafix.exhibits import Differing, Exhibits, LayerError, Neighbourhood, Score, Sketch, SketchNode
from fetafix.report import Advice, LayerRounding, Offer, Quantisation, Report, Search, Shown, TaskAgreement, Verdict
from tests.render.reports import BAD, LONG, REPORTS

DOT = ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/e+m+7wAAAABJRU5E"
       "rkJggg==")  # fmt: skip
HOSTILE = "<script>window.hit=1</script>\"'><img src=x onerror=window.hit=2>\n\u202e{{7*7}}</style></title>--> é漢字 "
NODES = [
    SketchNode(layer="/stem/Conv", op="Conv", detail="kernel 3×3, dilations 2×2, weights 16×1×3×3", role="found"),
    SketchNode(layer=LONG, op="Relu"), SketchNode(layer="/stem/Add", op="Add"),
]
EDGES = [(-1, 0, "1×1×8×8"), (0, 1, "1×16×8×8"), (0, 2, "1×16×8×8"), (1, 2, "1×16×8×8"), (2, -1, "1×16×8×8")]
TWIN = Sketch(nodes=[msgspec.structs.replace(NODES[0], detail=NODES[0].detail.replace("2×2", "1×1")), *NODES[1:]],
              edges=EDGES)
ADVICE = Advice(
    meaning="The layer looks at the wrong neighbours of each pixel.", evidence=["Its settings differ.", "It is alone."],
    remedy="The setting is put right.", risk="Little.", next_steps=["Use the repaired file.", "Tell the makers."],
)
LAYERS = [
    LayerError(target_layer=f"layer.{i}", source_layer=f"/layer.{i}", op="Conv", carried=0.0 if i < 3 else 0.5 / i,
               introduced=0.6 if i == 3 else 1e-8, after=1e-7, guilty=i == 3, findings=[0] if i == 3 else [])
    for i in range(12)
]  # fmt: skip


def rich() -> Report:
    """A repaired pair with a record of every kind."""
    base = REPORTS["repair"]
    findings = [msgspec.structs.replace(base.findings[0], advice=ADVICE),
                msgspec.structs.replace(base.findings[1], advice=msgspec.structs.replace(
                    ADVICE, next_steps=["Use the repaired file.", "Ask for the range."]))]
    task = TaskAgreement(task="segmentation", outputs=["mask"], share=0.9, samples=30, agreeing=27, words="IoU 0.95",
                         why="it has one map a class")
    rounding = LayerRounding(target_layer=LONG, source_layer="a", rounds="weight", explained=0.1, measured=0.3,
                             unexplained=0.28)
    scores = [Score(label=7 - i, score=9.5 - 2.5 * i) for i in range(5)]
    differing = Differing(sample="cat.png", image=DOT, source=scores, target=scores[::-1], after=scores)
    return msgspec.structs.replace(
        base, verdict=Verdict.REPAIRED, findings=findings, agreement=msgspec.structs.replace(BAD, tasks=[task]),
        quantisation=Quantisation(of="target", weights={"int8": 4}, layers=[rounding]),
        search=Search(level="deep", tried=40, found=1, outside=2, turned=1, unsure=1, kept=["worst.npz"], shown=[
            Shown(what="size 9", inside=True, excess=20.0, max_abs=0.25, labels=(2, 0))]),
        offers=[Offer(path="b.onnx", format="onnx", verdict=Verdict.REPAIRED, passed=True, reason="all agree",
                      converters="onnx2torch")],
        reproductions=["repro/1-lh-dilation"],
        exhibits=Exhibits(layers=LAYERS, neighbourhoods=[
            Neighbourhood(source=Sketch(nodes=NODES, edges=EDGES), target=TWIN), Neighbourhood()],
            differing=[differing, msgspec.structs.replace(differing, sample="dog.png", image="")]),
    )  # fmt: skip


JOURNAL: list[dict[str, Any]] = [
    {"time": "2026-01-01T00:00:00Z", "event": "start", "versions": {"fetafix": "0.0.1"}},
    {"time": "2026-01-03T10:00:00.5Z", "event": "rejected", "by": "Bob", "code": "wb-bias", "target_layer": "fc",
     "why": "not needed"},
    {"time": "2026-02-02T00:00:00Z", "event": "start", "versions": {"fetafix": "0.1.0", "onnx": "1.16"}},
    {"event": "judged", "verdict": "divergent", "agreement": {"top1": 0.6, "samples": 30, "max_abs": 14.25}},
    {"event": "tried", "code": "lh-dilation", "edits": ["set dilations = (2, 2)"], "before": 0.8, "after": "Infinity",
     "healed": False},
    {"event": "proof", "before": {"top1": 0.6}, "after": {"top1": 1.0}},
    {"event": "written", "output": {"path": "fixed.pt"}, "approved_by": "Ada"},
    {"event": "of another version", "what": 3},
]  # fmt: skip


def poisoned(value: Any, text: str = HOSTILE) -> Any:
    """A record with `text` in every place that holds text of others, keys of dictionaries included."""
    if isinstance(value, msgspec.Struct):
        fields = {f: getattr(value, f) for f in value.__struct_fields__}
        kept = {"command", "gate", "role", "rounds", "status", "of", "level", "image"}
        return msgspec.structs.replace(value, **{
            k: v if k in kept and not (k == "rounds" and v == "?") else poisoned(v, text) for k, v in fields.items()})
    if type(value) is str:
        return text
    if isinstance(value, dict):
        return {poisoned(k, f"{text}{n}"): poisoned(v, text) for n, (k, v) in enumerate(value.items())}
    if isinstance(value, list | tuple):
        return type(value)(poisoned(v, text) for v in value)
    return value


class Outline(HTMLParser):
    """What a page is made of, as a browser reads it."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._quiet = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        self._quiet += tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._quiet -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._quiet:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, *names: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def text(page: str) -> str:
    """What a reader sees, closed details included."""
    return Outline(page).text


def check(page: str) -> Outline:
    """Assert what holds for every page: it stands alone, nothing in it runs, and assistive software can read it."""
    told = Outline(page)
    names = {tag for tag, _ in told.tags}
    assert names & {"script", "iframe", "object", "embed", "base", "form", "audio", "video", "use"} == set()
    assert not [a for _, attributes in told.tags for a in attributes if a.startswith("on") or a == "style"]
    assert len(told.all("style")) == 1 and len(told.all("html")) == 1
    for attributes in told.all("a", "link", "img"):
        assert re.match(r"#|data:", attributes.get("href", attributes.get("src", ""))), attributes
    ids = [a["id"] for _, a in told.tags if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = [i for _, a in told.tags for k in ("aria-labelledby", "aria-describedby") for i in a.get(k, "").split()]
    wanted += [a["href"][1:] for a in told.all("a") if a["href"].startswith("#")]
    assert set(wanted) <= set(ids)
    levels = [int(tag[1]) for tag, _ in told.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert len(told.all("table")) == len(told.all("caption"))
    assert all(a.get("scope") in ("row", "col") for a in told.all("th"))
    assert all(a.get("alt") for a in told.all("img"))
    assert all("aria-hidden" in a or "aria-labelledby" in a for a in told.all("svg"))
    assert told.all("html")[0]["lang"] == "en" and len(told.all("main")) == 1
    return told
