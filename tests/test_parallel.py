"""Models in worker processes: results, batches, chunks, and every way in which a worker can end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import fetafix
from fetafix.edits import InsertNode, SetInput
from fetafix.errors import EditError, InputDataError, OutputError, RuntimeCrash, UnreadableModel
from fetafix.formats.base import OpenOptions
from fetafix.ir import Node
from fetafix.parallel import ModelProcess, RowsOfFile, threads_each
from tests.formats import onnx_zoo as zoo

ONE = OpenOptions(threads=1)


def slow_model(path: Path, rounds: int) -> Path:
    """A Loop that multiplies matrices `rounds` times for each sample: a run that lasts as long as a test needs."""
    body = helper.make_graph(
        [helper.make_node("MatMul", ["h", "h"], ["h2"]), helper.make_node("Tanh", ["h2"], ["h_out"]),
         helper.make_node("Identity", ["go"], ["go_out"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 64, 64])],
        [helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
         helper.make_tensor_value_info("h_out", TensorProto.FLOAT, [1, 64, 64])],
    )
    node = helper.make_node("Loop", ["count", "yes", "x"], ["y"], "loop", body=body)
    shape = [1, 64, 64]
    model = zoo.single([node], {"x": (1, shape)}, {"y": (1, shape)},
                       {"count": np.array(rounds), "yes": np.array(True)})
    return zoo.save(model, path)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Results


def test_two_models_side_by_side(tmp_path):
    a, b = zoo.save(zoo.classifier(), tmp_path / "a.onnx"), zoo.save(zoo.classifier(13), tmp_path / "b.onnx")
    x = {"image": zoo.images(40)}
    with ModelProcess(a, ONE) as source, ModelProcess(b, ONE) as target:
        first, second = source.start_run(x), target.start_run(x)
        ours, theirs = first.result(), second.result()
        assert source.info().path == str(a) and len(source.info().sha256) == 64
        assert np.array_equal(first.result()["logits"], ours["logits"]), "a result can be asked for again"
    assert ours["logits"].shape == (40, 5)
    assert np.allclose(ours["logits"], theirs["logits"], atol=1e-4)


@pytest.mark.parametrize("batch", [None, 1, 7])
@pytest.mark.parametrize("count", [1, 20])
def test_batches_do_not_change_results(tmp_path, batch, count):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    x = zoo.images(count)
    with ModelProcess(path, ONE) as model:
        out = model.run({"image": x}, batch=batch)["logits"]
        whole = model.run({"image": x[None]}, batched=False)["logits"]
    assert out.shape == (count, 5) and whole.shape == (1, count, 5)
    assert np.allclose(out, whole[0], atol=1e-4)


@pytest.mark.parametrize("fixed", [1, 4])
def test_fixed_batches_are_fed_as_they_demand(tmp_path, fixed):
    path = zoo.save(zoo.classifier(batch=fixed), tmp_path / "m.onnx")
    free = zoo.save(zoo.classifier(), tmp_path / "free.onnx")
    x = {"image": zoo.images(10)}
    with ModelProcess(path, ONE) as model, ModelProcess(free, ONE) as other:
        assert np.allclose(model.run(x)["logits"], other.run(x)["logits"], atol=1e-4)


def baked(shape: list[int]) -> onnx.ModelProto:
    """A model that declares a free batch, but was traced with a batch of one."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    return zoo.single([node], {"x": (1, ["N", 6])}, {"y": (1, None)}, {"shape": np.array(shape)})


@pytest.mark.parametrize("shape", [[1, 6], [1, -1]])
def test_a_baked_batch_is_found_out(tmp_path, shape):
    path = zoo.save(baked(shape), tmp_path / "m.onnx")
    x = np.arange(30, dtype=np.float32).reshape(5, 6)
    with ModelProcess(path, ONE) as model:
        assert np.array_equal(model.run({"x": x})["y"], x)
        with pytest.raises(RuntimeCrash, match=r"batch of 5|cannot be reshaped"):
            model.run({"x": x}, batch=5)


def test_outputs_without_a_batch_axis_are_stacked(tmp_path):
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    path = zoo.save(zoo.single([node], {"x": (1, ["N", 3])}, {"y": (1, [])}), tmp_path / "m.onnx")
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    with ModelProcess(path, ONE) as model:
        assert np.array_equal(model.run({"x": x})["y"], x.sum(1))


def test_outputs_of_varying_size_are_refused(tmp_path):
    node = helper.make_node("NonZero", ["x"], ["y"])
    path = zoo.save(zoo.single([node], {"x": (1, ["N", 3])}, {"y": (TensorProto.INT64, None)}), tmp_path / "m.onnx")
    x = np.array([[1, 0, 0], [1, 1, 0]], np.float32)
    with ModelProcess(path, ONE) as model:
        with pytest.raises(RuntimeCrash, match="varying size"):
            model.run({"x": x}, batch=1)
        with model.run_chunks({"x": x}, batch=1, chunk=1) as chunks:
            assert [c.outputs["y"].shape for c in chunks] == [(1, 2, 1), (1, 2, 2)]


def test_rows_of_a_users_file(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    x = zoo.images(9)
    np.save(tmp_path / "x.npy", x)
    rows = [8, 0, 3]
    with ModelProcess(path, ONE) as model:
        out = model.run({"image": RowsOfFile(tmp_path / "x.npy", rows)})["logits"]
        assert np.array_equal(out, model.run({"image": x[rows]})["logits"])
        with pytest.raises(InputDataError, match="cannot be read"):
            model.run({"image": RowsOfFile(tmp_path / "none.npy", rows)})
        with pytest.raises(InputDataError, match="has 9 rows"):
            model.run({"image": RowsOfFile(tmp_path / "x.npy", [9])})


def test_large_arrays_cross_unharmed(tmp_path):
    path = zoo.save(zoo.relu(), tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(300_001, 3)).astype(np.float32)
    with ModelProcess(path, ONE) as model:
        assert np.array_equal(model.run({"x": x[::-1]}, batch=50_000)["y"], np.maximum(x[::-1], 0))
        assert np.array_equal(model.run({"x": x[None]}, batched=False)["y"][0], np.maximum(x, 0))


def test_scalars_and_strange_inputs(tmp_path):
    path = zoo.save(zoo.relu(), tmp_path / "m.onnx")
    with ModelProcess(path, ONE) as model:
        with pytest.raises(InputDataError, match="at least one sample"):
            model.run({"x": np.zeros((0, 3), np.float32)})
        with pytest.raises(InputDataError, match="expected inputs x; got z"):
            model.run({"z": np.zeros((1, 3), np.float32)})
        with pytest.raises(InputDataError, match="same number of samples"):
            model.run({"x": np.zeros((1, 3), np.float32), "z": np.zeros((2, 3), np.float32)})
        assert model.run({"x": np.ones((1, 3))})["y"].shape == (1, 3), "an error does not end the worker"


# Chunks


def test_chunks_are_of_one_size_and_stop_early(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    x = {"image": zoo.images(50)}
    with ModelProcess(path, ONE) as model:
        whole = model.run(x)["logits"]
        chunks = list(model.run_chunks(x, chunk=16))
        assert [(c.start, c.stop) for c in chunks] == [(0, 16), (16, 32), (32, 48), (48, 50)]
        assert np.allclose(np.concatenate([c.outputs["logits"] for c in chunks]), whole, atol=1e-5)
        with model.run_chunks(x, chunk=4) as early:
            assert next(early).stop == 4
        assert list(early) == []
        assert np.array_equal(model.run(x)["logits"], whole), "the worker is free again"


def test_a_worker_runs_only_a_few_chunks_ahead(tmp_path):
    path = slow_model(tmp_path / "m.onnx", 1)
    x = {"x": np.zeros((1000, 64, 64), np.float32)}
    with ModelProcess(path, ONE) as model:
        chunks = model.run_chunks({"x": x["x"]}, chunk=1, ahead=2)
        next(chunks)
        info = model.info()  # answered from memory, the worker waits for credit
        assert info.format == "onnx"
        taken = [next(chunks).stop for _ in range(20)]
        assert taken == list(range(2, 22))
        waiting = chunks._pending._events.qsize()
        assert waiting <= 2
        chunks.close()


def test_requests_queue_up_behind_a_run(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    with ModelProcess(path, ONE) as model:
        first = model.start_run({"image": zoo.images(64)}, batch=1)
        second = model.start_run({"image": zoo.images(3)})
        chunks = model.run_chunks({"image": zoo.images(5)}, chunk=2)
        assert second.result()["logits"].shape == (3, 5)
        assert first.result()["logits"].shape == (64, 5)
        assert sum(c.stop - c.start for c in chunks) == 5


def test_progress_counts_up(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    seen: list[tuple[int, int]] = []
    with ModelProcess(path, ONE) as model:
        model.run({"image": zoo.images(30)}, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (30, 30) and seen == sorted(seen)


# Errors and ends


def test_errors_keep_their_class(tmp_path):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(zoo.classifier().SerializeToString()[:500])
    with ModelProcess(bad) as model:
        pending = model.start_run({"x": np.zeros((1, 3))})
        with pytest.raises(UnreadableModel, match="ends after 500 bytes"):
            model.info()
        with pytest.raises(UnreadableModel, match="ends after 500 bytes"):
            pending.result()
    with ModelProcess(tmp_path / "none.onnx") as model, pytest.raises(UnreadableModel, match="no such file"):
        model.run({"x": np.zeros((1, 3))})
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(os.urandom(3000))
    with ModelProcess(garbage) as model, pytest.raises(UnreadableModel):
        model.info()


def test_killed_in_the_middle_of_a_run(tmp_path):
    path = slow_model(tmp_path / "m.onnx", 2000)
    with ModelProcess(path, ONE) as model:
        chunks = model.run_chunks({"x": np.zeros((1000, 64, 64), np.float32)}, chunk=1, ahead=1000)
        next(chunks)
        os.kill(model.pid, signal.SIGKILL)
        words = r"m\.onnx: .* killed by SIGKILL while running sample \d+ of 1000"
        with pytest.raises(RuntimeCrash, match=words) as caught:
            list(chunks)
        assert "likely out of memory" in str(caught.value)
        with pytest.raises(RuntimeCrash, match="SIGKILL"):
            model.run({"x": np.zeros((1, 64, 64), np.float32)})


def test_killed_while_opening(tmp_path):
    path = slow_model(tmp_path / "m.onnx", 1)
    model = ModelProcess(path, ONE)
    os.kill(model.pid, signal.SIGSEGV)
    with model, pytest.raises(RuntimeCrash, match="killed by SIGSEGV while opening the model"):
        model.info()


def test_last_words_are_quoted(tmp_path):
    path = zoo.save(zoo.relu(), tmp_path / "m.onnx")
    plugin = tmp_path / "sitecustomize.py"
    plugin.write_text("import os, sys\nsys.stderr.write('CUDA gave up\\n'); sys.stderr.flush(); os._exit(7)\n")
    env = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        model = ModelProcess(path)
    finally:
        os.environ.pop("PYTHONPATH") if env is None else os.environ.update(PYTHONPATH=env)
    with model, pytest.raises(RuntimeCrash, match=r"(?s)exit code 7 while opening the model.*CUDA gave up"):
        model.info()


def test_memory_limit(tmp_path):
    grow = helper.make_node("Expand", ["x", "shape"], ["big"], "/grow")
    nodes = [grow, helper.make_node("ReduceSum", ["big"], ["y"])]
    model = zoo.single(nodes, {"x": (1, [1])}, {"y": (1, None)}, {"shape": np.array([1 << 33])})
    path = zoo.save(model, tmp_path / "m.onnx")
    with ModelProcess(path, ONE, memory_limit=8 << 30) as process:
        with pytest.raises(RuntimeCrash, match=r"likely out of memory|out of memory") as caught:
            process.run({"x": np.ones((1, 1), np.float32)}, batched=False)
        assert "sample 1 of 1" in str(caught.value)


def test_closing_ends_a_running_worker(tmp_path):
    path = slow_model(tmp_path / "m.onnx", 10**9)
    model = ModelProcess(path, ONE)
    model.info()
    pending = model.start_run({"x": np.zeros((1, 64, 64), np.float32)})
    model.close()
    assert not alive(model.pid)
    with pytest.raises(RuntimeCrash, match="closed"):
        pending.result()
    with pytest.raises(RuntimeCrash, match="closed"):
        model.start_run({"x": np.zeros((1, 64, 64), np.float32)}).result()
    model.close()


PARENT = """
import sys, numpy as np
from fetafix.parallel import ModelProcess
model = ModelProcess(sys.argv[1])
model.info()
pending = model.start_run({"x": np.zeros((1, 64, 64), np.float32)})
try:
    print(model.pid, flush=True)
    pending.result()
except KeyboardInterrupt:
    model.close()
    print("closed", flush=True)
    sys.exit(130)
"""


def started_parent(tmp_path: Path) -> tuple[subprocess.Popen[str], int]:
    path = slow_model(tmp_path / "m.onnx", 10**9)
    root = str(Path(fetafix.__file__).parents[1])
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(path)], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def test_a_worker_dies_with_its_parent(tmp_path):
    parent, worker = started_parent(tmp_path)
    descriptor = os.pidfd_open(worker)
    parent.kill()
    parent.wait()
    assert select.select([descriptor], [], [], 20)[0], "the worker outlives its parent"
    os.close(descriptor)


def test_ctrl_c_is_the_parents_affair(tmp_path):
    parent, worker = started_parent(tmp_path)
    os.kill(worker, signal.SIGINT)  # a terminal sends it to both
    parent.send_signal(signal.SIGINT)
    try:
        out, _ = parent.communicate(timeout=30)
    finally:
        parent.kill()
    assert "closed" in out and parent.returncode == 130
    assert not alive(worker)


# Lift and write


def test_lift_and_write(tmp_path):
    path = zoo.save(zoo.classifier(), tmp_path / "m.onnx")
    with ModelProcess(path, ONE) as model:
        lifted = model.lift(tmp_path, {"image": zoo.images(1)})
        assert lifted.path == path
        edits = [SetInput("c", 2, np.zeros(4, np.float32)), InsertNode("c", Node("Relu", ("c",), ("more",)))]
        written = model.write(edits, tmp_path / "out.onnx", lifted.path)
        assert written.path == tmp_path / "out.onnx" and written.path.is_file()
        with pytest.raises(EditError, match="no node"):
            model.write([SetInput("nowhere", 0, None)], tmp_path / "other.onnx", lifted.path)
        with pytest.raises(OutputError, match="does not exist"):
            model.write([], tmp_path / "none" / "other.onnx", lifted.path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "out.onnx"]


def test_a_parent_that_dies_during_a_write_leaves_nothing(tmp_path):
    size = 1 << 30
    with (tmp_path / "big.bin").open("wb") as file:
        file.truncate(size)  # sparse, but copied in full: the write takes a while
    model = zoo.relu()
    for i in range(2):  # nobody reads them, so that opening is quick
        big = model.graph.initializer.add(name=f"table{i}", data_type=TensorProto.UINT8, dims=[size // 2])
        for key, value in (("location", "big.bin"), ("offset", i * size // 2), ("length", size // 2)):
            big.external_data.add(key=key, value=str(value))
        big.data_location = TensorProto.EXTERNAL
    path = zoo.save(model, tmp_path / "m.onnx")
    code = (
        "import sys; from pathlib import Path; from fetafix.parallel import ModelProcess\n"
        "model = ModelProcess(sys.argv[1]); model.info(); print(model.pid, flush=True)\n"
        "model.write([], Path(sys.argv[2]), Path(sys.argv[1]))"
    )
    arguments = [sys.executable, "-c", code, str(path), str(tmp_path / "out.onnx")]
    root = str(Path(fetafix.__file__).parents[1])
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        worker = os.pidfd_open(int(parent.stdout.readline()))
        while not list(tmp_path.glob(".out.onnx.*/*.data")):
            assert parent.poll() is None, "the write ended before it was seen"
        parent.kill()
    assert select.select([worker], [], [], 20)[0]
    os.close(worker)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.bin", "m.onnx"]


def test_threads_are_shared():
    assert threads_each(1) >= threads_each(2) >= 1
    assert threads_each(10**6) == 1
