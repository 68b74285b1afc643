"""What increments from a centre need of a network before any ball is known: its linear front, and its values at the centre."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.errors import NotProvable
from sdplip.kernel.centred.increments import Increments, added, allow, beside, mapped
from sdplip.kernel.centred.pairs import without_pairs
from sdplip.kernel.evaluate import step
from sdplip.kernel.reach.linear import Linear
from sdplip.network import INPUT, AbstractLinear, Concatenate, Network, Sum
from sdplip.shapes import Float


@dataclass(frozen=True, eq=False)
class Front:
    """A network whose leading linear nodes are multiplied once, for all centres and radii.

    Attributes:
        network: without maxima and sorted pairs.
        linear: its linear maps by node.
        known: increments of the values that depend on the input linearly.
    """

    network: Network
    linear: Mapping[int, Linear]
    known: Mapping[int, Increments]

    @staticmethod
    @np.errstate(all="ignore")
    def of(network: Network) -> "Front":
        """Of a network.

        Raises:
            NotProvable: dense matrices that are too large.
        """
        network = without_pairs(network)
        n = network.inputs
        linear = {
            k: Linear(node.op)
            for k, node in enumerate(network.nodes, 1)
            if isinstance(node.op, AbstractLinear)
        }
        allow(n, n)
        found = {INPUT: Increments({0: np.eye(n)}, np.zeros(n))}
        for k, node in enumerate(network.nodes, 1):
            if all(i in found for i in node.inputs):
                made = linear_step(k, network, linear, found)
                if made is not None:
                    found[k] = made
        needed = {i for k in range(1, network.output + 1) if k not in found for i in network.made(k).inputs}
        needed.add(network.output)
        return Front(network, linear, {i: z for i, z in found.items() if i in needed})

    @np.errstate(all="ignore")
    def at(self, x: Float[np.ndarray, " n"]) -> "Centre":
        """The network around the centre `x`, exact doubles."""
        point = np.asarray(x, np.float64)
        if point.shape != (self.network.inputs,):
            raise NotProvable(f"A centre has {self.network.inputs} coordinates, not {point.shape}.")
        values = [Enclosure.exact(point[None])]
        for node in self.network.nodes:
            try:
                near = step(node.op, [values[i] for i in node.inputs], node.title)
            except NotProvable:  # nothing is known of the value: the slopes of all inputs count behind it
                near = enclose(np.zeros((1, node.op.outputs)), np.inf)
            values.append(near)
        return Centre(self, tuple((low[0], high[0]) for low, high in (z.ends() for z in values)))


@dataclass(frozen=True, eq=False)
class Centre:
    """The values at a centre: proven ends of each."""

    front: Front
    values: tuple[tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]], ...]


def linear_step(
    k: int, network: Network, linear: Mapping[int, Linear], found: Mapping[int, Increments]
) -> Increments | None:
    """The increments behind node k where that is linear; None where it is not."""
    node = network.made(k)
    if k in linear:
        return mapped(linear[k], found[node.inputs[0]])
    if isinstance(node.op, Sum):
        return added(node.op.signs, [found[i] for i in node.inputs])
    if isinstance(node.op, Concatenate):
        return beside([found[i] for i in node.inputs])
    return None
