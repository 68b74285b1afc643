"""Networks out of checkpoints: published architectures, told by the names of their layers, and plain networks that a user describes."""

import os
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.importers.bronet import bronet, bronet_groups
from sdplip.importers.filled import filled
from sdplip.importers.layer import State
from sdplip.importers.layouts import FREQUENCIES, UNKNOWN, grouped, is_llc, layers_of
from sdplip.importers.llc import llc_network
from sdplip.importers.parts import INTO, ImportedNetwork
from sdplip.importers.published import published
from sdplip.importers.reading import state_of
from sdplip.importers.refused import REMEDY
from sdplip.nn.heads import Normalise


def load_network(
    path: str | os.PathLike[str],
    *,
    into: nn.Module | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ImportedNetwork:
    """The network of a checkpoint; nothing is unpickled.

    Args:
        into: for layouts that do not say what lies between their layers: a plain network whose modules have the names of the file. It is
            filled with the weights that run, and becomes `model`.
        classes: outputs that are classes, where the network has no last layer of its own; None keeps all outputs.
        mean, std: of the images, which no file holds; None is images as they enter the first layer.

    Raises:
        UnreadableFile: as `recertify`.
        InvalidWeight: layers that make no known architecture, are cut short, or do not fit `into`.
    """
    return network_of(state_of(path), into=into, classes=classes, mean=mean, std=std)


def network_of(
    state: State,
    *,
    into: nn.Module | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ImportedNetwork:
    """As `load_network`, of arrays by name."""
    groups = grouped(state)
    if mean is None and std is not None:
        raise InvalidWeight(
            "`std` is given without `mean`. Pass both, or `mean` alone where images are only centred."
        )
    inner = bronet_groups(groups)
    if inner is not None and into is None:
        return _ready(bronet(inner, classes), mean, std)
    layers, rest = layers_of(groups)
    refused = [why for why in rest.values() if why not in (UNKNOWN, FREQUENCIES)]
    if refused:
        raise InvalidWeight(refused[0])
    if into is not None:
        found = ImportedNetwork(filled(into, groups, layers), None, tuple(layers), False, ())
    elif is_llc(groups):
        if UNKNOWN in rest.values():
            name = next(name for name, why in rest.items() if why == UNKNOWN)
            raise InvalidWeight(
                f"`{name}` of a network of 1LLC is no layer of CPL, SLL, AOL, BCOP or Cayley (LOT and ordinary layers have the same arrays)."
                f" {REMEDY}"
            )
        found = llc_network(groups, layers, classes)
    elif layers and all(layer.form == "residual" for layer in layers):
        found = published(groups, layers, classes)
    else:
        raise InvalidWeight(INTO)
    return _ready(found, mean, std)


def _ready(
    found: ImportedNetwork, mean: Sequence[float] | None, std: Sequence[float] | None
) -> ImportedNetwork:
    """In eval mode, behind the normalisation of its images."""
    model = found.model if mean is None else nn.Sequential(Normalise(mean, std), found.model)
    return replace(found, model=model.eval())
