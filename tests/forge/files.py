"""Weight files that were changed by who also writes the certificate, each with a judge that reads the changed file by itself."""

import contextlib
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.forge.graphs import network_file
from tests.forge.honest import Case, judge_of_arrays
from tests.forge.mutants import anything, choice, written
from tests.forge.truth import Judge
from tests.forge.worlds import World

Rng = np.random.Generator
Forge = Callable[[Case, Path, Rng], Judge]
WRONG = (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError)
"""What a second change may raise because of the first."""


def forge_of(case: Case) -> Forge | None:
    """How the file of a case is forged; None where it is not: it writes the file and returns its judge."""
    kind = case.document["file"]["reading"]["kind"]
    if kind in ("network", "onnx"):
        return network if kind == "network" else onnx_graph
    return arrays if case.file.suffix == ".npz" else None


def network(case: Case, to: Path, rng: Rng) -> Judge:
    """A network file with one or two changes in its list of nodes or tensors."""
    raw = case.file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    graph = json.loads(header["__metadata__"]["sdplip.network"])
    for _ in range(int(rng.integers(1, 3))):
        whole = {"graph": graph, "tensors": header} if rng.random() < 0.2 else graph
        with contextlib.suppress(*WRONG):
            anything(whole, rng, [graph])
    header["__metadata__"] = {"sdplip.network": written(graph)}
    text = written(header).encode("utf-8", "surrogatepass")
    to.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    judge = Judge(lambda reading: network_file(to) if reading == {"kind": "network"} else None)
    return replace(judge, images=case.judge.images, masks=case.judge.masks)


def arrays(case: Case, to: Path, rng: Rng) -> Judge:
    """Bare arrays with one or two changes: of numbers, formats, shapes, names, and with a second array of the same name."""
    with np.load(case.file) as found:
        own = dict(found)
    second: tuple[str, np.ndarray] | None = None
    for _ in range(int(rng.integers(1, 3))):
        with contextlib.suppress(*WRONG), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # casts that lose something
            second = _array(own, rng) or second
    np.savez(to, **own)  # type: ignore[arg-type]
    if second is not None and second[0] in own:
        own[second[0]] = second[1]  # that one counts for whoever loads it
        with zipfile.ZipFile(to, "a") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `zipfile` notices two members of one name
            with file.open(f"{second[0]}.npy", "w") as stream:
                np.lib.format.write_array(stream, second[1])
    return replace(judge_of_arrays(own), images=case.judge.images, labels=case.judge.labels)


def _array(own: dict[str, np.ndarray], rng: Rng) -> tuple[str, np.ndarray] | None:
    """Changes one array; or gives a second one of its name, to be written behind it."""
    name, other = (choice(rng, list(own)) for _ in range(2))
    A, how = own[name].copy(), int(rng.integers(9))
    if how == 0:
        A.reshape(-1)[rng.integers(A.size)] = choice(rng, (np.nan, np.inf, 1e308, 5e-324, 0.0, -7.0, 1e-310))
    elif how == 1:
        A = A * choice(rng, (0.0, 0.5, 2.0, 1 + 2.0**-52, 2.0**600, 2.0**-600, 2.0**-1060, 1e308))
    elif how == 2:
        A = A.astype(choice(rng, ("f4", "f2", "i4", "i1", "?", "c16", "u8", ">f8", "g", "U8")))
    elif how == 3:
        A, own[other] = own[other].copy(), A
    elif how == 4:
        A = A.T.copy() if rng.random() < 0.5 else A[None] if rng.random() < 0.5 else A.reshape(-1)
    elif how == 5:
        A = A[: len(A) // 2] if rng.random() < 0.5 else np.concatenate([A, A])
    elif how == 6:
        own.pop(name)
        name = choice(rng, ("W9", "more.weight", "fc9.bias", "gamma", "fc1.weight"))
    elif how == 7 and len(own) > 1:
        own.pop(name)
        return None
    else:
        return name, A * choice(rng, (0.5, 0.01, 0.0))
    own[name] = A
    return None


def onnx_graph(case: Case, to: Path, rng: Rng) -> Judge:
    """An ONNX graph with one or two changes of its nodes, attributes, constants and declarations, judged by onnxruntime."""
    import onnx

    model = onnx.load(case.file)
    for _ in range(int(rng.integers(1, 3))):
        with contextlib.suppress(*WRONG):
            choice(rng, (_node, _node, _attribute, _attribute, _wires, _constant, _declared))(model, rng)
    to.write_bytes(model.SerializeToString())
    return Judge(lambda reading: onnx_world(to, reading))


def _node(model: Any, rng: Rng) -> None:
    """Another operator, another domain, a node that is left out, a node twice."""
    nodes, how = model.graph.node, int(rng.integers(6))
    k = int(rng.integers(len(nodes)))
    if how <= 2:
        nodes[k].op_type = choice(
            rng,
            ("Relu", "LeakyRelu", "Tanh", "Abs", "Neg", "Identity", "Sigmoid", "Exp", "Gemm", "MatMul", "Add", "Sub", "Mul",
             "Div", "Max", "Min", "Flatten", "Softmax", "Erf", "Elu", "Softplus", "Conv", "Transpose", "Sqrt", "Dropout", "Squeeze"),
        )  # fmt: skip
    elif how == 3:
        nodes[k].domain = choice(rng, ("my", "ai.onnx", "com.microsoft"))
    elif how == 4:
        gone, instead = nodes[k].output[0], nodes[k].input[0]
        del nodes[k]
        for node in nodes:
            for i, name in enumerate(node.input):
                node.input[i] = instead if name == gone else name
    else:
        nodes.append(nodes[k])


def _attribute(model: Any, rng: Rng) -> None:
    """Another value of an attribute, one more, one less."""
    from onnx import helper

    node = choice(rng, list(model.graph.node))
    if node.attribute and rng.random() < 0.6:
        found = choice(rng, list(node.attribute))
        if found.ints and rng.random() < 0.8:
            found.ints[int(rng.integers(len(found.ints)))] = int(rng.integers(-1, 4))
        elif not found.ints and rng.random() < 0.5:
            found.i = int(rng.integers(0, 3))
        else:
            node.attribute.remove(found)
        return
    name, value = choice(
        rng,
        (
            ("alpha", 3.0), ("alpha", -1.0), ("beta", 2.0), ("transA", 1), ("transB", 0), ("transB", 1), ("group", 2), ("axis", 0),
            ("axis", 2), ("dilations", [2]), ("strides", [1]), ("pads", [0, 2]), ("auto_pad", "SAME_UPPER"), ("auto_pad", "VALID"),
            ("kernel_shape", [2]), ("perm", [1, 0]), ("ratio", 0.5), ("broadcast", 1), ("alpha", float("nan")),
        ),
    )  # fmt: skip
    node.attribute.append(helper.make_attribute(name, value))


def _wires(model: Any, rng: Rng) -> None:
    """Other inputs and outputs of a node."""
    nodes = list(model.graph.node)
    node, names = choice(rng, nodes), [name for node in nodes for name in (*node.input, *node.output)]
    how, k = int(rng.integers(4)), int(rng.integers(len(node.input)))
    if how == 0 and len(node.input) > 1:
        node.input[0], node.input[1] = node.input[1], node.input[0]
    elif how <= 2:
        node.input[k] = choice(rng, [*names, ""])
    elif rng.random() < 0.5:
        node.input.append(choice(rng, names))
    else:
        node.output[0] = choice(rng, names)


def _constant(model: Any, rng: Rng) -> None:
    """Other numbers, another shape, another format, a second constant of the same name, one that is an input too."""
    from onnx import TensorProto, helper, numpy_helper

    kept, how = model.graph.initializer, int(rng.integers(6))
    k = int(rng.integers(len(kept)))
    name, A = kept[k].name, numpy_helper.to_array(kept[k])
    if how == 0:
        made = A * np.float32(choice(rng, (0.5, 3.0, -1.0, 0.0, np.nan)))
    elif how == 1:
        made = A.T.copy() if rng.random() < 0.5 else A[None]
    elif how == 2:
        made = A.astype(choice(rng, ("f8", "f2", "i4")))
    elif how == 3:
        kept.append(numpy_helper.from_array((A / 9).astype(A.dtype), name))
        return
    elif how == 4:
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, A.shape))
        return
    else:
        made, name = A, choice(rng, (*(node.output[0] for node in model.graph.node), "x", "K", "W"))
        kept.append(numpy_helper.from_array(made, name))
        return
    kept[k].CopyFrom(numpy_helper.from_array(made, name))


def _declared(model: Any, rng: Rng) -> None:
    """Another version of the operators, a batch that is not said, another shape of the input."""
    how, size = int(rng.integers(3)), model.graph.input[0].type.tensor_type.shape
    if how == 0:
        model.opset_import[0].version = int(choice(rng, (1, 6, 7, 9, 11, 12, 13, 17, 19, 21, 22, 99)))
    elif how == 1:
        size.dim[0].dim_param = "batch"
    else:
        size.dim[int(rng.integers(len(size.dim)))].dim_value = int(rng.integers(0, 8))


def _only(graph: Any, output: str) -> None:
    """Leaves the nodes that the output is made of: what is wrong with others is nobody's business."""
    wanted, kept = {output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    outputs = [value for value in graph.output if value.name == output]
    del graph.node[:], graph.output[:]
    graph.node.extend(reversed(kept))
    graph.output.extend(outputs)


def onnx_world(path: Path, reading: Mapping[str, Any]) -> World | None:
    """What onnxruntime makes of the graph on one input at a time; None where it refuses."""
    import onnxruntime

    if set(reading) - {"kind", "outputs", "inputs"} or reading.get("inputs") not in (None, "", "x"):
        return None
    import onnx

    model, output = onnx.load(path), reading.get("outputs") or "y"
    _only(model.graph, output)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level, settings.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, ["CPUExecutionProvider"])
        (x, *_), shape = session.get_inputs(), []
        shape = [d if isinstance(d, int) else 1 for d in x.shape]

        def one(point: np.ndarray) -> np.ndarray:
            sample = point.reshape(1, *shape[1:]).astype(np.float32)
            found = session.run([output], {x.name: np.repeat(sample, shape[0], 0)})[0]
            return found[:1].astype(np.float64).reshape(-1)

        def f(points: np.ndarray) -> np.ndarray:
            return np.stack([one(point) for point in points])

        inputs = int(np.prod(shape[1:]))
        f(np.zeros((1, inputs)))
    except Exception:  # its own errors, of which there are many
        return None
    return World((f,), inputs, frozenset(), coarse=True)
