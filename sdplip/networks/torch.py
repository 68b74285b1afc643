"""torch's `nn.Sequential` as plain data. What is not understood is refused by name."""

from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.networks.network import Activation, Network, known_activation
from sdplip.networks.torch_images import IMAGES, append_image_layer
from sdplip.networks.torch_images import array as _array
from sdplip.networks.torch_images import parametrized as _parametrized
from sdplip.networks.torch_ours import RULES, append_ours
from sdplip.networks.trail import Trail

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Softplus: "softplus",
    nn.Softsign: "softsign",
    nn.SiLU: "silu",
}


def from_module(module: nn.Module, input_shape: tuple[int, ...] | None = None) -> Network:
    """The network that an `nn.Sequential` computes in evaluation mode.

    Args:
        module: of `nn.Linear`, convolutions, average and maximum pooling, batch normalisation, elementwise
            activations, and the layers of `sdplip.nn` that `torch_ours.RULES` names.
        input_shape: of one sample without the batch, `(channels, *pixels)`; needed by all layers of images.

    Raises:
        InvalidWeight: a module, subclass, hook or option that is not covered.
    """
    trail = Trail(input_shape)
    _append(trail, module)
    return Network(tuple(trail.layers))


def _append(trail: Trail, module: nn.Module) -> None:
    if module._forward_hooks or module._forward_pre_hooks:
        raise InvalidWeight(
            f"`{type(module).__name__}` has a forward hook, which may change its output. Remove it."
        )
    kind = type(module)  # exact types: a subclass may have its own forward
    if kind is nn.Sequential:
        for child in module:  # pyright: ignore[reportGeneralTypeIssues]
            _append(trail, child)
    elif isinstance(module, nn.Linear) and (kind is nn.Linear or _parametrized(module, nn.Linear)):
        trail.affine(_array(module.weight), None if module.bias is None else _array(module.bias))
    elif kind in ACTIVATIONS:
        trail.add(known_activation(ACTIVATIONS[kind]))
    elif isinstance(module, nn.GELU) and kind is nn.GELU and module.approximate == "none":
        trail.add(known_activation("gelu"))
    elif isinstance(module, nn.LeakyReLU) and kind is nn.LeakyReLU:
        slope = float(module.negative_slope)
        trail.add(Activation(min(slope, 1.0), max(slope, 1.0), "leaky_relu"))
    elif isinstance(module, nn.ELU) and kind is nn.ELU and module.alpha >= 0:
        trail.add(Activation(0.0, max(1.0, float(module.alpha)), "elu"))
    elif not (
        append_ours(trail, module, _append)
        or append_image_layer(trail, module, kind)
        or _passes(trail, module, kind)
    ):
        covered = [
            nn.Linear,
            *IMAGES,
            *ACTIVATIONS,
            nn.GELU,
            nn.LeakyReLU,
            nn.ELU,
            nn.Flatten,
            nn.Identity,
            nn.Dropout,
        ]
        raise InvalidWeight(
            f"`{kind.__name__}` is not covered. Covered are nn.Sequential of"
            f" {', '.join(sorted(known.__name__ for known in covered))}, and of sdplip.nn"
            f" {', '.join(sorted(name.rpartition('.')[2] for name in RULES))}."
        )


def _passes(trail: Trail, module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether the module hands its input on as it is, up to its shape."""
    if isinstance(module, nn.Dropout) and kind is nn.Dropout and module.training and module.p > 0:
        raise InvalidWeight("`Dropout` is random in training mode. Call `module.eval()` first.")
    if isinstance(module, nn.Flatten) and kind is nn.Flatten:
        if (module.start_dim, module.end_dim) != (1, -1) and trail.shape is not None and len(trail.shape) > 1:
            raise InvalidWeight("`Flatten` must flatten all of a sample: `nn.Flatten()`.")
        trail.flatten()
    return kind in (nn.Identity, nn.Flatten, nn.Dropout)
