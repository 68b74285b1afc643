"""Files of weights: what is written comes back bit for bit, and what cannot be certified is refused in one message."""

import contextlib
import pickle
import struct
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.io import loadmat, savemat
from scipy.io.matlab import MatlabObject
from scipy.sparse import csc_array

from sdplip.errors import (
    InvalidScaling,
    InvalidWeight,
    MissingDependency,
    SdplipError,
    UnknownLayer,
    UnreadableFile,
)
from sdplip.geometry import Geometry
from sdplip.weights import mat, read, read_vectors, select

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

RNG = np.random.default_rng(0)


def normal(*shape: int, dtype=np.float64) -> np.ndarray:
    return RNG.normal(size=shape).astype(dtype)


def arrays_of(path: Path, **options) -> dict[str, np.ndarray]:
    return {weight.name: weight.array for weight in read(path, **options)}


def identical(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def refused(path: Path, error: type[Exception], *words: str, call=read) -> None:
    """One message, no chained traceback, that names the file and every one of `words`."""
    with pytest.raises(error) as caught:
        call(path)
    message = str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "\n" not in message
    assert len(message) < 600
    for word in (path.name, *words):
        assert word in message


# --- round trips: one writer a format ---


def write_npz(path, arrays):
    np.savez(path, **arrays)


def write_mat(path, arrays):
    savemat(path, arrays)


def write_torch(path, arrays):
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)


def write_safetensors(path, arrays):
    save_file(arrays, path)


def model(nodes, initialisers, inputs, outputs=("y",), opset: int = 19):
    infos = [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs.items()]
    kind = next(iter(inputs.values()))
    results = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    tensors = [numpy_helper.from_array(array, name) for name, array in initialisers.items()]
    graph = helper.make_graph(nodes, "g", infos, results, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def write_onnx(path, arrays):
    kind = helper.np_dtype_to_tensor_dtype(arrays["fc1_weight"].dtype)
    nodes = [
        helper.make_node("Conv", ["x", "conv_weight", "conv_bias"], ["z"], pads=[1] * 4),
        helper.make_node("Flatten", ["z"], ["u"]),
        helper.make_node("Gemm", ["u", "fc1_weight", "fc1_bias"], ["v"], transB=1),
        helper.make_node("Gemm", ["v", "fc2_weight"], ["y"], transB=1),
    ]
    onnx.save(model(nodes, arrays, {"x": kind}), path)


WRITERS = {".npz": write_npz, ".mat": write_mat, ".pt": write_torch, ".pth": write_torch}
WRITERS |= {".safetensors": write_safetensors, ".onnx": write_onnx}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("suffix", WRITERS)
def test_round_trip_is_bitwise_and_leaves_out_the_biases(tmp_path, suffix, dtype):
    path = tmp_path / f"w{suffix}"
    arrays = {
        "conv_weight": normal(3, 2, 3, 3, dtype=dtype),
        "conv_bias": normal(3, dtype=dtype),
        "fc1_weight": normal(4, 48, dtype=dtype),
        "fc1_bias": normal(4, dtype=dtype),
        "fc2_weight": normal(1, 4, dtype=dtype),  # one output: MATLAB's shape of a bias
    }
    WRITERS[suffix](path, arrays)
    weights = read(path)
    assert [(w.name, w.kind) for w in weights] == [
        ("conv_weight", "conv2d"),
        ("fc1_weight", "dense"),
        ("fc2_weight", "dense"),
    ]
    assert all(identical(w.array, arrays[w.name]) for w in weights)
    assert [w.geometry is None for w in weights] == [False, True, True]


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f8", "<f2"])
def test_npy_is_named_after_its_file_and_comes_back_in_native_byte_order(tmp_path, dtype):
    W = normal(3, 5).astype(dtype)
    np.save(tmp_path / "W1.npy", np.asfortranarray(W))
    (weight,) = read(tmp_path / "W1.npy")
    assert weight.name == "W1"
    assert identical(weight.array.copy(order="C"), W.astype(W.dtype.newbyteorder("=")))


def test_bfloat16_is_widened_exactly(tmp_path):
    W = torch.randn(3, 4).to(torch.bfloat16)
    torch.save({"W": W}, tmp_path / "w.pt")
    from safetensors.torch import save_file as save_torch

    save_torch({"W": W}, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        assert identical(arrays_of(tmp_path / name)["W"], W.float().numpy())


def test_nnet_has_weights_of_shape_out_in_after_the_normalisation(tmp_path):
    W = [normal(3, 2), normal(1, 3)]
    lines = ["// comment", "2,2,1,3,", "2,3,1,", "0,", "0,0,", "1,1,", "0,0,0,", "1,1,1,"]
    for array in W:
        lines += [",".join(map(repr, row)) + "," for row in array.tolist()] + ["0.5,"] * len(array)
    (tmp_path / "net.nnet").write_text("\n".join(lines) + "\n")
    assert all(
        identical(weight.array, array) for weight, array in zip(read(tmp_path / "net.nnet"), W, strict=True)
    )
    (tmp_path / "bare.nnet").write_text("\n".join(lines[1:-1]))
    refused(tmp_path / "bare.nnet", UnreadableFile, "truncated", "1 x 3")


# --- what counts as a layer ---


def test_mat_cells_and_structs(tmp_path):
    W, b = [normal(4, 3), normal(4, 4), normal(1, 4)], [normal(4), normal(4), normal(1)]
    cell = np.empty((1, 3), object)
    biases = np.empty((1, 3), object)
    cell[0, :], biases[0, :] = W, b
    savemat(tmp_path / "cell.mat", {"weights": cell, "biases": biases, "name": "net", "epochs": 3.0})
    assert list(arrays_of(tmp_path / "cell.mat")) == ["weights[0]", "weights[1]", "weights[2]"]
    nested = {
        "params": {"linear_1_weight": W[0], "linear_1_bias": b[0], "head": {"W": W[2]}},
        "loss": normal(5),
    }
    savemat(tmp_path / "struct.mat", nested)
    assert list(arrays_of(tmp_path / "struct.mat")) == ["params.linear_1_weight", "params.head.W"]
    A = np.where(RNG.random((5, 4)) < 0.4, normal(5, 4), 0.0)
    savemat(tmp_path / "sparse.mat", {"A": csc_array(A)})
    assert identical(arrays_of(tmp_path / "sparse.mat")["A"], A)


def test_mat_agrees_with_scipy_on_every_numeric_class_compressed_or_not(tmp_path):
    for compressed in (False, True):
        for kind in ("f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"):
            path = tmp_path / f"{kind}.mat"
            savemat(
                path, {"note": "text", "A": (10 * normal(3, 2, 4)).astype(kind)}, do_compression=compressed
            )
            assert identical(mat.arrays(path)["A"].copy(order="C"), loadmat(path)["A"].copy(order="C"))
    records = np.array([({"W": 1.0},), ({"W": 2.0},)], dtype=[("layer", object)])
    savemat(tmp_path / "s.mat", {"net": records, "empty": [], "z": np.ones((2, 2)) * 1j})
    assert list(mat.arrays(tmp_path / "s.mat")) == ["net[0].layer.W", "net[1].layer.W", "z"]


def test_mat_whole_doubles_that_matlab_stores_as_bytes_come_back_as_doubles(tmp_path):
    values = bytes([1, 0, 2, 0, 1, 3])  # a 2 x 3 mxDOUBLE whose data element is miUINT8, as MATLAB writes it
    body = (
        struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<IIii", 5, 8, 2, 3) + struct.pack("<HH4s", 1, 1, b"A")
    )
    body += struct.pack("<II", 2, len(values)) + values + bytes(2)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    (tmp_path / "m.mat").write_bytes(header + struct.pack("<II", 14, len(body)) + body)
    assert identical(arrays_of(tmp_path / "m.mat")["A"].copy(order="C"), np.array([[1.0, 2, 1], [0, 0, 3]]))


@pytest.mark.parametrize("name", ["fc_bias", "b1", "bias", "biases", "fcBias", "input_mean", "t"])
@pytest.mark.parametrize("shape", [(1, 4), (4, 1)])
def test_mat_rows_and_columns_with_a_vector_name_are_no_layers(tmp_path, name, shape):
    savemat(tmp_path / "m.mat", {"fc_weight": normal(4, 2), name: normal(*shape)})
    assert list(arrays_of(tmp_path / "m.mat")) == ["fc_weight"]


@pytest.mark.parametrize("name", ["W2", "out", "fc2_weight", "bias_net_weight"])
def test_mat_last_layer_with_one_output_stays(tmp_path, name):
    savemat(tmp_path / "m.mat", {"W1": normal(4, 2), name: normal(1, 4)})
    assert list(arrays_of(tmp_path / "m.mat")) == ["W1", name]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"state_dict": {"a.weight": torch.ones(2, 2)}, "epoch": 3}, ["a.weight"]),
        ({"model": {"a.weight": torch.ones(2, 2)}, "optimizer": {"m": torch.ones(2, 2)}}, ["a.weight"]),
        (
            {"encoder": {"w": torch.ones(2, 2)}, "head": {"w": torch.ones(1, 2)}, "optim": {}},
            ["encoder.w", "head.w"],
        ),
        ([torch.ones(2, 2), torch.ones(1, 2)], ["[0]", "[1]"]),
        (torch.ones(2, 3), ["file"]),
        (torch.nn.Sequential(torch.nn.Conv1d(2, 3, 3), torch.nn.BatchNorm1d(3)).state_dict(), ["0.weight"]),
        ({"w": torch.nn.Parameter(torch.ones(2, 2)), "sparse": torch.eye(2).to_sparse()}, ["w", "sparse"]),
    ],
)
def test_torch_files_of_every_usual_nesting(tmp_path, content, names):
    torch.save(content, tmp_path / "file.pt")
    assert list(arrays_of(tmp_path / "file.pt")) == names


def test_safetensors_counts_numbers_in_names_as_numbers(tmp_path):
    save_file({f"layers.{i}.weight": normal(2, 2) for i in range(11)}, tmp_path / "w.safetensors")
    assert list(arrays_of(tmp_path / "w.safetensors")) == [f"layers.{i}.weight" for i in range(11)]


@pytest.mark.parametrize("taps", [(), (3,), (3, 5), (3, 5, 2)])
def test_transpose_reads_in_out_and_taps_first(tmp_path, taps):
    W = normal(4, 2, *taps)  # torch's order
    stored = np.moveaxis(W, (1, 0), (-2, -1))
    np.savez(tmp_path / "w.npz", W=stored)
    assert stored.shape == (*taps, 2, 4)
    weight = read(tmp_path / "w.npz", transpose=True)[0]
    assert identical(weight.array.copy(), W)
    assert weight.kind == ("dense", "conv1d", "conv2d", "conv3d")[len(taps)]


def test_whole_numbers_are_a_layer_only_without_floating_point_beside_them(tmp_path):
    index = np.arange(6).reshape(2, 3)
    np.savez(tmp_path / "w.npz", W=normal(2, 2), index=index, mask=index > 2)
    assert list(arrays_of(tmp_path / "w.npz")) == ["W"]
    np.save(tmp_path / "w.npy", index)
    assert identical(arrays_of(tmp_path / "w.npy")["w"], index.astype(float))
    np.save(tmp_path / "big.npy", np.array([[2**53 + 1, 1]]))
    refused(tmp_path / "big.npy", InvalidWeight, "int64", "double precision")


def test_vectors_and_tables_of_six_axes_are_skipped(tmp_path):
    np.savez(
        tmp_path / "w.npz",
        W=normal(2, 2),
        b=normal(2),
        table=normal(1, 2, 1, 2, 1, 2),
        bias=normal(1, 2),
        n=3,
    )
    assert list(arrays_of(tmp_path / "w.npz")) == ["W"]


def test_content_decides_where_the_suffix_says_nothing(tmp_path):
    torch.save({"W": torch.ones(2, 2)}, tmp_path / "last.ckpt")
    assert list(arrays_of(tmp_path / "last.ckpt")) == ["W"]


# --- ONNX: orientation against the reference evaluator ---


def gemm(names, **options):
    return helper.make_node("Gemm", names, ["y"], name="product", **options)


W = normal(3, 4)
PRODUCTS = {
    "gemm": (gemm(["x", "W"]), W.T, False),
    "gemm transB": (gemm(["x", "W"], transB=1), W, False),
    "gemm alpha": (gemm(["x", "W"], transB=1, alpha=2.0), W / 2, False),
    "gemm left": (gemm(["W", "x"]), W, True),
    "gemm left transA": (gemm(["W", "x"], transA=1), W.T, True),
    "matmul right": (helper.make_node("MatMul", ["x", "W"], ["y"]), W.T, False),
    "matmul left": (helper.make_node("MatMul", ["W", "x"], ["y"]), W, True),
    "matmul stacked once": (helper.make_node("MatMul", ["x", "W"], ["y"]), W.T[None], False),
}


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("case", PRODUCTS)
def test_onnx_products_come_out_as_out_in(tmp_path, case, constant):
    node, stored, columns = PRODUCTS[case]
    stored = np.ascontiguousarray(stored)
    nodes, initialisers = [node], {"W": stored}
    if constant:
        nodes = [helper.make_node("Constant", [], ["W"], value=numpy_helper.from_array(stored, "")), node]
        initialisers = {}
    graph = model(nodes, initialisers, {"x": TensorProto.DOUBLE})
    onnx.save(graph, tmp_path / "m.onnx")
    (weight,) = read(tmp_path / "m.onnx")
    assert weight.name == "W"
    assert identical(weight.array.copy(order="C"), W)
    x = normal(4, 2)
    y = np.squeeze(ReferenceEvaluator(graph).run(None, {"x": x if columns else x.T})[0])
    # the evaluator multiplies in another order: 4 products of numbers below 5
    np.testing.assert_allclose(y if columns else y.T, weight.array @ x, atol=1e-13)


def test_onnx_alpha_is_multiplied_exactly_or_refused(tmp_path):
    W32 = normal(3, 4, dtype=np.float32)
    onnx.save(
        model([gemm(["x", "W"], transB=1, alpha=0.3)], {"W": W32}, {"x": TensorProto.FLOAT}),
        tmp_path / "a.onnx",
    )
    assert identical(arrays_of(tmp_path / "a.onnx")["W"], W32.astype(float) * float(np.float32(0.3)))
    onnx.save(
        model([gemm(["x", "W"], transB=1, alpha=0.3)], {"W": W}, {"x": TensorProto.DOUBLE}),
        tmp_path / "b.onnx",
    )
    refused(tmp_path / "b.onnx", InvalidWeight, "alpha = 0.3")


def test_onnx_weights_behind_transpose_identity_and_cast(tmp_path):
    nodes = [
        helper.make_node("Cast", ["W"], ["A"], to=TensorProto.DOUBLE),
        helper.make_node("Transpose", ["A"], ["B"], perm=[1, 0]),
        helper.make_node("Identity", ["B"], ["C"]),
        helper.make_node("MatMul", ["x", "C"], ["y"]),
    ]
    W32 = normal(3, 4, dtype=np.float32)
    onnx.save(model(nodes, {"W": W32}, {"x": TensorProto.DOUBLE}), tmp_path / "m.onnx")
    assert identical(arrays_of(tmp_path / "m.onnx")["W"].copy(order="C"), W32.astype(float))


def test_onnx_weight_used_both_ways_is_two_layers_and_twice_the_same_way_is_one(tmp_path):
    nodes = [
        helper.make_node("Gemm", ["x", "W"], ["u"], transB=1),
        helper.make_node("Gemm", ["u", "W"], ["v"]),
        helper.make_node("Gemm", ["v", "W"], ["y"], transB=1),
    ]
    onnx.save(model(nodes, {"W": W}, {"x": TensorProto.DOUBLE}), tmp_path / "m.onnx")
    weights = arrays_of(tmp_path / "m.onnx")
    assert list(weights) == ["W", "W#2"]
    assert np.array_equal(weights["W#2"], W.T)


@pytest.mark.parametrize(
    ("options", "geometry"),
    [
        ({}, Geometry((1, 1), "zeros", (0, 0), (1, 1))),
        ({"strides": [2, 1], "pads": [1, 2, 1, 2]}, Geometry((2, 1), "zeros", (1, 2), (1, 1))),
        ({"pads": [0, 0, 2, 2]}, Geometry((1, 1), "zeros", None, (1, 1))),
        ({"pads": [0, 0, 1, 1]}, Geometry((1, 1), "zeros", (1, 1), (1, 1))),
        ({"auto_pad": "SAME_UPPER", "dilations": [2, 2]}, Geometry((1, 1), "zeros", None, (2, 2))),
        ({"auto_pad": "VALID", "group": 2}, Geometry((1, 1), "zeros", (0, 0), (1, 1), 2)),
    ],
)
def test_onnx_convolution_geometry(tmp_path, options, geometry):
    kernel = normal(4, 2, 3, 3)
    node = helper.make_node("Conv", ["x", "K"], ["y"], **options)
    onnx.save(model([node], {"K": kernel}, {"x": TensorProto.DOUBLE}), tmp_path / "m.onnx")
    (weight,) = read(tmp_path / "m.onnx")
    assert identical(weight.array, kernel)
    assert weight.geometry == geometry
    geometry.expand(kernel.shape)


@pytest.mark.parametrize(
    ("mode", "name"), [("wrap", "circular"), ("reflect", "reflect"), ("edge", "replicate")]
)
def test_onnx_pad_node_before_a_convolution_is_its_padding_mode(tmp_path, mode, name):
    nodes = [
        helper.make_node("Pad", ["x", "p"], ["z"], mode=mode),
        helper.make_node("Conv", ["z", "K"], ["y"]),
    ]
    arrays = {"K": normal(4, 2, 3), "p": np.array([0, 0, 1, 0, 0, 1])}
    onnx.save(model(nodes, arrays, {"x": TensorProto.DOUBLE}), tmp_path / "m.onnx")
    assert read(tmp_path / "m.onnx")[0].geometry == Geometry((1,), name, (1,), (1,))


def test_onnx_branches_and_local_functions_are_walked(tmp_path):
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["b"])],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.DOUBLE, None)],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    inputs = {"x": TensorProto.DOUBLE, "c": TensorProto.BOOL}
    onnx.save(model([node], {"W": W}, inputs), tmp_path / "if.onnx")
    assert np.array_equal(arrays_of(tmp_path / "if.onnx")["W"], W.T)
    opset = [helper.make_opsetid("", 19), helper.make_opsetid("own", 1)]
    function = helper.make_function(
        "own", "Layer", ["a", "b"], ["c"], [helper.make_node("MatMul", ["a", "b"], ["c"])], opset[:1]
    )
    call = model(
        [helper.make_node("Layer", ["x", "W"], ["y"], domain="own")], {"W": W}, {"x": TensorProto.DOUBLE}
    )
    call.functions.append(function)
    call.opset_import.append(opset[1])
    onnx.save(call, tmp_path / "function.onnx")
    assert np.array_equal(arrays_of(tmp_path / "function.onnx")["W"], W.T)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([helper.make_node("ConvTranspose", ["x", "W"], ["y"], name="up")], ["`up`", "ConvTranspose"]),
        ([helper.make_node("LSTM", ["x", "W", "W"], ["y"])], ["`y`", "LSTM"]),
        ([helper.make_node("Relu", ["x"], ["y"])], ["no layer", "Relu"]),
        ([helper.make_node("Conv", ["x", "x"], ["y"])], ["Conv", "computed from the input"]),
        (
            [helper.make_node("Det", ["W"], ["V"]), helper.make_node("MatMul", ["x", "V"], ["y"])],
            ["`V`", "computed from `Det`"],
        ),
        ([helper.make_node("MatMul", ["x", "stack"], ["y"])], ["`stack`", "(2, 3, 4)"]),
    ],
)
def test_onnx_graphs_without_a_plain_weight_are_refused(tmp_path, nodes, words):
    arrays = {"W": W, "stack": normal(2, 3, 4)}
    onnx.save(model(nodes, arrays, {"x": TensorProto.DOUBLE}), tmp_path / "m.onnx")
    refused(tmp_path / "m.onnx", InvalidWeight, *words)


def test_onnx_without_its_external_data_or_without_the_package_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    graph = model([gemm(["x", "W"])], {"W": normal(40, 40)}, {"x": TensorProto.DOUBLE})
    onnx.save(graph, path, save_as_external_data=True, location="m.data")
    assert list(arrays_of(path)) == ["W"]
    (tmp_path / "m.data").unlink()
    refused(path, UnreadableFile, "ONNX", "m.data")
    refused_transpose = pytest.raises(InvalidWeight, match="Drop it")
    with refused_transpose:
        read(path, transpose=True)
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused(path, MissingDependency, "pip install onnx")


# --- refusals ---

BAD_ARRAYS = {
    "nan": (np.array([[1.0, 2.0], [3.0, np.nan]]), ["`W`", "[1, 1]", "nan"]),
    "infinity": (np.array([[1.0, -np.inf], [3.0, np.nan]]), ["`W`", "[0, 1]", "-inf"]),
    "zero": (np.zeros((2, 2)), ["`W`", "zero everywhere"]),
    "complex": (np.ones((2, 2), complex), ["`W`", "complex128"]),
    "vector": (np.ones(3), ["`W` (3,)", "no layer"]),
    "six axes": (np.ones((1, 2) * 3), ["`W` (1, 2, 1, 2, 1, 2)", "no layer"]),
    "empty": (np.ones((0, 3)), ["`W`", "empty", "(0, 3)"]),
    "boolean": (np.ones((2, 2), bool), ["no layer", "bool"]),
    "text": (np.array([["a", "b"]]), ["no layer", "<U1"]),
    "long double": (np.full((2, 2), np.longdouble(1) / 3), ["`W`", "double precision"]),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_are_no_weights_are_refused(tmp_path, case):
    array, words = BAD_ARRAYS[case]
    if case == "long double" and array.itemsize <= 8:
        pytest.skip("long double is double on this platform")
    np.save(tmp_path / "W.npy", array)
    refused(tmp_path / "W.npy", InvalidWeight, *words)


@pytest.mark.parametrize(
    "names",
    [
        ["fc.parametrizations.weight.original0"],
        ["fc.weight_g", "fc.weight_v"],
        ["fc.weight_orig", "fc.weight_u"],
    ],
)
def test_raw_parameters_of_a_parametrization_are_refused(tmp_path, names):
    torch.save({name: torch.ones(2, 2) for name in names}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", InvalidWeight, names[0], "remove_parametrizations")


def test_quantised_weights_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", **{"fc.weight": np.ones((2, 2), np.int8), "fc.scale": np.ones(2)})
    refused(tmp_path / "w.npz", InvalidWeight, "fc.weight", "int8", "Dequantise")
    torch.save({"w": torch.ones(2, 2).to(torch.float8_e4m3fn), "s": torch.ones(2)}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", InvalidWeight, "`w`", "float8_e4m3fn")
    from safetensors.torch import save_file as save_torch

    save_torch({"w": torch.ones(2, 2).to(torch.float8_e4m3fn)}, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", InvalidWeight, "`w`", "F8_E4M3")


def test_mat_files_of_vectors_only_or_with_class_objects_are_refused(tmp_path):
    savemat(tmp_path / "v.mat", {"bounds": normal(10, 1), "times": normal(1, 10)})
    refused(tmp_path / "v.mat", InvalidWeight, "no layer", "`bounds`")
    record = np.zeros((1, 1), dtype=[("expr", object)])
    record["expr"][0, 0] = "x"
    savemat(tmp_path / "o.mat", {"W": normal(2, 2), "net": MatlabObject(record, "dlnetwork")})
    refused(tmp_path / "o.mat", UnreadableFile, "`net`", "class object", "-v7")
    savemat(tmp_path / "n.mat", {"name": "only text"})
    refused(tmp_path / "n.mat", UnreadableFile, "no array")


def test_pickles_are_refused_and_never_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    np.save(tmp_path / "a.npy", np.array([Bomb()], object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", W=np.array([Bomb()], object))
    torch.save(Bomb(), tmp_path / "c.pt")
    torch.save(Bomb(), tmp_path / "d.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "e.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "f.pth")
    for name in ("a.npy", "b.npz", "c.pt", "d.pt", "e.pt", "f.pth"):
        refused(tmp_path / name, UnreadableFile, "pickle")
    assert not (tmp_path / "executed").exists()


def good_file(folder: Path, suffix: str) -> Path:
    path = folder / f"good{suffix}"
    arrays = {"fc1_weight": normal(4, 8), "conv_weight": normal(2, 2, 2, 2), "fc2_weight": normal(1, 4)}
    arrays |= {"conv_bias": normal(2), "fc1_bias": normal(4)}
    if suffix == ".npy":
        np.save(path, arrays["fc1_weight"])
    elif suffix == ".nnet":
        path.write_text("// c\n1,2,1,2,\n2,1,\n0,\n0,0,\n1,1,\n0,0,0,\n1,1,1,\n0.5,0.25,\n1.0,\n")
    else:
        WRITERS[suffix](path, arrays)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".nnet", *WRITERS])
def test_truncated_and_damaged_files_are_refused(tmp_path, suffix):
    whole = good_file(tmp_path, suffix).read_bytes()
    assert read(tmp_path / f"good{suffix}")
    for part in (0.02, 0.3, 0.6, 0.88):
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(whole[: max(1, int(len(whole) * part))])
        refused(path, UnreadableFile, "truncated")
    path.write_bytes(b"garbage, not a file of any format" * 9)
    refused(path, UnreadableFile, "damaged")
    path.write_bytes(b"")
    refused(path, UnreadableFile, "empty")


@pytest.mark.parametrize("suffix", [".npy", ".nnet", *WRITERS])
def test_flipped_bytes_are_read_or_refused_but_never_crash(tmp_path, suffix):
    whole = good_file(tmp_path, suffix).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 400), 2):
            damaged[at] = rng.integers(256)
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(damaged)
        with contextlib.suppress(SdplipError):
            read(path)


@pytest.mark.parametrize("suffix", [".npy", ".nnet", *WRITERS])
def test_mislabelled_files_are_refused_with_the_right_name(tmp_path, suffix):
    path = good_file(tmp_path, suffix)
    wrong = path.rename(tmp_path / ("good.npz" if suffix != ".npz" else "good.mat"))
    refused(wrong, UnreadableFile, f"named {wrong.suffix}", f"`good{suffix if suffix != '.pth' else '.pt'}`")


def zip_of(path: Path, *members: str) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, b"x")
    return path.read_bytes()


FOREIGN = {
    "octave": ("w.mat", b"# Created by Octave 8.4.0, Mon\n# name: W\n", ["Octave", "save -v7"]),
    "lfs": (
        "w.pt",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        ["Git LFS", "git lfs pull"],
    ),
    "unknown": ("w.xyz", b"hello", ["no format that is known", ".npz"]),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_other_formats_are_named_with_their_remedy(tmp_path, case):
    name, content, words = FOREIGN[case]
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, UnreadableFile, *words)


def test_zip_archives_of_something_else_are_refused(tmp_path):
    zip_of(tmp_path / "a.pt", "m/data.pkl", "m/constants.pkl")
    refused(tmp_path / "a.pt", UnreadableFile, "TorchScript", "state_dict()")
    zip_of(tmp_path / "b.keras", "config.json", "model.weights.h5")
    refused(tmp_path / "b.keras", UnreadableFile, "a Keras model")
    zip_of(tmp_path / "b.zip", "readme.txt")
    refused(tmp_path / "b.zip", UnreadableFile, "readme.txt")
    zip_of(tmp_path / "c.npz")
    refused(tmp_path / "c.npz", UnreadableFile, "no array")


def test_paths_that_cannot_be_opened_are_refused(tmp_path, monkeypatch):
    refused(tmp_path / "none.npz", UnreadableFile, "no file")
    refused(tmp_path, UnreadableFile, "directory")
    path = good_file(tmp_path, ".npz")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # chmod does not stop root
    refused(path, UnreadableFile, "Permission denied", "permissions")


# --- select, read_vectors, imports ---


def test_select_keeps_the_order_asked_for_and_lists_the_nearest_first(tmp_path):
    np.savez(tmp_path / "w.npz", **{f"fc{i}.weight": normal(2, 2) for i in range(20)})
    weights = read(tmp_path / "w.npz")
    assert [w.name for w in select(weights, ["fc3.weight", "fc1.weight", "fc3.weight"])] == [
        "fc3.weight",
        "fc1.weight",
    ]
    with pytest.raises(UnknownLayer, match=r"no layer `fc12`\. The file holds `fc12\.weight`, .* and 8 more"):
        select(weights, ["fc12"])


def test_vectors_of_every_format(tmp_path):
    t, q = normal(4), normal(3, dtype=np.float32)
    np.save(tmp_path / "t.npy", t)
    assert identical(read_vectors(tmp_path / "t.npy")[""], t)
    for suffix in (".npz", ".mat", ".safetensors", ".pt"):
        path = tmp_path / f"t{suffix}"
        WRITERS[suffix](path, {"fc1_weight": t, "fc2_weight": q})
        vectors = read_vectors(path)
        assert list(vectors) == ["fc1_weight", "fc2_weight"]
        assert identical(vectors["fc1_weight"], t)
        assert identical(vectors["fc2_weight"], q)
    np.save(tmp_path / "column.npy", t[:, None])
    assert identical(read_vectors(tmp_path / "column.npy")[""], t)
    np.save(tmp_path / "matrix.npy", np.diag(t))
    refused(tmp_path / "matrix.npy", InvalidScaling, "(4, 4)", "numpy.diag", call=read_vectors)
    np.save(tmp_path / "complex.npy", t + 0j)
    refused(tmp_path / "complex.npy", InvalidScaling, "complex128", call=read_vectors)
    refused(good_file(tmp_path, ".onnx"), UnreadableFile, "no vectors", call=read_vectors)
    np.savez(tmp_path / "none.npz")
    refused(tmp_path / "none.npz", UnreadableFile, "no array", call=read_vectors)


def test_import_loads_no_heavy_package():
    heavy = ("torch", "scipy", "safetensors", "onnx", "h5py")
    code = f"import sys, sdplip.weights; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


# --- published files ---


def shapes(path: Path, **options) -> list[tuple[int, ...]]:
    return [weight.array.shape for weight in read(path, **options)]


def expected_shapes(name: str) -> list[tuple[int, ...]] | None:
    """Shapes by the name of a published file, from its source; None where the file must be refused."""
    known = {
        "lipsdp_mnist_weights": [(50, 784), (10, 50)],
        "lipsdp_random_weights": [(10, 2), (30, 10), (20, 30), (2, 20)],
        "seqlip_fork_mnist_500_200_50": [(500, 784), (200, 500), (50, 200), (10, 50)],
        "eclipse_demo_lyr2n80test1": [(80, 4), (1, 80)],
        "eclipse_genlocal_mnist_base": [(128, 784), (128, 128), (128, 128), (10, 128)],
        "eclipse_genlocal_mnist_jr": [(128, 784), (128, 128), (128, 128), (10, 128)],
        "acasxu_1_1": [(50, 5), *[(50, 50)] * 5, (5, 50)],
        "maxmin_resweights_5_32": [(32, 784), *[(32, 32)] * 3, (10, 32)],
    }
    if name in known:
        return known[name]
    kind, *fields = name.split("_")
    if kind == "seqlip":
        width = int(fields[-1].split("x")[1])
        return [(width, 784), *[(width, width)] * 4, (10, width)]
    if kind == "eclipse":
        depth, width = map(int, fields[-1].removeprefix("lyr").removesuffix("test1").split("n"))
        first, last = (784, 10) if fields[0] == "mnist" else (5, 2)
        return [(width, first), *[(width, width)] * (depth - 2), (last, width)]
    if kind == "maxmin":
        depth, width = int(fields[-2].removesuffix("fc")), int(fields[-1])
        return [(width, 784), *[(width, width)] * (depth - 2), (10, width)]
    if name.startswith("glipsdp_mnist_mlp"):
        depth, width = int(fields[2][1:]), int(fields[3][1:])
        return [(width, 784), *[(width, width)] * (depth - 1), (10, width)]
    if name.startswith("glipsdp_mnist_cnn"):
        depth, width = int(fields[2][1:]), int(fields[3][2:])
        return [(width, 1, 3, 3), *[(width, width, 3, 3)] * (depth - 1), (10, width)]
    if name.startswith("glipsdp_digits") and "seed" in name:
        first = {
            "fnn2": [(64, 32), (32, 10)],
            "fnn3": [(64, 32), (32, 32), (32, 10)],
            "cnn2": [(3, 3, 1, 8), (512, 10)],
            "cnn3": [(3, 3, 1, 8), (3, 3, 8, 16), (1024, 10)],
        }
        return first[fields[1]]
    return None


def test_every_published_file_is_read_or_refused(benchmark_files):
    files = sorted(path for path in benchmark_files.iterdir() if path.suffix != ".md")
    assert len(files) == 127
    refusals = 0
    for path in files:
        expected = expected_shapes(path.stem)
        if expected is not None:
            assert shapes(path) == expected, path.name
        elif path.stem.startswith("glipsdp_versatility"):
            assert len(shapes(path)) >= 4
        elif path.stem.endswith("_weights"):
            sizes = [int(n) for n in path.stem.split("__")[1].replace("x", "_").split("_")]
            assert shapes(path) == list(pairwise(sizes)), path.name
        else:
            refused(path, InvalidWeight, "no layer")
            refusals += 1
    assert refusals == 15  # biases of LipBaB and ExLipBaB, and a table of published bounds


def test_published_files_stored_in_out_are_read_with_transpose(benchmark_files):
    assert shapes(benchmark_files / "glipsdp_digits_cnn3_seed0.mat", transpose=True) == [
        (8, 1, 3, 3),
        (16, 8, 3, 3),
        (10, 1024),
    ]
    arrays = arrays_of(benchmark_files / "lipsdp_random_weights.mat")
    W1, W2, W3, W4 = arrays.values()
    # published as exact for this nonnegative network
    assert np.linalg.norm(W4 @ W3 @ W2 @ W1, 2) == pytest.approx(36.48222959637795, rel=1e-14)
