"""A network as the parts that the kernel proves one by one, each in the form that its proof needs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sdplip.certificates.network import Slopes
from sdplip.certificates.parts import ChainPart, Kind, LayersPart, Part, TrunkPart
from sdplip.certificates.parts_file import Whole
from sdplip.errors import InvalidProblem
from sdplip.networks.chain import chain_of, runs_of
from sdplip.networks.network import Activation, Network
from sdplip.networks.segments import segments
from sdplip.networks.trunk import factors_of, split_strip, split_trunk


def parts_of(network: Network, kinds: Sequence[Kind]) -> Whole:
    """The parts of `network` between its maxima over windows, for proofs of these kinds.

    Raises:
        InvalidProblem: another number of parts, sorting or residual sums, a kind whose form a part does not have.
    """
    cut = segments(network)
    if len(cut.parts) != len(kinds):
        raise InvalidProblem(f"The network has {len(cut.parts)} parts, but there are {len(kinds)} proofs.")
    found = tuple(_part(part, kind) for part, kind in zip(cut.parts, kinds, strict=True))
    return Whole(found, cut.overlap, cut.factors)


def slopes_of(network: Network) -> tuple[Slopes, ...]:
    """The slopes of the activations, first one first, as they stand: one number or one a neuron."""
    found = [layer for layer in network.layers if isinstance(layer, Activation)]
    return tuple((np.asarray(layer.alpha, np.float64), np.asarray(layer.beta, np.float64)) for layer in found)


def with_slopes(network: Network, slopes: Sequence[Slopes]) -> Network:
    """The same network with activations of these slopes.

    Raises:
        InvalidProblem: another number of activations.
        InvalidWeight: slopes that do not fit.
    """
    count = sum(isinstance(layer, Activation) for layer in network.layers)
    if count != len(slopes):
        raise InvalidProblem(f"The network has {count} activations, but there are {len(slopes)} slopes.")
    given = iter(slopes)
    changed = (
        replace(layer, alpha=pair[0], beta=pair[1], kind="")
        if isinstance(layer, Activation) and (pair := next(given))
        else layer
        for layer in network.layers
    )
    return Network(tuple(changed))


def _part(part: Network, kind: Kind) -> Part:
    if kind == "layers":
        return LayersPart(tuple(factors_of(*runs_of(part))))
    if kind not in ("trunk", "strip"):
        chain = chain_of(part)
        return ChainPart(chain.weights, chain.slopes, chain.remainder())
    split = (split_trunk if kind == "trunk" else split_strip)(*runs_of(part))
    if split is None:
        raise InvalidProblem(f"A part that is claimed to begin with a {kind} of convolutions has none.")
    return TrunkPart(split.trunk, split.tail.weights[1:], split.tail.slopes, split.slack)
