"""Workers launched ahead are taken, replaced where they died, and ended where nobody wants them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fetafix
from fetafix import launch
from fetafix.formats.base import OpenOptions
from tests import small_models

ROOT = Path(fetafix.__file__).parent.parent


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    launch.dismiss()
    yield
    launch.dismiss()


def test_a_worker_launched_ahead_is_the_one_that_is_taken() -> None:
    launch.ahead(("a", "b"))
    first = launch._waiting[0]
    taken = launch.take()
    assert taken is first
    assert len(launch._waiting) == 1
    taken.dismiss()
    assert taken.process.poll() is not None


def test_a_dead_one_is_not_handed_out() -> None:
    launch.ahead(("a",))
    dead = launch._waiting[0]
    os.kill(dead.process.pid, signal.SIGKILL)
    dead.process.wait()
    taken = launch.take()
    assert taken is not dead
    assert taken.process.poll() is None
    taken.dismiss()


def test_a_memory_limit_needs_a_worker_of_its_own() -> None:
    launch.ahead(("a",))
    taken = launch.take(memory_limit=8 << 30)
    assert len(launch._waiting) == 1
    taken.dismiss()


def test_those_that_nobody_took_end() -> None:
    launch.ahead(("a", "b"))
    waiting = list(launch._waiting)
    launch.dismiss()
    assert [w.process.poll() is None for w in waiting] == [False, False]
    assert launch._waiting == []


def test_a_worker_knows_which_model_will_be_asked_of_it() -> None:
    launch.ahead(("a.onnx", "b.tflite"))
    assert [w.process.args[-1] for w in launch._waiting] == ["a.onnx", "b.tflite"]  # type: ignore[index]


@pytest.mark.parametrize(("content", "imported"), [
    (None, {"onnxruntime"}), (b"", set()), (b"no model", set()), (b"\x1c\0\0\0TFL3" + bytes(64), {"ai_edge_litert"}),
    (b"\x1c\0\0\0TFL3 FlexSplit" + bytes(64), set()), (b"\x80\x02no pickle", set()),
])
def test_what_a_waiting_worker_imports(content: bytes | None, imported: set[str], tmp_path: Path) -> None:
    path = tmp_path / "model"
    if content is None:
        small_models.cnn(path)
    else:
        path.write_bytes(content)
    code = ("import sys\nfrom fetafix import formats\nformats.prepare(sys.argv[1])\n"
            "print(*({'onnxruntime', 'ai_edge_litert', 'torch', 'tensorflow'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, cwd=ROOT)
    found = set(done.stdout.split())
    light = {"onnxruntime"}  # which the torch and Keras families import themselves once they are asked about a file
    assert imported <= found and found - light == imported - light


def test_a_file_that_is_not_there_is_no_worker_s_affair() -> None:
    launch.ahead(("/nowhere/model.onnx",))
    worker = launch.take()
    request = {"path": Path("/nowhere/model.onnx"), "options": OpenOptions(), "search": sys.path}
    worker.channel.send((0, "open", request))
    number, kind, payload = worker.channel.receive()
    assert (number, kind, payload[0]) == (0, "error", "UnreadableModel")
    worker.dismiss()
