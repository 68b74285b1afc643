"""A plain network of the user, filled with the weights that run in a checkpoint."""

import torch
from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.importers.layer import TORCHLIP, Imported
from sdplip.importers.layouts import Groups
from sdplip.importers.modules import tensor_of


def filled(into: nn.Module, groups: Groups, layers: list[Imported]) -> nn.Module:
    """`into` itself, with the weights that run."""
    known = {layer.prefix: layer for layer in layers}
    given = into.state_dict()
    numbers = dict[str, torch.Tensor]()
    for prefix, group in groups.items():
        layer = known.get(prefix)
        start = f"{prefix}." if prefix else ""
        if layer is None:
            numbers |= {
                f"{start}{leaf}": tensor_of(array) for leaf, array in group.items() if array.dtype.kind == "f"
            }
            continue
        if layer.form == "residual":
            raise InvalidWeight(
                f"`{prefix}` is a residual layer, which no plain layer of `into` can hold. Leave `into` out."
            )
        numbers[f"{start}weight"] = tensor_of(layer.weight.array)
        if layer.bias is not None:
            numbers[f"{start}bias"] = tensor_of(layer.bias)
    missing, extra = sorted(set(given) - set(numbers)), sorted(set(numbers) - set(given))
    if missing or extra:
        raise InvalidWeight(
            f"The file lacks {missing} of `into`, and its arrays {extra} have no place there. Make their names equal."
        )
    for name, values in numbers.items():
        if values.shape != given[name].shape:
            raise InvalidWeight(
                f"`{name}` has the shape {tuple(values.shape)}, but {tuple(given[name].shape)} in `into`."
            )
    for layer in layers:
        if layer.layout == TORCHLIP and getattr(into.get_submodule(layer.prefix), "stride", (1,)) not in (
            (1,),
            (1, 1),
        ):
            raise InvalidWeight(
                f"`{layer.prefix}` has a stride in `into`, with which deel-torchlip divides kernels by another number. Load the checkpoint"
                " into deel-torchlip, and ask `sdplip.lipschitz(module)`."
            )
    into.load_state_dict(numbers)
    return into
