"""Published int8 models: faults of quantisation put into the lifted graph are found at their layer and healed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fetafix.api import Options, localize
from fetafix.edits import apply
from fetafix.faults import catalogue
from fetafix.graph.segment import relative_error
from fetafix.ir import Array, Graph
from fetafix.report import Verdict
from fetafix.session import Session
from fetafix.treat import treat
from fetafix.workbench import Workbench
from tests.assets.zoo import ASSETS, NEEDS_ASSETS

pytestmark = NEEDS_ASSETS
RESNET8 = ASSETS / "pairs/resnet8_cifar10"
FAULTS = list(catalogue().values())
CASES = [("qp-scale-axis", 0), ("qp-scale-axis", 1), ("qp-granularity", 0), ("qp-granularity", 1), ("qp-zero-point", 0),
         ("qp-zero-point", 3), ("qp-range", 0), ("qp-range", 2), ("id-int8-range", 0), ("id-int8-range", 1)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """ResNet-8 in floats and in int8, lifted, on CIFAR-10 images."""
    options = Options(data=ASSETS / "images/cifar10", samples=60, source_preprocess="raw", target_preprocess="raw")
    pair = (RESNET8 / "pretrainedResnet.tflite", RESNET8 / "pretrainedResnet_quant.tflite")
    with Session(*pair, options) as session, Workbench(session, tmp_path_factory.mktemp("lifts")) as bench:
        yield bench


def answer(bench: Workbench, graph: Graph) -> Array:
    return bench.evaluator.run(graph, bench.target_feeds, graph.output_names)[0]


@pytest.mark.parametrize(("code", "seed"), CASES)
def test_a_fault_of_quantisation_is_found_and_healed(bench: Workbench, code: str, seed: int) -> None:
    base = bench.align(bench.target).target
    edits = catalogue()[code].inject(base, np.random.default_rng(seed))
    assert edits
    broken = apply(base, edits)
    assert relative_error(answer(bench, broken), answer(bench, base)) > 0.01
    treatment = treat(bench.align, broken, FAULTS)
    assert [s.remedy.code for s in treatment.steps if s.remedy] == [code] and treatment.remaining == ()
    wanted = bench.aligner.values[bench.source.output_names[0]]
    healthy = relative_error(answer(bench, base), wanted)
    assert relative_error(answer(bench, treatment.target), wanted) < 2 * healthy + 0.02
    assert treat(bench.align, treatment.target, FAULTS).steps == ()


def test_the_healthy_model_is_within_what_int8_explains(bench: Workbench) -> None:
    treatment = treat(bench.align, bench.target, FAULTS)
    assert treatment.steps == () and len(treatment.first) > 20
    assert max(r.measured / r.explained for r in treatment.first) < 3


@pytest.mark.parametrize(("name", "size"), [("mobilenet_v1_0.25_128_quant", 128), ("mobilenet_v2_1.0_224_quant", 224)])
def test_a_uint8_model_against_its_own_view_has_no_finding(tmp_path: Path, name: str, size: int) -> None:
    model, view = ASSETS / f"models/{name}.tflite", tmp_path / "view.onnx"
    options = Options(data=ASSETS / "images/imagenet", samples=6, max_mismatch=0.2)
    with Session(model, model, options) as session, Workbench(session, tmp_path) as bench:
        shutil.copy(bench.target_lift.path, view)
    report = localize(model, view, options)
    assert report.verdict in (Verdict.EQUIVALENT, Verdict.DRIFTING) and report.findings == [], report.reason
