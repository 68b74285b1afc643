"""A fully-connected network read from a weight file, as the torch model that is certified and attacked."""

import torch
from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.networks import Activation, Affine, Network

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def module_of(network: Network) -> nn.Sequential:
    """The network in double precision with the same numbers, on images in any shape, flattened channels first.

    Raises:
        InvalidWeight: a layer of images, or an activation of which only the slopes are known.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for layer in network.layers:
        if isinstance(layer, Affine):
            linear = nn.Linear(layer.inputs, layer.outputs, dtype=torch.float64)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(layer.W))
                linear.bias.zero_() if layer.b is None else linear.bias.copy_(torch.from_numpy(layer.b))
            layers.append(linear)
        elif isinstance(layer, Activation) and layer.kind in ACTIVATIONS:
            layers.append(ACTIVATIONS[layer.kind]())
        else:
            kind = layer.kind if isinstance(layer, Activation) and layer.kind else type(layer).__name__
            raise InvalidWeight(
                f"The network holds `{kind}`, but weight files are certified as matrices with {', '.join(ACTIVATIONS)} between"
                " them. Build the model in torch and call `sdplip.robustness.certification.certify_accuracy`."
            )
    return nn.Sequential(*layers).eval()
