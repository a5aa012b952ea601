"""SavedModels of TensorFlow 1 and 2: the meta graph for serving, a signature of it, its variables and initialisation.

Both generations hold a graph with SignatureDefs; that of TensorFlow 2 calls a function for each of them. Where there is
no signature, but exactly one function with one concrete form, that is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel
from fetafix.formats.base import OpenOptions
from fetafix.formats.tensorflow import callable as tf_callable
from fetafix.formats.tensorflow import safety as tf_safety
from fetafix.formats.tensorflow.graph import split
from fetafix.formats.tensorflow.program import Program, Saver
from fetafix.formats.tensorflow.recognise import FILE, folder_of

_INTERNAL = {"__saved_model_init_op", "__saved_model_train_op"}
_DEFAULT = "serving_default"


def open_saved_model(path: Path, options: OpenOptions) -> Program:
    """The program of a signature. Raises UnreadableModel, UntrustedModel."""
    saved = load(path)
    meta = meta_graph(path, saved)
    saver = _saver(path, meta)
    init = _init(meta)
    roots = [t.name for s in meta.signature_def.values() for t in s.outputs.values()]
    tf_safety.examine(path, meta.graph_def, options.trust, [meta.saver_def.restore_op_name], [*roots, init])
    details = {
        "saved_by": meta.meta_info_def.tensorflow_version or "unknown",
        "tags": sorted(meta.meta_info_def.tags),
        "signatures": sorted(set(meta.signature_def) - _INTERNAL),
        "producer": meta.graph_def.versions.producer,
    }
    assets = {a.tensor_info.name: str(folder_of(path) / "assets" / a.filename) for a in meta.asset_file_def}
    chosen = _signature(path, meta, options.signature)
    if chosen is None:
        graph_def, inputs, outputs = tf_callable.call(path, meta, str(saver.prefix) if saver else "")
        return Program(graph_def, inputs, outputs, saver, init, assets, "", details)
    signature = meta.signature_def[chosen]
    refused = [k for s in (signature.inputs, signature.outputs) for k, t in s.items() if not t.name]
    if refused:
        raise UnreadableModel(f"{path}: signature {chosen!r}: expected plain tensors, {refused[0]!r} is composite")
    inputs = {k: t.name for k, t in sorted(signature.inputs.items())}
    outputs = {k: t.name for k, t in sorted(signature.outputs.items())}
    return Program(meta.graph_def, inputs, outputs, saver, init, assets, chosen, {**details, "signature": chosen})


def load(path: Path) -> Any:
    """The SavedModel message of a folder, or of its saved_model.pb."""
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder_of(path) / FILE
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's DecodeError
        raise UnreadableModel(f"{file}: this is a SavedModel's graph, but the file is cut off or damaged ({error}); "
                              "copy or download the folder again") from error
    return saved


def meta_graph(path: Path, saved: Any) -> Any:
    """The meta graph for serving. Raises UnreadableModel with the tags that there are."""
    metas = list(saved.meta_graphs)
    serving = [m for m in metas if "serve" in m.meta_info_def.tags]
    plain = [m for m in serving if set(m.meta_info_def.tags) == {"serve"}] or serving or metas
    if not plain or (len(plain) > 1 and not serving):
        tags = "; ".join(", ".join(sorted(m.meta_info_def.tags)) or "none" for m in metas) or "no graph at all"
        raise UnreadableModel(f"{path}: expected a graph with the tag 'serve', found {tags}")
    return plain[0]


def _signature(path: Path, meta: Any, wanted: str | None) -> str | None:
    """The signature to use; None where there is none at all and none is asked for."""
    there = sorted(set(meta.signature_def) - _INTERNAL)
    usable = [s for s in there if meta.signature_def[s].outputs]
    listed = ", ".join(there) or "none"
    if wanted is not None:
        if wanted not in usable:
            raise UnreadableModel(f"{path}: expected signature {wanted!r}, found {listed}; name one of them with "
                                  "--signature")
        return wanted
    if _DEFAULT in usable:
        return _DEFAULT
    if len(usable) > 1:
        raise UnreadableModel(f"{path}: expected signature {_DEFAULT!r} or a single one, found {listed}; name one with "
                              "--signature")
    return usable[0] if usable else None


def _saver(path: Path, meta: Any) -> Saver | None:
    folder = folder_of(path) / "variables"
    definition = meta.saver_def
    held = [n.name for n in meta.graph_def.node if n.op in ("VarHandleOp", "VariableV2", "Variable")]
    if not definition.restore_op_name:
        return None
    if not (folder / "variables.index").is_file():
        if held:
            raise UnreadableModel(f"{path}: expected the values of {len(held)} variable(s) in {folder}, but there is "
                                  "no variables.index; copy or download the whole folder")
        return None
    if held and not any(folder.glob("variables.data-*")):
        raise UnreadableModel(f"{path}: expected the values of {len(held)} variable(s) in {folder}, but there is no "
                              "variables.data-…; copy or download the whole folder")
    return Saver(definition.filename_tensor_name, definition.restore_op_name, folder / "variables")


def _init(meta: Any) -> str:
    """The operator that initialises tables and the like."""
    if "__saved_model_init_op" in meta.signature_def:
        outputs = meta.signature_def["__saved_model_init_op"].outputs
        return next((split(t.name)[0] for t in outputs.values()), "")
    for key in ("saved_model_main_op", "legacy_init_op"):
        if key in meta.collection_def:
            return next((split(n)[0] for n in meta.collection_def[key].node_list.value), "")
    return ""
