"""What to do now: commands to run, in the order in which they make sense."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from fetafix.advice.prose import sentence
from fetafix.report import Finding, Repair, Report

_RECIPE = re.compile(r'--target-preprocess "[^"]+"')
_TORCH = frozenset({"torchscript", "torch-export", "torch-module", "torch-state-dict", "safetensors"})
_ANEW = {
    "unrelated-weights": "Find the checkpoint that the target was made from and compare with that, or convert this "
                         "source. Nothing is repaired between models that were trained apart.",
    "st-storage": "Compare the file's SHA-256 with that of the original, and copy or download it again where it "
                  "differs.",
}  # fmt: skip
_OUTSIDE = {
    "PP": "Prepare the target's inputs in the program that runs it as the source's are prepared. Or have it built into "
          "the model: fetafix repair {pair} --bake --apply",
    "ID": "Feed the target as it expects in the meantime: in its own layout, size, order of inputs and batch.",
    "OP": "Read the target's outputs in their own order in the meantime: the numbers themselves are right.",
}  # fmt: skip


def steps(finding: Finding, report: Report, tried: Sequence[Repair], mendable: bool) -> list[str]:
    """The steps. tried: the report's repairs of this finding; mendable: whether something healed the place."""
    status = {r.status for r in tried}
    if "kept" in status:
        prepared = any(e.get("kind") == "set_preprocessing" for r in tried if r.status == "kept" for e in r.edits)
        made = list(_prepared(report) if prepared else _kept(report))
    elif report.command != "repair" and mendable:
        made = ["Have it repaired in a copy and proved, with the options of this run; nothing is written "
                f"without --apply: fetafix repair {_pair(report)}"]  # fmt: skip
    else:
        made = list(_unrepaired(finding, report, tried))
    return [*made, *_report(finding, report), *_more(finding)]


def _pair(report: Report) -> str:
    return f"{shlex.quote(report.source.path)} {shlex.quote(report.target.path)}"


def _prepared(report: Report) -> Iterator[str]:
    """Where the file is right and its inputs are not."""
    noted = next((m for note in report.notes if (m := _RECIPE.search(note))), None)
    recipe = noted[0] if noted else "--target-preprocess SPEC"
    yield ("The file itself is right: prepare its inputs otherwise in the program that runs it. See that this settles "
           f"it: fetafix check {_pair(report)} {recipe}")
    yield ("Or have that built into the model, so that the program stays as it is: "
           f"fetafix repair {_pair(report)} --bake --apply")


def _kept(report: Report) -> Iterator[str]:
    if report.output is not None:
        out = shlex.quote(report.output.path)
        yield f"Use {out} instead of {shlex.quote(report.target.path)}, which was not changed."
        yield f"Check it again with data of your own: fetafix check {shlex.quote(report.source.path)} {out} --data PATH"
        return
    yield f"Write the repaired model, with the options of this run: fetafix repair {_pair(report)} --apply"
    yield f"Or have a person decide about each change first: fetafix repair {_pair(report)} --save-run RUN"
    yield "There they read, approve, reject and apply: fetafix review RUN"
    yield "To keep the repair for the next conversion of this model, add --save-patch FILE; see: fetafix patch --help"


def _unrepaired(finding: Finding, report: Report, tried: Sequence[Repair]) -> Iterator[str]:
    """Where no repair of this finding stands."""
    unable = next((r for r in tried if r.status == "unsupported"), None)
    if unable is not None:
        because = f" ({unable.why.rstrip('.')})" if unable.why else ""
        yield f"The target's format cannot hold this change{because}."
        for offer in report.offers:
            what = "is written to" if offer.sha256 else "would be written, with --apply, to"
            yield f"A repaired model in another form ({offer.format}) {what} {shlex.quote(offer.path)}; use that."
    if finding.category in _OUTSIDE:
        yield _OUTSIDE[finding.category].format(pair=_pair(report))
    if finding.code in _ANEW:
        yield _ANEW[finding.code]
    if finding.code != "st-storage":
        yield from _again(finding, report)


def _again(finding: Finding, report: Report) -> Iterator[str]:
    """Converting once more, otherwise."""
    suffix = PurePath(report.target.path).suffix
    out, source = f"NEW{suffix}", shlex.quote(report.source.path)
    yield f"Convert again by other ways, and keep only what answers like the source: fetafix convert {source} {out}"
    if finding.category in ("QP", "WB") and report.target.format == "tflite":
        yield f"Convert without quantisation, to see what that costs: fetafix convert {source} {out} --to tflite"
    if report.source.format in _TORCH and report.target.format == "onnx":
        yield (f"Try torch.onnx's other exporter or another operator set: fetafix convert {source} {out} --exporter "
               "dynamo (or torchscript), --opset N")
    elif report.target.format == "onnx":
        yield f"Try another operator set: fetafix convert {source} {out} --opset N"
    if finding.category in ("CG", "DT", "LH") and report.target.format != "tflite":
        yield (f"See whether the runtime's own optimisation is to blame: fetafix check {_pair(report)} "
               "--target-no-optimise")


def _report(finding: Finding, report: Report) -> Iterator[str]:
    """A bug report for whoever made the converter."""
    shown = dict(zip(map(id, report.findings), report.reproductions, strict=False)).get(id(finding))
    if shown:
        yield f"Tell the makers of the converter; a small example that shows it is in {shlex.quote(shown)}"
    elif finding.category != "PP" and finding.code not in ("cg-native", "st-storage", "unrelated-weights"):
        yield ("Tell the makers of the converter, with a small example that shows it: "
               f"fetafix localize {_pair(report)} --repro DIR")
    elif finding.code == "cg-native":
        yield sentence("Tell the makers of the converter which layer it is, with both files: no smaller example can be "
                       "cut out where a model cannot be seen as ONNX")


def _more(finding: Finding) -> Iterator[str]:
    from fetafix.faults import catalogue

    if finding.code in catalogue():
        yield f"Read more about this kind of fault, and where it was seen: fetafix faults {finding.code}"
