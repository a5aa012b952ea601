"""Where files hold their tensors: what is read is what the framework reads, and a patch changes nothing else."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fetafix.errors import UnreadableModel, UsageError
from fetafix.formats import checksums, stored
from fetafix.formats.onnx import stored as onnx_stored
from fetafix.parallel import ModelProcess
from fetafix.storage.holding import Held
from tests.formats import onnx_zoo


class Net(torch.nn.Module):
    """With a transposed weight that is a view, and a tied one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.fc = torch.nn.Linear(4 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.conv(x)).flatten(1))


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def roles(tensors: list[Held]) -> dict[str, str]:
    return {h.name: h.role for h in tensors}


def check_patch(path: Path, folder: Path, tensor: Held, free: int = 0) -> Path:
    """Negate a tensor in a copy; only its bytes differ (and `free` bytes of checksums), and it is read back."""
    copy = folder / f"copy-{tensor.path.name}"
    shutil.copyfile(tensor.path, copy)
    values = stored.read(tensor)
    new = values * values.dtype.type(2) if values.dtype.kind == "f" else values + values.dtype.type(1)
    stored.patch(copy, tensor, new)
    old, found = (np.frombuffer(p.read_bytes(), np.uint8) for p in (tensor.path, copy))
    changed = np.flatnonzero(old != found)
    inside = np.zeros(old.size, bool)
    for offset, size in tensor.pieces:
        inside[offset : offset + size] = True
    assert changed.size and inside[changed].any() and np.count_nonzero(~inside[changed]) <= free
    np.testing.assert_array_equal(stored.read(tensor, copy), new)
    return copy


def answers(path: Path, **feeds: np.ndarray) -> np.ndarray:
    with ModelProcess(path) as process:
        return next(iter(process.run(feeds).values()))


@pytest.mark.parametrize("way", ["raw", "fields", "external", "half"])
def test_onnx_reads_what_onnx_reads_and_patches_nothing_else(way: str, tmp_path: Path) -> None:
    model = onnx_zoo.classifier(dtype=np.float16 if way == "half" else np.float32)
    if way == "fields":
        for tensor in model.graph.initializer:
            fields = helper.make_tensor(tensor.name, TensorProto.FLOAT, tensor.dims, numpy_helper.to_array(tensor))
            tensor.CopyFrom(fields)
    path = onnx_zoo.save(model, tmp_path / "model.onnx", way == "external")
    found = {h.name: h for h in stored.held(path)}
    for tensor in model.graph.initializer:
        loaded = onnx.load(str(path))
        wanted = numpy_helper.to_array(next(t for t in loaded.graph.initializer if t.name == tensor.name))
        np.testing.assert_array_equal(stored.read(found[tensor.name]), wanted)
    wanted = {"conv.weight": "weight", "conv.bias": "constant", "fc.weight": "weight", "fc.bias": "constant"}
    assert roles(list(found.values())) == wanted | ({"half": "constant"} if way != "half" else {})  # a varint
    assert (found["conv.weight"].axis, found["fc.weight"].axis) == (0, 0)
    check_patch(path, tmp_path, found["fc.weight"])


def test_onnx_runtime_runs_the_patched_file(tmp_path: Path) -> None:
    path = onnx_zoo.save(onnx_zoo.classifier(), tmp_path / "model.onnx")
    image = np.random.default_rng(0).normal(size=(3, *onnx_zoo.ITEM)).astype(np.float32)
    before = answers(path, image=image)
    for tensor in stored.held(path):
        if tensor.name.startswith("fc."):
            stored.patch(path, tensor, stored.read(tensor) * np.float32(2))
    np.testing.assert_array_equal(answers(path, image=image), before * 2)


def test_onnx_varints_are_refused_and_rewritten(tmp_path: Path) -> None:
    codes = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
    half = np.linspace(-1, 1, 16, dtype=np.float16).reshape(4, 4)
    nodes = [helper.make_node("DequantizeLinear", ["codes", "scale"], ["w"]),
             helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Cast", ["h"], ["f"], to=1),
             helper.make_node("MatMul", ["a", "f"], ["y"])]
    model = onnx_zoo.single(nodes, {"x": (1, [1, 4])}, {"y": (1, [1, 4])}, {"scale": np.float32(0.5)})
    model.graph.initializer.extend([
        helper.make_tensor("codes", TensorProto.INT8, [4, 4], codes.reshape(-1).tolist()),
        helper.make_tensor("h", TensorProto.FLOAT16, [4, 4], half.reshape(-1).tolist())])
    path = onnx_zoo.save(model, tmp_path / "model.onnx")
    assert model.graph.initializer[1].int32_data and model.graph.initializer[2].int32_data
    with pytest.raises(UnreadableModel, match=r"int32_data.*raw_data"):
        stored.held(path)
    out = onnx_stored.copy(path, tmp_path / "copy")
    found = {h.name: h for h in stored.held(out)}
    np.testing.assert_array_equal(stored.read(found["codes"]), codes)
    np.testing.assert_array_equal(stored.read(found["h"]), half)
    assert roles(list(found.values())) == {"codes": "weight", "h": "weight", "scale": "constant"}
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(answers(out, x=x), answers(path, x=x))
    assert onnx_stored.copy(path, tmp_path / "exact", "none").read_bytes() == path.read_bytes()


def test_a_copy_is_exact_where_only_constants_are_varints(tmp_path: Path) -> None:
    path = onnx_zoo.save(onnx_zoo.classifier(dtype=np.float16), tmp_path / "model.onnx")  # its Constant is one
    assert onnx_stored.copy(path, tmp_path / "weights", "weights").read_bytes() == path.read_bytes()
    out = onnx_stored.copy(path, tmp_path / "all")
    assert {h.name for h in stored.held(out)} - {h.name for h in stored.held(path)} == {"half"}


def test_external_data_outside_the_folder_are_not_copied(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = onnx_zoo.save(onnx_zoo.classifier(), tmp_path / "in" / "model.onnx", external=True)
    (tmp_path / "in" / "model.onnx.bin").rename(tmp_path / "outer.data.bin")
    path.write_bytes(path.read_bytes().replace(b"model.onnx.bin", b"../outer.data."[:14]))
    with pytest.raises(UnreadableModel, match="in the model's folder"):
        onnx_stored.copy(path, tmp_path / "out")


def test_a_hardened_weight_is_a_weight_and_its_constants_are_none(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["kept", "inverse"], ["v"]), helper.make_node("Abs", ["v"], ["m"]),
             helper.make_node("LessOrEqual", ["m", "bound"], ["ok"]),
             helper.make_node("Where", ["ok", "v", "zero"], ["w"]),
             helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    tensors = {"kept": np.ones((64, 32), np.float32), "inverse": np.ones((64, 1), np.float32),
               "bound": np.ones((64, 1), np.float32), "zero": np.float32(0), "scale": np.ones((1, 64), np.float32)}
    nodes.append(helper.make_node("Mul", ["y", "scale"], ["z"]))
    model = onnx_zoo.single(nodes, {"x": (1, [1, 32])}, {"z": (1, [1, 64])}, tensors)
    found = {h.name: h for h in stored.held(onnx_zoo.save(model, tmp_path / "model.onnx"))}
    assert [n for n, h in found.items() if h.role == "weight"] == ["kept"]
    assert found["kept"].axis == 0


@pytest.mark.parametrize("kind", ["state", "old", "script", "export", "module", "safetensors"])
def test_torch(kind: str, tmp_path: Path) -> None:
    from fetafix.formats.torch import safetensors

    module, x = net(), torch.randn(2, 3, 8, 8)
    path = tmp_path / f"model.{kind}"
    if kind in ("state", "old"):
        new = kind == "state"
        torch.save({"epoch": 3, "state_dict": module.state_dict()}, path, _use_new_zipfile_serialization=new)
    elif kind == "script":
        torch.jit.trace(module, x).save(str(path))
    elif kind == "export":
        with path.open("wb") as file:
            torch.export.save(torch.export.export(module, (x,)), file)
    elif kind == "module":
        torch.save(torch.nn.Sequential(module.conv, torch.nn.Flatten(), module.fc), path)
    else:
        safetensors.save(module.state_dict(), path)
    found = [h for h in stored.held(path) if h.floating]
    wanted = {tuple(v.shape): v.detach().numpy() for v in module.state_dict().values()}
    assert len(found) == 4 and sum(h.role == "weight" for h in found) == 2
    for h in found:
        np.testing.assert_array_equal(stored.read(h), wanted[h.shape])
    head = next(h for h in found if h.shape == (5, 144))
    copy = check_patch(path, tmp_path, head, 0 if kind == "safetensors" else 12)
    if kind in ("state", "old"):
        again = torch.load(copy, weights_only=True)["state_dict"]
        np.testing.assert_array_equal(again["fc.weight"].numpy(), module.fc.weight.detach().numpy() * 2)
        assert head.name == "state_dict.fc.weight"
    elif kind == "script":
        again = torch.jit.load(str(copy)).fc.weight
        np.testing.assert_array_equal(again.detach().numpy(), module.fc.weight.detach().numpy() * 2)
    elif kind == "safetensors":
        assert torch.equal(safetensors.load(copy)["fc.weight"], module.fc.weight * 2)
    if zipfile.is_zipfile(copy):
        assert zipfile.ZipFile(copy).testzip() is None, "the checksum is that of the new bytes"


def test_torch_views_bfloat16_and_shared_storages(tmp_path: Path) -> None:
    base = torch.randn(6, 4)
    tensors = {"turned": torch.randn(4, 6).t(), "last": torch.randn(2, 3, 5, 5).to(memory_format=torch.channels_last),
               "half": torch.randn(3, 3).bfloat16(), "tied": base, "again": base, "part": base[2:4]}
    path = tmp_path / "views.pt"
    torch.save(tensors, path)
    found = {h.name: h for h in stored.held(path)}
    assert set(found) == {"turned", "last", "half", "tied"}, "each byte once"
    for name in ("turned", "last"):
        np.testing.assert_array_equal(stored.read(found[name]), tensors[name].numpy())
        copy = check_patch(path, tmp_path, found[name], 12)
        assert torch.equal(torch.load(copy)[name], tensors[name] * 2)
    assert found["half"].dtype.name == "bfloat16" and found["half"].floating
    np.testing.assert_array_equal(stored.read(found["half"]).astype(np.float32), tensors["half"].float().numpy())


def test_what_cannot_be_addressed_says_what_to_do(tmp_path: Path) -> None:
    torch.save({"gaps": torch.randn(4, 6)[:, ::2]}, tmp_path / "gaps.pt")
    with pytest.raises(UnreadableModel, match=r"gaps.*contiguous"):
        stored.held(tmp_path / "gaps.pt")
    torch.save({"w": torch.randn(4, 6)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "old.pt").write_bytes((tmp_path / "old.pt").read_bytes()[:-8])
    with pytest.raises(UnreadableModel, match="cut off"):
        stored.held(tmp_path / "old.pt")
    path = onnx_zoo.save(onnx_zoo.classifier(), tmp_path / "model.onnx", external=True)
    (tmp_path / "model.onnx.bin").write_bytes(b"\0" * 8)
    with pytest.raises(UnreadableModel, match="ends after 8"):
        stored.held(path)


def test_compressed_weights_of_keras_are_refused(tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    import h5py

    with h5py.File(tfzoo("convert") / "net.h5") as old, h5py.File(tmp_path / "c.h5", "w") as new:
        new.attrs.update(old.attrs)
        new.create_dataset("model_weights/dense/kernel", data=np.ones((64, 64), np.float32), compression="gzip")
    with pytest.raises(UnreadableModel, match=r"dense/kernel.*compressed.*save the model again"):
        stored.held(tmp_path / "c.h5")
    with (zipfile.ZipFile(tfzoo("convert") / "net.keras") as whole,
          zipfile.ZipFile(tmp_path / "c.keras", "w", zipfile.ZIP_DEFLATED) as packed):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(UnreadableModel, match="compressed in the archive"):
        stored.held(tmp_path / "c.keras")


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "struck",)  # type: ignore[return-value]

    torch.save({"w": torch.ones(2, 2), "evil": Evil()}, tmp_path / "evil.pt")
    assert [h.name for h in stored.held(tmp_path / "evil.pt")] == ["w"]
    assert not (tmp_path / "struck").exists()


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = onnx_zoo.save(onnx_zoo.classifier(), tmp_path / "model.onnx")
    tensor = next(h for h in stored.held(path) if h.role == "weight")
    before = path.read_bytes()
    for values in (stored.read(tensor).astype(np.float64), stored.read(tensor)[:1]):
        with pytest.raises(UsageError, match="expected float32"):
            stored.patch(path, tensor, values)
    assert path.read_bytes() == before


@pytest.mark.parametrize("file", ["float.tflite", "fp16.tflite", "int8.tflite"])
def test_tflite(file: str, tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    from fetafix.formats.tflite import file as tflite_file

    path = tfzoo("tflite_models") / file
    parsed = tflite_file.read(path)
    wanted = {t.name: parsed.array(t) for g in parsed.subgraphs for t in g.tensors if parsed.buffers[t.buffer].size}
    found = stored.held(path)
    for h in found:
        np.testing.assert_array_equal(stored.read(h), wanted[h.name])
    weights = [h for h in found if h.role == "weight"]
    assert len(weights) == 5
    assert {h.dtype.name for h in weights} == {{"float": "float32", "fp16": "float16", "int8": "int8"}[file[:-7]]}
    copy = check_patch(path, tmp_path, weights[-1])
    samples = dict(np.load(path.parent / "samples.npz"))
    assert tflite_file.read(copy).operators == parsed.operators and samples


@pytest.mark.parametrize("file", ["net.keras", "net.h5", "net.tflite"])
def test_keras_and_tflite_run_the_patched_file(file: str, tfzoo: Callable[[str], Path], tmp_path: Path) -> None:
    path, samples = tfzoo("convert") / file, np.load(tfzoo("convert") / "samples.npy")[:4]
    copy = tmp_path / file
    shutil.copyfile(path, copy)
    head = [h for h in stored.held(copy) if h.floating and h.shape in ((8, 6), (6, 8), (6,))]
    assert sorted(h.role for h in head) == ["constant", "weight"]
    stored.patch_all(copy, [(h, stored.read(h) * np.float32(2)) for h in head])
    with ModelProcess(path) as process:
        name = process.info().inputs[0].name
    np.testing.assert_array_equal(answers(copy, **{name: samples}), answers(path, **{name: samples}) * 2)
    kernel = next(h for h in head if h.role == "weight")
    assert kernel.shape[kernel.axis or 0] == 6


@pytest.mark.parametrize("file", ["net.keras", "net.h5", "net.tflite"])
def test_depthwise_kernels_have_a_constant_for_each_channel(file: str, tfzoo: Callable[[str], Path]) -> None:
    depthwise = [h for h in stored.held(tfzoo("convert") / file) if sorted(h.shape) == [1, 3, 3, 8]]
    assert len(depthwise) == 1 and depthwise[0].axis is not None
    assert depthwise[0].shape[depthwise[0].axis] == 8


def test_checksums_of_archives_with_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with path.open("wb") as file, zipfile.ZipFile(_Unseekable(file), "w") as archive:
        archive.writestr("one", b"1" * 1000)
        archive.writestr("two", b"2" * 1000)
    content = bytearray(path.read_bytes())
    at = content.index(b"2" * 1000) + 500
    content[at] = 7
    path.write_bytes(content)
    assert zipfile.ZipFile(path).testzip() == "two"
    checksums.renew(path, np.array([at]))
    assert zipfile.ZipFile(path).testzip() is None


class _Unseekable:
    """A stream that cannot go back, so that sizes and checksums stand behind the data."""

    def __init__(self, file: object) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data)  # type: ignore[attr-defined,no-any-return]

    def flush(self) -> None:
        self._file.flush()  # type: ignore[attr-defined]
