"""Make TensorFlow quiet and bounded before anything else touches it: the one place that sets its environment.

Threads and visible devices are fixed once TensorFlow is loaded, so `prepare` must be the first to load it in a process.
Called again, it leaves the settings as they are.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fetafix.errors import UsageError
from fetafix.formats.importing import quickly

_OPTIONAL = ("sklearn", "matplotlib")  # of Keras: scikit-learn's estimators, galleries of images
_DEVICE = re.compile(r"(cpu|cuda|gpu)(?::(\d+))?")


def prepare(threads: int = 0, device: str = "cpu") -> Any:
    """The tensorflow module, set up to stay silent.

    Args:
        threads: intra-op threads; 0 lets TensorFlow choose. Where set, at most two operators run at the same time.
        device: "cpu", "cuda" or "cuda:1". On "cpu" every accelerator is hidden, so that loading does not claim one.

    Raises UsageError where the device is none, or this machine has none of the kind.
    """
    kind, number = _parse(device)
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if kind == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    tf = load()
    _configure(tf, threads)
    if kind != "cpu":
        _choose(tf, device, number)
    return tf


def load() -> Any:
    """The tensorflow module, quiet, on no device as yet: for its messages and definitions of operators."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    warnings.filterwarnings("ignore", module=r"(tensorflow|keras|tf2onnx)(\..*)?")
    with quickly(without=_OPTIONAL):
        import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.autograph.set_verbosity(0)
    return tf


@contextmanager
def unheard() -> Iterator[None]:
    """Nothing reaches standard error within: importing TensorFlow prints, whatever its environment says.

    For a process that talks to a person; what a worker prints is kept for the case that it dies.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def scope(device: str) -> str:
    """TensorFlow's name of a device, for `tf.device`: "cuda:1" is "/GPU:1"."""
    kind, number = _parse(device)
    return "/CPU:0" if kind == "cpu" else f"/GPU:{number}"


def _parse(device: str) -> tuple[str, int]:
    found = _DEVICE.fullmatch(device.lower())
    if found is None:
        raise UsageError(f"device {device!r}: TensorFlow runs on cpu, cuda, or a numbered one such as cuda:1")
    return found[1], int(found[2] or 0)


def _configure(tf: Any, threads: int) -> None:
    if threads <= 0:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(min(threads, 2))
    except RuntimeError:  # TensorFlow is at work already, and keeps the threads that it has
        return


def _choose(tf: Any, device: str, number: int) -> None:
    """Memory is claimed as needed, so that a pair can share one accelerator."""
    found = tf.config.list_physical_devices("GPU")
    if number >= len(found):
        raise UsageError(f"device {device!r}: TensorFlow sees {len(found)} accelerator(s) on this machine; use cpu")
    for gpu in found:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # at work already
            return
