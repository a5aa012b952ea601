"""MobileNetV2 as SavedModels: faults put into the files by hand are repaired in the files."""

from __future__ import annotations

import pytest

from tests.assets import mobilenet
from tests.assets.zoo import NEEDS_ASSETS

pytestmark = [*NEEDS_ASSETS, pytest.mark.slow]

SEEDED = {"three": {"lh-dilation", "lh-relu6-max", "wb-kernel-layout"}}  # at once: each takes most of a minute

test_a_faithful_conversion_is_equivalent, test_a_seeded_fault_is_repaired_in_place = mobilenet.cases(
    "mobilenet", SEEDED
)
