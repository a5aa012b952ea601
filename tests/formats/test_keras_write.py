"""Edits written into Keras files: the file, reloaded by Keras itself, answers as ONNX does with the edited graph."""

import json

import numpy as np
import pytest

CNN = (
    "kernel", "depthwise", "dense", "bias", "variance", "mean", "add-bias", "drop-bias", "epsilon", "dilation", "pads",
    "stride-pads", "relu-limit", "relu-floor", "alpha", "softmax-axis", "insert", "append", "scale", "factor", "remove",
    "remove-inner-relu", "remove-softmax", "rewire", "operator", "pool", "concat", "segment", "transpose", "several",
)  # fmt: skip
CASES = [
    *(f"cnn.keras/{c}" for c in CNN), *(f"cnn-keras2.h5/{c}" for c in CNN),
    *(f"mlp.keras/{c}" for c in ("factor", "shift", "both", "dense")),
    *(f"nested.h5/{c}" for c in ("kernel", "epsilon", "insert")),
    *(f"chain.keras/{c}" for c in ("pads", "append", "epsilon")),
    *(f"several.h5/{c}" for c in ("shared", "head")),
]  # fmt: skip
# What Keras has no layer or setting for: normalising by the batch's own statistics, and a batch size in a Flatten.
# No layer of Keras pads by reflection or with the odd pixel first, draws at inference, or is a fused operator.
NOT_EXPRESSIBLE = {"cg-bn-train", "id-baked-batch", "lh-pad-mode", "lh-auto-pad", "cg-dropout-live", "cg-bad-fusion"}


@pytest.fixture(scope="module")
def written(tfzoo):
    folder = tfzoo("keras_edits")
    return json.loads((folder / "results.json").read_text()), np.load(folder / "results.npz"), folder


def compared(written, case, injected=False):
    results, arrays, _ = written
    result = results[case]
    assert result["unsupported"] == []
    assert result["untouched"], "the original was changed"
    changed = injected  # the injector has seen to that
    for i in range(result["outputs"]):
        want, have, was = (arrays[f"{case}/{i}/{k}"] for k in ("want", "have", "was"))
        assert have.shape == want.shape
        if injected and not np.isfinite(want).all():  # what overflows: that both do (what a Relu makes of NaN differs)
            assert not np.isfinite(have).all()
            continue
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
        changed = changed or want.shape != was.shape or np.abs(want - was).max() > 1e-3 * np.abs(was).max()
    assert changed, "an edit that changes nothing proves nothing"
    return result


@pytest.mark.parametrize("case", CASES)
def test_written_natively(written, case):
    compared(written, case)


def test_stock_keras_opens_what_is_written(written):
    results, _, _ = written
    refused = {c for c, r in results.items() if not r["stock"]}
    # Keras 3 refuses the Keras 2 file itself; in it, values and settings are changed in place
    assert all(c.startswith("cnn-keras2.h5/") for c in refused)
    structural = {"pads", "insert", "remove", "rewire", "segment"}
    assert not {f"cnn-keras2.h5/{c}" for c in structural} & refused
    assert "cnn-keras2.h5/kernel" in refused


def test_outputs_keep_their_names(written):
    results, _, _ = written
    for case, names in (("cnn.keras/append", ["scores"]), ("cnn.keras/remove-softmax", ["scores"]),
                        ("several.h5/head", ["classes", "value"]), ("chain.keras/append", ["answer"])):
        assert results[case]["names"] == names


def test_settings_change_no_structure(written):
    results, _, _ = written
    same = results["cnn.keras/no-change"]["layers"]
    for case in ("epsilon", "dilation", "relu-limit", "alpha", "kernel", "several"):
        assert results[f"cnn.keras/{case}"]["layers"] == same
    assert results["cnn.keras/pads"]["layers"].count("ZeroPadding2D") == 1


def test_a_sequential_stays_one(written):
    results, _, _ = written
    assert {results[f"chain.keras/{c}"]["kind"] for c in ("pads", "append", "epsilon")} == {"Sequential"}


def test_faults_are_injected_natively(written):
    results, _, _ = written
    faults = {c.removeprefix("fault/"): r for c, r in results.items() if c.startswith("fault/")}
    refused = {c for c, r in faults.items() if r["unsupported"]}
    assert refused <= NOT_EXPRESSIBLE
    assert len(faults) - len(refused) >= 24
    for code in faults.keys() - refused:
        if code not in ("cg-extra-output",):
            compared(written, f"fault/{code}", injected=True)


def test_nothing_to_do_copies_the_file(written):
    results, arrays, _ = written
    case = "cnn.keras/no-change"
    assert results[case]["untouched"] and not results[case]["unsupported"]
    np.testing.assert_array_equal(arrays[f"{case}/0/have"], arrays[f"{case}/0/was"])
