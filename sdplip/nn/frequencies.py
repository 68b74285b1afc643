"""The search for the worst frequency of a convolution as one operation of torch, for compiled graphs and `vmap`.

Numbers decide what it computes, which neither can follow. It is not differentiable; `largest_eigenvalue` is.
"""

from typing import Any

import torch
from torch import Tensor

from sdplip.convolution.frequencies import Found, worst_frequency


@torch.library.custom_op("sdplip::worst_frequency", mutates_args=())
def search(P: Tensor, grid: list[int], iterations: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`convolution.frequencies.worst_frequency`."""
    return worst_frequency(P, tuple(grid), iterations)


@search.register_fake
def _(P: Tensor, grid: list[int], iterations: int) -> Found:  # noqa: ARG001
    """Empty results of the right shapes."""
    groups, n, taps = P.shape[0], P.shape[2], P[0, 0, 0].numel()
    return (
        P.new_empty(groups),
        P.new_empty(groups, n, n),
        P.new_empty(groups, taps),
        P.new_empty(groups, taps),
    )


@search.register_vmap
def _(info: Any, dims: tuple, P: Tensor, grid: list[int], iterations: int) -> tuple[Found, tuple[int, ...]]:
    """Several kernels are groups of channels side by side."""
    found = search(P.movedim(dims[0], 0).flatten(0, 1), grid, iterations)
    return tuple(x.unflatten(0, (info.batch_size, -1)) for x in found), (0,) * 4
