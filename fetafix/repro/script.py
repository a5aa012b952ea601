"""The script beside a reproduction: numpy and onnxruntime alone."""

from __future__ import annotations

from fetafix.report import Finding
from fetafix.repro.case import Case

_HEAD = '''"""{title}: {where}. Needs numpy and onnxruntime; exit code 1: source and target differ."""
import pathlib, sys, numpy as np, onnxruntime as ort
here = pathlib.Path(__file__).parent
inputs = np.load(here / "inputs.npz")
def run(side, output):
    session = ort.InferenceSession(here / f"{{side}}.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {{i.name: inputs[f"{{side}}/{{i.name}}"] for i in session.get_inputs()}})[output]
'''
_SAME = '''difference = np.abs(np.float64(actual) - expected)
error = np.linalg.norm(difference) / (np.linalg.norm(np.float64(expected)) or 1.0)
print(f"max |difference| {{difference.max():.4g}}, relative to the expected values {{error:.4g}}")
sys.exit(int(not error <= {tolerance!r}))
'''
_OTHER = '''print(f"expected shape {{expected.shape}}, actual {{actual.shape}}")
sys.exit(int(not np.array_equal(expected, actual)))
'''
_FAILS = '''print(f"expected shape {expected.shape}; the target cannot run, as follows")
try: run("target", %d)
except Exception as failure: sys.exit(f"actual: {failure}")
'''


def _expected(case: Case) -> str:
    """The source's value in the target's layout."""
    if case.source is None:
        return 'np.load(here / "outputs.npz")["expected"]'
    turned = "" if case.perm is None else f".transpose({list(case.perm)})"
    shaped = "" if case.whole else f".reshape({list(case.expected.shape)})"
    return f'run("source", {case.output[0]}){turned}{shaped}'


def text(finding: Finding, case: Case) -> str:
    """The script. It exits with 1 where source and target differ beyond the segment's own rounding, else with 0."""
    where = (finding.target_layer or "the models as a whole").replace('"', "'").replace("\\", "/")
    head = _HEAD.format(title=finding.code, where=where)
    lines = [f"expected = {_expected(case)}\n"]
    if case.actual is None:
        return "".join([head, *lines, _FAILS % case.output[1]])
    lines.append(f'actual = run("target", {case.output[1]})\n')
    same = case.actual.shape == case.expected.shape
    return "".join([head, *lines, (_SAME if same else _OTHER).format(tolerance=float(f"{case.tolerance:.3g}"))])
