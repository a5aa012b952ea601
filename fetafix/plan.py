"""Repair plans: what `repair` proposes, for a person to approve entry by entry, and `repair --apply --plan F` to apply.

A plan is a JSON file. Every entry says in words and in figures what it would do, carries its edits as data, and has
`approved`: null (not decided), true or false. Only entries with true are applied. The id of an entry is a hash of its
content: the same seed proposes the same ids, and edits that were altered after approval no longer match their id, which
is an error. Large arrays lie beside the plan in `<name>.arrays.zip`, raw bytes by their SHA-256.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from fetafix.edit_data import ArrayStore, edit_from_data, edit_to_data
from fetafix.edits import Edit
from fetafix.errors import OutputError, UsageError
from fetafix.files import replacing

PLAN_VERSION = 1
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the plan's records."""


class File(Record, frozen=True, kw_only=True):
    """A model that the plan speaks about, by path and content."""

    path: str
    sha256: str = ""


class Entry(Record, frozen=True, kw_only=True):
    """One proposed repair. before, after: relative L2 error of the segment, or of the outputs for the interface."""

    id: str
    code: str
    target_layer: str | None = None
    source_layer: str | None = None
    description: list[str] = []
    before: float | None = None
    after: float | None = None
    why: str = ""
    safety: str = "safe"
    approved: bool | None = None
    comment: str = ""
    decided_by: str = ""
    decided_at: str = ""
    edits: list[dict[str, Any]] = []


class Plan(Record, frozen=True, kw_only=True):
    """Everything that `repair --apply --plan` needs, and what a person needs to decide.

    folder: where relative paths of models and data start; "" for wherever the plan is used.
    """

    plan_version: int = PLAN_VERSION
    folder: str = ""
    source: File
    target: File
    seed: int
    options: dict[str, Any] = {}
    entries: list[Entry] = []
    arrays: str = ""

    def approved(self) -> list[Entry]:
        """The entries to apply, in order. Raises UsageError where nobody approved anything."""
        chosen = [e for e in self.entries if e.approved is True]
        if not chosen:
            undecided = sum(e.approved is None for e in self.entries)
            raise UsageError(
                f"the plan has {len(self.entries)} entries, none of them approved ({undecided} undecided): "
                "approve those that are to be applied with `fetafix review`, or set \"approved\": true there"
            )
        return chosen

    def check_models(self, source: File, target: File) -> None:
        """Raise UsageError where a model is not the one, byte for byte, that the plan was made for."""
        for role, file, found in (("source", self.source, source), ("target", self.target, target)):
            if file.sha256 and found.sha256 != file.sha256:
                raise UsageError(
                    f"the plan was made for another {role}: {file.path} with SHA-256 {file.sha256[:12]}…, but "
                    f"{found.path} differs. Make a new plan with `fetafix repair --save-plan`."
                )


def entry(
    code: str, edits: Sequence[Edit], store: ArrayStore, *, target_layer: str | None = None,
    source_layer: str | None = None, before: float | None = None, after: float | None = None, why: str = "",
    safety: str = "safe",
) -> Entry:
    """An undecided entry for some edits; their arrays go to `store`."""
    data = [edit_to_data(e, store) for e in edits]
    return Entry(
        id=_id(code, target_layer, source_layer, data), code=code, target_layer=target_layer, source_layer=source_layer,
        description=[e.describe() for e in edits], before=before, after=after, why=why, safety=safety, edits=data,
    )


def edits_of(entry: Entry, store: ArrayStore) -> tuple[Edit, ...]:
    """The edits of an entry. Raises UsageError where they cannot be read."""
    try:
        return tuple(edit_from_data(e, store) for e in entry.edits)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"plan entry {entry.id}: its edits cannot be read ({error!r})") from error


def decide(plan: Plan, entry_id: str, approved: bool | None, by: str = "", at: str = "", comment: str = "") -> Plan:
    """A plan in which one entry is decided. Raises UsageError where it has no such entry."""
    if all(e.id != entry_id for e in plan.entries):
        known = ", ".join(e.id for e in plan.entries) or "none"
        raise UsageError(f"the plan has no entry {entry_id!r}; it has {known}")
    change = {"approved": approved, "decided_by": by, "decided_at": at, "comment": comment}
    entries = [msgspec.structs.replace(e, **change) if e.id == entry_id else e for e in plan.entries]
    return msgspec.structs.replace(plan, entries=entries)


def arrays_of(path: str | Path) -> Path:
    """Where the arrays of a plan lie: beside it."""
    path = Path(path)
    return path.with_name(f"{path.stem}.arrays.zip")


def save(plan: Plan, path: str | Path, store: ArrayStore, overwrite: bool = False) -> None:
    """Write a plan and its arrays. Raises OutputError, also where it would erase decisions unless `overwrite`."""
    path = Path(path)
    if not overwrite and path.is_file() and path.stat().st_size:
        refuse_to_erase(path)
    arrays = arrays_of(path) if store.blobs else None
    plan = msgspec.structs.replace(plan, arrays=arrays.name if arrays else "")
    try:
        if arrays:
            with replacing(arrays) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for digest, blob in sorted(store.blobs.items()):
                    info = zipfile.ZipInfo(digest, _ZIP_TIME)
                    info.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(info, blob)
    except OSError as error:
        raise OutputError(f"the plan {path} cannot be written: {error.strerror or error}") from error
    write(plan, path)


def write(plan: Plan, path: str | Path) -> None:
    """Write a plan whose arrays lie where they belong already. Raises OutputError."""
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n")
    except OSError as error:
        raise OutputError(f"the plan {path} cannot be written: {error.strerror or error}") from error


def load(path: str | Path) -> tuple[Plan, ArrayStore]:
    """A plan and its arrays. Raises UsageError that says what is wrong with which entry."""
    plan = read(path)
    return plan, _load_arrays(Path(path), plan.arrays)


def read(path: str | Path) -> Plan:
    """A plan without its arrays: enough to show and to decide it. Raises UsageError as `load` does."""
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the plan {path} cannot be read: {error.strerror}") from error
    try:
        plan = msgspec.json.decode(raw, type=Plan)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no repair plan: {error}") from error
    if plan.plan_version != PLAN_VERSION:
        raise UsageError(f"{path} is a plan of version {plan.plan_version}; this fetafix reads version {PLAN_VERSION}")
    seen = set[str]()
    for entry in plan.entries:
        if entry.id != _id(entry.code, entry.target_layer, entry.source_layer, entry.edits):
            raise UsageError(
                f"{path}, entry {entry.id} ({entry.code} at {entry.target_layer}): its content does not match its id. "
                "A plan's edits cannot be changed by hand; approve or reject entries as they are."
            )
        if entry.id in seen:
            raise UsageError(f"{path}: two entries have the id {entry.id}")
        seen.add(entry.id)
    return plan


def _load_arrays(path: Path, name: str) -> ArrayStore:
    if not name:
        return ArrayStore()
    if Path(name).name != name:
        raise UsageError(f"{path}: the array file must lie beside the plan, found {name!r}")
    try:
        with zipfile.ZipFile(path.with_name(name)) as archive:
            return ArrayStore({i: archive.read(i) for i in archive.namelist()})
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} needs the array file {name} beside it, which cannot be read: {error}") from error


def _id(code: str, target: str | None, source: str | None, edits: list[dict[str, Any]]) -> str:
    content = msgspec.json.encode([code, target, source, edits], order="sorted")
    return hashlib.sha256(content).hexdigest()[:12]


def refuse_to_erase(path: Path, option: str = "--save-plan") -> None:
    """Raise OutputError where a file holds anything but a plan without decisions."""
    try:
        found = "a plan with decisions in it" if _has_decisions(read(path)) else ""
    except UsageError:
        found = "a file that is no plan"
    if found:
        raise OutputError(f"{path} is {found}, which is kept; give another {option}, or remove it first")


def _has_decisions(plan: Plan) -> bool:
    return any(e.approved is not None or e.comment for e in plan.entries)
