"""Twenty seeded faults in SqueezeNet 1.1 on ImageNet photographs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.assets.seeded import Network, check_repaired
from tests.assets.zoo import NEEDS_ASSETS, Zoo

pytestmark = NEEDS_ASSETS
# target, fault, seed, the code expected ("a|b": either is true of the file alone), how the repair is asked for
FAULTS = [
    ("onnx", "pp-bgr", 2, "", {}),
    ("onnx", "pp-range", 2, "", {}),
    ("onnx", "id-layout", 2, "", {}),
    ("onnx", "tss-concat-order", 2, "", {}),
    ("onnx", "wb-bias", 2, "", {}),
    ("onnx", "wb-kernel-flip", 2, "", {}),
    ("onnx", "lh-dilation", 2, "", {}),
    ("onnx", "cg-act-missing", 2, "", {}),
    ("onnx", "cg-residual", 2, "cg-residual|cg-act-missing", {}),
    ("onnx", "op-class-offset", 2, "", {}),
    ("torch", "pp-mean-std", 3, "", {}),
    ("torch", "pp-hw-swap", 3, "", {"bake": True}),
    ("torch", "tss-concat-order", 3, "", {}),
    ("torch", "tss-transpose", 3, "", {}),
    ("torch", "wb-kernel-layout", 3, "", {}),
    ("torch", "wb-precision", 3, "", {}),
    ("torch", "wb-weights", 3, "", {}),
    ("torch", "lh-dilation", 3, "", {}),
    ("torch", "cg-op-substitution", 3, "", {}),
    ("torch", "st-storage", 3, "", {}),
]


@pytest.fixture(scope="module")
def network(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(zoo, "squeezenet", "legacy", tmp_path_factory.mktemp("squeezenet")) as made:
        yield made


@pytest.mark.parametrize(("kind", "fault", "seed", "code", "how"), FAULTS)
def test_seeded_fault_is_found_and_repaired(
    network: Network, tmp_path: Path, kind: str, fault: str, seed: int, code: str, how: dict[str, bool]
) -> None:
    seeder = network.seeder(kind)
    out = tmp_path / f"squeezenet{seeder.target.suffix}"
    check_repaired(seeder, seeder.seed(fault, seed), [code or fault], out, **how)
