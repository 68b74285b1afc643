"""Network files and ONNX graphs in plain NumPy: what their nodes say they do, read without `sdplip`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.forge.worlds import ACTIVATIONS, World, convolution, solver

DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "I16": "<i2", "U8": "u1"}
MORE = {
    "prelu": lambda x, slope=0.25: np.where(x > 0, x, slope * x),
    "leaky_relu": lambda x, negative_slope=0.01: np.where(x > 0, x, negative_slope * x),
    "clip": lambda x, low=-1.0, high=1.0: np.clip(x, low, high),
}


def network_file(path: Path) -> World | None:
    """A network file; None where it means nothing."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    try:
        graph = json.loads(header["__metadata__"]["sdplip.network"])
        steps = [(_operator(node["op"], header, data), node["inputs"]) for node in graph["nodes"]]
        inputs = math.prod(graph["input_shape"])

        def f(x: np.ndarray) -> np.ndarray:
            values = [x]
            for op, wanted in steps:
                values.append(op(*(values[i] for i in wanted)))
            return values[-1]

        f(np.zeros((2, inputs)))
    except (KeyError, ValueError, TypeError, IndexError, AssertionError):
        return None
    return World((f,), inputs, frozenset())


def _operator(body: Mapping[str, Any], header: Mapping[str, Any], data: bytes) -> Any:
    """A function of values `(batch, n)`."""
    kind, array = body["kind"], lambda name: _tensor(body[name], header, data)
    b = _tensor(body["b"], header, data) if "b" in body else 0.0
    if kind == "Activation" and not body["name"]:  # any function of these slopes, for example this one
        low, high = array("alpha"), array("beta")
        return lambda x: np.where(x > 0, high * x, low * x)
    if kind == "Activation":
        given = {
            k: _tensor(v, header, data) if isinstance(v, dict) else v
            for k, v in body.get("parameters", {}).items()
        }
        f = {**ACTIVATIONS, **MORE}[body["name"]]
        return lambda x: f(x, **given)
    if kind == "Equilibrium":
        return solver(array("W"), body["name"])
    if kind == "Sum":
        return lambda *x: sum(s * v for s, v in zip(body["signs"], x, strict=True))
    if kind == "Concatenate":
        return lambda *x: np.concatenate(x, -1)
    if kind in ("Sort", "Norms"):
        groups = array("groups")
        assert len(set(groups.reshape(-1).tolist())) == groups.size, "no entry stands twice"
        return (
            (lambda x: _sorted(x, groups))
            if kind == "Sort"
            else lambda x: np.linalg.norm(x[:, groups], axis=-1)
        )
    if kind == "Grouped":
        assert body["name"] == "softmax", "nothing else is written here"
        groups = array("groups")
        return lambda x: _softmax(x, groups)
    if kind == "Maximum":
        index = array("index")
        return lambda x: np.where(index < 0, -np.inf, x[:, index]).max(-1)
    if kind == "Average":
        index, divisor = array("index"), array("divisor")
        return lambda x: np.where(index < 0, 0.0, x[:, index]).sum(-1) / divisor
    M = _matrix(body, header, data)
    return lambda x: x @ M.T + b


def _matrix(body: Mapping[str, Any], header: Mapping[str, Any], data: bytes) -> np.ndarray:
    """The dense matrix of a linear operator."""
    kind, array = body["kind"], lambda name: _tensor(body[name], header, data)
    if kind == "Dense":
        return array("W")
    if kind == "Diagonal":
        return np.diag(array("d"))
    if kind == "OnAxis":
        return np.kron(np.kron(np.eye(body["before"]), array("W")), np.eye(body["after"]))
    if kind == "Transposed":
        return _matrix(body["of"], header, data).T
    if kind in ("Gather", "Scatter"):
        index, n = array("index"), body["length"]
        assert index.max() < n, "entries that exist"
        M = np.zeros((len(index), n))
        M[index >= 0, index[index >= 0]] = 1.0
        return M if kind == "Gather" else M.T
    assert kind == "Convolution", "all kinds"
    pads, mode = body["pads"], "circular" if body.get("circular") else "zeros"
    assert all(a == c for a, c in pads), "the same on both sides"
    return convolution(
        array("K"),
        body["image_size"],
        body["stride"],
        [a for a, _ in pads],
        mode,
        body["dilation"],
        body.get("groups", 1),
    )


def _sorted(x: np.ndarray, groups: np.ndarray) -> np.ndarray:
    y = x.copy()
    y[:, groups] = np.sort(x[:, groups], -1)
    return y


def _softmax(x: np.ndarray, groups: np.ndarray) -> np.ndarray:
    y, z = x.copy(), np.exp(x[:, groups] - x[:, groups].max(-1, keepdims=True))
    y[:, groups] = z / z.sum(-1, keepdims=True)
    return y


def _tensor(reference: Mapping[str, Any], header: Mapping[str, Any], data: bytes) -> np.ndarray:
    entry = header[reference["tensor"]]
    start, end = entry["data_offsets"]
    found = np.frombuffer(data[start:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    found = found.astype(np.float64 if found.dtype.kind == "f" else np.int64)
    assert np.isfinite(found).all(), "finite"
    return found


def small_onnx(arrays: Mapping[str, np.ndarray], size: int) -> Mapping[str, Any]:
    """Function of each value of the graph that `honest.onnx_file` writes: convolution of stride 2, relu, residual block, maximum."""
    K, b, W, U, V = (np.asarray(arrays[name], np.float64) for name in ("K", "b", "W", "U", "V"))
    M = convolution(K, (size,), (2,), (1,), "zeros", (1,), 1)
    pixels = len(M) // len(K)

    def first(x: np.ndarray) -> np.ndarray:
        return np.maximum(x @ M.T + np.repeat(b, pixels), 0)

    def block(x: np.ndarray) -> np.ndarray:
        z = first(x)
        return z + np.maximum(z @ W.T, 0) @ U.T

    return {"y": lambda x: block(x) @ V.T, "block": block, "first": first}
