"""An ONNX file as a model that says only what it seems to say: no foreign operators, no files from elsewhere, no names twice."""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdplip.errors import InvalidWeight, MissingDependency, UnreadableFile
from sdplip.weights.content import content

OLDEST = 7
"""The first operator set whose nodes say by themselves how they broadcast."""
STANDARD = ("", "ai.onnx")
NODES = 200_000
"""Nodes that local functions may become."""


def open_model(path: Path) -> Any:
    """The model of an ONNX file (`.onnx`, `.onnx.gz`), its external data inside and its local functions inlined.

    Damage is the caller's to refuse, with `refuse_damaged`.

    Raises:
        MissingDependency: the package `onnx` is not installed.
        UnreadableFile: external data that is missing or lies outside of the model's folder.
        InvalidWeight: an operator set that is too old or not known, a function that stands for a standard operator, names twice.
    """
    try:
        import onnx
        from onnx import inliner
    except ImportError:
        raise MissingDependency(
            f"Reading `{path}` needs the package `onnx`. Install it with `pip install onnx`."
        ) from None
    model = onnx.load_model_from_string(content(path))
    if not model.graph.node:
        raise InvalidWeight(f"`{path}` holds no node. Export the trained network as ONNX.")
    opset(model, path)
    if model.functions:
        _check_functions(model, path)
        model = inliner.inline_local_functions(model)
    for tensor in tensors(model.graph):
        _bring_in(tensor, path)
    _put_in_order(model.graph)
    _check_names(model.graph, path)
    return model


def opset(model: Any, path: Path) -> int:
    """The number of the standard operator set.

    Raises:
        InvalidWeight: none, several, or one that the installed `onnx` does not know.
    """
    from onnx import defs

    found = {entry.version for entry in model.opset_import if entry.domain in STANDARD}
    newest = defs.onnx_opset_version()
    if len(found) != 1 or not OLDEST <= min(found) <= newest:
        raise InvalidWeight(
            f"`{path}` uses the ONNX operator set {sorted(found) or 'of another domain'}. Covered are {OLDEST} to {newest}:"
            " convert it with `onnx.version_converter.convert_version`."
        )
    return min(found)


def tensors(graph: Any) -> Iterator[Any]:
    """All tensors that a graph holds: initialisers and attributes, also of graphs within its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t] * attribute.HasField("t")
            yield from attribute.tensors
            for inner in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                yield from tensors(inner)


def named(node: Any) -> str:
    """How a message calls a node."""
    return node.name or next((name for name in node.output if name), node.op_type)


def _bring_in(tensor: Any, path: Path) -> None:
    """Puts the external data of a tensor into it."""
    from onnx import TensorProto

    if tensor.data_location != TensorProto.EXTERNAL:
        return
    entries = {entry.key: entry.value for entry in tensor.external_data}
    folder = path.resolve().parent
    file = (folder / entries.get("location", "")).resolve()
    if not file.is_relative_to(folder) or not file.is_file():
        raise UnreadableFile(
            f"`{tensor.name}` of the ONNX file `{path}` is stored in another file, `{entries.get('location')}`, which is not"
            " in the folder of the model. Put it beside the model, under that name."
        )
    start, size = int(entries.get("offset", 0)), file.stat().st_size
    length = int(entries.get("length", size - start))
    if min(start, length) < 0 or start + length > size:
        raise UnreadableFile(
            f"`{tensor.name}` of `{path}` is truncated: `{file.name}` has {size} bytes. Copy it again."
        )
    with file.open("rb") as stream:
        stream.seek(start)
        tensor.raw_data = stream.read(length)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _check_functions(model: Any, path: Path) -> None:
    """Raises:
    InvalidWeight: a function that is called like a standard operator, or functions that call each other without end.
    """
    bodies = {(function.domain, function.name): function for function in model.functions}
    for domain, name in bodies:
        if domain in STANDARD:
            raise InvalidWeight(
                f"`{path}` defines a function of its own under the name of the operator {name}."
            )
    sizes = dict[tuple[str, str], int]()
    for key in bodies:
        _size(key, bodies, sizes, (), path)
    if sum(sizes.get((node.domain, node.op_type), 1) for node in model.graph.node) > NODES:
        raise InvalidWeight(f"The functions of `{path}` become more than {NODES} nodes.")


def _size(
    key: tuple[str, str],
    bodies: dict[tuple[str, str], Any],
    sizes: dict[tuple[str, str], int],
    within: tuple[tuple[str, str], ...],
    path: Path,
) -> int:
    """How many nodes a function becomes."""
    if key not in bodies:
        return 1
    if key in within or len(within) > 50:
        raise InvalidWeight(f"Functions of `{path}` call each other without end, `{key[1]}` for example.")
    if key not in sizes:
        inner = [(node.domain, node.op_type) for node in bodies[key].node]
        sizes[key] = min(NODES + 1, sum(_size(k, bodies, sizes, (*within, key), path) for k in inner))
    return sizes[key]


def _put_in_order(graph: Any) -> None:
    """Puts each node behind those that make what it takes, which some writers of files do not, and runtimes do not ask for.

    A graph with a circle, or with graphs within its nodes, stays as it is.
    """
    nodes = list(graph.node)
    if any(a.HasField("g") or a.graphs for node in nodes for a in node.attribute):
        return
    makers = {name: k for k, node in enumerate(nodes) for name in node.output if name}
    before = [{makers[name] for name in node.input if name in makers} for node in nodes]
    users: dict[int, list[int]] = {}
    for k, made in enumerate(before):
        for other in made:
            users.setdefault(other, []).append(k)
    missing = [len(made) for made in before]
    ready, order = [k for k, count in enumerate(missing) if not count], list[int]()
    while ready:
        order.append(heapq.heappop(ready))
        for k in users.get(order[-1], ()):
            missing[k] -= 1
            if not missing[k]:
                heapq.heappush(ready, k)
    if len(order) == len(nodes) and order != sorted(order):
        ordered = [type(nodes[k]).FromString(nodes[k].SerializeToString()) for k in order]
        del graph.node[:]
        graph.node.extend(ordered)


def _check_names(graph: Any, path: Path) -> None:
    """Raises:
    InvalidWeight: a value that is made twice, or used before it is made.
    """
    made = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    if len({tensor.name for tensor in graph.initializer}) < len(graph.initializer):
        raise InvalidWeight(f"`{path}` holds two initialisers of one name.")
    for node in graph.node:
        for name in node.input:
            if name and name not in made:
                raise InvalidWeight(
                    f"Node {node.op_type} `{named(node)}` of `{path}` takes `{name}`, which nothing before it makes."
                )
        for name in node.output:
            if name and name in made:
                raise InvalidWeight(f"The value `{name}` of `{path}` is made twice.")
            made.add(name)
