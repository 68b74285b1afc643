"""The configuration that Keras writes into files of whole models: which layers, how they move, what stands behind them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdplip.errors import InvalidWeight
from sdplip.network.read.weights.assumptions import is_moves
from sdplip.network.read.weights.keras_graph import in_order

IDLE = {
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "GaussianNoise",
    "GaussianDropout",
    "ActivityRegularization",
}
"""Layers that do nothing where a network is used."""
FUNCTIONS = {"linear": "identity", "swish": "silu", "leaky_relu": "leaky_relu:0.2"}
"""Activations that are called otherwise here."""
ALIKE = (
    "relu",
    "tanh",
    "sigmoid",
    "softplus",
    "softsign",
    "elu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "relu6",
    "softmax",
)


@dataclass(eq=False)
class Model:
    """A chain as Keras says it.

    Attributes:
        image_size: of the input; None where it is flat.
        layers: names of layers with weights, first layer first.
        moves: how kernels move, by the name of the layer, with pooling behind their activation.
        activations: what stands behind each layer.
        average: whether the first matrix takes the mean of every channel.
        norms: by the layer that they follow, `(name, epsilon, whether behind its activation)`.
        axes: of what the last layer made, without that of samples.
    """

    image_size: tuple[int, ...] | None = None
    axes: int = 0
    layers: list[str] = field(default_factory=list)
    moves: dict[str, dict[str, Any]] = field(default_factory=dict)
    activations: dict[str, str] = field(default_factory=dict)
    average: bool = False
    norms: dict[str, tuple[str, float, bool]] = field(default_factory=dict)


def model_of(config: Any, path: Path) -> Model:
    """The chain of a configuration of class Sequential, or Functional where its layers follow each other.

    Raises:
        InvalidWeight: another class, layers that are not known here, strange numbers; the message names the layer.
    """
    if not isinstance(config, Mapping):
        raise _damaged(path)
    kind, body = str(config.get("class_name")), config.get("config")
    entries = body.get("layers") if isinstance(body, Mapping) else body
    if not isinstance(entries, list) or kind not in ("Sequential", "Functional", "Model"):
        raise InvalidWeight(
            f"`{path}` holds a Keras model of class {kind[:30]!r}, whose layers need not follow each other. Export it to ONNX."
        )
    model = Model()
    for entry in entries if kind == "Sequential" else in_order(entries, path):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
            raise _damaged(path)
        _take(model, str(entry.get("class_name")), entry["config"], path)
    return model


def _damaged(path: Path) -> InvalidWeight:
    return InvalidWeight(f"The configuration of the model in `{path}` is damaged. Export the model to ONNX.")


def _take(model: Model, kind: str, said: Mapping[str, Any], path: Path) -> None:
    name = str(said.get("name"))
    shape = said.get("batch_shape", said.get("batch_input_shape"))
    if shape is not None and not model.layers:
        model.image_size = _image_size(shape, name, path)
        model.axes = len(shape) - 1
    match kind:
        case "InputLayer":
            return
        case "Dense" if model.axes == 1:
            _layer(model, name, said, path)
        case "Conv1D" | "Conv2D" | "Conv3D" if model.axes == int(kind[4]) + 1:
            _layer(model, name, said, path)
            model.moves[name] = _moves(said, name, path)
        case "Activation" | "ReLU" | "LeakyReLU" | "ELU" | "Softmax":
            _behind(model, _function(kind, said, name, path), name, path)
        case (
            "MaxPooling1D"
            | "MaxPooling2D"
            | "MaxPooling3D"
            | "AveragePooling1D"
            | "AveragePooling2D"
            | "AveragePooling3D"
        ):
            _pool(model, kind, said, name, path)
        case "GlobalAveragePooling1D" | "GlobalAveragePooling2D" | "GlobalAveragePooling3D":
            model.average, model.axes = True, 1
        case "Flatten" if said.get("data_format", "channels_last") == "channels_last":
            model.axes = 1
        case "BatchNormalization" if said.get("axis", -1) in (-1, model.axes, [model.axes]):
            _norm(model, said, name, path)
        case _ if kind in IDLE:
            return
        case _:
            raise _unknown(kind, name, path)


def _unknown(kind: str, name: str, path: Path) -> InvalidWeight:
    return InvalidWeight(
        f"`{name}` in `{path}` is a Keras layer {kind[:40]} that is not read from such files where it stands. Export the model"
        " to ONNX."
    )


def _image_size(shape: Any, name: str, path: Path) -> tuple[int, ...] | None:
    middle = shape[1:-1] if isinstance(shape, list) and len(shape) > 1 else [None]
    sizes = [n for n in middle if type(n) is int and 0 < n < 2**31]
    if len(sizes) < len(middle):
        raise InvalidWeight(
            f"`{name}` in `{path}` takes inputs of shape {str(shape)[:60]}, which is not fixed. Export it to ONNX."
        )
    return tuple(sizes) or None


def _layer(model: Model, name: str, said: Mapping[str, Any], path: Path) -> None:
    model.layers.append(name)
    _behind(model, _function("Activation", said, name, path), name, path)


def _behind(model: Model, function: str, name: str, path: Path) -> None:
    """One function behind each layer; pooling comes after it."""
    if function == "identity":
        return
    last = model.layers[-1] if model.layers else None
    pooled = last is not None and {"max_pool", "average_pool"} & set(model.moves.get(last, {}))
    if last is None or last in model.activations or pooled or (model.average and last in model.moves):
        raise _unknown(function, name, path)
    model.activations[last] = function


def _norm(model: Model, said: Mapping[str, Any], name: str, path: Path) -> None:
    """A normalisation behind a layer or its activation, in front of its pooling."""
    last, epsilon = model.layers[-1] if model.layers else None, said.get("epsilon", 1e-3)
    pooled = {"max_pool", "average_pool"} & set(model.moves.get(last or "", {}))
    fine = isinstance(epsilon, int | float) and 0 <= epsilon < 1e3 and not isinstance(epsilon, bool)
    if last is None or last in model.norms or pooled or not fine or (model.average and last in model.moves):
        raise _unknown("BatchNormalization", name, path)
    model.norms[last] = (name, float(epsilon), last in model.activations)


def _function(kind: str, said: Mapping[str, Any], name: str, path: Path) -> str:
    if kind == "Activation":
        function = said.get("activation") or "linear"
    elif kind == "ReLU":
        plain = said.get("max_value") is None and not said.get("negative_slope") and not said.get("threshold")
        function = "relu" if plain else None
    elif kind == "Softmax":
        function = "softmax" if said.get("axis", -1) == -1 else None
    else:
        key = "alpha" if kind == "ELU" else "negative_slope"
        number = said.get(key, said.get("alpha"))
        if isinstance(number, int | float) and not isinstance(number, bool):
            return f"{'elu' if kind == 'ELU' else 'leaky_relu'}:{float(number)!r}"
        function = None
    if not isinstance(function, str) or function not in (*FUNCTIONS, *ALIKE):
        raise _unknown(f"{kind} {str(function)[:30]}", name, path)
    return FUNCTIONS.get(function, function)


def _moves(said: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    stride, dilation = _axes(said.get("strides", 1)), _axes(said.get("dilation_rate", 1))
    padding, groups = said.get("padding", "valid"), said.get("groups", 1)
    moves = {"stride": stride, "dilation": dilation, "groups": groups}
    if padding == "valid":
        moves["padding"] = 0
    steps = stride if isinstance(stride, tuple) else (stride,)
    fine = padding == "valid" or (padding == "same" and all(step == 1 for step in steps))
    if not fine or said.get("data_format", "channels_last") != "channels_last" or not is_moves(moves):
        raise _unknown(f"of padding {padding!r} and strides {stride}", name, path)
    return moves


def _pool(model: Model, kind: str, said: Mapping[str, Any], name: str, path: Path) -> None:
    window, stride = _axes(said.get("pool_size", 2)), _axes(said.get("strides") or said.get("pool_size", 2))
    last = model.layers[-1] if model.layers else ""
    key = "max_pool" if kind.startswith("Max") else "average_pool"
    moves = model.moves.get(last, {})
    plain = window == stride and said.get("padding", "valid") == "valid" and is_moves({key: window})
    if (
        last not in model.moves
        or not plain
        or model.axes == 1
        or {"max_pool", "average_pool"} & set(moves)
        or model.average
    ):
        raise _unknown(f"{kind} with windows {window} and strides {stride}", name, path)
    moves[key] = window


def _axes(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
