r"""A network as one file that NumPy alone reads: a safetensors file whose metadata says the graph.

`write_network(path, network)` and `read_network(path)`. The tensors are the weights, under the names of their layers; the key
`sdplip.network` of the metadata is a JSON list of nodes. Doubles that single precision holds are stored as such, so nothing is
rounded. The reader trusts nothing: sizes, types and offsets are checked before memory is taken, and `Network` checks the rest.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from math import prod
from pathlib import Path
from typing import Any, cast, get_origin

import numpy as np

from sdplip.errors import SdplipError, UnreadableFile
from sdplip.network.graph import Network, Node
from sdplip.network.operators import (
    LARGEST,
    AbstractLinear,
    Activation,
    Average,
    Concatenate,
    Convolution,
    Dense,
    Diagonal,
    Equilibrium,
    Gather,
    Grouped,
    Maximum,
    Norms,
    OnAxis,
    Operator,
    Scatter,
    Sort,
    Sum,
    Transposed,
)
from sdplip.network.operators.nonlinear import known
from sdplip.stored import once, widened
from sdplip.writing import write_bytes

KEY = "sdplip.network"
HEADER = 1 << 26
"""Bytes of the largest header that is read: 64 MB."""
NODES = 1 << 16
"""Nodes of the largest network that is read."""
KINDS: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        Activation, Average, Concatenate, Convolution, Dense, Diagonal, Equilibrium, Gather, Grouped, Maximum, Norms, OnAxis,
        Scatter, Sort, Sum, Transposed,
    )
}  # fmt: skip
"""Operators by the name that files call them."""
DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "I16": "<i2", "U8": "u1"}
NAMES = {"W": "weight", "K": "weight", "b": "bias"}
"""What fields are called in tensor names, where torch has a word for them."""


def write_network(path: str | os.PathLike[str], network: Network) -> None:
    """Writes the network; the file appears whole or not at all."""
    tensors: dict[str, np.ndarray] = {}
    places: dict[int, int] = {}
    nodes = []
    for k, node in enumerate(network.nodes):
        body = {"op": _packed(node.op, node.name or str(k), k, tensors, places)}
        nodes.append({**body, "inputs": list(node.inputs), "shape": list(node.shape), "name": node.name})
        places[id(node.op)] = k
    graph = json.dumps({"input_shape": list(network.input_shape), "nodes": nodes})
    write_tensors(path, tensors, {KEY: graph})


def read_network(path: str | os.PathLike[str]) -> Network:
    """The network of a file from `write_network`.

    Raises:
        UnreadableFile: missing, damaged, or without a network.
        InvalidWeight: a graph that contradicts itself.
    """
    header, data = _opened(Path(path))
    graph = header.get("__metadata__", {}).get(KEY)
    if not isinstance(graph, str):
        raise UnreadableFile(
            f"`{path}` holds tensors and no network. Write one with `sdplip export`, or read it as weights of layers."
        )
    try:
        body = json.loads(graph, object_pairs_hook=once)
        if not isinstance(body["nodes"], list) or len(body["nodes"]) > NODES:
            raise ValueError(f"more than {NODES} nodes")
        nodes, tensors = list[Node](), _Tensors(header, data)
        for item in body["nodes"]:
            op = _unpacked(item["op"], tensors, nodes)
            if op.outputs > LARGEST:
                raise ValueError(f"{op.outputs} numbers in one value are more than {LARGEST}")
            nodes.append(Node(op, _wholes(item["inputs"]), _wholes(item["shape"]), str(item["name"])))
        return Network(_wholes(body["input_shape"]), tuple(nodes))
    except SdplipError:
        raise
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        OverflowError,
        AssertionError,
        AttributeError,
        RecursionError,
    ) as error:
        raise _damaged(
            path, f"its graph does not make sense ({type(error).__name__}: {str(error)[:80]})"
        ) from None


def holds_network(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a safetensors file with a network."""
    try:
        header, _ = _opened(Path(path))
    except UnreadableFile:
        return False
    return KEY in header.get("__metadata__", {})


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """A safetensors file, written whole or not at all."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at, blocks = 0, []
    for name, array in tensors.items():
        dtype = next(key for key, code in DTYPES.items() if np.dtype(code) == array.dtype.newbyteorder("<"))
        block = np.ascontiguousarray(array, np.dtype(DTYPES[dtype])).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(block)]}
        at += len(block)
        blocks.append(block)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(path, len(text).to_bytes(8, "little"), text, *blocks)


def _packed(
    op: Operator, name: str, k: int, tensors: dict[str, np.ndarray], places: Mapping[int, int]
) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": type(op).__name__}
    for field in fields(cast(Any, op)):
        value = getattr(op, field.name)
        if value is None:
            continue
        if isinstance(value, AbstractLinear):
            at = places.get(id(value))
            body[field.name] = (
                {"node": at} if at is not None else _packed(value, f"{name}.of", k, tensors, places)
            )
        elif isinstance(value, np.ndarray):
            body[field.name] = _stored(f"{name}.{NAMES.get(field.name, field.name)}", value, tensors)
        elif isinstance(value, Mapping):
            body[field.name] = {
                key: _stored(f"{name}.{key}", v, tensors) if isinstance(v, np.ndarray) else float(v)
                for key, v in value.items()
            }
        else:
            body[field.name] = value
    return body


def _stored(name: str, array: np.ndarray, tensors: dict[str, np.ndarray]) -> dict[str, str]:
    while name in tensors:
        name += "_"
    if array.dtype.kind == "f":
        with np.errstate(over="ignore", under="ignore"):
            single = array.astype(np.float32)
        tensors[name] = single if (single == array).all() else array
    else:
        wide = np.asarray(array, np.int64)
        tensors[name] = wide.astype(np.int32) if abs(wide).max(initial=0) < 2**31 - 1 else wide
    return {"tensor": name}


def _unpacked(body: Any, tensors: "_Tensors", nodes: list[Node]) -> Operator:
    kind = KINDS[body["kind"]]
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name not in body:
            continue
        value = body[field.name]
        if field.name == "of":
            op = nodes[value["node"]].op if "node" in value else _unpacked(value, tensors, nodes)
            if not isinstance(op, AbstractLinear):
                raise ValueError("the transpose of what is not linear")
            value = op
        elif field.name == "parameters":
            value = {
                str(key): tensors[v["tensor"]] if isinstance(v, dict) else float(v)
                for key, v in value.items()
            }
        elif isinstance(value, dict):
            value = tensors[value["tensor"]]
        elif isinstance(value, list) and get_origin(field.type) is tuple:
            value = _tuples(value)
        elif type(value) is not field.type and not (field.type is float and type(value) is int):
            raise TypeError(f"{field.name} of {body['kind']} is {str(value)[:40]}")
        values[field.name] = value
    if set(body) - {"kind"} - set(values):
        raise ValueError(f"unknown fields of {body['kind']}")
    op = kind(**values)
    if isinstance(op, Activation) and op.name:
        alpha, beta = known(op.name).slopes(**op.parameters)
        if (op.alpha > alpha).any() or (op.beta < beta).any():
            raise ValueError(f"slopes are narrower than those of {op.name}")
    return op


class _Tensors(dict[str, np.ndarray]):
    """The tensors of a file by name, each read once, so that nodes that share one share its memory; read-only."""

    def __init__(self, header: Mapping[str, Any], data: np.ndarray) -> None:
        super().__init__()
        self.header, self.data = header, data

    def __missing__(self, name: str) -> np.ndarray:
        entry = self.header[name]
        shape, (start, end) = _wholes(entry["shape"]), _wholes(entry["data_offsets"])
        dtype = np.dtype(DTYPES[entry["dtype"]])
        if not 0 <= start <= end <= len(self.data) or end - start != prod(shape) * dtype.itemsize:
            raise ValueError(f"tensor {name!r} does not fit the file")
        found = np.frombuffer(self.data[start:end].tobytes(), dtype).reshape(shape)
        found = widened(found) if dtype.kind == "f" else found.astype(np.int64)
        found.setflags(write=False)
        self[name] = found
        return found


def _opened(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The header, and the bytes behind it, which are mapped and not read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(HEADER, size - 8):
                raise _damaged(path, "it does not begin like a safetensors file")
            header = json.loads(stream.read(length), object_pairs_hook=once)
    except OSError as error:
        raise UnreadableFile(f"`{path}` cannot be read: {error.strerror}. Check the path.") from None
    except (ValueError, RecursionError):
        raise _damaged(path, "its header is no JSON") from None
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise _damaged(path, "its header is no table of tensors")
    if size == 8 + length:
        return header, np.zeros(0, np.uint8)
    return header, np.memmap(path, np.uint8, "r", offset=8 + length)


def _wholes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 2**40 for item in value):
        raise ValueError(f"{str(value)[:40]} is no list of whole numbers")
    return tuple(value)


def _tuples(value: list[Any]) -> tuple[Any, ...]:
    if not all(isinstance(item, list) or (type(item) is int and abs(item) < 2**40) for item in value):
        raise ValueError(f"{str(value)[:40]} is no list of whole numbers")
    return tuple(_tuples(item) if isinstance(item, list) else item for item in value)


def _damaged(path: str | os.PathLike[str], why: str) -> UnreadableFile:
    return UnreadableFile(f"`{path}` is truncated or damaged: {why}. Copy or write the file again.")
