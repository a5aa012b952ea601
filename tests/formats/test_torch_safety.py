"""Opening a malicious file must be harmless: real exploits, each of which would leave a marker file."""

import builtins
import importlib
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fetafix.errors import UnreadableModel, UntrustedModel
from fetafix.formats.base import OpenOptions
from fetafix.formats.torch import env as torch_env
from fetafix.formats.torch import model as pytorch
from tests.formats.torch_zoo import SIZE, converted, save, small_cnn

torch_env.prepare()


class Shell:
    """Pickles as a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Getattr:
    """Pickles as getattr(os, "system")(command): nested look-ups instead of a named function."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return _Found("system"), (self.command,)


class _Found:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args):
        raise AssertionError("only its pickle is used")

    def __reduce__(self):
        return builtins.getattr, (_Module("os"), self.name)


class _Module:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self):
        return importlib.import_module, (self.name,)


class Hostile(nn.Module):
    """A module class of the file's author, whose state runs code when it is restored."""

    def __setstate__(self, state):
        Path(state["marker"]).touch()
        self.__dict__.update(state)


def hooked(command: str) -> nn.Module:
    """An allowed layer with a forward hook that is a call."""
    layer = nn.Conv2d(1, 2, 3)
    layer._forward_hooks[0] = Shell(command)
    return nn.Sequential(layer)


def overridden(command: str) -> nn.Module:
    """An allowed layer whose forward is replaced in its instance."""
    layer = nn.ReLU()
    layer.__dict__["forward"] = Shell(command)
    return nn.Sequential(nn.Conv2d(1, 2, 3), layer)


def smuggled(command: str) -> nn.Module:
    """An allowed layer with a harmless-looking attribute."""
    layer = nn.ReLU()
    layer.extra = {"a": [Shell(command)]}
    return layer


def graph_module(code: str) -> nn.Module:
    """An onnx2torch module whose stored source is exchanged."""
    module = converted(small_cnn(), torch.rand(2, *SIZE))
    body = {k: v for k, v in module.__dict__.items() if k != "_graph"}
    body["_code"] = code

    class Forged:
        def __reduce__(self):
            from torch.fx.graph_module import reduce_graph_module

            return reduce_graph_module, (body, "import torch\nimport os\n")

    return Forged()


def breaking(command: str) -> nn.Module:
    """A submodule whose name breaks out of the quotes in torch.fx's generated source."""
    name = f'x"), __import__("os").system("{command}'
    model = nn.Sequential(nn.ReLU())
    model._modules[name] = nn.ReLU()
    return model


FORWARD = "\n\n\ndef forward(self, input_1):\n    {line}\n    relu = self.Relu(input_1)\n    return relu\n    "
CODES = {
    "import": "import os; os.system('{command}')",
    "call": "x = os.system('{command}')",
    "dunder": "x = ().__class__.__base__.__subclasses__()",
    "open": "x = open('{marker}', 'w')",
    "torch load": "x = torch.load('{marker}')",
    "method": "x = input_1.numpy().tofile('{marker}')",
    "attribute": "x = self.Relu.__init__.__globals__",
    "lambda": "x = (lambda: 1)()",
    "default evaluated": "x = [i for i in (1, 2)]",
    "eval": "x = eval('1')",
    "from_file": "x = torch.from_file('{marker}', True, 4)",
}


def refused(path: Path, marker: Path) -> str:
    """Open the file untrusted; nothing may happen. The error's message."""
    with pytest.raises((UntrustedModel, UnreadableModel)) as caught:
        pytorch.open(path, pytorch.recognise(path) or "torch-module", OpenOptions(threads=1, arch="x:y"))
    assert not marker.exists()
    return str(caught.value)


@pytest.mark.parametrize("make", [Shell, Getattr, hooked, overridden, smuggled])
def test_pickled_calls_are_never_made(make, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "model.pt"
    torch.save(make(f"touch {marker}"), path)
    message = refused(path, marker)
    assert "--trust" in message and any(w in message for w in ("system", "getattr", "import"))
    torch.load(path, weights_only=False)  # the exploit is real
    assert marker.exists()


def test_calls_in_a_checkpoint_and_in_plain_and_old_pickles_are_never_made(tmp_path):
    marker = tmp_path / "marker"
    files = [tmp_path / n for n in ("a.pt", "b.pt", "c.pt")]
    torch.save({"state_dict": {"w": torch.ones(2)}, "x": Shell(f"touch {marker}")}, files[0])
    torch.save(Shell(f"touch {marker}"), files[1], _use_new_zipfile_serialization=False)
    files[2].write_bytes(pickle.dumps(Shell(f"touch {marker}")))
    for path in files:
        refused(path, marker)


def test_a_hostile_class_is_not_instantiated(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "model.pt"
    module = Hostile()
    module.marker = str(marker)
    torch.save(module, path)
    assert "Hostile" in refused(path, marker)


@pytest.mark.parametrize("name", CODES)
def test_hostile_forward_code_is_not_executed(name, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "model.pt"
    line = CODES[name].format(command=f"touch {marker}", marker=marker)
    torch.save(graph_module(FORWARD.format(line=line)), path)
    assert "GraphModule" in refused(path, marker)


def test_code_beside_the_forward_is_not_executed(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "model.pt"
    code = f"import os\nos.system('touch {marker}')\n" + FORWARD.format(line="x = None")
    torch.save(graph_module(code), path)
    refused(path, marker)


def test_a_name_cannot_break_out_of_generated_source(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "model.pt"
    torch.save(breaking(f"touch {marker}"), path)
    refused(path, marker)


def test_the_pickle_cannot_change_tensors_through_their_state(tmp_path):
    """BUILD on a tensor would call Tensor.__setstate__ with any storage, size and stride."""

    class Stretched:
        def __reduce__(self):
            tensor = torch.ones(2)
            make, args, *_ = tensor.__reduce_ex__(2)
            return make, args, (tensor.storage(), 0, (1 << 40,), (1,))

    path, marker, layer = tmp_path / "model.pt", tmp_path / "marker", nn.ReLU()
    layer.extra = Stretched()
    torch.save(layer, path)
    assert "state of a tensor" in refused(path, marker)


def test_tensors_stay_within_their_storage(tmp_path):
    class Beyond:
        def __reduce__(self):
            make, args, *_ = torch.ones(2).__reduce_ex__(2)
            return make, (args[0], 0, (1 << 20,), *args[3:])

    path, marker, layer = tmp_path / "model.pt", tmp_path / "marker", nn.ReLU()
    layer.extra = Beyond()
    torch.save(layer, path)
    assert "outside its storage" in refused(path, marker)


def edit_program(path: Path, change) -> None:
    """Rewrite the JSON of an exported program."""
    copy = path.with_suffix(".tmp")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("models/model.json"):
                program = json.loads(data)
                change(program)
                data = json.dumps(program).encode()
            new.writestr(name, data)
    shutil.move(copy, path)


def test_expressions_guards_and_targets_of_an_exported_program_are_examined(tmp_path):
    marker = tmp_path / "marker"
    call = f"__import__('os').system('touch {marker}')"

    def expression(program):
        sizes = program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = call

    def guard(program):
        program["guards_code"] = [call]

    def target(program):
        program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"

    def file_operator(program):
        program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"

    def tree(program):
        call_graph = program["graph_module"]["module_call_graph"][0]["signature"]
        call_graph["out_spec"] = '[1, {"type": "collections.namedtuple", "context": "null", "children_spec": []}]'

    for i, change in enumerate((expression, guard, target, file_operator, tree)):
        folder = tmp_path / str(i)
        folder.mkdir()
        path = save("torch-export", folder)
        edit_program(path, change)
        assert "--trust" in refused(path, marker)


def test_a_pickle_inside_an_exported_program_is_refused(tmp_path):
    marker = tmp_path / "marker"
    path = save("torch-export", tmp_path)
    hostile = tmp_path / "hostile.pt"
    torch.save(Shell(f"touch {marker}"), hostile)
    copy = tmp_path / "copy.pt2"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, hostile.read_bytes() if "sample_inputs" in name else old.read(name))
    assert "sample_inputs" in refused(copy, marker)


def test_torchscript_that_writes_files_is_refused(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "model.pt"

    source = torch.jit.script(small_cnn())
    torch.jit.save(source, path)
    copy = tmp_path / "copy.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith(".py") and b"class SmallCnn" in data:
                start = data.index(b"class SmallCnn")
                call = f'    torch.save(x, "{marker}")\n    return'.encode()
                data = data[:start] + data[start:].replace(b"    return", call, 1)
            new.writestr(name, data)
    assert "torch.save" in refused(copy, marker)
    x = np.zeros((1, *SIZE), np.float32)
    pytorch.open(copy, "torchscript", OpenOptions(trust=True)).run({"x": x})  # the exploit is real
    assert marker.exists()


def test_trust_opens_what_is_refused_otherwise(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(small_cnn(), path)
    with pytest.raises(UntrustedModel, match="SmallCnn"):
        pytorch.open(path, "torch-module", OpenOptions(threads=1))
    artifact = pytorch.open(path, "torch-module", OpenOptions(threads=1, trust=True))
    x = np.random.default_rng(0).random((2, *SIZE), np.float32)
    expected = small_cnn()(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(artifact.run({"x": x})["output"], expected)
