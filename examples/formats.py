"""The digits network in two exchange formats, to try the readers on.

python examples/formats.py digits.npz      # writes digits.safetensors and digits.onnx beside it
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file


def write(path: Path) -> None:
    """Writes `path` as safetensors and as an ONNX chain Gemm - Relu - Gemm."""
    # safetensors writes memory as it lies, so a transposed array must be laid out in C order first.
    arrays = {name: np.ascontiguousarray(array) for name, array in np.load(path, allow_pickle=False).items()}
    save_file(arrays, path.with_suffix(".safetensors"))
    nodes, value = [], "image"
    for i in (1, 2):
        output = f"hidden{i}" if i == 1 else "logits"
        nodes.append(helper.make_node("Gemm", [value, f"fc{i}.weight", f"fc{i}.bias"], [output], transB=1))
        if i == 1:
            nodes.append(helper.make_node("Relu", [output], ["active"]))
        value = "active"
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", arrays["fc1.weight"].shape[1]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", arrays["fc2.weight"].shape[0]])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    onnx.save(model, path.with_suffix(".onnx"))


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "digits.npz"))
