"""A network graph as a torch module with the same numbers: what is attacked, and what runs in another precision."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sdplip.errors import InvalidWeight
from sdplip.network import (
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
    Network,
    Norms,
    OnAxis,
    Operator,
    Scatter,
    Sort,
    Sum,
    Transposed,
)

Values = Float[Tensor, "batch n"]

FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "leaky_relu": lambda x, negative_slope=0.01: torch.where(x >= 0, x, x * negative_slope),
    "prelu": lambda x, slope=0.25: torch.where(x >= 0, x, x * slope),
    "relu6": F.relu6,
    "hardtanh": lambda x, low=-1.0, high=1.0: _clamp(x, low, high),
    "threshold": lambda x, threshold=0.0: torch.maximum(
        x, torch.as_tensor(threshold, dtype=x.dtype, device=x.device)
    ),
    "abs": torch.abs,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "elu": lambda x, alpha=1.0: torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0))),
    "selu": F.selu,
    "celu": lambda x, alpha=1.0: F.celu(x, float(alpha)),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": lambda x, beta=1.0, threshold=20.0: F.softplus(x, float(beta), float(threshold)),
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
    "tanhshrink": F.tanhshrink,
    "softshrink": lambda x, lambd=0.5: F.softshrink(x, float(lambd)),
    "erf": torch.erf,
    "atan": torch.atan,
    "sin": torch.sin,
    "cos": torch.cos,
}
"""torch's functions by the names of `sdplip.arithmetic.functions.FUNCTIONS`."""

GROUPS: Mapping[str, Callable[..., Tensor]] = {
    "softmax": lambda x: torch.softmax(x, -1),
    "softmin": lambda x: torch.softmax(-x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "shared_logsumexp": lambda x: torch.logsumexp(x, -1, keepdim=True).expand(x.shape) / x.shape[-1],
}
"""Likewise, of groups."""


class GraphModule(nn.Module):
    """The network on batches of samples in any shape with as many numbers; weights are buffers, as nothing here is trained.

    Attributes:
        linear: by the place of a node, its linear map without the shift.
    """

    def __init__(self, network: Network, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.network = network
        self.steps: list[Callable[..., Values]] = []
        self.dtype = dtype
        self.linear: dict[int, Callable[[Values], Values]] = {}
        for k, node in enumerate(network.nodes):
            self.steps.append(self._step(node.op, k, node.title))

    def forward(self, x: Tensor) -> Values:
        """The outputs; images flattened channels first."""
        values = [x.reshape(len(x), -1).to(self.dtype)]
        for node, step in zip(self.network.nodes, self.steps, strict=True):
            values.append(step(*(values[i] for i in node.inputs)))
        return values[-1]

    def _buffer(self, name: str, array: Any) -> Callable[[], Tensor]:
        tensor = torch.from_numpy(np.array(array, order="C"))  # a copy: arrays of files may be read-only
        self.register_buffer(name, tensor.to(self.dtype) if tensor.is_floating_point() else tensor)
        return lambda: self.get_buffer(name)

    def _step(self, op: Operator, k: int, title: str) -> Callable[..., Values]:
        name = f"n{k}"
        if isinstance(op, Sum):
            signs = op.signs
            return lambda *v: sum(s * x for s, x in zip(signs, v, strict=True))  # type: ignore[return-value]
        if isinstance(op, Concatenate):
            return lambda *v: torch.cat(v, -1)
        if isinstance(op, Activation):
            return self._activation(op, name, title)
        if isinstance(op, Sort):
            groups = self._buffer(f"{name}_groups", op.groups)
            return lambda x: _written(x, groups(), x[:, groups()].sort(-1).values)
        if isinstance(op, Norms):
            groups = self._buffer(f"{name}_groups", op.groups)
            return lambda x: torch.linalg.vector_norm(x[:, groups()], dim=-1)
        if isinstance(op, Maximum):
            index = self._buffer(f"{name}_index", op.index)
            return lambda x: x[:, index().clamp(min=0)].masked_fill(index() < 0, -torch.inf).amax(-1)
        if isinstance(op, Grouped):
            if op.name not in GROUPS or op.parameters:
                raise InvalidWeight(f"{title} cannot be run here. Attack the model itself.")
            groups, function = self._buffer(f"{name}_groups", op.groups), GROUPS[op.name]
            return lambda x: _written(x, groups(), function(x[:, groups()]))
        if isinstance(op, Equilibrium):
            raise InvalidWeight(f"{title} cannot be run here: it is implicit. Attack the model itself.")
        assert isinstance(op, AbstractLinear)
        linear = self.linear[k] = self._linear(op, name)
        if op.b is None:
            return linear
        bias = self._buffer(f"{name}_bias", op.b)
        return lambda x: linear(x) + bias()

    def _activation(self, op: Activation, name: str, title: str) -> Callable[[Values], Values]:
        if op.name not in FUNCTIONS:
            raise InvalidWeight(
                f"{title} cannot be run here: only its slopes are known. Attack the model itself."
            )
        function = FUNCTIONS[op.name]
        given = {
            key: self._buffer(f"{name}_{key}", value)
            if np.ndim(value)
            else (lambda value=value: float(value))  # type: ignore[misc]
            for key, value in op.parameters.items()
        }
        return lambda x: function(x, **{key: value() for key, value in given.items()})

    def _linear(self, op: AbstractLinear, name: str) -> Callable[[Values], Values]:
        if isinstance(op, Dense):
            W = self._buffer(name, op.W)
            return lambda x: x @ W().mT
        if isinstance(op, OnAxis):
            W, before, after = self._buffer(name, op.W), op.before, op.after
            return lambda x: (W() @ x.reshape(len(x), before, -1, after)).reshape(len(x), -1)
        if isinstance(op, Diagonal):
            d = self._buffer(name, op.d)
            return lambda x: x * d()
        if isinstance(op, Gather):
            index = self._buffer(name, op.index)
            return lambda x: x[:, index().clamp(min=0)].masked_fill(index() < 0, 0.0)
        if isinstance(op, Scatter):
            index, length = self._buffer(name, op.index), op.length
            return lambda x: _added(x, index(), length)
        if isinstance(op, Average):
            index, divisor = self._buffer(name, op.index), self._buffer(f"{name}_divisor", op.divisor)
            return lambda x: x[:, index().clamp(min=0)].masked_fill(index() < 0, 0.0).sum(-1) / divisor()
        if isinstance(op, Convolution):
            return self._convolution(op, name)
        if isinstance(op, Transposed):
            inner = (
                self._convolution(op.of, name)
                if isinstance(op.of, Convolution)
                else self._linear(op.of, name)
            )
            return adjoint(inner, op.outputs)
        raise InvalidWeight(f"A {type(op).__name__} cannot be run here.")

    def _convolution(self, op: Convolution, name: str) -> Callable[[Values], Values]:
        K, axes = self._buffer(name, op.K), len(op.image_size)
        run = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
        pads = [amount for pair in reversed(op.pads) for amount in pair]
        mode = "circular" if op.circular else "constant"

        def convolve(x: Values) -> Values:
            image = x.reshape(len(x), op.channels, *op.image_size)
            if any(pads):
                image = F.pad(image, pads, mode=mode)
            return run(image, K(), None, op.stride, 0, op.dilation, op.groups).reshape(len(x), -1)

        return convolve


def adjoint(linear: Callable[[Values], Values], inputs: int) -> Callable[[Values], Values]:
    """The transposed map, by differentiating the map itself: exact, and differentiable again."""

    def apply(y: Values) -> Values:
        with torch.enable_grad():
            x = torch.zeros(len(y), inputs, dtype=y.dtype, device=y.device, requires_grad=True)
            (found,) = torch.autograd.grad(linear(x), x, y, create_graph=y.requires_grad)
        return found

    return apply


def _written(x: Values, groups: Tensor, new: Tensor) -> Values:
    y = x.clone()
    y[:, groups] = new
    return y


def _added(x: Values, index: Tensor, length: int) -> Values:
    kept = index >= 0
    return x.new_zeros(len(x), length).index_add(1, index[kept], x[:, kept])


def _clamp(x: Tensor, low: Any, high: Any) -> Tensor:
    return torch.minimum(
        torch.maximum(x, torch.as_tensor(low, dtype=x.dtype)), torch.as_tensor(high, dtype=x.dtype)
    )


def names() -> set[str]:
    """Activations that run here; a test compares them with the table."""
    return set(FUNCTIONS)


__all__ = ["FUNCTIONS", "GraphModule", "adjoint", "names"]
