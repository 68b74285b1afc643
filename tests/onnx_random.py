"""Random ONNX graphs of all kinds of operators, with their shapes."""

import numpy as np
import onnx

from tests.onnx_graphs import Graph

Shape = tuple[int, ...]
ELEMENTWISE = (
    "Relu",
    "LeakyRelu",
    "Elu",
    "Gelu",
    "HardSwish",
    "Sigmoid",
    "Tanh",
    "Softplus",
    "Abs",
    "Neg",
    "Identity",
    "Erf",
    "Mish",
)


def random_graph(seed: int, length: int = 8) -> onnx.ModelProto:
    """A graph of so many random operators on the values so far, and a matrix behind the last."""
    rng = np.random.default_rng(seed)
    g = Graph(rng)
    shape = [(6,), (5, 4), (3, 6, 5)][rng.integers(3)]
    fixed = rng.random() < 0.3
    values: list[tuple[str, Shape]] = [("x", shape)]
    for _ in range(length):
        name, s = values[-1] if rng.random() < 0.7 else values[rng.integers(len(values))]
        made = _step(g, rng, name, s, values)
        if int(np.prod(made[1])) <= 400:
            values.append(made)
    y, s = values[-1]
    flat = g("Flatten", y)
    out = g("MatMul", flat, g.normal(int(np.prod(s)), 3, scale=1 / np.sqrt(np.prod(s))))
    return g.model((1 if fixed else "N", *shape), out)


def _step(
    g: Graph, rng: np.random.Generator, x: str, s: Shape, values: list[tuple[str, Shape]]
) -> tuple[str, Shape]:
    kinds = [
        _elementwise,
        _matmul,
        _constant,
        _transpose,
        _reshape,
        _slice,
        _pad,
        _concat,
        _branches,
        _reduce,
        _spread,
        _pick,
    ]
    kinds += [_conv, _pool, _conv_transpose, _norm] * (len(s) == 3) + [_stack] * (len(s) == 2)
    return kinds[rng.integers(len(kinds))](g, rng, x, s, values)


def _elementwise(g, rng, x, s, values):  # noqa: ARG001
    return g(str(rng.choice(ELEMENTWISE)), x), s


def _matmul(g, rng, x, s, values):  # noqa: ARG001
    n = int(rng.integers(2, 6))
    if len(s) > 1 and rng.random() < 0.4:
        return g("MatMul", g.normal(n, s[-2], scale=0.5), x), (*s[:-2], n, s[-1])
    if len(s) == 1 and rng.random() < 0.5:
        return g("Gemm", x, g.normal(n, s[0], scale=0.5), g.normal(n), transB=1, alpha=0.8, beta=0.5), (n,)
    return g("MatMul", x, g.normal(s[-1], n, scale=0.5)), (*s[:-1], n)


def _constant(g, rng, x, s, values):  # noqa: ARG001
    kind = str(rng.choice(["Add", "Sub", "Mul", "Div", "Max", "Min"]))
    c = g.constant(rng.uniform(0.5, 1.5, [n if rng.random() < 0.6 else 1 for n in s[rng.integers(len(s)) :]]))
    swap = kind in ("Add", "Mul", "Sub", "Max") and rng.random() < 0.4
    return (g(kind, c, x) if swap else g(kind, x, c)), s


def _transpose(g, rng, x, s, values):  # noqa: ARG001
    order = [int(k) for k in rng.permutation(len(s))]
    return g("Transpose", x, perm=[0, *(k + 1 for k in order)]), tuple(s[k] for k in order)


def _reshape(g, rng, x, s, values):  # noqa: ARG001
    n = int(np.prod(s))
    first = int(rng.choice([k for k in range(1, n + 1) if n % k == 0]))
    new = [(n,), (first, n // first), (1, first, n // first)][rng.integers(3)]
    start = int(rng.choice([0, -1]))
    return g("Reshape", x, np.array([start, *new], np.int64)), new


def _slice(g, rng, x, s, values):  # noqa: ARG001
    axis = int(rng.integers(len(s)))
    if s[axis] < 2:
        return x, s
    if rng.random() < 0.5:
        start, step = int(rng.integers(s[axis] - 1)), int(rng.integers(1, 3))
        ends = np.array([axis + 1], np.int64)
        new = len(range(start, s[axis], step))
        return (
            g("Slice", x, np.array([start]), np.array([2**40]), ends, np.array([step])),
            (*s[:axis], new, *s[axis + 1 :]),
        )
    new = int(rng.integers(1, 4))
    return g("Gather", x, rng.integers(-s[axis], s[axis], new), axis=axis + 1), (
        *s[:axis],
        new,
        *s[axis + 1 :],
    )


def _pad(g, rng, x, s, values):  # noqa: ARG001
    mode = str(rng.choice(["constant", "edge", "reflect", "wrap"]))
    widths = [[int(rng.integers(0, min(n, 3))) for n in s] for _ in range(2)]
    pads = np.array([0, *widths[0], 0, *widths[1]], np.int64)
    return g("Pad", x, pads, mode=mode), tuple(n + a + b for n, a, b in zip(s, *widths, strict=True))


def _concat(g, rng, x, s, values):  # noqa: ARG001
    axis = int(rng.integers(len(s)))
    other = g("Tanh", x) if rng.random() < 0.5 else x
    return g("Concat", x, other, axis=axis + 1), (*s[:axis], 2 * s[axis], *s[axis + 1 :])


def _branches(g, rng, x, s, values):
    same = [name for name, t in values if t == s]
    kind = str(rng.choice(["Add", "Sub", "Max", "Min", "Sum", "Mean"]))
    return g(kind, x, str(rng.choice(same))), s


def _reduce(g, rng, x, s, values):  # noqa: ARG001
    axis = int(rng.integers(len(s)))
    kind = str(
        rng.choice(
            ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceLogSumExp"]
        )
    )
    keep = int(len(s) == 1 or rng.random() < 0.5)
    new = (*s[:axis], *([1] * keep), *s[axis + 1 :])
    return g(kind, x, np.array([axis + 1], np.int64), keepdims=keep), new


def _spread(g, rng, x, s, values):  # noqa: ARG001
    """The outer sum of two values of one axis."""
    if len(s) != 1:
        return g("Softmax", x, axis=-1), s
    a, b = g("Unsqueeze", x, np.array([1], np.int64)), g("Unsqueeze", g("Relu", x), np.array([2], np.int64))
    return g("Sub", a, b), (s[0], s[0])


def _pick(g, rng, x, s, values):  # noqa: ARG001
    return g("Where", rng.random(s) < 0.7, x, g.normal(*s)), s


def _conv(g, rng, x, s, values):  # noqa: ARG001
    taps = [int(rng.integers(1, min(3, n) + 1)) for n in s[1:]]
    pads = [int(k) for k in rng.integers(0, 2, 4)]
    stride = [int(k) for k in rng.integers(1, 3, 2)]
    out = int(rng.integers(1, 4))
    size = [
        (n + a + b - k) // t + 1
        for n, a, b, k, t in zip(s[1:], pads[:2], pads[2:], taps, stride, strict=True)
    ]
    return g("Conv", x, g.normal(out, s[0], *taps, scale=0.5), g.normal(out), pads=pads, strides=stride), (
        out,
        *size,
    )


def _conv_transpose(g, rng, x, s, values):  # noqa: ARG001
    taps, stride = [int(k) for k in rng.integers(1, 4, 2)], [int(k) for k in rng.integers(1, 3, 2)]
    out = int(rng.integers(1, 3))
    size = [(n - 1) * t + k for n, t, k in zip(s[1:], stride, taps, strict=True)]
    return g("ConvTranspose", x, g.normal(s[0], out, *taps, scale=0.5), strides=stride), (out, *size)


def _pool(g, rng, x, s, values):  # noqa: ARG001
    window = [int(rng.integers(1, min(3, n) + 1)) for n in s[1:]]
    stride = [int(k) for k in rng.integers(1, 3, 2)]
    pads = [int(rng.integers(0, k)) for k in (*window, *window)]
    if rng.random() < 0.3:
        return g(str(rng.choice(["GlobalAveragePool", "GlobalMaxPool"])), x), (s[0], 1, 1)
    kind, options = (
        ("MaxPool", {})
        if rng.random() < 0.5
        else ("AveragePool", {"count_include_pad": int(rng.integers(2))})
    )
    size = [
        (n + a + b - k) // t + 1
        for n, a, b, k, t in zip(s[1:], pads[:2], pads[2:], window, stride, strict=True)
    ]
    return g(kind, x, kernel_shape=window, strides=stride, pads=pads, **options), (s[0], *size)


def _norm(g, rng, x, s, values):  # noqa: ARG001
    c = s[0]
    if rng.random() < 0.5:
        return g("InstanceNormalization", x, g.normal(c), g.normal(c), epsilon=0.5), s
    return g(
        "BatchNormalization", x, g.normal(c), g.normal(c), g.normal(c), g.constant(rng.uniform(0.5, 2, c))
    ), s


def _stack(g, rng, x, s, values):  # noqa: ARG001
    """A stack of matrices, one for each row."""
    n = int(rng.integers(1, 4))
    wide = g("Unsqueeze", x, np.array([3], np.int64))
    y = g("MatMul", g.normal(s[0], n, s[1], scale=0.5), wide)
    return g("Squeeze", y, np.array([3], np.int64)), (s[0], n)
