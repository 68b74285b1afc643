"""Convolutional networks as ONNX files: exported by torch, and node by node with `onnx.helper`."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn


def exported(module: nn.Module, shape: tuple[int, ...], path: Path) -> Path:
    """The file that torch's own exporter writes."""
    x = torch.zeros(1, *shape, dtype=next(module.parameters()).dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older exporter, which writes one file
        torch.onnx.export(module, (x,), str(path), dynamo=False)
    return path


def by_hand(module: nn.Sequential, shape: tuple[int, ...], path: Path) -> Path:
    """One node a layer, in the precision of the weights."""
    nodes, arrays, name = [], {}, "x0"
    for k, layer in enumerate(module):
        inputs, options = [name], {}
        if isinstance(layer, nn.Conv2d | nn.Linear):
            for part, tensor in layer.named_parameters():
                arrays[f"{part}{k}"] = tensor.detach().numpy()
                inputs.append(f"{part}{k}")
        if isinstance(layer, nn.Conv2d):
            pads = [*layer.padding, *layer.padding]
            options = {
                "strides": [*layer.stride],
                "pads": pads,
                "dilations": [*layer.dilation],
                "group": layer.groups,
            }
        elif isinstance(layer, nn.MaxPool2d):
            side, stride, padding = (
                np.broadcast_to(v, 2).tolist() for v in (layer.kernel_size, layer.stride, layer.padding)
            )
            options = {"kernel_shape": side, "strides": stride, "pads": padding * 2}
        elif isinstance(layer, nn.Linear):
            options = {"transB": 1}
        kind = {
            nn.Conv2d: "Conv",
            nn.Linear: "Gemm",
            nn.ReLU: "Relu",
            nn.MaxPool2d: "MaxPool",
            nn.Flatten: "Flatten",
        }
        name = f"x{k + 1}"
        nodes.append(helper.make_node(kind[type(layer)], inputs, [name], **options))
    double = next(module.parameters()).dtype == torch.float64
    element = onnx.TensorProto.DOUBLE if double else onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x0", element, [1, *shape])],
        [helper.make_tensor_value_info(name, element, None)],
        [numpy_helper.from_array(array, key) for key, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph), path)
    return path
