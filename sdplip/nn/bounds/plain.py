"""Rule of exported residual layers, whose second weight is rounded and thus no exact adjoint of the first."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from sdplip.arithmetic.rounding import GENEROUS, UNIT, gamma
from sdplip.geometry import Geometry
from sdplip.nn.blocked import Blocked, unblocked
from sdplip.nn.bounds.affine import conv_geometry
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.residual import residual_bound
from sdplip.nn.bounds.tree import Bound, product_above, root_above, shown, sum_above
from sdplip.nn.bounds.weights import effective
from sdplip.nn.plain import CONVS, TRANSPOSED, PlainResidual, reversed_kernel
from sdplip.nn.slopes import monotone_slope

Kernel = Float[np.ndarray, "hidden features *taps"]

# Note [rounded adjoint]. With V = W R + E, R a diagonal, h x - V sigma(W'x + b) differs from the residual layer of step R by
# E sigma(W'x + b), which is beta |E| |W|-Lipschitz. R is fitted row by row; any would do.
# |E| is at most the root of its largest absolute row sum times its largest absolute column sum.


@lipschitz.register(PlainResidual)
def _(module: PlainResidual, context: Context) -> Bound:
    monotone_slope(module.activation)
    beta = context.bound(module.activation, "activation").value
    U, V, geometry = _pair(module, context)
    flat_U, flat_V = U.reshape(len(U), -1), V.reshape(len(V), -1)
    square = (flat_U * flat_U).sum(1)
    step = (flat_U * flat_V).sum(1) / np.where(square > 0, square, 1)
    step = np.where(step > 0, step, 0.0)
    size = None if context.input_shape is None else context.input_shape[1:]
    main = residual_bound(U, step, (module.h, module.L), beta, geometry, size)
    groups = 1 if geometry is None else geometry.groups
    error = product_above((beta, _schur(_remainder(U, V, step), groups), _schur(abs(U), groups)))
    reason = f"{main.reason}; plus {shown(error)} because `down` is rounded"
    return Bound(sum_above((main.value, error)), reason, certificate=main.certificate)


def _pair(module: PlainResidual, context: Context) -> tuple[Kernel, Kernel, Geometry | None]:
    """`up` and the adjoint of `down` as kernels `(hidden, features, *taps)`, and the geometry that both share."""
    for part, name in ((module.up, "up"), (module.down, "down")):
        if isinstance(part, Blocked):
            context.check(part, name, Blocked)
    up: Any = unblocked(module.up)  # `context.check` says what they are
    down: Any = unblocked(module.down)
    if isinstance(up, nn.Linear):
        context.check(up, "up", nn.Linear)
        context.check(down, "down", nn.Linear)
        U, V = effective(up, "weight", context), effective(down, "weight", context).T
        if U.shape != V.shape:
            raise context.refuse(
                module, f"`up` and `down` have the shapes {U.shape} and {V.T.shape}. Export again."
            )
        return U, V, None
    context.check(up, "up", *CONVS)
    context.check(down, "down", *CONVS, *TRANSPOSED)
    U, geometry = effective(up, "weight", context), conv_geometry(up).expand(tuple(up.weight.shape))
    below = conv_geometry(down)
    if isinstance(down, TRANSPOSED):
        V, adjoint = effective(down, "weight", context), below.expand(U.shape)
    else:
        V = reversed_kernel(torch.from_numpy(effective(down, "weight", context)), down.groups).numpy()
        reach = [d * (k - 1) for d, k in zip(geometry.dilation, U.shape[2:], strict=True)]
        adjoint = replace(
            below, padding=tuple(r - p for r, p in zip(reach, _tuple(below.padding), strict=True))
        )
        adjoint = replace(adjoint, image_size=None).expand(U.shape)
    wraps = geometry.padding_mode == "circular" and isinstance(down, TRANSPOSED)
    if V.shape != U.shape or adjoint != geometry or wraps:
        raise context.refuse(
            module, "`down` does not move over the image as the adjoint of `up`. Export again."
        )
    return U, V, geometry


def _tuple(padding: object) -> tuple[int, ...]:
    assert isinstance(padding, tuple), "PlainResidual is built with numbers"
    return padding


def _remainder(U: Kernel, V: Kernel, step: Float[np.ndarray, " hidden"]) -> Kernel:
    """Absolute values of V - step U, each increased by what its computation may have lost."""
    product = U * step.reshape(-1, *(1,) * (U.ndim - 1))
    return abs(V - product) + 4 * UNIT * (abs(V) + abs(product))


def _schur(M: Kernel, groups: int) -> float:
    """Bound of the norm of a convolution (or matrix) by nonnegative `M`: root of the largest row and column sums."""
    rows = M.reshape(len(M), -1).sum(1).max()
    columns = M.reshape(groups, -1, M.shape[1], int(np.prod(M.shape[2:]))).sum((1, 3)).max()
    return root_above(float(rows) * float(columns) * (1 + gamma(M.size + 8)) * GENEROUS)
