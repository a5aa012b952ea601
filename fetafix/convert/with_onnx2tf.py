"""onnx2tf as an external program: ONNX to SavedModel, TFLite or Keras. Runs in child processes alone.

It works in a folder of its own. Where it wants sample images for its own comparisons it would download them, unless a
file of that name lies there: so one is put there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fetafix.convert.converters import executable
from fetafix.convert.guard import Answer, Job

_IMAGES = "calibration_image_sample_data_20x128x128x3_float32.npy"
_KERAS = {"keras": ".keras", "h5": ".h5"}
_LAST = 1500
# What it says once a result, by its form or precision, has been written.
_DONE = {"keras": "keras_v3 output complete", "h5": "keras_v3 output complete", "saved_model": "saved_model output "
         "complete", "tflite": "Float32 tflite output complete", "fp16": "Float16 tflite output complete"}


def convert(job: Job) -> Answer:
    """Run onnx2tf and take what was asked for from what it wrote. Raises RuntimeError with its messages."""
    program = executable()
    if program is None:
        raise RuntimeError("onnx2tf is not installed")
    work = Path.cwd() / "onnx2tf"
    work.mkdir()
    (source := work / "model.onnx").symlink_to(Path(job.source).absolute())
    np.save(work / _IMAGES, np.random.default_rng(0).random((20, 128, 128, 3), np.float32))
    command = [program, "-i", source.name, "-o", "made", "-osd", *_flags(job), *_layouts(job)]
    code, said = _run(command, work, _environment(program), _DONE.get(job.precision or job.target, ""))
    found = next((p for p in _results(work / "made", job) if p.exists()), None)
    if code or found is None:
        raise RuntimeError(f"onnx2tf ended with exit code {code} and wrote no {job.target}: … {said.strip()[-_LAST:]}")
    notes = []
    if job.target in _KERAS:
        notes.append("onnx2tf writes Keras 2 files; the model was rebuilt of Keras 3's layers")
        _rebuild(found, job)
    else:
        _take(found, Path(job.out))
    return Answer(notes=notes, versions=_version(program))


def _run(command: list[str], folder: Path, environment: dict[str, str], last: str) -> tuple[int, str]:
    """Run it until it ends or says that what is wanted has been written; (exit code, the end of what it said).

    It writes TFLite files in any case, last, and takes as long for them as for the rest.
    """
    said: deque[str] = deque(maxlen=200)
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace") as process:
        for line in process.stdout or ():
            said.append(line)
            if last and last in line:
                process.terminate()
                process.wait()
                return 0, "".join(said)
    return process.returncode, "".join(said)


def _rebuild(found: Path, job: Job) -> None:
    from fetafix.convert.keras2 import rebuild
    from fetafix.formats.tensorflow import env as tf_env

    tf_env.prepare(job.threads)
    written = found.with_name(f"rebuilt{_KERAS[job.target]}")
    rebuild(found, written)
    shutil.move(written, job.out)


def _flags(job: Job) -> list[str]:
    flags = ["-okv3"] if job.target in _KERAS else []
    if not job.options.get("simplify"):
        flags.append("-nuo")
    if job.options.get("batch") == "fixed":
        flags += ["-b", "1"]
    if job.precision == "dynamic":
        flags.append("-odrqt")
    return flags


def _layouts(job: Job) -> list[str]:
    """Inputs turn from channels first to channels last, unless the options ask for them as they are."""
    if job.options.get("inputs") != "as they are":
        return []
    import onnx

    names = [i.name for i in onnx.load(job.source, load_external_data=False).graph.input]
    return ["-kat", *dict.fromkeys(n.replace(":", "__") for n in names)]  # as onnx2tf calls them


def _results(made: Path, job: Job) -> Iterator[Path]:
    """Where the different versions leave what was asked for."""
    if job.target == "saved_model":
        yield made / "saved_model.pb"
    elif job.target == "tflite":
        name = {"": "float32", "fp16": "float16", "dynamic": "dynamic_range_quant"}[job.precision]
        yield made / f"model_{name}.tflite"
    else:
        yield made / "model_float32_v3.keras"


def _take(found: Path, out: Path) -> None:
    """Copy the file; of a SavedModel its parts alone, for other files lie in the same folder."""
    if found.name != "saved_model.pb":
        shutil.copyfile(found, out)
        return
    out.mkdir()
    for name in ("saved_model.pb", "fingerprint.pb", "variables", "assets"):
        part = found.parent / name
        if part.is_dir():
            shutil.copytree(part, out / name)
        elif part.exists():
            shutil.copyfile(part, out / name)


def _environment(program: str) -> dict[str, str]:
    """Its own environment: onnxsim stands beside it, its packages are not ours, and it looks for no accelerator."""
    path = os.pathsep.join([str(Path(program).absolute().parent), os.environ.get("PATH", "")])
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, "PATH": path, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def _version(program: str) -> dict[str, str]:
    """Asked of the interpreter that the program starts with; nothing where that cannot be told."""
    with Path(program).open("rb") as file:
        line = file.readline(500).decode("utf-8", "replace")
    if not line.startswith("#!"):
        return {}
    script = "from importlib.metadata import version; print(version('onnx2tf'))"
    done = subprocess.run([*shlex.split(line[2:]), "-c", script], env=_environment(program), capture_output=True,
                          text=True, check=False)
    return {"onnx2tf": done.stdout.strip()} if done.returncode == 0 else {}
