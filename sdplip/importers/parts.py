"""What all architectures of checkpoints share: the network itself, its last layer, and checks that no layer is missing."""

import re
from dataclasses import dataclass

import torch
from torch import nn

from sdplip.display import brief
from sdplip.errors import InvalidWeight
from sdplip.importers.layer import Imported, finite
from sdplip.importers.layouts import Groups
from sdplip.importers.modules import tensor_of
from sdplip.nn.heads import LastLayerNormalised
from sdplip.nn.pooling import FirstChannels

COLOURS = 3
PIXELS = (32, 32)
CHAIN = re.compile(r"^((?:.*\.)?)(\d+)$")
INTO = (
    "The file does not say what lies between its layers. Pass `into`, a network of `nn.Linear`, `nn.Conv2d` and other layers of torch"
    " or `sdplip.nn` with these names."
)


@dataclass(frozen=True, eq=False)
class ImportedNetwork:
    """A checkpoint as a network in eval mode.

    Attributes:
        model: layers of ours and of torch in a chain; it gives the outputs of the library up to rounding.
        input_shape: of one image; None if the file says nothing of it.
        layers: those of known layouts.
        normalised: whether the last layer has rows of length 1: certificates are for pairs of classes then, and the library claims
            its constant for what lies before.
        assumed: what the file does not say.
    """

    model: nn.Module
    input_shape: tuple[int, ...] | None
    layers: tuple[Imported, ...]
    normalised: bool
    assumed: tuple[str, ...]

    __repr__ = brief("input_shape", "normalised")


def head_of(
    name: str | None, groups: Groups, features: int, classes: int | None
) -> tuple[list[nn.Module], tuple[str, ...]]:
    """The last layer, and what is assumed of it."""
    if name is None:
        if classes is None:
            return [], ("All outputs are kept: how many of them are classes stands in no file (`classes`).",)
        if not 1 <= classes <= features:
            raise InvalidWeight(
                f"`classes` must be between 1 and the {features} features of the network, but is {classes}."
            )
        return [FirstChannels(classes)], ()
    W = tensor_of(finite(name, "weight", groups[name]["weight"]))
    bias = groups[name].get("bias")
    if W.shape[1] != features or (bias is not None and bias.shape != W.shape[:1]):
        raise InvalidWeight(
            f"`{name}.weight` has the shape {tuple(W.shape)}, but {features} features come to it, and its bias must have one entry a row:"
            " the checkpoint is cut or mixed. Save it again."
        )
    if classes not in (None, len(W)):
        raise InvalidWeight(f"`{name}` has {len(W)} classes, but `classes` is {classes}. Drop it.")
    module = LastLayerNormalised(W.shape[1], len(W), bias is not None, dtype=W.dtype)
    with torch.no_grad():
        module.weight.copy_(W)
        if bias is not None:
            module.bias.copy_(tensor_of(finite(name, "bias", bias)))
    return [module], ("The last matrix runs with rows of length 1, as the published networks do.",)


def takes(layer: Imported, inputs: int) -> None:
    if layer.weight.array.shape[1] != inputs:
        raise InvalidWeight(
            f"`{layer.weight.name}` has the shape {layer.weight.array.shape}, but {inputs} channels or features come to it: a layer before"
            " it is missing or of another network. Save the checkpoint again."
        )


def in_order(prefixes: list[str], names: str, start: int, step: int = 1) -> None:
    """Refuse layers that are not numbered one after the other behind `names`, from `start`: one is missing.

    Raises:
        InvalidWeight: another name, or a gap.
    """
    for k, prefix in enumerate(prefixes):
        match, number = CHAIN.match(prefix), start + step * k
        if match is None or not match[1].endswith(names):
            raise InvalidWeight(f"`{prefix}` is no name of a published network. {INTO}")
        if int(match[2]) != number:
            raise InvalidWeight(
                f"`{prefix}` stands where number {number} should be, so a layer is missing: the checkpoint is cut. Save it again."
            )


def image_size_of(layer: Imported) -> tuple[tuple[int, int], tuple[str, ...]]:
    """The size of the images that the file says, or that of CIFAR."""
    size = None if layer.weight.geometry is None else layer.weight.geometry.image_size
    if size is not None:
        return (size[0], size[1]), ()
    return PIXELS, ("Images have 32 x 32 pixels.",)
