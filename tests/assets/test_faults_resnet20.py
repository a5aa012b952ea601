"""Twenty seeded faults in ResNet20 on CIFAR-10, its normalisation left unfolded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.assets.seeded import Network, check_repaired
from tests.assets.zoo import NEEDS_ASSETS, Zoo

pytestmark = NEEDS_ASSETS
# target, fault, seed, the code expected ("a|b": either is true of the file alone), how the repair is asked for
FAULTS = [
    ("onnx", "pp-bgr", 0, "", {"bake": True}),
    ("onnx", "pp-range", 1, "", {}),
    ("onnx", "id-layout", 0, "", {}),
    ("onnx", "id-baked-batch", 0, "", {}),
    ("onnx", "tss-transpose", 1, "", {}),
    ("onnx", "wb-kernel-flip", 1, "", {}),
    ("onnx", "wb-bn-param-swap", 0, "", {}),
    ("onnx", "lh-attribute", 0, "", {}),
    ("onnx", "cg-bn-train", 0, "", {}),
    ("onnx", "cg-residual", 0, "", {}),
    ("torch", "pp-mean-std", 1, "", {"bake": True}),
    ("torch", "id-baked-batch", 1, "", {}),
    ("torch", "tss-transpose", 0, "", {}),
    ("torch", "wb-bn-fold", 0, "", {}),
    ("torch", "wb-precision", 1, "", {}),
    ("torch", "lh-bn-eps", 0, "", {}),
    ("torch", "lh-pads-lost", 0, "", {}),
    ("torch", "cg-act-missing", 1, "", {}),
    ("torch", "cg-residual", 1, "", {}),
    ("torch", "op-softmax", 0, "", {}),
]


@pytest.fixture(scope="module")
def network(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(zoo, "resnet20", "unfused", tmp_path_factory.mktemp("resnet20")) as made:
        yield made


@pytest.mark.parametrize(("kind", "fault", "seed", "code", "how"), FAULTS)
def test_seeded_fault_is_found_and_repaired(
    network: Network, tmp_path: Path, kind: str, fault: str, seed: int, code: str, how: dict[str, bool]
) -> None:
    seeder = network.seeder(kind)
    out = tmp_path / f"resnet20{seeder.target.suffix}"
    check_repaired(seeder, seeder.seed(fault, seed), [code or fault], out, **how)
