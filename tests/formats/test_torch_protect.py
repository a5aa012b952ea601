"""Protected state dicts: the loader of a few lines gives back what was stored, in whatever container."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fetafix.errors import OutputError, UsageError
from fetafix.formats.torch import safetensors
from fetafix.formats.torch.protect import LOADER, constants_of, marked, protect, recognise, restore, tensors_of
from fetafix.storage.encodings import BF16, FP16, FP32, INT8, Q2_5, Fixed
from fetafix.storage.schemes import Plan

PLANS = [Plan(FP32, "guard", 0), Plan(FP32, "scale"), Plan(FP16, "ceiling"), Plan(BF16, "guard"),
         Plan(INT8, "scale", 0), Plan(Q2_5, "scale"), Plan(Fixed(1, 12), "scale", 0)]


def state(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    return OrderedDict((k, v.to(dtype) if v.is_floating_point() else v) for k, v in net.state_dict().items())


def written(folder: Path, kind: str, dtype: torch.dtype = torch.float32) -> Path:
    path = folder / f"a.{kind}"
    if kind == "safetensors":
        safetensors.save(state(dtype), path, {"format": "pt"})
    elif kind == "checkpoint":
        torch.save({"state_dict": state(dtype), "epoch": 3}, path)
    else:
        torch.save(state(dtype), path)
    return path


def loaded(path: Path) -> dict[str, torch.Tensor]:
    names: dict[str, Any] = {}
    exec(LOADER, names)
    found: dict[str, torch.Tensor] = names["load"](str(path))
    return found


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: f"{p.encoding.name}-{p.scheme}")
@pytest.mark.parametrize("kind", ["pt", "checkpoint", "safetensors"])
def test_the_loader_reads_what_is_predicted(tmp_path: Path, kind: str, plan: Plan) -> None:
    path, out, back = written(tmp_path, kind), tmp_path / "b", tmp_path / "c"
    done = protect(path, out, lambda held, values: plan, {"scheme": plan.scheme})
    assert done.changed == ["0.weight", "2.weight"] and marked(out) and not marked(path)
    mine, original = loaded(out), state()
    assert list(mine) == list(original)
    for name, values in tensors_of(out).items():
        assert np.array_equal(mine[name].numpy(), values)
        if plan.encoding == FP32 or name not in done.changed:
            assert torch.equal(mine[name], original[name])
    assert restore(out, back) == 2 and not marked(back) and not recognise(back)
    plain = tensors_of(back)
    assert all(np.array_equal(plain[k], v.numpy()) for k, v in mine.items())
    if kind == "checkpoint":
        assert torch.load(back, weights_only=True)["epoch"] == 3
    if kind == "safetensors":
        assert safetensors.metadata(back) == {"format": "pt"}


def test_the_loader_needs_torch_and_numpy_alone(tmp_path: Path) -> None:
    out = tmp_path / "b.safetensors"
    protect(written(tmp_path, "safetensors"), out, lambda held, values: PLANS[0], {})
    (tmp_path / "load_it.py").write_text(LOADER)
    code = ("import sys; from load_it import load; s = load(sys.argv[1]); assert len(s) == 9; "
            "assert not [m for m in sys.modules if m.startswith(('fetafix', 'safetensors'))]")
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=tmp_path, check=True)


def test_no_single_flip_of_a_constant_changes_anything(tmp_path: Path) -> None:
    out = tmp_path / "b.pt"
    protect(written(tmp_path, "pt"), out, lambda held, values: Plan(FP16, "guard", 0), {})
    raw, clean = torch.load(out, weights_only=True), loaded(out)
    for name in [k for k in raw if ".fetafix_" in k]:
        codes = raw[name].view(torch.int32).reshape(-1)
        for i in range(codes.numel()):
            for bit in (0, 22, 23, 30, 31):
                codes[i] ^= torch.tensor(-(2**31) if bit == 31 else 1 << bit, dtype=torch.int32)
            torch.save(raw, tmp_path / "s.pt")
            assert all(torch.equal(v, clean[k]) for k, v in loaded(tmp_path / "s.pt").items()), (name, i)
            for bit in (0, 22, 23, 30, 31):
                codes[i] ^= torch.tensor(-(2**31) if bit == 31 else 1 << bit, dtype=torch.int32)


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_biases_and_statistics_are_voted_on_where_wanted(tmp_path: Path, kind: str) -> None:
    path, out, back = written(tmp_path, kind), tmp_path / "b", tmp_path / "c"
    done = protect(path, out, lambda held, values: PLANS[0], {}, constants=True)
    assert sorted(done.voted) == ["0.bias", "1.bias", "1.running_mean", "1.running_var", "1.weight", "2.bias"]
    assert constants_of(out) == done.voted and list(loaded(out)) == list(state())
    raw = torch.load(out, weights_only=True) if kind == "pt" else dict(safetensors.load(out))
    for name in done.voted:
        for copy in (raw[name], *raw[f"{name}.fetafix_copies"]):
            kept = copy.clone()
            copy.fill_(torch.nan)
            torch.save(raw, tmp_path / "s.pt")
            assert all(torch.equal(v, state()[k]) for k, v in loaded(tmp_path / "s.pt").items()), name
            copy.copy_(kept)
    assert restore(out, back) == 8 and not constants_of(back)


def test_flips_out_of_range_become_zero(tmp_path: Path) -> None:
    out = tmp_path / "b.pt"
    protect(written(tmp_path, "pt"), out, lambda held, values: PLANS[0], {})
    raw, clean = torch.load(out, weights_only=True), loaded(out)["0.weight"]
    raw["0.weight"].view(torch.int32)[0, 0, 0, 0] ^= 1 << 30
    torch.save(raw, out)
    struck = loaded(out)["0.weight"]
    assert struck[0, 0, 0, 0] == 0 and torch.equal(struck.flatten()[1:], clean.flatten()[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_read_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    path, out = written(tmp_path, "pt", dtype), tmp_path / "b.pt"
    encoding = FP16 if dtype is torch.float16 else BF16
    protect(path, out, lambda held, values: Plan(encoding, "ceiling", 0), {})
    assert all(torch.equal(loaded(out)[k].to(v.dtype), v) for k, v in state(dtype).items())


def test_refusals(tmp_path: Path) -> None:
    path, out = written(tmp_path, "pt"), tmp_path / "b.pt"
    protect(path, out, lambda held, values: PLANS[0], {})
    with pytest.raises(UsageError, match="protected already"):
        protect(out, tmp_path / "c.pt", lambda held, values: PLANS[0], {})
    with pytest.raises(OutputError, match="never changed"):
        protect(path, path, lambda held, values: PLANS[0], {})
