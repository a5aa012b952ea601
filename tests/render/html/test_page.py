"""What a page says, of every kind of report; nothing that a model's file holds ever becomes markup."""

from __future__ import annotations

import base64
import hashlib
import re

import msgspec
import pytest

from fetafix.exhibits import Exhibits, LayerError, Neighbourhood
from fetafix.render import html
from fetafix.render.html import frame
from fetafix.report import Report, Samples, Verdict
from tests.render.gates import GATES
from tests.render.gates import HOSTILE_REPORT as ODD
from tests.render.html.pages import DOT, HOSTILE, JOURNAL, Outline, check, poisoned, rich, text
from tests.render.reports import LONG, REPORTS, SAMPLES

ALL = {**REPORTS, "rich": rich(), "odd": ODD}
PARTS = ("sure", "found", "layers", "differing", "figures", "quantisation", "search", "files", "notes", "journal")


@pytest.mark.parametrize("report", ALL.values(), ids=ALL)
def test_every_page_stands_alone_and_can_be_read_by_all(report: Report) -> None:
    told = check(html.render(report, JOURNAL))
    assert [a["id"] for a in told.all("section")] == list(PARTS)


@pytest.mark.parametrize("report", [*ALL.values(), *(p.report for p in GATES["gate"].pairs)])
def test_hostile_text_stays_text(report: Report) -> None:
    bad = poisoned(report)
    told = check(html.render(bad, [poisoned(e) for e in JOURNAL]))
    assert "<script>window.hit=1</script>\"'><img src=x onerror=window.hit=2>" in told.text
    assert "\\u202e{{7*7}}</style></title>-->" in told.text and "\u202e" not in told.text


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
def test_a_gate_is_a_summary_and_a_report_a_pair(gate: html.page.GateReport) -> None:  # type: ignore[name-defined]
    for page in (html.render_gate(gate), html.render_gate(poisoned(gate))):
        told = check(page)
        sections = [a["id"] for a in told.all("section")]
        pairs = [s for s in sections if re.fullmatch(r"pair-\d+", s)]
        assert pairs == [f"pair-{k + 1}" for k in range(len(gate.pairs))]
        assert sections.count("pair-1-found") == 1
    assert html.render(gate) == html.render_gate(gate)


def test_a_gate_in_words() -> None:
    told = text(html.render_gate(GATES["gate"]))
    assert "The gate fails" in told
    assert ("Of 4 converted models, 1 passes, 1 does not pass, 1 could not be decided, 1 is let through, as what was "
            "found is accepted.") in told
    assert "Reason: retrained afterwards. Until 2030-01-01." in told
    assert "Accepted, but no longer: another range of pixel values" in told and "It expired on 2020-01-01." in told
    assert "The converted model passes." in text(html.render_gate(GATES["gate_passes"]))
    none = msgspec.structs.replace(GATES["gate"], pairs=[])
    assert "There was no pair of models to compare." in text(html.render_gate(none))


def test_the_policy_allows_the_style_sheet_and_nothing_else() -> None:
    page = html.render(rich())
    policy = Outline(page).all("meta")[1]["content"]
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == (f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
                      "form-action 'none'")  # fmt: skip


def test_everything_is_told() -> None:
    told = text(html.render(rich(), JOURNAL))
    for words in (
        "another answer than the original on 12 of 30 test inputs; two causes were found and one of them mended",
        "The layer looks at the wrong neighbours of each pixel.", "Its settings differ.", "The setting is put right.",
        "Little.", "What could go wrong", "set dilations = (2, 2)", "Kept: heals the segment",
        "does not lower the error",
        "the format holds no preprocessing", "segmentation (mask)", "90%; IoU 0.95", "it has one map a class",
        "0.28", "size 9", "40 inputs tried (deep search): 1 show a difference", "worst.npz", "repro/1-lh-dilation",
        "all agree", "Synthetic inputs are weaker evidence.", "ab" * 32, "cd" * 32, "float32 N×1×8×8", "cat.png",
        "✕ 3 −0.5", "✓ 7 9.5", "the file tells of 1 earlier run", "fetafix 0.1.0, onnx 1.16", "divergent, the same "
        "answer on 60% of 30 inputs", "error 0.8 → Infinity; does not heal", "fixed.pt, approved by Ada",
        "rejected by Bob, 2026-01-03 10:00 UTC: wb-bias at fc (not needed)",
        "of another version what 3", LONG,
    ):  # fmt: skip
        assert words in told, words


def test_next_steps_of_all_findings_are_said_once() -> None:
    told = text(html.render(rich()))
    assert told.count("Use the repaired file.") == told.count("Tell the makers.") == 1


def test_every_part_says_so_where_it_has_nothing() -> None:
    told = text(html.render(REPORTS["undecided"]))
    for words in (
        "It could not be decided whether", "Nothing was compared, so nothing is known",
        "Causes were not looked for.", "The error was not measured layer by layer.",
        "No input with another answer is known.", "Nothing was compared, so there are no figures.",
        "Neither model is known to store numbers in few bits.", "None were looked for.", "There is nothing to note.",
        "No journal was kept.", "not recognised",
    ):  # fmt: skip
        assert words in told, words
    assert "No cause was found." in text(html.render(msgspec.structs.replace(REPORTS["undecided"], command="localize")))
    kept = text(html.render(REPORTS["repair"]))
    assert "The journal run.jsonl is not part of this page." in kept
    assert "The surroundings of this place were not drawn." in kept


def test_layers_without_an_error_are_listed() -> None:
    layers = [LayerError(target_layer="a", source_layer="b")]
    report = msgspec.structs.replace(REPORTS["localize"], exhibits=Exhibits(layers=layers))
    assert "no error could be measured on them" in text(html.render(report))


def test_only_pictures_are_pictures() -> None:
    def page(image: str) -> str:
        shown = rich()
        assert shown.exhibits
        sample = msgspec.structs.replace(shown.exhibits.differing[0], image=image)
        exhibits = msgspec.structs.replace(shown.exhibits, differing=[sample])
        return html.render(msgspec.structs.replace(shown, exhibits=exhibits))

    assert check(page(DOT)).all("img")[0]["src"] == DOT
    for other in ("https://example.org/a.png", "data:image/svg+xml;base64,AAAA", f'{DOT}" onerror="x', "javascript:1"):
        told = check(page(other))
        assert not told.all("img") and "no picture of cat.png" in told.text


def test_the_same_report_makes_the_same_page() -> None:
    later = msgspec.structs.replace(rich(), timings={"total": 99.0})
    other = [e if "by" in e else {**e, "time": "2030-01-01T00:00:00Z"} for e in JOURNAL]
    assert html.render(rich(), JOURNAL) == html.render(later, other)


def test_a_page_of_a_large_model_is_small() -> None:
    layers = [LayerError(target_layer=f"{LONG}.{i}", source_layer=f"/{i}", op="Conv", carried=1 / (i + 1),
                         introduced=1e-7, after=1e-6, guilty=i % 40 == 0, findings=[0] if i == 900 else [])
              for i in range(5000)]  # fmt: skip
    report = rich()
    assert report.exhibits
    exhibits = msgspec.structs.replace(report.exhibits, layers=layers, differing=[])
    page = html.render(msgspec.structs.replace(report, exhibits=exhibits))
    assert len(page.encode()) < 150_000 and f"{LONG}.900" in text(page)


def test_a_page_of_very_many_findings_is_no_burden() -> None:
    report = rich()
    assert report.exhibits
    exhibits = msgspec.structs.replace(report.exhibits, neighbourhoods=report.exhibits.neighbourhoods[:1] * 60)
    many = msgspec.structs.replace(report, findings=report.findings[:1] * 60, exhibits=exhibits)
    told = check(html.render(many))
    assert sum(a.get("class") == "graph" for a in told.all("svg")) == 80
    assert told.text.count("Only the first 40 findings are drawn") == 20


def test_lone_surrogates_of_file_names_can_be_written() -> None:
    page = html.render(poisoned(rich(), "\udcff\x00\x1b[31m"))
    assert page.encode("utf-8") and "\\udcff\\u0000\\u001b[31m" in text(page)


def test_synthetic_inputs_are_weaker_evidence() -> None:
    made_up = Samples(search=70, heldout=30, origin="synthetic (weaker evidence): made up")
    for samples, words in ((made_up, "made up: weaker evidence"), (SAMPLES, "given, not made up")):
        told = text(html.render(msgspec.structs.replace(REPORTS["check_divergent"], samples=samples)))
        assert words in told and ("so this is weaker evidence" in told) == (samples is made_up)


def test_a_dry_run_says_that_nothing_was_written() -> None:
    told = text(html.render(msgspec.structs.replace(rich(), output=None)))
    assert "on trial: so repaired, it gives the same answer on every one, and nothing was written" in told
    assert "mended on trial" in told and "No repaired model was written: this was a dry run." in told


def test_neighbourhoods_may_be_fewer_than_findings() -> None:
    report = msgspec.structs.replace(rich(), exhibits=Exhibits(neighbourhoods=[Neighbourhood()]))
    told = text(html.render(report))
    assert told.count("The surroundings of this place were not drawn.") == 1
    assert told.count("there are no surroundings to draw") == 1  # of the inputs


def _contrast(a: str, b: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[k:k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    one, two = sorted((luminance(a), luminance(b)))
    return (two + 0.05) / (one + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast_is_sufficient(scheme: int) -> None:
    found = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", frame.styles())
    colours = {name: shades[scheme] for name, *shades in found}
    for ground in ("paper", "card", "wash"):
        for ink in ("ink", "soft", "link", "good", "warn", "bad"):
            assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        assert _contrast(colours["edge"], colours[ground]) >= 3.0, ground  # of lines that mean something


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_a_word(verdict: Verdict) -> None:
    told = text(html.render(msgspec.structs.replace(REPORTS["localize"], verdict=verdict)))
    assert verdict.value.replace("_", " ").capitalize() in told


def test_the_payload_is_one() -> None:
    """The checks would see markup if it came through."""
    assert Outline(HOSTILE).all("script") and Outline(HOSTILE).all("img")
