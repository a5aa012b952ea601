"""What a finding means: its fault type's own words, and what such a fault does to answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from fetafix.advice.prose import plain, sentence
from fetafix.faults import HEADINGS, catalogue, document
from fetafix.report import Finding

WRONG, SHOWS, REPAIR, UNLESS, _ = HEADINGS
_EFFECTS = {
    "PP": "Every layer may be right, and yet the model is shown something else than it was trained on: its answers get "
          "worse, on some inputs or on all of them.",
    "ID": "What goes in does not arrive as it was given: every layer may be right, and the answers are wrong all the "
          "same, for inputs or batches of that kind.",
    "TSS": "Numbers stand in the wrong places, so what is computed from them has less to do with the input than it "
           "should.",
    "WB": "The layer computes with other numbers than were learned; its results are off, and so is everything that is "
          "computed from them.",
    "LH": "The layer works by another rule than it was trained with; its results are off, and so is everything that is "
          "computed from them.",
    "CG": "Other steps are computed than in the original, or in another order; the results are off, and so is "
          "everything that is computed from them.",
    "QP": "Numbers are rounded more coarsely, or cut off sooner, than their format demands: answers drift, and some "
          "turn over.",
    "DT": "Numbers leave what their format can hold: they vanish, are cut off or become infinite, and everything that "
          "is computed from them suffers.",
    "OP": "The right answer is computed and then told wrongly: whoever reads the outputs takes it for another one.",
    "VS": "The same name means another computation in another version; the results are off, and so is everything that "
          "is computed from them.",
    "ST": "The file no longer holds what was written to it; the layer computes with damaged numbers, and a single one "
          "can spoil every answer.",
}  # fmt: skip
_PECULIAR = {
    "cg-extra-output": "Whoever reads the outputs by their place gets another one than was meant.",
    "cg-dropout-live": "The same input gets another answer each time.",
    "id-size": "The model sees another part, or another scale, of each image than the original does.",
}  # fmt: skip
OTHERS = {
    "cg-unexplained": "This part of the converted model computes something else than the original's, and none of the "
                      "known faults of conversion explains how.",
    "unrelated-weights": "The two models are not two forms of one. Nearly every layer of the target holds other "
                         "weights than the source, so their answers cannot agree, and no conversion made that.",
    "cg-native": "A part of the converted model answers otherwise than the original's. Given exactly the same numbers, "
                 "it makes something else of them.",
}  # fmt: skip


@cache
def sections(code: str) -> Mapping[str, str]:
    """A fault type's documentation in plain sentences, by heading; {} for a code that the catalogue lacks."""
    if code not in catalogue():
        return {}
    return {heading: plain(text) for heading, text in document(code).items()}


def meaning(finding: Finding) -> str:
    """In a line what it is, then what goes wrong, then what that does to answers."""
    effect = _PECULIAR.get(finding.code) or _EFFECTS.get(finding.category, "What is computed from it is off.")
    if finding.code in OTHERS:
        return f"{OTHERS[finding.code]} {effect}" if finding.code == "cg-unexplained" else OTHERS[finding.code]
    known = sections(finding.code)
    first = known.get("Summary") or finding.explanation or finding.title
    return " ".join(t for t in (sentence(first), sentence(known.get(WRONG, "")), effect) if t)
