"""The forward of a pickled GraphModule, read as text and never executed.

torch.fx stores a GraphModule as its generated Python source and would run that source when the file is loaded. Here the
source is parsed, and accepted only if it is straight-line code of the calls that the tracer writes: submodules,
attributes, tensor arithmetic, indexing, `x = None`, one return. From it a new torch.fx graph is built.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fetafix.errors import FetafixError
from fetafix.formats.torch import allow as torch_allow
from fetafix.formats.torch.pickle import refuse

_BINARY: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.MatMult: operator.matmul,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_COMPARE: dict[type, Callable[..., Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ATTRIBUTES = frozenset({"shape", "dtype", "device", "ndim", "T"})
_CONSTANTS = {"inf": math.inf, "nan": math.nan}


def rebuild(source: str, root: Any, path: Path) -> Any:
    """A torch.fx.Graph that does what the source says, over the submodules and tensors of `root`.

    Raises UntrustedModel with the line where the source holds anything else than traced calls.
    """
    return _Reader(source, root, path).graph()


class _Reader:
    """One pass over the statements; `names` maps local variables to graph nodes."""

    def __init__(self, source: str, root: Any, path: Path) -> None:
        import torch

        self._source, self._root, self._path = source, root, path
        self._names: dict[str, Any] = {}
        self._graph = torch.fx.Graph()

    def graph(self) -> Any:
        for statement in self._body():
            self._statement(statement)
        self._graph.lint()
        return self._graph

    def _body(self) -> list[ast.stmt]:
        try:
            tree = ast.parse(self._source)
        except (SyntaxError, ValueError) as error:
            raise refuse(self._path, f"the forward of its GraphModule is no Python: {error}") from error
        functions = [s for s in tree.body if isinstance(s, ast.FunctionDef)]
        if len(tree.body) != 1 or len(functions) != 1 or functions[0].name != "forward" or functions[0].decorator_list:
            raise refuse(self._path, "the source of its GraphModule is more than one forward function")
        function = functions[0]
        self._placeholders(function.args, function)
        if not function.body or not isinstance(function.body[-1], ast.Return):
            raise self._refuse(function, "does not end in a return")
        return function.body

    def _placeholders(self, args: ast.arguments, function: ast.AST) -> None:
        names = [a.arg for a in args.args]
        if args.posonlyargs or args.kwonlyargs or args.vararg or args.kwarg or names[:1] != ["self"]:
            raise self._refuse(function, "has other arguments than the tracer writes")
        defaults: list[ast.expr | None] = [*[None] * (len(names) - len(args.defaults)), *args.defaults]
        for name, default in list(zip(names, defaults, strict=True))[1:]:
            given = () if default is None else (self._constant(default),)
            self._names[name] = self._graph.create_node("placeholder", name, given, {}, name=name)

    def _constant(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        raise self._refuse(node, "has a default that is no constant")

    def _refuse(self, node: ast.AST, why: str) -> FetafixError:
        line = ast.get_source_segment(self._source, node) or ""
        return refuse(
            self._path, f"the forward of its GraphModule {why}: {line.splitlines()[0][:120] if line else '?'}"
        )

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Return) and node.value is not None:
            self._graph.output(self._value(node.value))
        elif isinstance(node, ast.Assign):
            targets = [t.id for t in node.targets if isinstance(t, ast.Name)]
            if len(targets) != len(node.targets):
                raise self._refuse(node, "assigns to something else than a variable")
            if isinstance(node.value, ast.Constant) and node.value.value is None:
                return
            made = self._value(node.value, targets[0])
            self._names.update(dict.fromkeys(targets, made))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            self._names[node.target.id] = self._value(node.value, node.target.id)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self._value(node.value)
        else:
            raise self._refuse(node, f"holds a statement that no tracer writes ({type(node).__name__})")

    def _value(self, node: ast.expr, name: str | None = None) -> Any:
        """A graph node or plain argument for an expression; graph nodes get the variable's name."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._variable(node)
        if isinstance(node, ast.Tuple | ast.List):
            return (tuple if isinstance(node, ast.Tuple) else list)(self._value(e) for e in node.elts)
        if isinstance(node, ast.Dict):
            return {
                self._value(k): self._value(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None
            }
        if isinstance(node, ast.Slice):
            return slice(*(None if part is None else self._value(part) for part in (node.lower, node.upper, node.step)))
        if isinstance(node, ast.Call):
            return self._call(node, name)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, name)
        return self._operation(node, name)

    def _variable(self, node: ast.Name) -> Any:
        if node.id in self._names:
            return self._names[node.id]
        if node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        raise self._refuse(node, f"reads {node.id!r}, which it never made")

    def _operation(self, node: ast.expr, name: str | None) -> Any:
        if isinstance(node, ast.Subscript):
            return self._function(operator.getitem, (self._value(node.value), self._value(node.slice)), {}, name)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return self._function(_BINARY[type(node.op)], (self._value(node.left), self._value(node.right)), {}, name)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
            both = (self._value(node.left), self._value(node.comparators[0]))
            return self._function(_COMPARE[type(node.ops[0])], both, {}, name)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert):
            value = self._value(node.operand)
            if isinstance(value, int | float) and isinstance(node.op, ast.USub):
                return -value
            function = operator.neg if isinstance(node.op, ast.USub) else operator.invert
            return self._function(function, (value,), {}, name)
        raise self._refuse(node, f"holds an expression that no tracer writes ({type(node).__name__})")

    def _function(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None
    ) -> Any:
        return self._graph.create_node("call_function", function, args, kwargs, name=name)

    def _call(self, node: ast.Call, name: str | None) -> Any:
        if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
            raise self._refuse(node, "unpacks arguments")
        own = self._own_path(node.func)
        if own is None and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            return self._getattr(node, name)
        args = tuple(self._value(a) for a in node.args)
        kwargs = {str(k.arg): self._value(k.value) for k in node.keywords}
        if own is not None:
            return self._submodule(node, own, args, kwargs, name)
        dotted = _dotted(node.func)
        if dotted is not None and dotted.partition(".")[0] not in self._names:
            function = torch_allow.function(*_home(dotted))
            if function is None:
                raise self._refuse(node, f"calls {dotted}, which is not on the list of allowed functions")
            return self._function(function, args, kwargs, name)
        if isinstance(node.func, ast.Attribute) and node.func.attr in torch_allow.METHODS:
            owner = self._value(node.func.value)
            return self._graph.create_node("call_method", node.func.attr, (owner, *args), kwargs, name=name)
        raise self._refuse(node, "makes a call that no tracer writes")

    def _getattr(self, node: ast.Call, name: str | None) -> Any:
        """getattr(self, "stem/Conv") as a tensor, or getattr(x, "shape")."""
        own = self._own_path(node)
        if own is not None:
            return self._fetch(node, own, name)
        if len(node.args) == 2 and isinstance(node.args[1], ast.Constant) and node.args[1].value in _ATTRIBUTES:
            return self._function(getattr, (self._value(node.args[0]), node.args[1].value), {}, name)
        raise self._refuse(node, "reads an attribute that no tracer reads")

    def _attribute(self, node: ast.Attribute, name: str | None) -> Any:
        own = self._own_path(node)
        if own is not None:
            return self._fetch(node, own, name)
        dotted = _dotted(node)
        if dotted is not None and dotted.partition(".")[0] == "torch" and "torch" not in self._names:
            return self._dtype(node, dotted)
        if node.attr in _ATTRIBUTES:
            return self._function(getattr, (self._value(node.value), node.attr), {}, name)
        raise self._refuse(node, "reads an attribute that no tracer reads")

    def _dtype(self, node: ast.expr, dotted: str) -> Any:
        import torch

        value = vars(torch).get(dotted.partition(".")[2])
        if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
            return value
        raise self._refuse(node, f"reads {dotted}")

    def _own_path(self, node: ast.expr) -> str | None:
        """The dotted path below self, for self.a.b and getattr(self.a, "b c")."""
        if isinstance(node, ast.Name):
            return "" if node.id == "self" and "self" not in self._names else None
        if isinstance(node, ast.Attribute):
            owner, attribute = self._own_path(node.value), node.attr
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "getattr"
            and len(node.args) == 2
        ):
            last = node.args[1]
            if not isinstance(last, ast.Constant) or not isinstance(last.value, str):
                return None
            owner, attribute = self._own_path(node.args[0]), last.value
        else:
            return None
        return None if owner is None else f"{owner}.{attribute}".lstrip(".")

    def _find(self, node: ast.expr, path: str) -> Any:
        found = self._root
        for part in path.split("."):
            tables = (found._modules, found._parameters, found._buffers) if hasattr(found, "_modules") else ()
            found = next((t[part] for t in tables if part in t), None)
            if found is None:
                raise self._refuse(node, f"names self.{path}, which the module does not have")
        return found

    def _submodule(
        self, node: ast.expr, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None
    ) -> Any:
        import torch

        if not path or not isinstance(self._find(node, path), torch.nn.Module):
            raise self._refuse(node, "calls something that is no submodule")
        return self._graph.create_node("call_module", path, args, kwargs, name=name)

    def _fetch(self, node: ast.expr, path: str, name: str | None) -> Any:
        import torch

        if not path or not isinstance(self._find(node, path), torch.Tensor):
            raise self._refuse(node, "reads an attribute that is no tensor")
        return self._graph.create_node("get_attr", path, (), {}, name=name)


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value)
        return None if owner is None else f"{owner}.{node.attr}"
    return None


def _home(dotted: str) -> tuple[str, str]:
    """torch.fx writes functions of other modules with underscores: torch_nn_functional_relu."""
    home, _, name = dotted.rpartition(".")
    if not home:
        prefix = "onnx2torch_node_converters_reduce_"
        return ("onnx2torch.node_converters.reduce", name.removeprefix(prefix))
    return home, name
