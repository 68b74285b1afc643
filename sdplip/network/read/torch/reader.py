"""`read_module(module, input_shape)`: the network that a torch module computes, as plain data."""

import copy
from math import prod

import torch
from torch import Tensor, nn

from sdplip.errors import RefusedModule
from sdplip.network.graph import Network
from sdplip.network.read.arrays import Array, finish
from sdplip.network.read.simplify import simplified
from sdplip.network.read.torch import arithmetic, functions, groups, images, layers, trace
from sdplip.network.read.torch.shadows import numbers_of
from sdplip.network.read.torch.steady import compare, floating, inputs
from sdplip.network.read.understood import Understood

Shape = tuple[int, ...]
TABLES = (arithmetic, functions, groups, images)
"""Importing them fills the table of operations."""


def read_module(module: nn.Module, input_shape: Shape | None = None) -> Network:
    """The network of `module` as it stands: the numbers that its forward computes with, the mode that it is in.

    Any forward is followed that is made of operations of the table (`sdplip.network.read.torch.table`); Python around them runs
    as it is. Weights that are computed in forward (parametrizations, hooks, pruning) count as they are computed.

    Args:
        module: not changed.
        input_shape: of one sample without the batch, `(features,)` or `(channels, *pixels)`; may be left out where the first
            module of an `nn.Sequential` says it.

    Raises:
        RefusedModule: an operation that is not understood, by its name and line; a forward that mixes the samples of a batch,
            draws random numbers, changes the module, looks at the numbers, or is another function at every call.
    """
    return understand_module(module, input_shape).network


def understand_module(module: nn.Module, input_shape: Shape | None = None) -> Understood:
    """`read_module`, with what was compared in words."""
    if not isinstance(module, nn.Module):
        raise RefusedModule(f"A `torch.nn.Module` is wanted, but got {type(module).__name__}.")
    shape = _shape(module, input_shape)
    before = trace.state(module)
    array, y, run = _traced(module, shape)
    trace.refuse_state(module, before)
    network = simplified(finish(array))
    expected = lambda x: network(numbers_of(x).reshape(len(x), -1))  # noqa: E731
    compare(module, expected, shape, tuple(y.shape[1:]), run.checks)
    sharp = run.checks.unit == 2.0**-53 or sum(prod(node.shape) for node in network.nodes) > LARGE
    double = None if sharp else _in_double(module, shape)
    if double is not None:  # a sharper look at how it was read, at numbers a little different
        _traced(double, shape)
    words = "compared with forward, operation by operation and as a whole, on random inputs"
    return Understood(network, checked=words)


LARGE = 1 << 21
"""Numbers of all values of networks that are not looked at twice."""


def _traced(module: nn.Module, shape: Shape) -> tuple[Array, Tensor, trace.Trace]:
    x = inputs(trace.BATCH, shape, floating(module, shape), seed=0)
    return trace.trace(module, x, layers.rule_of, _whole)


def _whole(module: nn.Module, path: str, x: Array, y: Tensor, follow: layers.Follow) -> Array | None:  # noqa: ARG001
    if x.shape[0] != 1:  # several samples of the module in one of ours
        return None
    rule = layers.rule_of(module)
    assert rule is not None
    return rule(module, x, follow)


def _in_double(module: nn.Module, shape: Shape) -> nn.Module | None:
    """A copy in double precision; None of modules that cannot be copied, or do not run in it."""
    try:
        with trace.eager(), torch.no_grad():
            double = copy.deepcopy(module).double()
            double(inputs(trace.BATCH, shape, floating(double, shape), 0))
    except Exception:
        return None
    return double


def _shape(module: nn.Module, shape: Shape | None) -> Shape:
    if shape is not None:
        found = (shape,) if isinstance(shape, int) else tuple(shape)
        if not found or any(not isinstance(n, int) or n < 1 for n in found):
            raise RefusedModule(
                f"`input_shape` must be positive whole numbers, those of one sample without the batch, but is {shape}."
            )
        return found
    first = module
    while isinstance(first, nn.Sequential) and len(first):
        first = next((child for child in first if not isinstance(child, PASSING)), first[0])
    for name in ("in_features", "features"):
        if isinstance(n := vars(first).get(name), int):
            return (n,)
    raise RefusedModule(
        "The shape of the inputs is not known. Pass that of one sample without the batch, `input_shape=(channels, height, width)`"
        " or `(features,)`."
    )


PASSING = (nn.Identity, nn.Flatten, nn.Dropout)
"""Modules that a vector passes as it is."""

__all__ = ["read_module", "understand_module"]
