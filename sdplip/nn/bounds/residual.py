"""Rule of residual layers, statement 2, proven for the step and the weight that forward multiplies with."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from sdplip.arithmetic.rounding import up
from sdplip.geometry import Geometry
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, shown
from sdplip.nn.bounds.weights import certify_kernel, covered, effective, exact, refuse_stale
from sdplip.nn.residual import (
    AbstractResidual,
    PadChannels,
    ResidualConv1d,
    ResidualConv2d,
    ResidualConv3d,
    ResidualLinear,
)
from sdplip.nn.slopes import monotone_slope
from sdplip.proposals import certify

# Note [residual formula]. Differences of x -> h x - W S sigma(W'x + b) are J dx with J = h I - W S D W' and a diagonal
# 0 <= D <= beta of difference quotients, because sigma acts elementwise. W S D W' is symmetric, at least 0, and at most
# beta W S W'. With S = k / T and W'W <= c^2 T it is at most beta k c^2, so the eigenvalues of J lie between
# h - beta k c^2 and h: the bound is max(|h|, beta k c^2 - h). It is L if c <= 1, beta k = h + L and |h| <= L.


@lipschitz.register(ResidualLinear, ResidualConv1d, ResidualConv2d, ResidualConv3d)
def _(module: AbstractResidual, context: Context) -> Bound:
    monotone_slope(module.activation)  # refuses whatever is not elementwise and monotone
    activation = context.bound(module.activation, "activation")
    weight, step = effective(module, "weight", context), _step(module, context)
    size = None if context.input_shape is None else context.input_shape[1:]
    geometry = module.scaling.geometry  # None of a dense layer
    return residual_bound(weight, step, (module.h, module.L), activation.value, geometry, size)


def residual_bound(
    weight: Float[np.ndarray, "hidden features *taps"],
    step: Float[np.ndarray, " hidden"],
    constants: tuple[float, float],
    beta: float,
    geometry: Geometry | None,
    image_size: tuple[int, ...] | None,
) -> Bound:
    r"""Bound of $x \mapsto h x - W S \sigma(W^\top x + b)$, see Note [residual formula].

    `weight` is $W^\top$, `step` the diagonal of $S$, `constants` are $h$ and $L$.
    """
    h, L = constants
    below, above = sorted((h, float(np.float32(h))))  # forward may round it
    skip = max(abs(below), abs(above))
    used = (step > 0) & weight.any(tuple(range(1, weight.ndim)))
    if not used.any():
        return Bound(skip, "no hidden unit is used, only the skip connection h")
    active = weight * used.reshape(-1, *(1,) * (weight.ndim - 1))
    k = (h + L) / beta if h + L > 0 else 1.0
    t = np.nextafter(k / np.where(used, step, 1.0), 0)
    if geometry is None:
        certificate, where = certify(active.T, t, form="residual", scaling="as run"), ""
    else:
        geometry, remark = covered(replace(geometry, image_size=image_size))
        certificate = certify_kernel(active, t, geometry, "residual")
        size = geometry.image_size
        where = f", images of {' x '.join(map(str, size))} pixels" if size else ", every image size"
        where += remark
    reach = up(up(up(certificate.c * certificate.c) * k) * beta)
    value = max(skip, up(reach - below))
    reason = (
        f"max(|h|, (h + L) c^2 - h) with h = {h:g}, L = {L:g} and W^T W <= c^2 T proven for the T that runs,"
        f" c = {shown(certificate.c)}"
    )
    return Bound(value, reason + where, certificate=certificate)


def _step(module: AbstractResidual, context: Context) -> Float[np.ndarray, " hidden"]:
    """The step as forward uses it."""
    refuse_stale(module, module.scaling, module.weight, context)
    with torch.no_grad():
        step = exact(module.step(), module, "step", context)
    if (step < 0).any():
        raise context.refuse(module, "its step is negative. Use `abs(h) <= L` and a scaling with t >= 0.")
    return step


@lipschitz.register(PadChannels)
def _(module: PadChannels, context: Context) -> Bound:  # noqa: ARG001
    return Bound(1.0, "appending zeros is an isometry")
