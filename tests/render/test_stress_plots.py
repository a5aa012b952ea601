"""Plots and the page of a stress report: valid files, holding what they should, the same for the same report."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from fetafix.errors import OutputError, UsageError
from fetafix.render import canvas, stress_html, stress_plots, stress_prediction
from fetafix.render.stress_figures import figures
from fetafix.stress.record import StressReport
from tests.render.stress_reports import RATES, report

SVG = "{http://www.w3.org/2000/svg}"
NAMES = {"accuracy", "survival", "bits", "layers-1", "layers-2", "layers-3", "cost"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plots") / "new"
    assert {p.name for p in stress_plots.write(report(), folder)} == {f"{n}.{s}" for n in NAMES for s in ("png", "svg")}
    return folder


def words(svg: Path) -> str:
    return " ".join("".join(t.itertext()) for t in ET.parse(svg).getroot().iter(f"{SVG}text"))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_files_are_valid_and_say_what_they_show(written: Path, name: str) -> None:
    root = ET.parse(written / f"{name}.svg").getroot()
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    title, described = root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")
    assert title and described and len(described) > 40 and root.get("aria-label", "").startswith(title)
    with Image.open(written / f"{name}.png") as image:
        assert image.format == "PNG" and min(image.size) > 200 and len(image.convert("L").getcolors(256) or []) > 8


def test_the_accuracy_has_a_curve_a_band_and_a_baseline_for_each_subject(written: Path) -> None:
    text = words(written / "accuracy.svg")
    assert all(s.name in text for s in report().subjects) and "bit-error rate" in text
    drawn = next(d for d in figures(report()) if d.name == "accuracy")
    (axes,) = drawn.figure.axes
    curves = [line for line in axes.lines if len(line.get_xdata()) == len(RATES)]
    bases = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert curves[0].get_ydata().tolist() == pytest.approx([97, 53.5, 10])
    assert bases == pytest.approx([97, 97, 95]) and len(axes.collections) == 3 and axes.get_xscale() == "log"
    assert "97.0% without a fault; median 97.0% at 1e-06, 53.5% at 1e-05" in drawn.alt


def test_the_survival_has_its_bounds(written: Path) -> None:
    drawn = next(d for d in figures(report()) if d.name == "survival")
    (axes,) = drawn.figure.axes
    bars = axes.collections[0].get_segments()
    assert [tuple(s[:, 1].round(3)) for s in bars] == [(60, 100), (10, 90), (0, 40)]
    assert any(line.get_linestyle() == ":" and line.get_ydata()[0] == 90 for line in axes.lines)


def test_bits_and_layers_and_cost_are_those_of_the_report() -> None:
    drawn = {d.name: d for d in figures(report())}
    heights = [[p.get_height() for p in a.patches] for a in drawn["bits"].figure.axes]
    assert [len(h) for h in heights] == [32, 32, 8]
    assert heights[0] == pytest.approx([min(i - 20, 99) + 12 if i > 8 else 0 for i in range(31, -1, -1)])
    assert "bit 30 (exponent), which wrecks 100.0%" in drawn["bits"].alt
    table = drawn["layers-1"].figure.axes[0].images[0].get_array()
    assert np.asarray(table) == pytest.approx(np.log10([[0.1] * 3, [0.2] * 3, [0.3] * 3]))
    assert "conv2/weight" in drawn["layers-1"].alt
    assert "fp32 guard: 32 bits, 1e-05" in drawn["cost"].alt and "q2.5 scale: 8 bits, 1e-05" in drawn["cost"].alt


def test_the_same_report_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        stress_plots.write(report("scale"), tmp_path / name)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in "ab")
    assert first == second and len(first) == 8
    assert stress_html.page(report("scale")) == stress_html.page(report("scale"))


def test_nothing_is_drawn_of_what_is_not_there() -> None:
    bare = [msgspec.structs.replace(s, bits=[], layers=[], cells=[]) for s in report().subjects[:1]]
    assert figures(msgspec.structs.replace(report(), subjects=bare)) == []


class _Page(HTMLParser):
    """Checks that tags nest, and collects text, loads and ids."""

    VOID = ("meta", "link", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.loads += [f"{k}={v}" for k, v in attrs if k in ("src", "href", "xlink:href")
                       and not (v or "").startswith(("#", "data:"))]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_begins_with_the_verdict() -> None:
    text = stress_html.page(report())
    page = _Page(text)
    assert page.open == [] and page.loads == [] and "@import" not in text and "<script" not in text
    assert len(page.ids) == len(set(page.ids))
    body = text[text.index("<body"):]
    assert body.index("tolerates 1e-05 &lt;sure&gt;.") < min(body.index("<table"), body.index("<svg"))
    assert body.count("<svg") == len(NAMES) == body.count('role="img"') and "color-scheme: light dark" in text
    assert canvas.INK not in text and "currentColor" in text
    assert "net <1>.onnx" in page.text and "a note & more" in page.text and "1 crashed" in page.text
    assert re.findall(r'>✕ ([^<]+)<', text) == ["no: RMS error off"]
    assert all(f"<td>{value}</td>" in body for value in ("97%", "95%", "1e-05"))


def test_the_text_flags_what_disagrees() -> None:
    found = stress_prediction.lines(report("none", "guard"))
    assert len(found) == 2 * (2 + len(RATES))
    assert [line for line in found if "DISAGREES" in line] == [found[4]] and found[4].endswith("RMS error off")


def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'fetafix\[plots\]'"):
        stress_plots.write(report(), tmp_path)
    page = stress_html.page(report())
    assert "fetafix[plots]" in page and "<svg" not in page and "<table" in page


def test_matplotlib_is_loaded_for_figures_alone() -> None:
    code = "import sys, fetafix.render.stress_html, fetafix.render.stress_plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        stress_plots.write(report("guard"), tmp_path / "file")


def test_predictions_travel_in_json() -> None:
    from fetafix.stress.record import from_json, to_json

    assert from_json(to_json(report())) == report() and isinstance(from_json(to_json(report())), StressReport)
