"""Twenty seeded faults in ResNet56 on CIFAR-10, its normalisation folded by the exporter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.assets.seeded import Network, check_repaired
from tests.assets.zoo import NEEDS_ASSETS, Zoo

pytestmark = NEEDS_ASSETS
# target, fault, seed, the code expected ("a|b": either is true of the file alone), how the repair is asked for
FAULTS = [
    ("onnx", "pp-hw-swap", 0, "", {}),
    ("onnx", "pp-mean-std", 0, "", {"bake": True}),
    ("onnx", "tss-transpose", 2, "", {}),
    ("onnx", "wb-bias", 0, "", {}),
    ("onnx", "wb-kernel-layout", 0, "", {}),
    ("onnx", "wb-weights", 0, "", {}),
    ("onnx", "lh-dilation", 0, "", {}),
    ("onnx", "lh-pads-lost", 1, "", {}),
    ("onnx", "cg-op-substitution", 0, "", {}),
    ("onnx", "op-class-offset", 0, "", {}),
    ("torch", "pp-bgr", 1, "", {}),
    ("torch", "id-layout", 1, "", {}),
    ("torch", "wb-kernel-flip", 0, "", {}),
    ("torch", "wb-precision", 0, "", {}),
    ("torch", "st-storage", 0, "", {}),
    ("torch", "lh-dilation", 1, "", {}),
    ("torch", "cg-act-missing", 0, "", {}),
    ("torch", "cg-residual", 2, "", {}),
    ("torch", "cg-unexplained", 0, "", {}),
    ("torch", "cg-extra-output", 0, "", {}),
]


@pytest.fixture(scope="module")
def network(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(zoo, "resnet56", "legacy", tmp_path_factory.mktemp("resnet56")) as made:
        yield made


@pytest.mark.parametrize(("kind", "fault", "seed", "code", "how"), FAULTS)
def test_seeded_fault_is_found_and_repaired(
    network: Network, tmp_path: Path, kind: str, fault: str, seed: int, code: str, how: dict[str, bool]
) -> None:
    seeder = network.seeder(kind)
    out = tmp_path / f"resnet56{seeder.target.suffix}"
    check_repaired(seeder, seeder.seed(fault, seed), [code or fault], out, **how)
