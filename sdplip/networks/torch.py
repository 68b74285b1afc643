"""torch's `nn.Sequential` as plain data. What is not understood is refused by name."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.networks.network import Activation, Affine, Layer, Network, known_activation

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Softplus: "softplus",
    nn.Softsign: "softsign",
    nn.SiLU: "silu",
}


def from_module(module: nn.Module) -> Network:
    """The network that an `nn.Sequential` of `nn.Linear` and elementwise activations computes in evaluation mode.

    Raises:
        InvalidWeight: a module, subclass, hook or option that is not covered.
    """
    return Network(tuple(_layers(module)))


def _layers(module: nn.Module) -> Iterator[Layer]:
    if module._forward_hooks or module._forward_pre_hooks:
        raise InvalidWeight(
            f"`{type(module).__name__}` has a forward hook, which may change its output. Remove it."
        )
    kind = type(module)  # exact types: a subclass may have its own forward
    if kind is nn.Sequential:
        for child in module:  # pyright: ignore[reportGeneralTypeIssues]
            yield from _layers(child)
    elif isinstance(module, nn.Linear) and (kind is nn.Linear or _parametrized(module)):
        yield Affine(_array(module.weight), None if module.bias is None else _array(module.bias))
    elif kind in ACTIVATIONS:
        yield known_activation(ACTIVATIONS[kind])
    elif isinstance(module, nn.GELU) and kind is nn.GELU and module.approximate == "none":
        yield known_activation("gelu")
    elif isinstance(module, nn.LeakyReLU) and kind is nn.LeakyReLU:
        slope = float(module.negative_slope)
        yield Activation(min(slope, 1.0), max(slope, 1.0), "leaky_relu")
    elif isinstance(module, nn.ELU) and kind is nn.ELU and module.alpha >= 0:
        yield Activation(0.0, max(1.0, float(module.alpha)), "elu")
    elif not _passes(module, kind):
        raise InvalidWeight(
            f"`{kind.__name__}` is not covered. Covered are nn.Sequential of nn.Linear and"
            f" {', '.join(sorted(known.__name__ for known in [*ACTIVATIONS, nn.GELU, nn.LeakyReLU, nn.ELU]))}."
        )


def _passes(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether the module hands its input on as it is, up to its shape."""
    if isinstance(module, nn.Dropout) and kind is nn.Dropout and module.training and module.p > 0:
        raise InvalidWeight("`Dropout` is random in training mode. Call `module.eval()` first.")
    return kind in (nn.Identity, nn.Flatten, nn.Dropout)


def _parametrized(module: nn.Module) -> bool:
    """Whether it is an `nn.Linear` whose class torch replaced by `register_parametrization`."""
    return type(module).__name__ == "ParametrizedLinear" and type(module).__mro__[1] is nn.Linear


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float64).numpy()
