"""What a TensorFlow graph must not do unless trusted: touch files, run Python, reach the network, end the process.

The nodes of the graph and of every function in its library are looked at before anything is loaded. A SavedModel's own
operators for saving and restoring its variables are exempt, where running it does not reach them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fetafix.errors import UnreadableModel, UntrustedModel
from fetafix.formats.tensorflow import graph as tf_graph

_PATTERNS = {
    "runs Python": r"Py(Func|FuncStateless|Callable.*)|EagerPyFunc|Generator\w*Dataset",
    "touches files": (
        r"ReadFile|WriteFile|MatchingFiles\w*|Save(V2|Slices)?|Restore(V2|Slice)?|MergeV2Checkpoints|DistributedSave"
        r"|ImmutableConst|InitializeTableFromTextFile(V2)?|GenerateVocabRemapping|LoadAndRemapMatrix"
        r"|(WholeFile|TextLine|TFRecord|FixedLengthRecord|LMDB|Identity)Reader(V2)?|LMDBReader|DecodeProto(V2)?"
        r"|EncodeProto|\w*(TextLine|Record|LMDB|Sql|CSV|Avro|Save|Load|Snapshot|Cache|MatchingFiles)\w*Dataset\w*"
        r"|\w*Summary(File|Db)?Writer|Write\w*Summary|CreateSummary\w*|ImportEvent|FlushSummaryWriter|BundleReader"
        r"|Debug(Identity|NanCount|NumericSummary)(V\d)?|RegisterDataset(V2)?|XlaCompileOnDemand"
    ),
    "reaches other machines": (
        r"_?(Xla)?(Host)?(Send|Recv)\w*|\w*Rpc\w*|Remote\w+|DataService\w*|\w*DataServiceDataset\w*|Gcs\w*|BigQuery\w*"
        r"|CloudBigtable\w*|Kafka\w*|XlaHostCompute\w*|_XlaHostCompute\w*|Configure\w*TPU\w*|WorkerHeartbeat"
    ),
    "ends the process": r"Abort",
}
_DANGEROUS = {what: re.compile(pattern) for what, pattern in _PATTERNS.items()}
_SAVER = re.compile(r"Save(V2|Slices)?|MergeV2Checkpoints|ShardedFilename")
_RESTORE = re.compile(r"Restore(V2|Slice)?")
_SHOWN = 3


def examine(
    path: Path, graph_def: Any, trust: bool, restore: Iterable[str] = (), runs: Iterable[str] = ()
) -> None:
    """Look at all nodes of a GraphDef and its library.

    Args:
        path: for messages.
        graph_def: the graph.
        trust: whether operators that touch files, run Python or reach other machines are allowed.
        restore: what restores the variables when the model is opened; it may read checkpoints.
        runs: tensors that running or initialising the model computes. What neither reaches never runs, and may save.

    Raises UntrustedModel, or UnreadableModel where TensorFlow does not have an operator, with operator and node.
    """
    functions = tf_graph.library(graph_def)
    nodes = {n.name: n for n in graph_def.node}
    used = _reached(nodes, functions, runs)
    restoring = _reached(nodes, functions, restore) - used
    found: dict[str, list[str]] = {}
    unknown: list[str] = []
    for key, node in _all(nodes, functions):
        if node.op not in functions and tf_graph.op_def(node.op) is None:
            unknown.append(f"{node.op} (node {node.name})")
        what = danger(node)
        saves = _SAVER.fullmatch(node.op) and key not in restoring
        exempt = (runs or restore) and key not in used and (saves or _RESTORE.fullmatch(node.op))
        if what and not exempt:
            found.setdefault(what, []).append(f"{node.op} (node {node.name})")
    if found and not trust:
        told = "; ".join(f"it {what}: {_listed(ops)}" for what, ops in found.items())
        raise UntrustedModel(f"{path}: the graph does more than compute: {told}. If you trust its origin, use --trust")
    if unknown:
        raise UnreadableModel(
            f"{path}: TensorFlow has no operator {_listed(unknown)}; expected operators of TensorFlow itself. Custom "
            "operators come in a library of their own, which has to be loaded by Python code")


def danger(node: Any) -> str:
    """What a node does beyond computing; "" for nothing."""
    if node.op == "PrintV2":
        to_file = "output_stream" in node.attr and node.attr["output_stream"].s.startswith(b"file:")
        return "touches files" if to_file else ""
    return next((what for what, pattern in _DANGEROUS.items() if pattern.fullmatch(node.op)), "")


def _listed(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _all(nodes: Mapping[str, Any], functions: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    """((function or "", node name), node) everywhere."""
    for node in nodes.values():
        yield ("", node.name), node
    for name, function in functions.items():
        for node in function.node_def:
            yield (name, node.name), node


def _reached(nodes: Mapping[str, Any], functions: Mapping[str, Any], ends: Iterable[str]) -> set[tuple[str, str]]:
    names = tf_graph.upstream(nodes, ends)
    called = tf_graph.reached_functions([nodes[n] for n in names], functions)
    return {("", n) for n in names} | {(f, n.name) for f, d in called.items() for n in d.node_def}
