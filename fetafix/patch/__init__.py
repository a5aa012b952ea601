"""Portable patches: reviewed repairs that are replayed onto a fresh conversion of the same model, and taken back.

    fetafix repair a.onnx b.tflite --apply --save-patch fix.patch
    fetafix patch apply fix.patch b-of-next-week.tflite -o fixed.tflite
    fetafix patch revert fix.patch fixed.tflite

A patch holds the edits with the old values they replace, the edits that undo them, and an outline of the target's
graph before and after: operators, settings, connections, and fingerprints of the constants. Names play no part when it
is replayed (`replay`): places are found by structure and weights, and an edit is made only where it finds what it
replaced. What does not fit is refused with a reason.

The file, version 1: a zip with exactly these members, nothing of it is code.

    patch.json      the record `Patch` of `record.py`; graphs, edits and arrays as in `fetafix.edit_data`
    sha256          SHA-256 of patch.json in hexadecimal: a patch that was damaged or changed by hand is not applied
    arrays/HEX      raw little-endian bytes of an array, by their SHA-256

The sum tells damage, not who made the patch: review a patch from elsewhere with `fetafix patch show`.
"""

from fetafix.patch.outcome import Outcome
from fetafix.patch.record import PATCH_VERSION, Patch, load, save
from fetafix.patch.use import apply, revert

__all__ = ["PATCH_VERSION", "Outcome", "Patch", "apply", "load", "revert", "save"]
