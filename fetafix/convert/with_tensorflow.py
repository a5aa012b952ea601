"""Converters of the TensorFlow world: the TFLite converter, Keras's own savers, freezing. Runs in child processes.

Nothing here decides whether a file may be loaded: the source was opened as `check` opens it before any route is tried,
and what comes later in a route was written by a converter.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fetafix.convert import arrays
from fetafix.convert.guard import Answer, Job

_SIGNATURE = "serving_default"


def prepare(job: Job) -> Any:
    """The tensorflow module, silent and bounded."""
    from fetafix.formats.tensorflow import env as tf_env

    return tf_env.prepare(job.threads)


def to_tflite(job: Job) -> Answer:
    """Write a TFLite file: float32, fp16, dynamic-range or full-integer with ranges measured on the samples."""
    tf = prepare(job)
    with tempfile.TemporaryDirectory(prefix="fetafix-tflite-") as folder:
        converter = _converter(tf, job, Path(folder))
        if job.precision:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if job.precision == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        if job.precision == "int8":
            converter.representative_dataset = lambda: _representative(converter, job, tf)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        Path(job.out).write_bytes(converter.convert())
    return Answer()


def to_saved_model(job: Job) -> Answer:
    """Write a SavedModel of a Keras model (`model.export`) or of a frozen graph."""
    tf = prepare(job)
    if job.kind == "graphdef":
        _save_function(tf, _wrapped(tf, job.source), job.out)
    else:
        load_keras(job).export(job.out, verbose=False)
    return Answer()


def to_keras(job: Job) -> Answer:
    """Write the model in Keras's other file format, by Keras's own loader and saver."""
    prepare(job)
    suffix = ".keras" if job.kind == "h5" else ".h5"
    model = load_keras(job)
    with tempfile.TemporaryDirectory(prefix="fetafix-keras-", dir=Path(job.out).parent) as folder:
        written = Path(folder) / f"model{suffix}"
        model.save(written)
        written.replace(job.out)
    return Answer()


def to_graphdef(job: Job) -> Answer:
    """Write a SavedModel's signature as a frozen graph."""
    tf = prepare(job)
    function, _ = frozen(tf, signature(tf, job.source))
    Path(job.out).write_bytes(function.graph.as_graph_def().SerializeToString())
    return Answer()


def load_keras(job: Job) -> Any:
    """A Keras model, opened as safely, and with as much patience for older files, as `check` opens it."""
    from fetafix.formats.base import OpenOptions
    from fetafix.formats.keras import model as keras_model
    from fetafix.formats.keras import open as keras_open

    path = Path(job.source)
    return keras_open.load(path, str(keras_model.recognise(path)), OpenOptions(trust=job.trust, arch=job.arch))[0]


def signature(tf: Any, path: str) -> Any:
    """The serving signature of a SavedModel, or its only one. Raises ValueError that lists them otherwise."""
    loaded = tf.saved_model.load(path)
    found = loaded.signatures
    name = _SIGNATURE if _SIGNATURE in found else next(iter(found), None) if len(found) == 1 else None
    if name is None:
        raise ValueError(f"expected a signature {_SIGNATURE!r} or a single one, found {sorted(found) or 'none'}")
    function = found[name]
    function._fetafix_keep = loaded  # the variables live as long as the function
    return function


def frozen(tf: Any, function: Any) -> tuple[Any, list[str]]:
    """A signature with its variables as constants, and the names of its outputs."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    names = function.structured_outputs
    return convert_variables_to_constants_v2(function), list(names) if isinstance(names, dict) else []


def load_graph(tf: Any, path: str) -> tuple[Any, list[str], list[str]]:
    """A frozen graph with the names of its tensors that are fed (placeholders) and read by no node."""
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(Path(path).read_bytes())
    read = {i.split(":")[0].lstrip("^") for n in graph.node for i in n.input}
    inputs = [f"{n.name}:0" for n in graph.node if n.op == "Placeholder"]
    outputs = [f"{n.name}:0" for n in graph.node if n.name not in read and n.op not in ("Const", "NoOp", "Placeholder")]
    return graph, inputs, outputs


def _wrapped(tf: Any, path: str) -> Any:
    graph, inputs, outputs = load_graph(tf, path)
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    find = wrapped.graph.as_graph_element
    return wrapped.prune([find(n) for n in inputs], {n.split(":")[0]: find(n) for n in outputs})


def _save_function(tf: Any, function: Any, out: str) -> None:
    """A SavedModel with one signature, whose inputs keep the names of the graph's placeholders."""
    specs = [tf.TensorSpec(t.shape, t.dtype, name=t.name.split(":")[0]) for t in function.inputs]
    module = tf.Module()
    module.serve = tf.function(lambda *args: function(*args), input_signature=specs)
    tf.saved_model.save(module, out, signatures={_SIGNATURE: module.serve})


def _converter(tf: Any, job: Job, folder: Path) -> Any:
    """The TFLite converter on the model, along the way that the options name."""
    lite, via = tf.lite.TFLiteConverter, job.options["via"]
    if via == "keras":
        return lite.from_keras_model(load_keras(job))
    saved = job.source
    if job.kind != "saved_model":
        saved = str(folder / "saved_model")
        to_saved_model(Job(function="", source=job.source, kind=job.kind, out=saved, trust=job.trust))
    if via == "saved_model":
        return lite.from_saved_model(saved)
    function = signature(tf, saved)
    for tensor in function.inputs:
        if tensor.dtype != tf.resource and tensor.shape.rank and tensor.shape[0] is None:
            tensor.set_shape([1, *tensor.shape[1:]])
    return lite.from_concrete_functions([function], function._fetafix_keep)


def _representative(converter: Any, job: Job, tf: Any) -> Iterator[dict[str, Any]]:
    """Samples one at a time, by input name, in the layout of the model that is converted."""
    samples = arrays.load(job.calibration)
    wanted = _inputs(converter, job, tf)
    fit = arrays.fitted(samples, wanted)
    for i in range(len(fit[0])):
        yield {name: a[i:i + 1] for (name, _), a in zip(wanted, fit, strict=True)}


def _inputs(converter: Any, job: Job, tf: Any) -> list[tuple[str, Any]]:
    """Names and shapes of the inputs as the converter counts them."""
    model = getattr(converter, "_keras_model", None)
    if model is not None:
        return [(t.name, tuple(t.shape)) for t in model.inputs]
    functions = getattr(converter, "_funcs", None)
    function = functions[0] if functions else signature(tf, converter.saved_model_dir)
    tensors = (t for t in function.inputs if t.dtype != tf.resource)
    return [(t.name.split(":")[0], tuple(t.shape)) for t in tensors]
