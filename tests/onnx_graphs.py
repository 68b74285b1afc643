"""ONNX graphs for tests: one for each operator and each of its options, the ones that were once read wrongly, and random ones."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}
KINDS |= {np.dtype(np.float16): TensorProto.FLOAT16}


@dataclass
class Graph:
    """A graph in the making; every method that adds a node returns the name of its first output."""

    rng: np.random.Generator
    opset: int = OPSET
    dtype: Any = np.float32
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, array: Any, dtype: Any = None) -> str:
        array = np.asarray(array)
        if dtype is not None or array.dtype.kind == "f":
            array = array.astype(dtype or self.dtype)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self.rng.normal(size=shape) * scale)

    def __call__(self, kind: str, *inputs: Any, outputs: int = 1, **options: Any) -> str:
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        made = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, made, name=f"n{len(self.nodes)}", **options))
        return made[0]

    def model(self, shape: Any, *outputs: str, more: Any = ()) -> onnx.ModelProto:
        kind = KINDS[np.dtype(self.dtype)]
        inputs = [helper.make_tensor_value_info("x", kind, shape), *more]
        made = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
        for value in made:
            value.type.tensor_type.ClearField("shape")
        graph = helper.make_graph(self.nodes, "g", inputs, made, self.constants)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=min(10, 4 + self.opset // 3),
        )


Body = Callable[[Graph, str], str]


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(model, path)
    return path


def single(
    body: Body, shape: tuple[Any, ...], opset: int = OPSET, dtype: Any = np.float32, seed: int = 0
) -> onnx.ModelProto:
    g = Graph(np.random.default_rng(seed), opset, dtype)
    return g.model(shape, body(g, "x"))


VECTOR, TOKENS, IMAGE, LINE, VOLUME = ("N", 6), ("N", 5, 4), ("N", 3, 8, 7), ("N", 2, 9), ("N", 2, 4, 5, 3)


def _i(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


SINGLE: dict[str, tuple[Body, tuple[Any, ...], int]] = {}
"""By name: the body of a graph, its input, its operator set."""


def _add(name: str, body: Body, shape: tuple[Any, ...] = VECTOR, opset: int = OPSET) -> None:
    kind = name.split(",")[0]
    assert name not in SINGLE, kind
    SINGLE[name] = (body, shape, opset)


_add("Gemm", lambda g, x: g("Gemm", x, g.normal(6, 3), g.normal(3)))
_add(
    "Gemm, all options",
    lambda g, x: g("Gemm", x, g.normal(3, 6), g.normal(1, 3), transB=1, alpha=0.7, beta=1.3),
)
_add("Gemm, on the left", lambda g, x: g("Gemm", g.normal(4, 6), x, g.normal(4, 1), transB=1), (1, 6))
_add("Gemm, from the left twice", lambda g, x: g("Gemm", g.normal(5, 3), x, transA=1, transB=1), (4, 5))
_add("Gemm, transA", lambda g, x: g("Gemm", x, g.normal(5, 3), transA=1), (5, 4))
_add("MatMul", lambda g, x: g("MatMul", x, g.normal(6, 3)))
_add("MatMul, tokens", lambda g, x: g("MatMul", x, g.normal(4, 3)), TOKENS)
_add("MatMul, on the left", lambda g, x: g("MatMul", g.normal(3, 5), x), TOKENS)
_add("MatMul, stack", lambda g, x: g("MatMul", x, g.normal(3, 7, 2)), IMAGE)
_add("MatMul, stack on the left", lambda g, x: g("MatMul", g.normal(1, 3, 4, 8), x), IMAGE)
_add("MatMul, stack repeats", lambda g, x: g("MatMul", g.normal(3, 1, 4, 5), x), ("N", 1, 5, 2))
_add("MatMul, vector", lambda g, x: g("MatMul", x, g.normal(4)), TOKENS)
_add("MatMul, vector on the left", lambda g, x: g("MatMul", g.normal(5), x), TOKENS)
_add("MatMul, no batch", lambda g, x: g("MatMul", g.normal(3, 6), x), (6,))
_add("MatMul, more axes", lambda g, x: g("MatMul", x, g.normal(1, 1, 4, 2)), TOKENS)
_add("Conv", lambda g, x: g("Conv", x, g.normal(4, 3, 3, 3), g.normal(4), pads=[1, 1, 1, 1]), IMAGE)
_add(
    "Conv, asymmetric",
    lambda g, x: g("Conv", x, g.normal(4, 3, 3, 2), pads=[0, 2, 1, 1], strides=[2, 3]),
    IMAGE,
)
_add(
    "Conv, groups and dilations",
    lambda g, x: g("Conv", x, g.normal(6, 1, 2, 2), group=3, dilations=[2, 3]),
    IMAGE,
)
_add(
    "Conv, SAME_UPPER",
    lambda g, x: g("Conv", x, g.normal(2, 3, 2, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    IMAGE,
)
_add("Conv, SAME_LOWER", lambda g, x: g("Conv", x, g.normal(2, 3, 2, 4), auto_pad="SAME_LOWER"), IMAGE)
_add("Conv, VALID", lambda g, x: g("Conv", x, g.normal(2, 3, 2, 3), auto_pad="VALID"), IMAGE)
_add("Conv, one axis", lambda g, x: g("Conv", x, g.normal(3, 2, 4), pads=[2, 1]), LINE)
_add("Conv, three axes", lambda g, x: g("Conv", x, g.normal(3, 2, 2, 2, 2), pads=[1] * 6), VOLUME)
_add(
    "Conv, several samples as one", lambda g, x: g("Conv", x, g.normal(4, 1, 3, 3), g.normal(4)), (3, 1, 5, 5)
)
_add(
    "Conv, tokens as samples",
    lambda g, x: g("Conv", g("Reshape", x, _i(-1, 1, 2, 2)), g.normal(3, 1, 2, 2)),
    TOKENS,
)
_add(
    "ConvTranspose",
    lambda g, x: g("ConvTranspose", x, g.normal(3, 4, 3, 3), g.normal(4), strides=[2, 2]),
    IMAGE,
)
_add(
    "ConvTranspose, all options",
    lambda g, x: g(
        "ConvTranspose",
        x,
        g.normal(3, 2, 3, 2),
        strides=[2, 3],
        pads=[1, 0, 0, 1],
        output_padding=[1, 2],
        dilations=[1, 2],
    ),
    IMAGE,
)
_add("ConvTranspose, groups", lambda g, x: g("ConvTranspose", x, g.normal(3, 2, 2, 2), group=3), IMAGE)
_add(
    "ConvTranspose, one axis",
    lambda g, x: g("ConvTranspose", x, g.normal(2, 3, 4), strides=[3], pads=[1, 1]),
    LINE,
)
_add(
    "ConvTranspose, output_shape",
    lambda g, x: g("ConvTranspose", x, g.normal(3, 2, 4, 4), strides=[2, 2], output_shape=[16, 14]),
    IMAGE,
)
_add(
    "BatchNormalization",
    lambda g, x: g(
        "BatchNormalization",
        x,
        g.normal(3),
        g.normal(3),
        g.normal(3),
        g.constant(abs(g.rng.normal(size=3)) + 0.1),
        epsilon=1e-3,
    ),
    IMAGE,
)
_add(
    "BatchNormalization, vectors",
    lambda g, x: g(
        "BatchNormalization", x, g.normal(6), g.normal(6), g.normal(6), g.constant(np.arange(1.0, 7.0))
    ),
)
for _kind in ("Add", "Sub", "Mul", "Div"):
    _add(_kind, lambda g, x, k=_kind: g(k, x, g.constant(g.rng.uniform(1, 2, (6,)))))
    _add(
        f"{_kind}, spread",
        lambda g, x, k=_kind: g(k, x, g.constant(g.rng.uniform(1, 2, (2, 1, 5, 1)))),
        TOKENS,
    )
    _add(
        f"{_kind}, repeat",
        lambda g, x, k=_kind: g(k, g("Unsqueeze", x, _i(2)), g.constant(g.rng.uniform(1, 2, (7,)))),
    )
_add("Add, constant first", lambda g, x: g("Add", g.normal(1, 6), x))
_add("Sub, constant first", lambda g, x: g("Sub", g.normal(6), x))
_add("Mul, constant first", lambda g, x: g("Mul", g.normal(1), x))
_add("Add, branches", lambda g, x: g("Add", x, g("Relu", x)))
_add("Add, twice", lambda g, x: g("Add", x, x))
_add("Sub, outer", lambda g, x: g("Sub", g("Unsqueeze", x, _i(1)), g("Unsqueeze", g("Tanh", x), _i(2))))
_add("Sum", lambda g, x: g("Sum", x, g.normal(6), g("Relu", x), g("Tanh", x)))
_add("Mean", lambda g, x: g("Mean", x, g.normal(6), g("Relu", x)))
_add("Neg", lambda g, x: g("Neg", x))
_add("Transpose", lambda g, x: g("Transpose", x, perm=[0, 2, 3, 1]), IMAGE)
_add(
    "Transpose, batch inside",
    lambda g, x: g("MatMul", g("Transpose", x, perm=[2, 0, 1]), g.normal(5, 3)),
    TOKENS,
)
_add("Transpose, all", lambda g, x: g("Transpose", x), IMAGE)
_add("Reshape", lambda g, x: g("Relu", g("Reshape", x, _i(0, -1, 4))), IMAGE)
_add(
    "Reshape, rows and back",
    lambda g, x: g("Reshape", g("Relu", g("MatMul", g("Reshape", x, _i(-1, 4)), g.normal(4, 3))), _i(-1, 15)),
    TOKENS,
)
_add(
    "Reshape, dynamic",
    lambda g, x: g(
        "Reshape",
        x,
        g("Concat", g("Unsqueeze", g("Gather", g("Shape", x), _i(0).reshape(())), _i(0)), _i(-1), axis=0),
    ),
    IMAGE,
)
_add(
    "Reshape, fixed batch in an open one",
    lambda g, x: g("MatMul", g("Reshape", x, _i(1, 20)), g.normal(20, 2)),
    TOKENS,
)
_add("Flatten", lambda g, x: g("Relu", g("Flatten", x)), IMAGE)
_add("Flatten, axis 0", lambda g, x: g("MatMul", g("Flatten", x, axis=0), g.normal(20, 2)), (1, 5, 4))
_add("Flatten, axis 2", lambda g, x: g("MatMul", g("Flatten", x, axis=2), g.normal(56, 2)), IMAGE)
_add("Flatten, axis -1", lambda g, x: g("Flatten", x, axis=-1), TOKENS)
_add("Squeeze", lambda g, x: g("Squeeze", x, _i(1)), ("N", 1, 6))
_add("Squeeze, opset 11", lambda g, x: g("Squeeze", x, axes=[-1]), ("N", 6, 1), 11)
_add("Squeeze, all", lambda g, x: g("Squeeze", x), (1, 1, 6))
_add("Unsqueeze", lambda g, x: g("Unsqueeze", x, _i(0, -1)))
_add("Unsqueeze, opset 11", lambda g, x: g("Unsqueeze", x, axes=[1, 3]), VECTOR, 11)
_add("Slice", lambda g, x: g("Slice", x, _i(1), _i(1000), _i(2), _i(2)), IMAGE)
_add(
    "Slice, backwards", lambda g, x: g("Slice", x, _i(-1, 3), _i(-(2**63), -9), _i(-1, 1), _i(-2, -1)), TOKENS
)
_add("Slice, opset 9", lambda g, x: g("Slice", x, starts=[0, 1], ends=[2**31, -1], axes=[0, 1]), VECTOR, 9)
_add("Slice, without axes", lambda g, x: g("Slice", x, _i(0, 1), _i(2**62, 5)))
_add("Split", lambda g, x: g("Sub", g("Split", x, _i(3, 3), axis=1, outputs=2), "v0_1"))
_add(
    "Split, halves",
    lambda g, x: (
        g("Concat", "v0_1", g("Split", x, axis=-1, outputs=2, num_outputs=2), axis=1)
        if not g("Split", x, axis=-1, outputs=2, num_outputs=2)
        else g("Concat", "v0_1", "v0_0", axis=1)
    ),
)
_add(
    "Split, opset 11",
    lambda g, x: g("Add", g("Split", x, axis=1, outputs=3, split=[2, 2, 2]), "v0_2"),
    VECTOR,
    11,
)
_add("Concat", lambda g, x: g("Concat", x, g("Relu", x), x, axis=1))
_add("Concat, inner axis", lambda g, x: g("Concat", x, g("Tanh", x), axis=2), IMAGE)
_add(
    "Concat, class token",
    lambda g, x: g(
        "Concat",
        g("Expand", g.normal(1, 1, 4), g("Concat", g("Gather", g("Shape", x), _i(0)), _i(1), _i(4), axis=0)),
        x,
        axis=1,
    ),
    TOKENS,
)
_add("Gather", lambda g, x: g("Gather", x, _i(3, -1, 3), axis=1))
_add("Gather, scalar", lambda g, x: g("Gather", x, _i(-2).reshape(()), axis=1), TOKENS)
_add(
    "Gather, matrix before the batch",
    lambda g, x: g("Gather", g("Transpose", x, perm=[1, 0, 2]), _i(0, 2, 1, 4).reshape(2, 2), axis=0),
    TOKENS,
)
_add("Expand", lambda g, x: g("Expand", g("Unsqueeze", x, _i(1)), _i(1, 3, 1)))
_add("Expand, more axes", lambda g, x: g("Expand", x, _i(2, 1, 1, 1)), TOKENS)
_add("Tile", lambda g, x: g("Tile", x, _i(1, 2, 3)), TOKENS)
_add("Identity", lambda g, x: g("Identity", x))
_add("Cast", lambda g, x: g("Cast", g("Relu", x), to=1))
_add("Dropout", lambda g, x: g("Dropout", x))
_add("Dropout, opset 11", lambda g, x: g("Dropout", x, ratio=0.3), VECTOR, 11)
_add("Pad", lambda g, x: g("Pad", x, _i(0, 0, 1, 2, 0, 1, 0, 3)), IMAGE)
_add(
    "Pad, constant and cropping",
    lambda g, x: g("Pad", x, _i(0, 0, -1, 2, 0, 0, 1, -2), g.constant(np.float32(0.7))),
    IMAGE,
)
for _mode in ("reflect", "edge", "wrap"):
    _add(f"Pad, {_mode}", lambda g, x, m=_mode: g("Pad", x, _i(0, 0, 2, 1, 0, 0, 1, 3), mode=m), IMAGE)
_add("Pad, opset 9", lambda g, x: g("Pad", x, pads=[0, 1, 0, 2], value=0.5), VECTOR, 9)
_add("Pad, axes", lambda g, x: g("Pad", x, _i(1, 2, 3, 0), g.constant(np.float32(0)), _i(-1, 2)), IMAGE)
_add(
    "Pad, then Conv",
    lambda g, x: g(
        "Conv",
        g("Pad", x, _i(0, 0, 1, 2, 0, 0, 1, 0)),
        g.normal(2, 3, 3, 3),
        pads=[0, 1, 2, 0],
        strides=[2, 1],
    ),
    IMAGE,
)
_add(
    "Pad, wrap, then Conv",
    lambda g, x: g("Conv", g("Pad", x, _i(0, 0, 1, 1, 0, 0, 1, 1), mode="wrap"), g.normal(2, 3, 3, 3)),
    IMAGE,
)
_add(
    "Pad, wrap, then padded Conv",
    lambda g, x: g(
        "Conv", g("Pad", x, _i(0, 0, 1, 1, 0, 0, 1, 1), mode="wrap"), g.normal(2, 3, 5, 5), pads=[1, 1, 1, 1]
    ),
    IMAGE,
)
_add("Where", lambda g, x: g("Where", g.rng.normal(size=(5, 1)) > 0, x, g.normal(5, 4)), TOKENS)
_add("Where, branches", lambda g, x: g("Where", g.rng.normal(size=(1, 6)) > 0, x, g("Relu", x)))
_add("DepthToSpace", lambda g, x: g("DepthToSpace", x, blocksize=2), ("N", 8, 3, 2))
_add("DepthToSpace, CRD", lambda g, x: g("DepthToSpace", x, blocksize=2, mode="CRD"), ("N", 8, 3, 2))
_add("SpaceToDepth", lambda g, x: g("SpaceToDepth", x, blocksize=2), ("N", 2, 4, 6))
_add("MaxPool", lambda g, x: g("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), IMAGE)
_add(
    "MaxPool, all options",
    lambda g, x: g(
        "MaxPool", x, kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 1, 1], dilations=[2, 1], ceil_mode=1
    ),
    IMAGE,
)
_add(
    "MaxPool, one axis",
    lambda g, x: g("MaxPool", x, kernel_shape=[3], strides=[2], ceil_mode=1, pads=[1, 1]),
    LINE,
)
_add(
    "MaxPool, SAME_UPPER",
    lambda g, x: g("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    IMAGE,
)
_add("AveragePool", lambda g, x: g("AveragePool", x, kernel_shape=[2, 3]), IMAGE)
for _count in (0, 1):
    _add(
        f"AveragePool, padding counted {_count}",
        lambda g, x, c=_count: g(
            "AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1], count_include_pad=c
        ),
        IMAGE,
    )
    _add(
        f"AveragePool, ceil, padding counted {_count}",
        lambda g, x, c=_count: g(
            "AveragePool",
            x,
            kernel_shape=[3, 2],
            strides=[2, 3],
            pads=[1, 1, 0, 1],
            ceil_mode=1,
            count_include_pad=c,
        ),
        IMAGE,
    )
_add(
    "AveragePool, SAME_LOWER",
    lambda g, x: g("AveragePool", x, kernel_shape=[2, 2], auto_pad="SAME_LOWER"),
    IMAGE,
)
_add(
    "AveragePool, three axes",
    lambda g, x: g("AveragePool", x, kernel_shape=[2, 2, 2], pads=[1, 0, 0, 0, 1, 0]),
    VOLUME,
)
_add("GlobalAveragePool", lambda g, x: g("GlobalAveragePool", x), IMAGE)
_add("GlobalMaxPool", lambda g, x: g("GlobalMaxPool", x), IMAGE)
for _how in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceLogSumExp"):
    _add(_how, lambda g, x, k=_how: g(k, x, _i(1, -1), keepdims=0), IMAGE)
    _add(f"{_how}, kept", lambda g, x, k=_how: g(k, x, _i(2)), IMAGE)
_add("ReduceMean, opset 13", lambda g, x: g("ReduceMean", x, axes=[2, 3]), IMAGE, 13)
_add("ReduceSum, opset 11", lambda g, x: g("ReduceSum", x, axes=[-1], keepdims=0), IMAGE, 11)
_add("ReduceSum, all axes", lambda g, x: g("ReduceSum", x), (1, 5, 4))
_add("TopK", lambda g, x: g("TopK", x, _i(6), outputs=2))
_add("TopK, smallest", lambda g, x: g("TopK", x, _i(2), outputs=2, axis=1, largest=0), TOKENS)
for _kind in ("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Softplus",
              "Softsign", "Erf", "Mish", "Abs", "Atan", "Sin", "Cos", "Softmax", "LogSoftmax"):  # fmt: skip
    _add(_kind, lambda g, x, k=_kind: g(k, x))
_add("Gelu, tanh", lambda g, x: g("Gelu", x, approximate="tanh"))
_add("LeakyRelu, alpha", lambda g, x: g("LeakyRelu", x, alpha=1.7))
_add("Elu, alpha", lambda g, x: g("Elu", x, alpha=1.7))
_add("Celu, alpha", lambda g, x: g("Celu", x, alpha=0.3))
_add("Selu, other numbers", lambda g, x: g("Selu", x, alpha=1.5, gamma=0.7))
_add("HardSigmoid, other numbers", lambda g, x: g("HardSigmoid", x, alpha=0.5, beta=0.1))
_add("PRelu", lambda g, x: g("PRelu", x, g.normal(3, 1, 1)), IMAGE)
_add("PRelu, one slope", lambda g, x: g("PRelu", x, g.normal(1)))
_add("Clip", lambda g, x: g("Clip", x, g.constant(np.float32(-0.3)), g.constant(np.float32(0.8))))
_add("Clip, below", lambda g, x: g("Clip", x, g.constant(np.float32(0.2))))
_add("Clip, above", lambda g, x: g("Clip", x, "", g.constant(np.float32(0.2))))
_add("Clip, opset 9", lambda g, x: g("Clip", x, min=0.0, max=6.0), VECTOR, 9)
_add("Max, constant", lambda g, x: g("Max", x, g.normal(6)))
_add("Min, constant", lambda g, x: g("Min", g.normal(2, 1, 1), x))
_add("Max, branches", lambda g, x: g("Max", x, g("MatMul", x, g.normal(6, 6)), g.normal(1)))
_add("Min, branches", lambda g, x: g("Min", x, g("Neg", x)))
_add(
    "MaxMin",
    lambda g, x: g(
        "Concat",
        g("Max", g("Slice", x, _i(0), _i(3), _i(1)), g("Slice", x, _i(3), _i(6), _i(1))),
        g("Min", "v0_0", "v1_0"),
        axis=1,
    ),
)
_add("Shrink", lambda g, x: g("Shrink", x, bias=0.4, lambd=0.4))
_add("Softmax, axis 1", lambda g, x: g("Softmax", x, axis=1), IMAGE)
_add("Softmax, opset 11", lambda g, x: g("Softmax", x, axis=2), IMAGE, 11)
_add(
    "LayerNormalization",
    lambda g, x: g("LayerNormalization", x, g.normal(4), g.normal(4), epsilon=0.1),
    TOKENS,
)
_add(
    "LayerNormalization, two axes",
    lambda g, x: g("LayerNormalization", x, g.normal(5, 4), axis=1, epsilon=0.1),
    TOKENS,
)
_add(
    "InstanceNormalization",
    lambda g, x: g("InstanceNormalization", x, g.normal(3), g.normal(3), epsilon=0.1),
    IMAGE,
)
_add(
    "GroupNormalization, opset 18",
    lambda g, x: g("GroupNormalization", x, g.normal(2), g.normal(2), num_groups=2, epsilon=0.1),
    ("N", 4, 3, 2),
    18,
)
_add(
    "GroupNormalization",
    lambda g, x: g("GroupNormalization", x, g.normal(4), g.normal(4), num_groups=2, epsilon=0.1),
    ("N", 4, 3, 2),
    21,
)
_add("RMSNormalization", lambda g, x: g("RMSNormalization", x, g.normal(4), epsilon=0.1), TOKENS, 23)
_add("Swish", lambda g, x: g("Swish", x, alpha=1.3), VECTOR, 24)

for _transform in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"):
    for _how in ("nearest", "linear"):
        _add(
            f"Resize, {_how}, {_transform}",
            lambda g, x, t=_transform, h=_how: g(
                "Resize", x, "", g.constant([1, 1, 2.5, 0.6]), mode=h, coordinate_transformation_mode=t
            ),
            IMAGE,
        )
_add("Resize, sizes", lambda g, x: g("Resize", x, "", "", _i(5, 14), mode="linear", axes=[2, 3]), IMAGE)
_add("Resize, opset 10", lambda g, x: g("Resize", x, g.constant([1.0, 1, 2, 3])), IMAGE, 10)
_add("Upsample", lambda g, x: g("Upsample", x, g.constant([1.0, 1, 2, 3]), mode="linear"), IMAGE, 9)
for _equation, _shape in (("bij,jk->bik", (4, 3)), ("bij,ik->bjk", (5, 3)), ("bij,ij->bij", (5, 4)), ("bij,kij->bk", (2, 5, 4)),
                          ("bij,ijk->bik", (5, 4, 2)), ("bij,k->bikj", (3,)), ("bij,k->bi", (3,))):  # fmt: skip
    _add(
        f"Einsum, {_equation}",
        lambda g, x, e=_equation, s=_shape: g("Einsum", x, g.normal(*s), equation=e),
        TOKENS,
    )
_add("Einsum, one", lambda g, x: g("Einsum", x, equation="bij->jb"), TOKENS)
_add("Einsum, constant first", lambda g, x: g("Einsum", g.normal(3, 4), x, equation="kj,bij->bik"), TOKENS)
_add("CumSum", lambda g, x: g("CumSum", x, _i(1).reshape(())), TOKENS)
_add(
    "CumSum, exclusive from behind",
    lambda g, x: g("CumSum", x, _i(-1).reshape(()), exclusive=1, reverse=1),
    TOKENS,
)
_add("Trilu", lambda g, x: g("Trilu", x, _i(1).reshape(()), upper=0), TOKENS)
_add(
    "GatherND",
    lambda g, x: g(
        "Transpose",
        g("GatherND", g("Transpose", x, perm=[1, 2, 0]), _i(0, 3, 4, -1).reshape(2, 2)),
        perm=[1, 0],
    ),
    TOKENS,
)


def _gelu(g: Graph, x: str) -> str:
    inner = g("Erf", g("Div", x, np.float32(np.sqrt(2))))
    return g("Mul", g("Mul", x, g("Add", inner, np.float32(1))), np.float32(0.5))


def _gelu_tanh(g: Graph, x: str) -> str:
    cube = g("Mul", np.float32(0.044715), g("Pow", x, np.float32(3)))
    inner = g("Tanh", g("Mul", g("Add", x, cube), np.float32(np.sqrt(2 / np.pi))))
    return g("Mul", g("Mul", np.float32(0.5), x), g("Add", np.float32(1), inner))


def _layer_norm(g: Graph, x: str) -> str:
    d = g("Sub", x, g("ReduceMean", x, axes=[-1]))
    v = g("ReduceMean", g("Pow", d, np.float32(2)), axes=[-1])
    return g("Add", g("Mul", g("Div", d, g("Sqrt", g("Add", v, np.float32(0.1)))), g.normal(4)), g.normal(4))


def _rms_norm(g: Graph, x: str) -> str:
    v = g("ReduceMean", g("Mul", x, x), axes=[1, 2])
    return g("Mul", x, g("Reciprocal", g("Sqrt", g("Add", np.float32(0.2), v))))


def _softmax(g: Graph, x: str) -> str:
    e = g("Exp", g("Sub", x, g("ReduceMax", x, axes=[2])))
    return g("Div", e, g("ReduceSum", e, _i(2)))


def _normalized(g: Graph, x: str) -> str:
    length = g("Clip", g("ReduceL2", x, axes=[-1]), np.float32(0.5))
    return g("Div", x, g("Expand", length, g("Shape", x)))


def _softshrink(g: Graph, x: str) -> str:
    right = g("Where", g("Greater", x, np.float32(0.5)), g("Sub", x, np.float32(0.5)), np.float32(0))
    left = g("Where", g("Less", x, np.float32(-0.5)), g("Add", x, np.float32(0.5)), np.float32(0))
    return g("Add", right, left)


def _softshrink_with_sign(g: Graph, x: str) -> str:
    inner = g("Sub", x, g("Mul", g("Sign", x), np.float32(0.5)))
    return g("Where", g("Greater", g("Abs", x), np.float32(0.5)), inner, g("Mul", x, np.float32(0)))


def _softplus_threshold(g: Graph, x: str) -> str:
    u = g("Mul", x, np.float32(3))
    return g("Where", g("Greater", u, np.float32(20)), x, g("Div", g("Softplus", u), np.float32(3)))


def _length(g: Graph, x: str) -> str:
    """As torch's and our pooling by lengths are exported."""
    s = g("Mul", g("AveragePool", g("Mul", x, x), kernel_shape=[2, 3], strides=[2, 3]), np.float32(6))
    zero = g("Equal", s, np.float32(0))
    root = g("Sqrt", g("Add", s, g("Cast", zero, to=1)))
    return g("Mul", root, g("Cast", g("Not", zero), to=1))


def _lp_pool(g: Graph, x: str) -> str:
    s = g("AveragePool", g("Pow", x, np.float32(2)), kernel_shape=[2, 2], strides=[2, 2])
    s = g("Mul", g("Mul", g("Sign", s), g("Relu", g("Abs", s))), np.float32(5))
    return g("Pow", s, np.float32(0.5))


def _mirror(g: Graph, x: str) -> str:
    v, w = np.array([0.6, 0, 0.28], np.float32), np.array([-0.8, 1, 0.96], np.float32)
    g("Split", x, axis=1, outputs=2, num_outputs=2)
    a, b = "v0_0", "v0_1"
    inner = g("Relu", g("Sub", g("Mul", -v, a), g("Mul", w, b)))
    h = g("Mul", inner, np.float32(2))
    return g("Concat", g("Add", a, g("Mul", v, h)), g("Add", b, g("Mul", w, h)), axis=1)


def _n_activation(g: Graph, x: str) -> str:
    low, high = (
        np.array([-1, 0, 0.5], np.float32).reshape(3, 1, 1),
        np.array([0, 0.5, 0.5], np.float32).reshape(3, 1, 1),
    )
    return g("Sub", x, g("Mul", g("Min", g("Max", x, low), high), np.float32(2)))


def _rolled(g: Graph, x: str) -> str:
    """Circular padding by slices, as torch's older exporter writes it."""
    y = g("Concat", g("Slice", x, _i(-1), _i(99), _i(2)), x, g("Slice", x, _i(0), _i(1), _i(2)), axis=2)
    y = g("Concat", g("Slice", y, _i(-1), _i(99), _i(3)), y, axis=3)
    return g("Conv", y, g.normal(2, 3, 3, 2))


WRITTEN_OUT: dict[str, tuple[Body, tuple[Any, ...], int]] = {
    "gelu": (_gelu, VECTOR, 17),
    "gelu_tanh": (_gelu_tanh, VECTOR, 17),
    "silu": (lambda g, x: g("Mul", g("Sigmoid", x), x), VECTOR, 17),
    "silu of 1.7 x": (lambda g, x: g("Mul", x, g("Sigmoid", g("Mul", x, np.float32(1.7)))), VECTOR, 17),
    "silu of -2 x": (lambda g, x: g("Div", x, g("Add", g("Exp", g("Mul", x, np.float32(2))), np.float32(1))), VECTOR, 17),
    "mish": (lambda g, x: g("Mul", x, g("Tanh", g("Softplus", x))), VECTOR, 17),
    "mish with exp": (
        lambda g, x: g("Mul", x, g("Tanh", g("Log", g("Add", g("Exp", x), np.float32(1))))), VECTOR, 17),
    "softplus": (lambda g, x: g("Log", g("Add", np.float32(1), g("Exp", x))), VECTOR, 17),
    "logsigmoid": (lambda g, x: g("Log", g("Sigmoid", x)), VECTOR, 17),
    "sigmoid": (lambda g, x: g("Reciprocal", g("Add", np.float32(1), g("Exp", g("Neg", x)))), VECTOR, 17),
    "softsign": (lambda g, x: g("Div", x, g("Add", np.float32(1), g("Abs", x))), VECTOR, 17),
    "hardswish": (lambda g, x: g("Mul", x, g("HardSigmoid", x, alpha=1 / 6, beta=0.5)), VECTOR, 17),
    "hardswish with clip": (
        lambda g, x: g("Div", g("Mul", x, g("Clip", g("Add", x, np.float32(3)), np.float32(0), np.float32(6))), np.float32(6)),
        VECTOR, 17),
    "abs": (lambda g, x: g("Sqrt", g("Mul", x, x)), VECTOR, 17),
    "leaky_relu": (lambda g, x: g("Where", g("Greater", x, np.float32(0)), x, g("Mul", x, np.float32(0.1)))
                   if False else g("Where", g("Less", x, np.float32(0)), g("Mul", x, np.float32(0.1)), x), VECTOR, 17),
    "softshrink": (_softshrink, VECTOR, 17),
    "softshrink with sign": (_softshrink_with_sign, VECTOR, 17),
    "threshold": (lambda g, x: g("Where", g("LessOrEqual", x, np.float32(0.1)), np.float32(0.1), x), VECTOR, 17),
    "softplus, threshold": (_softplus_threshold, VECTOR, 17),
    "length": (_length, IMAGE, 17),
    "lp_pool": (_lp_pool, IMAGE, 17),
    "length over axes": (
        lambda g, x: g("Sqrt", g("ReduceSum", g("Mul", x, x), _i(1), keepdims=0)), TOKENS, 17),
    "mirror": (_mirror, VECTOR, 20),
    "n_activation": (_n_activation, IMAGE, 17),
    "circular": (_rolled, IMAGE, 17),
    "layer_norm": (_layer_norm, TOKENS, 17),
    "rms_norm": (_rms_norm, TOKENS, 17),
    "softmax": (_softmax, TOKENS, 17),
    "normalize": (_normalized, TOKENS, 17),
}  # fmt: skip
"""Layers that exporters write out as several nodes."""
