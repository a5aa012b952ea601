"""Two, three and five seeded faults at once in real networks: all are found in one go, and all repaired."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.assets.seeded import Network, check_repaired
from tests.assets.zoo import NEEDS_ASSETS, Zoo

pytestmark = NEEDS_ASSETS
SEVERAL = [
    ("resnet20", "unfused", "onnx", "wb-kernel-flip 1, lh-bn-eps 0"),
    ("resnet20", "unfused", "torch", "wb-bn-param-swap 1, cg-op-substitution 0, lh-pads-lost 0"),
    ("resnet56", "legacy", "onnx", "lh-dilation 0, wb-bias 0, wb-kernel-flip 3, cg-act-missing 5, st-storage 6"),
    ("resnet56", "legacy", "torch", "wb-weights 1, wb-kernel-layout 4"),
    ("squeezenet", "legacy", "onnx", "tss-concat-order 2, wb-bias 4, lh-dilation 5"),
    ("squeezenet", "legacy", "torch",
     "wb-kernel-flip 4, wb-bias 1, cg-op-substitution 6, wb-precision 2, op-class-offset 1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "form", "kind", "faults"), SEVERAL)
def test_several_faults_at_once(zoo: Zoo, tmp_path: Path, name: str, form: str, kind: str, faults: str) -> None:
    pairs = [(code, int(seed)) for code, seed in (f.split() for f in faults.split(", "))]
    with Network(zoo, name, form, tmp_path) as network:
        seeder = network.seeder(kind)
        seeded = seeder.seed_several(pairs)
        check_repaired(seeder, seeded, [code for code, _ in pairs], tmp_path / f"{name}{seeder.target.suffix}")
