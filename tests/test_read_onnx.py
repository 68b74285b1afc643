"""ONNX files become networks: each operator and option, graphs that were once read wrongly, random graphs, exports, refusals."""

import contextlib
import gzip
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sdplip.bounds.methods.product import layers_proof
from sdplip.errors import InvalidWeight, SdplipError, UnreadableFile
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal
from sdplip.network import Network
from sdplip.network.read.onnx import Status, read_onnx, verify_understanding
from sdplip.network.read.onnx.operators import OPERATORS
from tests.forge.honest import onnx_file
from tests.onnx_graphs import IMAGE, SINGLE, TOKENS, VECTOR, WRITTEN_OUT, Graph, saved, single
from tests.onnx_random import random_graph


def product(network: Network) -> float:
    """The proven product of norms."""
    return conclude(Goal(network), layers_proof(network))


def steepest(network: Network, seed: int) -> float:
    """The largest norm of a Jacobian by differences, at some inputs."""
    rng, h = np.random.default_rng(seed), 1e-6
    found = 0.0
    for scale in (0.1, 1.0):
        x = rng.normal(size=network.inputs) * scale
        steps = h * np.eye(network.inputs)
        J = (network(x + steps) - network(x - steps)) / (2 * h)
        found = max(found, float(np.linalg.norm(J, 2)))
    return found


def same_as_runtime(path: Path, inputs: str | None = None, outputs: str | None = None) -> Network:
    """The network of a file, compared with onnxruntime or, where that is rougher, with onnx's reference."""
    understood = read_onnx(path, inputs=inputs, outputs=outputs)
    assert understood.checked.startswith("agrees with onnx"), understood.checked
    return understood.network


EVERY = {**SINGLE, **{f"written out: {name}": graph for name, graph in WRITTEN_OUT.items()}}


@pytest.mark.parametrize("name", EVERY)
def test_every_operator_is_what_onnxruntime_makes_of_it(name: str, tmp_path: Path) -> None:
    body, shape, opset = EVERY[name]
    network = same_as_runtime(saved(single(body, shape, opset), tmp_path))
    # differences of step 1e-6 lose six digits of values of about 1
    assert steepest(network, 0) <= product(network) * (1 + 1e-6) + 1e-8


def test_every_operator_of_the_table_has_a_graph() -> None:
    missing = set(OPERATORS) - {name.split(",")[0] for name in SINGLE}
    assert not missing


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_are_what_onnxruntime_makes_of_them(seed: int, tmp_path: Path) -> None:
    network = same_as_runtime(saved(random_graph(seed), tmp_path))
    assert steepest(network, seed) <= product(network) * (1 + 1e-6) + 1e-8


# Graphs that were once read as another network: their spreading, products from the left and transpositions were not followed.
ONCE_WRONG = {
    "outer_add": (lambda g, x: g("Add", g("Unsqueeze", g("Gemm", x, g.normal(4, 6)), np.array([2])), g.normal(6)), (1, 4)),
    "outer_mul": (lambda g, x: g("Mul", g("Unsqueeze", g("Gemm", x, g.normal(4, 6)), np.array([2])), g.normal(6)), (1, 4)),
    "column_bias": (lambda g, x: g("Add", g("Gemm", x, g.normal(4, 6)), g.normal(6, 1)), (1, 4)),
    "outer_sum_of_branches": (lambda g, x: g(
        "Add", g("Unsqueeze", g("Gemm", x, g.normal(4, 6)), np.array([1])),
        g("Unsqueeze", g("Gemm", x, g.normal(4, 6)), np.array([2]))), (1, 4)),
    "left_and_right_product": (
        lambda g, x: g("MatMul", g("Relu", g("MatMul", g.normal(4, 4), x)), g.normal(4, 4)), (4, 4)),
    "gemm_transA_twice": (lambda g, x: g(
        "Gemm", g("Relu", g("Gemm", x, g.normal(4, 4), transA=1)), g.normal(4, 4), transA=1), (4, 4)),
    "reshape_broadcast": (lambda g, x: g("Add", g("Reshape", x, np.array([1, 4, 1])), g.normal(4)), (1, 4)),
    "gemm_on_the_left": (lambda g, x: g("Gemm", g.normal(3, 4), x, g.normal(3, 1)), (4, 2)),
    "matmul_on_the_left": (lambda g, x: g("Relu", g("MatMul", g.normal(3, 4), x)), (4, 2)),
    "gemm_with_a_column": (lambda g, x: g("Gemm", x, g.normal(4, 2), g.normal(3, 1)), (3, 4)),
    "unsqueeze_plus": (lambda g, x: g("Add", g("Unsqueeze", g("Gemm", x, g.normal(6, 4)), np.array([2])), g.normal(6)), VECTOR),
    "unsqueeze_minus": (lambda g, x: g(
        "Sub", g("Unsqueeze", x, np.array([2])), g("Unsqueeze", x, np.array([1]))), VECTOR),
    "relu_of_outer": (lambda g, x: g("Relu", g("Sub", g("Unsqueeze", x, np.array([-1])), g.normal(5))), VECTOR),
    "relu_times": (lambda g, x: g("Mul", g("Unsqueeze", g("Relu", x), np.array([2])), g.normal(4)), VECTOR),
}  # fmt: skip


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_graphs_that_were_once_read_wrongly(name: str, tmp_path: Path) -> None:
    body, shape = ONCE_WRONG[name]
    network = same_as_runtime(saved(single(body, shape), tmp_path))
    assert steepest(network, 1) <= product(network) * (1 + 1e-6) + 1e-8


REFUSED = {
    "Dropout in training": (lambda g, x: g("Dropout", x, np.float32(0.9), np.array(True)), VECTOR, "training mode"),
    "BatchNormalization in training": (lambda g, x: g(
        "BatchNormalization", x, g.normal(6), g.normal(6), g.normal(6), g.normal(6), training_mode=1, outputs=3), VECTOR,
        "training mode"),
    "product of branches": (lambda g, x: g("Mul", x, g("Relu", x)), VECTOR, "products of two computed values"),
    "attention": (lambda g, x: g("MatMul", x, g("Transpose", x, perm=[0, 2, 1])), TOKENS, "MatMul `n1`"),
    "square": (lambda g, x: g("Pow", x, np.float32(2)), VECTOR, "steep without limit"),
    "almost a GELU": (lambda g, x: g("Mul", x, g("Add", g("Erf", x), np.float32(1.001))), VECTOR, "computed values"),
    "constant over network": (lambda g, x: g("Div", np.float32(1), x), VECTOR, "no Lipschitz constant"),
    "over zero": (lambda g, x: g("Div", x, np.float32(0)), VECTOR, "divides by zero"),
    "ArgMax": (lambda g, x: g("Cast", g("ArgMax", x), to=1), VECTOR, "jumps"),
    "Floor": (lambda g, x: g("Floor", x), VECTOR, "jumps"),
    "hard shrinkage": (lambda g, x: g("Shrink", x, lambd=0.5), VECTOR, "jumps"),
    "a jump": (lambda g, x: g("Where", g("Greater", x, np.float32(0)), x, np.float32(-1)), VECTOR, "Greater `n0` jumps"),
    "LSTM": (lambda g, x: g("LSTM", x, g.normal(1, 8, 4), g.normal(1, 8, 2), hidden_size=2, outputs=3), TOKENS, "recurrent"),
    "If": (lambda g, _: g("If", g.constant(np.array(True)), then_branch=_branch(), else_branch=_branch()), VECTOR, "own"),
    "lossy cast": (lambda g, x: g("Cast", g("Cast", x, to=10), to=1), VECTOR, "cannot hold them"),
    "softmax over the batch": (lambda g, x: g("Softmax", x, axis=0), VECTOR, "samples of a batch"),
    "sum over the batch": (lambda g, x: g("ReduceSum", x, np.array([0])), VECTOR, "samples of a batch"),
    "samples minus samples": (lambda g, x: g(
        "Sub", g("Unsqueeze", x, np.array([0])), g("Unsqueeze", x, np.array([1]))), VECTOR, "batch"),
    "Gemm that mixes samples": (lambda g, x: g(
        "Gemm", g("Relu", g("Gemm", x, g.normal(6, 6), transB=1)), x, transA=1), VECTOR, "computes from its input"),
    "values by the size of the batch": (lambda g, x: g(
        "Div", x, g("Cast", g("Gather", g("Shape", x), np.array(0)), to=1)), VECTOR, "how many samples"),
    "unknown attribute": (lambda g, x: g("Relu", x, slope=0.1), VECTOR, "attribute"),
    "constant in place of the input": (lambda g, x: g("Gemm", g.normal(2, 3), g.normal(3, 6), x), (2, 6), "constant"),
    "constant kernel from the input": (lambda g, x: g("Conv", g.normal(1, 1, 5, 5), x), (1, 1, 2, 2), "input 1"),
    "indices of MaxPool": (lambda g, x: g("MaxPool", x, kernel_shape=[2, 2], outputs=2), IMAGE, "places"),
    "lookup": (lambda g, x: g("Gather", g.normal(9, 3), g("Cast", x, to=7)), VECTOR, "cannot hold"),
    "output without input": (lambda g, _: g("Identity", g.normal(3)), VECTOR, "does not depend"),
    "overflow of a limit": (lambda g, x: g("Clip", x, np.float32(1), np.float32(-1)), VECTOR, "empty"),
    "quantised": (lambda g, x: g("QuantizeLinear", x, np.float32(0.1), np.array(0, np.uint8)), VECTOR, "jumps"),
    "random": (lambda g, x: g("Add", x, g("RandomNormalLike", x)), VECTOR, "random"),
    "cubic": (lambda g, x: g("Resize", x, "", g.constant([1.0, 1, 2, 2]), mode="cubic"), IMAGE, "nearest and linear"),
}  # fmt: skip


def _branch() -> onnx.GraphProto:
    made = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node("Constant", [], ["b"], value_float=1.0)], "branch", [], [made])


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_node_and_the_reason(name: str, tmp_path: Path) -> None:
    body, shape, words = REFUSED[name]
    with pytest.raises(SdplipError, match=words) as error:
        read_onnx(saved(single(body, shape), tmp_path))
    assert "net.onnx" in str(error.value)


def test_another_network_than_that_of_the_file_is_noticed(tmp_path: Path) -> None:
    path = saved(single(lambda g, x: g("Gemm", x, g.normal(6, 3)), VECTOR), tmp_path)
    network = read_onnx(path).network
    assert verify_understanding(path, network).status is Status.AGREED
    other = read_onnx(
        saved(single(lambda g, x: g("Gemm", x, g.normal(6, 3)), VECTOR, seed=1), tmp_path)
    ).network
    saved(single(lambda g, x: g("Gemm", x, g.normal(6, 3)), VECTOR), tmp_path)
    comparison = verify_understanding(path, other)
    assert comparison.status is Status.DIFFERS and comparison.largest > 0.1


def test_a_network_that_differs_stops_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdplip.network.read.onnx.operators import Operator

    wrong = Operator(lambda step: OPERATORS["Tanh"].read(step))
    monkeypatch.setitem(OPERATORS, "Relu", wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidWeight, match="another one than the file's"):
        read_onnx(saved(single(lambda g, x: g("Relu", x), VECTOR), tmp_path))


# Precision and files


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_precisions(dtype: type, tmp_path: Path) -> None:
    model = single(
        lambda g, x: g("Relu", g("Gemm", x, g.normal(6, 3), g.normal(3), alpha=0.5)), VECTOR, dtype=dtype
    )
    network = same_as_runtime(saved(model, tmp_path))
    W = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
    assert np.array_equal(network.nodes[0].op.dense(), 0.5 * W.T)  # type: ignore[union-attr]


def test_weights_of_16_bits_that_are_cast(tmp_path: Path) -> None:
    g = Graph(np.random.default_rng(0))
    W = g.rng.normal(size=(6, 3)).astype(np.float32)
    tensor = helper.make_tensor("W", TensorProto.BFLOAT16, W.shape, W.reshape(-1))
    g.constants.append(tensor)
    network = same_as_runtime(saved(g.model(VECTOR, g("MatMul", "x", g("Cast", "W", to=1))), tmp_path))
    kept = numpy_helper.to_array(tensor).astype(np.float64)
    assert np.array_equal(network.nodes[0].op.dense(), kept.T)  # type: ignore[union-attr]


def test_factors_of_doubles_are_not_rounded_into_weights(tmp_path: Path) -> None:
    body = lambda g, x: g("Gemm", x, g.normal(6, 3), alpha=0.7)  # noqa: E731
    network = read_onnx(saved(single(body, VECTOR, dtype=np.float64), tmp_path)).network
    assert len(network.nodes) == 2  # the weight, then the factor


def test_external_data_beside_the_model_only(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    model = single(lambda g, x: g("Gemm", x, g.normal(6, 3)), VECTOR)
    right = read_onnx(saved(model, tmp_path)).network
    onnx.save(
        model, tmp_path / "deep" / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    read = read_onnx(tmp_path / "deep" / "net.onnx").network
    assert np.array_equal(read.nodes[0].op.dense(), right.nodes[0].op.dense())  # type: ignore[union-attr]
    proto = onnx.load(tmp_path / "deep" / "net.onnx", load_external_data=False)
    (tmp_path / "w.bin").write_bytes((tmp_path / "deep" / "w.bin").read_bytes())
    for place in ("../w.bin", str(tmp_path / "w.bin"), "missing.bin", "."):
        for entry in proto.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = place
        (tmp_path / "deep" / "bad.onnx").write_bytes(proto.SerializeToString())
        with pytest.raises(UnreadableFile, match="not in the folder"):
            read_onnx(tmp_path / "deep" / "bad.onnx")
    (tmp_path / "deep" / "link.bin").symlink_to(tmp_path / "w.bin")
    proto.graph.initializer[0].external_data[0].value = "link.bin"
    (tmp_path / "deep" / "bad.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UnreadableFile):
        read_onnx(tmp_path / "deep" / "bad.onnx")


def test_packed_files(tmp_path: Path) -> None:
    path = saved(single(lambda g, x: g("Gemm", x, g.normal(6, 3)), VECTOR), tmp_path)
    packed = tmp_path / "net.onnx.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert np.array_equal(read_onnx(packed).network(np.ones(6)), read_onnx(path).network(np.ones(6)))


@pytest.mark.parametrize("body", [
    lambda g, x: g("Add", x, g("ConstantOfShape", np.array([2**20, 2**20, 2**20]))),
    lambda g, x: g("Add", x, g("Expand", g.normal(1), np.array([2**40]))),
    lambda g, x: g("Add", x, g("Tile", g.normal(6), np.array([2**40]))),
    lambda g, x: g("Add", x, g("Cast", g("Range", np.array(0), np.array(2**50), np.array(1)), to=1)),
    lambda g, x: g("Add", x, g("MatMul", g.normal(2**15, 1), g.normal(1, 2**15))),
    lambda g, x: g("Add", x, g("Pad", g.normal(6), np.array([2**40, 0]))),
])  # fmt: skip
def test_constants_that_would_fill_the_memory_are_refused(body, tmp_path: Path) -> None:
    with pytest.raises(SdplipError):
        read_onnx(saved(single(body, VECTOR), tmp_path))


def test_damaged_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = saved(random_graph(3), tmp_path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(len(data), size=rng.integers(1, 4)):
            data[at] = rng.integers(256)
        path.write_bytes(bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.2 else data))
        with contextlib.suppress(SdplipError):
            read_onnx(path, compare=False)


# Domains, functions, operator sets


def test_foreign_domains_and_old_operator_sets(tmp_path: Path) -> None:
    model = single(lambda g, x: g("Relu", x, domain="my"), VECTOR)
    model.opset_import.append(helper.make_opsetid("my", 1))
    with pytest.raises(InvalidWeight, match="domain `my`"):
        read_onnx(saved(model, tmp_path))
    for version in (6, 999):
        model = single(lambda g, x: g("Relu", x), VECTOR)
        model.opset_import[0].version = version
        with pytest.raises(InvalidWeight, match="operator set"):
            read_onnx(saved(model, tmp_path))


def test_local_functions_are_followed_unless_they_replace_an_operator(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Neg", ["r"], ["b"])]
    model = single(lambda g, x: g("Mine", x, domain="my"), VECTOR)
    model.opset_import.append(helper.make_opsetid("my", 1))
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("my", "Mine", ["a"], ["b"], nodes, opsets))
    same_as_runtime(saved(model, tmp_path))
    model = single(lambda g, x: g("Relu", x), VECTOR)
    model.functions.append(
        helper.make_function("", "Relu", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], opsets)
    )
    with pytest.raises(InvalidWeight, match="under the name of the operator"):
        read_onnx(saved(model, tmp_path))


# Several inputs and outputs, shapes


def several(tmp_path: Path) -> Path:
    g = Graph(np.random.default_rng(0))
    h = g("Relu", g("Add", g("MatMul", "x", g.normal(6, 4)), g("MatMul", "z", g.normal(3, 4))))
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, ("N", 3))
    return saved(g.model(VECTOR, h, g("MatMul", h, g.normal(4, 2)), more=[z]), tmp_path)


def test_several_inputs_and_outputs_count_together_or_by_name(tmp_path: Path) -> None:
    path = several(tmp_path)
    whole = same_as_runtime(path)
    assert (whole.inputs, whole.outputs) == (9, 6)
    y = [value.name for value in onnx.load(path).graph.output]
    one = same_as_runtime(path, inputs="z", outputs=y[1])
    assert (one.inputs, one.outputs) == (3, 2)
    assert product(one) <= product(whole)
    with pytest.raises(InvalidWeight, match="has no input `q`"):
        read_onnx(path, inputs="q")
    with pytest.raises(InvalidWeight, match="has no output `q`"):
        read_onnx(path, outputs="q")
    labels = single(lambda g, x: g("ArgMax", g("Relu", x)), VECTOR)
    labels.graph.output.append(helper.make_tensor_value_info("v0_0", TensorProto.FLOAT, ("N", 6)))
    with pytest.raises(InvalidWeight, match="--output"):
        read_onnx(saved(labels, tmp_path))
    assert same_as_runtime(saved(labels, tmp_path), outputs="v0_0").outputs == 6
    path = several(tmp_path)
    assert any("count together" in sentence for sentence in read_onnx(path).sentences)


@pytest.mark.parametrize("size", [0, "n"])
def test_an_open_size_of_which_strides_leave_several_is_refused(size, tmp_path: Path) -> None:
    """Five and six pixels both become three; only six is a length of a weight."""
    path, _ = onnx_file(tmp_path)
    model = onnx.load(path)
    axis = model.graph.input[0].type.tensor_type.shape.dim[2]
    axis.Clear()
    if size:
        axis.dim_param = size
    else:
        axis.dim_value = 0
    onnx.save(model, path)
    with pytest.raises(InvalidWeight, match="open size"):
        read_onnx(path, outputs="y")


def test_an_open_size_is_found_where_the_weights_admit_one(tmp_path: Path) -> None:
    network = same_as_runtime(
        saved(
            single(lambda g, x: g("Gemm", g("Mul", x, np.float32(2)), g.normal(6, 3)), ("N", "D")), tmp_path
        )
    )
    assert network.inputs == 6
    with pytest.raises(InvalidWeight, match="open size"):
        read_onnx(saved(single(lambda g, x: g("Relu", x), ("N", 3, "H", "W")), tmp_path))


def test_a_graph_that_runs_on_one_sample_only(tmp_path: Path) -> None:
    """The batch is open by its name, but flattened together with the features that the matrix takes."""
    model = single(lambda g, x: g("MatMul", g("Flatten", x, axis=0), g.normal(20, 2)), TOKENS)
    found = read_onnx(saved(model, tmp_path))
    assert found.network.inputs == 20 and "agrees with" in found.checked
    assert "It runs on one sample at a time." in found.sentences


def test_nodes_in_another_order_are_the_same_graph(tmp_path: Path) -> None:
    body = lambda g, x: g("Add", g("Relu", g("MatMul", x, g("Mul", g.normal(6, 6), np.float32(2)))), x)  # noqa: E731
    model = single(body, VECTOR)
    wanted = read_onnx(saved(model, tmp_path)).network
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    x = np.random.default_rng(0).normal(size=6)
    np.testing.assert_array_equal(read_onnx(saved(model, tmp_path)).network(x), wanted(x))
    model.graph.node[0].input[0] = model.graph.node[0].output[0]  # a circle
    with pytest.raises(InvalidWeight, match="nothing before it makes"):
        read_onnx(saved(model, tmp_path))


def test_left_and_right_product_is_bounded_on_the_whole_matrix(tmp_path: Path) -> None:
    g = Graph(np.random.default_rng(2), dtype=np.float64)
    A, B = g.rng.normal(size=(4, 4)), g.rng.normal(size=(4, 4))
    y = g("MatMul", g("Relu", g("MatMul", g.constant(A), "x")), g.constant(B))
    network = same_as_runtime(saved(g.model((4, 4), y), tmp_path))
    right = np.linalg.norm(A, 2) * np.linalg.norm(B, 2)
    assert right * (1 - 1e-12) <= product(network) <= right * (1 + 1e-9)


# What exporters write


@pytest.mark.parametrize("opset", [11, 17])
def test_exports_of_torch(opset: int, tmp_path: Path) -> None:
    import torch
    from torch import nn

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(4)
            self.pool, self.last = nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.Linear(100, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.pool(torch.nn.functional.gelu(self.norm(self.first(x))))
            h = torch.nn.functional.silu(self.last(h.view(x.size(0), -1)))
            a, b = h.chunk(2, 1) if h.shape[1] % 2 == 0 else (h[:, :2], h[:, 3:])
            return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1)

    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = torch.zeros(1, 2, 8, 8)
        dynamic = {"x": {0: "batch"}}
        torch.onnx.export(
            Mixed().eval(),
            (x,),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["x"],
            dynamic_axes=dynamic,
        )
    network = same_as_runtime(path)
    assert network.inputs == 128


@pytest.mark.parametrize("kind", ["sorted", "mirror", "lengths", "circular", "cayley"])
def test_our_own_exports_keep_their_bound(kind: str, tmp_path: Path) -> None:
    import torch
    from torch import nn

    from sdplip.nn import CayleyConv2d, GroupSort, Householder, L2Pool2d, MaxMin, NActivation
    from sdplip.nn.export import save_onnx

    torch.manual_seed(0)
    model, shape = {
        "sorted": lambda: (nn.Sequential(nn.Linear(6, 8), MaxMin(), nn.Linear(8, 8), GroupSort(4)), (6,)),
        "mirror": lambda: (
            nn.Sequential(nn.Linear(6, 8), Householder(8), nn.Linear(8, 4), NActivation(4)),
            (6,),
        ),
        "lengths": lambda: (nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), L2Pool2d(2)), (2, 6, 6)),
        "circular": lambda: (
            nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), MaxMin()),
            (2, 6, 6),
        ),
        "cayley": lambda: (nn.Sequential(CayleyConv2d(2, 2, 3, image_size=(6, 6)), nn.ReLU()), (2, 6, 6)),
    }[kind]()
    bound = save_onnx(model.eval(), tmp_path / "net.onnx", input_shape=shape)
    assert product(same_as_runtime(tmp_path / "net.onnx")) <= float(bound) * (1 + 1e-9)


# Files of the data folder

RIGHT = {
    "act_Elu": 8.954359, "act_PRelu": 8.954359, "act_Max0": 8.954359, "act_Identity": 6.714693, "gemm_gemm": 6.714693,
    "act_Gelu": 10.10862, "act_HardSwish": 13.43154, "end_softmax": 4.47718, "conv_nhwc": 170.2746,
    "conv_padnode": 170.2746, "conv_asym": 73.5204, "token_linear": 8.79614, "concat_skip": 14.50185, "slice_in": 9.04522,
    "scalar_mul_dyn": 26.86308, "weight_div_sigma": 3.59962, "wrong_outer_add": 7.437, "wrong_outer_mul": 9.849,
    "wrong_column_bias": 9.248, "wrong_reshape_broadcast": 2.0, "own_maxmin": 1.0, "own_sand": 1.6, "ts_gelu": 0.7648,
}  # fmt: skip
"""The product of norms, rounded up."""
REACHED = {
    "wrong_outer_add": 7.4367, "wrong_outer_mul": 9.8479, "wrong_column_bias": 9.2474, "wrong_outer_sum_of_branches": 12.427,
    "wrong_left_and_right_product": 16.61, "wrong_gemm_transA_twice": 16.27, "wrong_reshape_broadcast": 1.9999,
}  # fmt: skip
"""A difference quotient of the network."""
NOT_COVERED = {"wrong_dropout_training", "14_ieee_ml4acopf-linear-residual", "quadrotor2d_state"}


def data_files() -> list[Path]:
    root = os.environ.get("SDPLIP_DATA", "")
    folders = [Path(root, name) for name in ("cases", "public")] if root else []
    return sorted(
        path
        for folder in folders
        if folder.is_dir()
        for path in folder.glob("*.onnx*")
        if path.suffix != ".data"
    )


@pytest.mark.parametrize("path", data_files(), ids=lambda path: path.name)
def test_files_of_the_data_folder_are_what_onnxruntime_makes_of_them(path: Path) -> None:
    name = path.name.split(".onnx")[0]
    if name in NOT_COVERED:
        with pytest.raises(InvalidWeight):
            read_onnx(path)
        return
    network = same_as_runtime(path)
    if name in RIGHT:
        assert product(network) <= RIGHT[name] * (1 + 1e-6)
    if name in REACHED:
        assert product(network) >= REACHED[name]
