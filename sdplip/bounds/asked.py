"""What is asked of a network: which outputs, where, from which points on."""

import numpy as np
from jaxtyping import Float

from sdplip.errors import InvalidProblem
from sdplip.kernel.proof import Goal, Norm
from sdplip.kernel.regions import Region
from sdplip.network import Activation, Equilibrium, Grouped, Maximum, Network, Norms, Sort
from sdplip.verifier.claim import chosen


def goal_of(network: Network, pair: tuple[int, int] | None, norm: Norm, region: Region | None) -> Goal:
    """What is to be bounded, with its values.

    Raises:
        InvalidProblem: outputs that do not exist, another norm, a region of another number of inputs.
    """
    if norm not in ("l2", "linf"):
        raise InvalidProblem(f"`output_norm` must be 'l2' or 'linf', not {norm!r}.")
    if region is not None and region.inputs != network.inputs:
        raise InvalidProblem(
            f"The region has {region.inputs} coordinates, but the network takes {network.inputs} inputs."
        )
    if pair is None:
        return Goal(network, region, norm, values=True)
    if not (min(pair) >= 0 and max(pair) < network.outputs and pair[0] != pair[1]):
        raise InvalidProblem(
            f"`output_pair` must name two different outputs of 0 to {network.outputs - 1}, not {pair[0]} and {pair[1]}."
        )
    return Goal(chosen(network, (int(pair[0]), int(pair[1]))), region, "l2", values=True)


def inputs_of(network: Network, points: Float[np.ndarray, "points *shape"]) -> Float[np.ndarray, "points n"]:
    """The points, one a row, in double precision.

    Raises:
        InvalidProblem: they are not floating-point inputs of the network.
    """
    fits = points.ndim >= 2 and len(points) and points[0].size == network.inputs
    if not (fits and points.dtype.kind == "f" and np.isfinite(points).all()):
        raise InvalidProblem(
            f"`points` must be finite floating-point inputs as they enter the network, (points, {network.inputs}) or in its"
            f" shape {network.input_shape}, but has shape {points.shape} and entries of type {points.dtype}."
        )
    return points.reshape(len(points), -1).astype(np.float64)


def given_inputs(network: Network, points: Float[np.ndarray, "points *shape"] | None) -> np.ndarray | None:
    """The same of points that may be missing."""
    return None if points is None else inputs_of(network, points)


def neurons(network: Network) -> int:
    """Number of hidden neurons: entries with more than one slope, and what sorting, maxima and functions of groups see."""
    total = 0
    for node in network.nodes:
        op = node.op
        if isinstance(op, Activation):
            total += int((op.alpha != op.beta).sum())
        elif isinstance(op, Equilibrium):
            total += op.outputs
        elif isinstance(op, Sort):
            total += len(op.groups) * (op.groups.shape[1] - 1)
        elif isinstance(op, Maximum):
            total += int((op.index >= 0).sum()) - len(op.index)
        elif isinstance(op, Grouped | Norms):
            total += op.groups.size
    return total
