"""Small recurrent and transformer models with every operator that their faults need, in the forms converters write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fetafix.ir import Array, Graph, Value
from tests.faults.support import Builder, with_shapes

VOCABULARY, WIDTH, HEADS, LENGTH = 23, 8, 2, 6
_INT = np.dtype(np.int64)


def ints(*values: int) -> Array:
    """An int64 vector."""
    return np.array(values, np.int64)


def token_input(b: Builder, name: str = "input_ids", length: int = LENGTH) -> str:
    """An int64 input (batch, length)."""
    b.inputs.append(Value(name, _INT, (3, length)))
    return name


def feeds_of(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Ids below the vocabulary, masks with zeros at the end, Gaussian floats."""
    rng = np.random.default_rng(seed)
    made = {}
    for value in graph.inputs:
        dims = tuple(d if isinstance(d, int) else 3 for d in value.shape or ())
        if "mask" in value.name:
            made[value.name] = (np.arange(dims[1]) < rng.integers(2, dims[1] + 1, (dims[0], 1))).astype(value.dtype)
        elif value.dtype.kind == "i":
            made[value.name] = rng.integers(0, VOCABULARY, dims).astype(value.dtype)
        else:
            made[value.name] = rng.standard_normal(dims).astype(value.dtype)
    return made


def finish(b: Builder, *outputs: str) -> Graph:
    """The graph with measured shapes and an open batch."""
    values = tuple(Value(o, np.dtype(np.float32)) for o in outputs)
    domains = {n.domain: 1 for n in b.nodes if n.domain}
    graph = Graph(tuple(b.nodes), dict(b.tensors), tuple(b.inputs), values, {"": b.opset, **domains})
    graph = with_shapes(graph, feeds_of(graph))
    return replace(graph, inputs=tuple(replace(v, shape=("N", *(v.shape or ())[1:])) for v in graph.inputs))


# ---------------------------------------------------------------- recurrent


def recurrent(b: Builder, op: str, x: str, ins: int, hidden: int, direction: str = "forward", **attrs: Any) -> str:
    """An LSTM, GRU or RNN with biases on a (time, batch, features) tensor; returns the name of Y."""
    gates, sides = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 2 if direction == "bidirectional" else 1
    w, r = b.normal(sides, gates * hidden, ins, scale=0.6), b.normal(sides, gates * hidden, hidden, scale=0.5)
    bias = b.normal(sides, 2 * gates * hidden, scale=0.4)
    outputs = 3 if op == "LSTM" else 2
    return b.op(op, x, w, r, bias, outputs=outputs, hidden_size=hidden, direction=direction, **attrs)


def recurrent_tokens(seed: int = 0, op: str = "LSTM", **attrs: Any) -> Graph:
    """Embedding, a bidirectional layer, a forward layer, and a classifier on its last hidden state."""
    b = Builder(seed)
    x = b.op("Gather", b.normal(VOCABULARY, WIDTH), token_input(b), axis=0)
    y = recurrent(b, op, b.op("Transpose", x, perm=(1, 0, 2)), WIDTH, 5, "bidirectional", **attrs)
    y = b.op("Reshape", b.op("Transpose", y, perm=(0, 2, 1, 3)), ints(0, 0, -1))
    y = recurrent(b, op, y, 10, 6, **attrs)
    last = b.op("Squeeze", f"{y}_1", ints(0))
    return finish(b, b.op("Gemm", last, b.weight(4, 6), b.normal(4), transB=1))


def recurrent_series(seed: int = 0, op: str = "GRU", direction: str = "forward", **attrs: Any) -> Graph:
    """A float series through one layer; the head reads every step."""
    b = Builder(seed)
    x = b.op("Transpose", b.input((3, 9, 4), "series"), perm=(1, 0, 2))
    y = recurrent(b, op, x, 4, 5, direction, **attrs)
    y = b.op("Transpose", y, perm=(2, 0, 1, 3))
    y = b.op("Reshape", y, ints(0, 0, -1))
    width = 10 if direction == "bidirectional" else 5
    return finish(b, b.op("Add", b.op("MatMul", y, b.weight(width, 3)), b.normal(3)))


def keras_bidirectional(seed: int = 0, op: str = "LSTM") -> Graph:
    """Two layers, one over the reversed series with its outputs turned back, as a Keras Bidirectional converts."""
    b = Builder(seed)
    x = b.op("Transpose", b.input((3, 9, 4), "series"), perm=(1, 0, 2))
    turn = (ints(-1), ints(np.iinfo(np.int64).min), ints(0), ints(-1))
    forth = b.op("Squeeze", recurrent(b, op, x, 4, 5), ints(1))
    back = b.op("Squeeze", recurrent(b, op, b.op("Slice", x, *turn), 4, 5), ints(1))
    back = b.op("Slice", back, *turn)
    y = b.op("Transpose", b.op("Concat", forth, back, axis=2), perm=(1, 0, 2))
    return finish(b, b.op("Add", b.op("MatMul", y, b.weight(10, 3)), b.normal(3)))


def spelled_lstm(seed: int = 0, form: str = "operator", steps: int = 5) -> Graph:
    """One LSTM layer: the operator, its two directions apart ("halves"), or every step spelled out ("steps")."""
    b = Builder(seed)
    hidden, ins = 4, 3
    x = b.op("Transpose", b.input((3, steps, ins), "series"), perm=(1, 0, 2))
    w, r = b.normal(2, 4 * hidden, ins, scale=0.6), b.normal(2, 4 * hidden, hidden, scale=0.5)
    bias, head = b.normal(2, 8 * hidden, scale=0.4), b.weight(2 * hidden, 3)
    if form == "operator":
        y = b.op("LSTM", x, w, r, bias, outputs=3, hidden_size=hidden, direction="bidirectional")
        y = b.op("Reshape", b.op("Transpose", y, perm=(2, 0, 1, 3)), ints(0, 0, 2 * hidden))
    else:
        forth = _halves(b, x, w, r, bias, hidden) if form == "halves" else _steps(b, x, w[0], r[0], bias[0], steps)
        back = forth[1] if form == "halves" else _steps(b, x, w[1], r[1], bias[1], steps, -1)[0]
        y = b.op("Transpose", b.op("Concat", forth[0], back, axis=2), perm=(1, 0, 2))
    return finish(b, b.op("MatMul", y, head))


def _halves(b: Builder, x: str, w: Array, r: Array, bias: Array, hidden: int) -> list[str]:
    """A forward layer, and another one over the reversed series whose outputs are turned back."""
    turn = (ints(-1), ints(np.iinfo(np.int64).min), ints(0), ints(-1))
    forth, back = (b.op("LSTM", b.op("Slice", x, *turn) if i else x, w[i:i + 1], r[i:i + 1], bias[i:i + 1], outputs=3,
                        hidden_size=hidden) for i in range(2))
    return [b.op("Squeeze", forth, ints(1)), b.op("Slice", b.op("Squeeze", back, ints(1)), *turn)]


def _steps(b: Builder, x: str, w: Array, r: Array, bias: Array, steps: int, way: int = 1) -> list[str]:
    """Gates, cell and hidden state of every step by MatMul, Sigmoid and Tanh; the outputs put together again."""
    hidden, outs = r.shape[1], dict[int, str]()
    h = c = None
    for t in range(steps)[::way]:
        gates = b.op("Add", b.op("MatMul", b.op("Gather", x, np.array(t, np.int64), axis=0), w.T.copy()),
                     bias[:4 * hidden] + bias[4 * hidden:])
        gates = gates if h is None else b.op("Add", gates, b.op("MatMul", h, r.T.copy()))
        i, o, f, n = (b.op("Slice", gates, ints(k * hidden), ints((k + 1) * hidden), ints(1)) for k in range(4))
        fresh = b.op("Mul", b.op("Sigmoid", i), b.op("Tanh", n))
        c = fresh if c is None else b.op("Add", b.op("Mul", b.op("Sigmoid", f), c), fresh)
        h = b.op("Mul", b.op("Sigmoid", o), b.op("Tanh", c))
        outs[t] = b.op("Unsqueeze", h, ints(0))
    return [b.op("Concat", *(outs[t] for t in range(steps)), axis=0)]


# ---------------------------------------------------------------- transformers


def linear(b: Builder, x: str, ins: int, outs: int) -> str:
    """MatMul + Add, as exporters write a linear layer on (batch, length, features)."""
    return b.op("Add", b.op("MatMul", x, b.weight(outs, ins).T.copy()), b.normal(outs, scale=0.3))


def mean(b: Builder, x: str) -> str:
    """ReduceMean over the last axis, as the opset spells it."""
    return b.op("ReduceMean", x, ints(-1)) if b.opset >= 18 else b.op("ReduceMean", x, axes=(-1,))


def layernorm(b: Builder, x: str, epsilon: float = 1e-5, spelled: bool = False) -> str:
    """LayerNormalization over the last axis, or its decomposition."""
    gamma, beta = b.normal(WIDTH, scale=0.2, mean=1.0), b.normal(WIDTH, scale=0.2)
    if not spelled:
        return b.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=epsilon)
    centred = b.op("Sub", x, mean(b, x))
    variance = mean(b, b.op("Pow", centred, np.array(2.0, np.float32)))
    deviation = b.op("Sqrt", b.op("Add", variance, np.array(epsilon, np.float32)))
    return b.op("Add", b.op("Mul", b.op("Div", centred, deviation), gamma), beta)


def gelu(b: Builder, x: str, form: str = "erf") -> str:
    """x·Φ(x): "erf" and "tanh" spelled out, "Gelu none" and "Gelu tanh" as operators (opset 20)."""
    half, one = np.array(0.5, np.float32), np.array(1.0, np.float32)
    if form.startswith("Gelu"):
        return b.op("Gelu", x, approximate=form[5:])
    if form == "erf":
        inner = b.op("Erf", b.op("Div", x, np.array(np.sqrt(2), np.float32)))
        return b.op("Mul", b.op("Mul", x, b.op("Add", inner, one)), half)
    cube = b.op("Mul", b.op("Pow", x, np.array(3.0, np.float32)), np.array(0.044715, np.float32))
    inner = b.op("Mul", b.op("Add", x, cube), np.array(np.sqrt(2 / np.pi), np.float32))
    return b.op("Mul", b.op("Mul", x, half), b.op("Add", b.op("Tanh", inner), one))


def heads(b: Builder, x: str, transposed: tuple[int, ...] = (0, 2, 1, 3)) -> str:
    """(batch, length, width) as (batch, heads, length, width / heads)."""
    return b.op("Transpose", b.op("Reshape", x, ints(0, 0, HEADS, WIDTH // HEADS)), perm=transposed)


def attention(b: Builder, x: str, mask: str | Array | None = None, scale: str = "div", core: str = "chain") -> str:
    """Multi-head self attention with an additive mask. scale: "div" or "mul" behind, "query" before the product.

    core "Attention": the operator of opset 23.
    """
    q, k, v = (linear(b, x, WIDTH, WIDTH) for _ in range(3))
    root = np.array(np.sqrt(WIDTH // HEADS), np.float32)
    if core == "Attention":  # ONNX Runtime wants the mask in its full shape
        full = [] if mask is None else [b.op("Add", mask, np.zeros((1, 1, LENGTH, LENGTH), np.float32))]
        y = b.op("Attention", heads(b, q), heads(b, k), heads(b, v), *full)
    else:
        q = b.op("Div", q, root) if scale == "query" else q
        scores = b.op("MatMul", heads(b, q), heads(b, k, (0, 2, 3, 1)))
        if scale != "query":
            share = np.asarray(1 / root, np.float32)
            scores = b.op("Div", scores, root) if scale == "div" else b.op("Mul", scores, share)
        scores = scores if mask is None else b.op("Add", scores, mask)
        y = b.op("MatMul", b.op("Softmax", scores, axis=-1), heads(b, v))
    y = b.op("Reshape", b.op("Transpose", y, perm=(0, 2, 1, 3)), ints(0, 0, WIDTH))
    return linear(b, y, WIDTH, WIDTH)


def block(seed: int = 0, *, fused: bool = False, epsilon: float = 1e-3, opset: int = 17) -> Graph:
    """One encoder layer: chains and LayerNormalization, or ONNX Runtime's fused operators."""
    b = Builder(seed, opset)
    x, own = b.input((3, LENGTH, WIDTH), "series"), {"domain": "com.microsoft"} if fused else {}
    weights, biases = [b.weight(WIDTH, WIDTH) for _ in range(3)], [b.normal(WIDTH, scale=0.3) for _ in range(3)]
    if fused:
        y = b.op("Attention", x, np.concatenate(weights, 1), np.concatenate(biases), num_heads=HEADS, **own)
    else:
        q, k, v = (heads(b, b.op("Add", b.op("MatMul", x, w), c)) for w, c in zip(weights, biases, strict=True))
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=(0, 1, 3, 2)))
        scores = b.op("Div", scores, np.array(np.sqrt(WIDTH // HEADS), np.float32))
        y = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=(0, 2, 1, 3))
        y = b.op("Reshape", y, ints(0, 0, WIDTH))
    gamma, beta = b.normal(WIDTH, scale=0.2, mean=1.0), b.normal(WIDTH, scale=0.2)
    if fused:
        x = b.op("SkipLayerNormalization", x, y, gamma, beta, epsilon=epsilon, **own)
    else:
        x = b.op("LayerNormalization", b.op("Add", x, y), gamma, beta, axis=-1, epsilon=epsilon)
    product, bias = b.op("MatMul", x, b.weight(WIDTH, WIDTH)), b.normal(WIDTH, scale=0.3)
    x = b.op("BiasGelu", product, bias, **own) if fused else gelu(b, b.op("Add", product, bias))
    return finish(b, b.op("MatMul", x, b.weight(WIDTH, 3)))


def padding_mask(b: Builder) -> str:
    """attention_mask (batch, length), 1 = real, as an additive mask (batch, 1, 1, length)."""
    x = b.op("Cast", b.op("Unsqueeze", token_input(b, "attention_mask"), ints(1, 2)), to=1)
    return b.op("Mul", b.op("Sub", np.array(1.0, np.float32), x), np.array(-1e4, np.float32))


def causal_mask(length: int = LENGTH) -> Array:
    """0 on and below the diagonal, −10⁴ above it: (1, 1, length, length)."""
    return np.triu(np.full((1, 1, length, length), -1e4, np.float32), 1)


def embedding(b: Builder, ids: str) -> str:
    """Token and position embeddings, summed."""
    x = b.op("Gather", b.normal(VOCABULARY, WIDTH), ids, axis=0)
    return b.op("Add", x, b.normal(1, LENGTH, WIDTH, scale=0.5))


def encoder(seed: int = 0, *, act: str = "erf", scale: str = "div", spelled: bool = False, layers: int = 2,
            core: str = "chain", epsilon: float = 1e-5, opset: int = 17) -> Graph:
    """A BERT-style encoder: post-norm blocks with a padding mask, and a classifier on the first token."""
    b = Builder(seed, opset)
    x = layernorm(b, embedding(b, token_input(b)), epsilon, spelled)
    mask = padding_mask(b)
    for _ in range(layers):
        x = layernorm(b, b.op("Add", attention(b, x, mask, scale, core), x), epsilon, spelled)
        y = linear(b, gelu(b, linear(b, x, WIDTH, 2 * WIDTH), act), 2 * WIDTH, WIDTH)
        x = layernorm(b, b.op("Add", y, x), epsilon, spelled)
    first = b.op("Gather", x, np.array(0, np.int64), axis=1)
    return finish(b, b.op("Gemm", b.op("Tanh", first), b.weight(4, WIDTH), b.normal(4), transB=1))


def decoder(seed: int = 0, *, act: str = "tanh", masked: bool = True, scale: str = "mul", core: str = "chain",
            spelled: bool = False, layers: int = 2, opset: int = 17) -> Graph:
    """A GPT-style decoder: pre-norm blocks with a causal mask, logits by the tied embedding."""
    b = Builder(seed, opset)
    table = b.normal(VOCABULARY, WIDTH)
    b.tensors["embedding"] = table
    x = b.op("Add", b.op("Gather", "embedding", token_input(b), axis=0), b.normal(1, LENGTH, WIDTH, scale=0.5))
    for _ in range(layers):
        mask = causal_mask() if masked else None
        x = b.op("Add", x, attention(b, layernorm(b, x, 1e-5, spelled), mask, scale, core))
        y = gelu(b, linear(b, layernorm(b, x, 1e-5, spelled), WIDTH, 2 * WIDTH), act)
        x = b.op("Add", x, linear(b, y, 2 * WIDTH, WIDTH))
    tied = b.op("Transpose", "embedding", perm=(1, 0))
    return finish(b, b.op("MatMul", layernorm(b, x, 1e-5, spelled), tied))


# ---------------------------------------------------------------- tokens, positions and integers


def positions(seed: int = 0, *, exclusive: int = 0, reverse: int = 0) -> Graph:
    """Position ids counted over the padding mask, as RoBERTa does: CumSum(mask)·mask indexes a table."""
    b = Builder(seed)
    x = b.op("Gather", b.normal(VOCABULARY, WIDTH), token_input(b), axis=0)
    mask = token_input(b, "attention_mask")
    count = b.op("CumSum", mask, np.array(1, np.int64), exclusive=exclusive, reverse=reverse)
    place = b.op("Gather", b.normal(LENGTH + 2, WIDTH), b.op("Mul", count, mask), axis=0)
    return finish(b, linear(b, layernorm(b, b.op("Add", x, place)), WIDTH, 5))


def relative(seed: int = 0, *, floor: bool = True, fmod: int = 0) -> Graph:
    """A bias by relative position: (j − i) divided into buckets that round down, and its remainder."""
    b = Builder(seed)
    x = b.op("Gather", b.normal(VOCABULARY, WIDTH), token_input(b), axis=0)
    ids = token_input(b, "places")
    away = b.op("Sub", b.op("Unsqueeze", ids, ints(1)), b.op("Unsqueeze", ids, ints(2)))
    three = np.array(3, np.int64)
    whole = b.op("Sub", away, b.op("Mod", away, three)) if floor else away
    bucket = b.op("Add", b.op("Div", whole, three), np.array(9, np.int64))
    rest = b.op("Add", b.op("Mod", away, three, fmod=fmod), np.array(3, np.int64))
    bias = b.op("Add", b.op("Gather", b.normal(20), bucket, axis=0), b.op("Gather", b.normal(6), rest, axis=0))
    return finish(b, linear(b, b.op("MatMul", b.op("Softmax", bias, axis=-1), x), WIDTH, 5))


def assigned(seed: int = 0, *, op: str = "ScatterND") -> Graph:
    """Some of a layer's features overwritten by another layer's, as x[:, 1:3] = y traces."""
    b = Builder(seed)
    x = linear(b, b.input((3, LENGTH, 4), "series"), 4, WIDTH)
    x = b.op("Transpose", b.op("Relu", x), perm=(1, 0, 2))
    y = b.op("Tanh", linear(b, b.op("Slice", x, ints(0), ints(2), ints(0)), WIDTH, WIDTH))
    if op == "ScatterND":
        x = b.op("ScatterND", x, np.array([[1], [3]], np.int64), y)
    else:
        head, tail = (b.op("Slice", x, ints(i), ints(j), ints(0)) for i, j in ((0, 1), (2, 3)))
        last = b.op("Slice", x, ints(4), ints(LENGTH), ints(0))
        first, second = (b.op("Slice", y, ints(i), ints(i + 1), ints(0)) for i in (0, 1))
        x = b.op("Concat", head, first, tail, second, last, axis=0)
    return finish(b, linear(b, b.op("Transpose", x, perm=(1, 0, 2)), WIDTH, 3))


def tagger(seed: int = 0, *, last: int = 0, levels: float = 1.0) -> Graph:
    """Tags by ArgMax over scores that are rounded to a few levels, so that ties occur."""
    b = Builder(seed)
    scores = linear(b, b.input((3, LENGTH, 4), "series"), 4, 5)
    rounded = b.op("Round", b.op("Mul", scores, np.array(levels, np.float32)))
    tags = b.op("ArgMax", rounded, axis=-1, keepdims=0, select_last_index=last)
    return finish(b, tags, b.op("Gather", b.normal(5, 3), tags, axis=0))


def old_softmax(seed: int = 0, *, opset: int = 11, axis: int = 1) -> Graph:
    """Attention weights over a map: before opset 13 a Softmax over whole rows, since then over one axis."""
    b = Builder(seed, opset)
    x = b.input((3, LENGTH, 4), "series")
    weights = b.op("Softmax", b.op("MatMul", x, b.weight(4, 4)), axis=axis)
    return finish(b, b.op("MatMul", b.op("Mul", weights, x), b.weight(4, 3)))
