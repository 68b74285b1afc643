"""What small weight files mean under a reading, in plain NumPy: nothing of `sdplip` takes part, so that it can be judged by this."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Points = np.ndarray
Function = Callable[[Points], Points]
"""From inputs `(batch, n)` to outputs `(batch, m)`."""

ACTIVATIONS: Mapping[str, Callable[..., np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x, slope=0.01: np.where(x > 0, x, slope * x),
    "abs": abs,
    "tanh": np.tanh,
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(x / 2)),
    "identity": lambda x: x,
    "elu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "softplus": lambda x: np.logaddexp(0, x),
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))),
    "silu": lambda x: x * 0.5 * (1 + np.tanh(x / 2)),
}


@dataclass(frozen=True)
class World:
    """A file under one reading.

    Attributes:
        functions: the network; several where the reading allows several (any activation with slopes in an interval).
        inputs: their length.
        used: names of the arrays that take part.
        said: words that must stand in what the verifier prints, because the reading assumed them.
        coarse: the functions compute in single precision.
    """

    functions: tuple[Function, ...]
    inputs: int
    used: frozenset[str]
    said: tuple[str, ...] = ()
    coarse: bool = False


def activation(name: str) -> Function | None:
    """An activation of a layer by the name that readings use; None of names that are not known here."""
    kind, _, parameter = name.partition(":")
    if kind in ("maxmin", "groupsort"):
        size = int(parameter) if parameter else 2
        return lambda x: np.sort(x.reshape(*x.shape[:-1], -1, size), -1).reshape(x.shape)
    if kind not in ACTIVATIONS:
        return None
    f = ACTIVATIONS[kind]
    return (lambda x: f(x, float(parameter))) if parameter else f


def convolution(
    K: np.ndarray,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    mode: str,
    dilation: Sequence[int],
    groups: int,
) -> np.ndarray:
    """The dense matrix of a convolution `(out, in / groups, *taps)` on images of `size` pixels, by its definition."""
    out, width, *taps = K.shape
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, padding, dilation, taps, stride, strict=True)
    ]
    assert min(sizes) > 0, "no output pixel"
    index = np.arange(width * groups * math.prod(size)).reshape(width * groups, *size)
    M = np.zeros((out, *sizes, index.size))
    for o, place in itertools.product(range(out), itertools.product(*map(range, sizes))):
        group = o // (out // groups)
        for i, tap in itertools.product(range(width), itertools.product(*map(range, taps))):
            at = [
                s * q + d * t - p for s, q, d, t, p in zip(stride, place, dilation, tap, padding, strict=True)
            ]
            if mode == "circular":
                at = [a % n for a, n in zip(at, size, strict=True)]
            elif any(not 0 <= a < n for a, n in zip(at, size, strict=True)):
                continue
            M[(o, *place, index[(group * width + i, *at)])] += K[(o, i, *tap)]
    return M.reshape(-1, index.size)


def axes(value: Any, count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else tuple(value)


def of_arrays(arrays: Mapping[str, np.ndarray], reading: Mapping[str, Any]) -> World | None:
    """Bare weights under a reading; None where the reading means nothing here (the verifier must refuse it then)."""
    if reading.get("kind") == "equilibrium":
        return _equilibrium(arrays, reading)
    if set(reading) - {
        "kind", "activation", "slopes", "transpose", "layers", "ignore", "image_size", "geometry", "flatten", "average",
    }:  # fmt: skip
        return None
    found = _tried(arrays, reading)
    if found is not None or reading.get("layers") or len(arrays) > 7:
        return found
    weights = [name for name in arrays if is_weight(name)]
    others = {name: A for name, A in arrays.items() if name not in weights}
    orders = (
        {**{name: arrays[name] for name in names}, **others} for names in itertools.permutations(weights)
    )
    fitting = [world for order in orders if (world := _tried(order, reading)) is not None]
    return fitting[0] if len(fitting) == 1 else None  # the only order that fits


def is_weight(name: str) -> bool:
    return name.startswith("W") or name.endswith(("weight", "kernel"))


def is_real(A: np.ndarray) -> bool:
    return A.dtype.kind in "fiub"


def _tried(arrays: Mapping[str, np.ndarray], reading: Mapping[str, Any]) -> World | None:
    try:
        return _of_arrays(arrays, reading)
    except (AssertionError, ValueError, KeyError, IndexError, TypeError, ZeroDivisionError):
        return None


def _of_arrays(arrays: Mapping[str, np.ndarray], reading: Mapping[str, Any]) -> World | None:
    weights = [name for name in arrays if is_weight(name)]
    ignore = (
        set() if reading.get("layers") else set(reading.get("ignore", ()))
    )  # named layers ignore the rest anyway
    names = list(reading.get("layers") or [name for name in weights if name not in ignore])
    if any(name not in weights for name in names) or not names:
        return None
    size: tuple[int, ...] | None = None
    steps, used, inputs = list[tuple[np.ndarray, np.ndarray]](), set[str](), 0
    means: np.ndarray | None = None  # behind the layer before
    for k, name in enumerate(names):
        assert is_real(arrays[name]), "numbers"
        W = np.asarray(arrays[name], np.float64)
        used.add(name)
        own: np.ndarray | None = None
        if reading.get("transpose"):
            W = W.T if W.ndim == 2 else np.moveaxis(W, (-1, -2), (0, 1))
        bias = name.replace("W", "b").replace("weight", "bias").replace("kernel", "bias")
        b = np.zeros(len(W))
        vector = (
            bias in arrays
            and sum(n != 1 for n in arrays[bias].shape) < 2
            and arrays[bias].dtype.kind in "fiu"
        )
        if bias != name and vector and bias not in ignore:
            given = np.asarray(arrays[bias], np.float64).reshape(-1)
            if len(given) == len(b):  # any other is no bias, which claims on all inputs do not need
                b = given
                used.add(bias)
        if W.ndim == 2:
            if k and size and reading.get("average"):
                channels = W.shape[1]
                W = np.repeat(W, math.prod(size), 1) / math.prod(size)
                before = steps[-1][0] if means is None else means
                assert len(before) == channels * math.prod(size), "channels fit"
            elif k and size and reading.get("flatten", "chw") != "chw":
                assert len(size) == 1 or reading["flatten"] == "hwc", "only what is written here"
                channels = W.shape[1] // math.prod(size)
                W = np.moveaxis(W.reshape(len(W), *size, channels), -1, 1).reshape(len(W), -1)
            size = None
        else:
            if k == 0:
                size = axes(reading["image_size"], W.ndim - 2)
            assert size is not None, "kernels stand in front"
            geometry = reading.get("geometry", {})
            moves = {**geometry.get("", {}), **geometry.get(name, {})}
            if "max_pool" in moves:
                return None
            count = W.ndim - 2
            stride, dilation = axes(moves.get("stride", 1), count), axes(moves.get("dilation", 1), count)
            same = tuple(d * (t - 1) // 2 for d, t in zip(dilation, W.shape[2:], strict=True))
            padding = axes(moves["padding"], count) if "padding" in moves else same
            mode, groups = moves.get("padding_mode", "zeros"), moves.get("groups", 1)
            if mode not in ("zeros", "circular"):
                return None
            M = convolution(W, size, stride, padding, mode, dilation, groups)
            pixels = len(M) // len(W)
            size = tuple(
                (n + 2 * p - d * (t - 1) - 1) // s + 1
                for n, p, d, t, s in zip(size, padding, dilation, W.shape[2:], stride, strict=True)
            )
            W, b = M, np.repeat(b, pixels)
            if "average_pool" in moves:
                own, size = _means(len(W) // math.prod(size), size, axes(moves["average_pool"], count))
        if means is not None:
            W = W @ means
        means = own
        assert not k or W.shape[1] == len(steps[-1][0]), "widths fit"
        assert len(b) == len(W), "biases fit"
        inputs = inputs or W.shape[1]
        steps.append((W, b))
    if means is not None:
        steps[-1] = (means @ steps[-1][0], means @ steps[-1][1])
    widths = [len(W) for W, _ in steps[:-1]]
    if reading.get("slopes"):
        a, b = map(float, reading["slopes"])
        patterns = itertools.islice(itertools.product((a, b), repeat=sum(widths)), 256)
        functions = [_chain(steps, _factors(np.array(slopes), widths)) for slopes in patterns]
        said = tuple(map(repr, reading["slopes"])) if widths else ()
        return World(tuple(functions), inputs, frozenset(used), said)
    name = reading.get("activation") or "relu"
    f = activation(name.lower())
    if f is None:
        return None
    return World((_chain(steps, [f] * len(widths)),), inputs, frozenset(used), (name,) if widths else ())


def _means(channels: int, size: Sequence[int], window: Sequence[int]) -> tuple[np.ndarray, tuple[int, ...]]:
    """The matrix of means over windows beside each other, and the pixels that are left."""
    M = convolution(np.ones((1, 1, *window)), size, window, (0,) * len(size), "zeros", (1,) * len(size), 1)
    left = tuple(n // w for n, w in zip(size, window, strict=True))
    return np.kron(np.eye(channels), M / math.prod(window)), left


def _factors(slopes: np.ndarray, widths: Sequence[int]) -> list[Function]:
    parts = np.split(slopes, np.cumsum(widths)[:-1]) if widths else []
    return [lambda x, s=s: s * x for s in parts]


def _chain(steps: Sequence[tuple[np.ndarray, np.ndarray]], between: Sequence[Function]) -> Function:
    def f(x: Points) -> Points:
        x = x @ steps[0][0].T + steps[0][1]
        for (W, b), bend in zip(steps[1:], between, strict=True):
            x = bend(x) @ W.T + b
        return x

    return f


def key(reading: Mapping[str, Any]) -> str:
    """A reading as a text."""
    return json.dumps(reading, sort_keys=True, default=str)


def _equilibrium(arrays: Mapping[str, np.ndarray], reading: Mapping[str, Any]) -> World | None:
    """z = f(W z + U x + b), G z + D x + b_y; None where some x has no z, or several."""
    known = {"W", "U", "G", "D", "b", "b_y"}
    name = (reading.get("activation") or "relu").lower()
    if set(reading) - {"kind", "activation"} or set(arrays) - known or not all(map(is_real, arrays.values())):
        return None
    try:
        W, U, G = (np.asarray(arrays[key], np.float64) for key in "WUG")
        D, b, b_y = (np.asarray(arrays.get(key, np.zeros(1)), np.float64) for key in ("D", "b", "b_y"))
        solve = solver(W, name)

        def f(x: Points) -> Points:
            through = x @ D.T if "D" in arrays else 0.0
            return solve(x @ U.T + b.reshape(-1)) @ G.T + through + b_y.reshape(-1)

        some = np.random.default_rng(0).normal(size=(50, U.shape[1]))
        if not all(np.isfinite(f(some * scale)).all() for scale in (0.1, 1.0, 30.0)):
            return None
    except (ValueError, KeyError, np.linalg.LinAlgError):
        return None
    return World((f,), U.shape[1], frozenset(arrays), (name,))


def solver(W: np.ndarray, name: str) -> Function:
    """z = f(W z + c): all patterns of slopes of a function of two pieces, else small steps; NaN where not exactly one is found."""
    f, n = activation(name), len(W)
    if f is None or W.shape != (n, n):
        raise ValueError(name)
    if name.partition(":")[0] in ("relu", "leaky_relu"):
        low = float(f(np.array(-1.0)) * -1)

        def by_pattern(c: Points) -> Points:
            found, count = np.full(c.shape, np.nan), np.zeros(len(c))
            for pattern in itertools.product((low, 1.0), repeat=n):
                slopes = np.diag(pattern)
                z = np.linalg.solve(np.eye(n) - slopes @ W, (c @ slopes).T).T
                right = abs(z - f(z @ W.T + c)).max(-1) <= 1e-9 * (1 + abs(z).max(-1) + abs(c).max(-1))
                new = right & ~(abs(z - found).max(-1) <= 1e-6 * (1 + abs(z).max(-1)))
                count += new
                found[new] = z[new]
            return np.where((count == 1)[:, None], found, np.nan)

        return by_pattern

    def by_steps(c: Points) -> Points:
        z, h = np.zeros(c.shape), 0.5 / (1 + np.linalg.norm(W, 2))
        for _ in range(600):
            z = z + h * (f(z @ W.T + c) - z)
        return z

    return by_steps
