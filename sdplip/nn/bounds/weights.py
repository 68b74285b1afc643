"""The numbers that a forward pass runs, and what the trusted kernel proves about them."""

from dataclasses import replace
from math import gcd

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from sdplip.geometry import Geometry
from sdplip.kernel.condition import Certificate, Form
from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.nn.bounds.dispatch import Context
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.kept import AbstractKept
from sdplip.nn.orthogonal import Trivialised
from sdplip.nn.rescaled import Rescaled
from sdplip.proposals import certify, certify_convolution

STALE = "its cached `t` or weight belongs to other weights, because they were changed through `.data`. Call `.eval()` again."


def effective(module: nn.Module, name: str, context: Context) -> Float[np.ndarray, "..."]:
    """The tensor `name` as `forward` reads it, parametrizations applied, every entry exact in double precision."""
    steps = _steps(module, name)
    if module.training and any(isinstance(step, parametrizations._SpectralNorm) for step in steps):
        raise context.refuse(
            module,
            "torch's `spectral_norm` changes the weight at every forward in training. Call `.eval()` first.",
        )
    refuse_stale_parametrization(module, name, context)
    with torch.no_grad():
        tensor = getattr(module, name).detach()
    if steps:
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                again = getattr(module, name).detach()
            if not same(tensor, again):
                raise context.refuse(
                    module,
                    f"`{name}` is another tensor at every reading, or with gradients than without, so no proof can be about it."
                    " Call `.eval()` first, or assign the weight that is meant.",
                )
    return exact(tensor, module, name, context)


def refuse_stale_parametrization(module: nn.Module, name: str, context: Context) -> None:
    """A rescaled or orthogonal weight must be that of the free tensors as they are now."""
    steps = _steps(module, name)
    if len(steps) == 1 and isinstance(step := steps[0], AbstractKept):
        free = tuple(steps.parameters(recurse=False))
        with torch.no_grad():
            if not same(step(*free), step.now(*free)):
                raise context.refuse(module, STALE)
    if len(steps) != 1 or not isinstance(step := steps[0], Rescaled | Trivialised):
        return
    original = steps.get_parameter("original")
    if isinstance(step, Rescaled):
        refuse_stale(module, step.scaling, original, context)
    with torch.no_grad():
        if not same(step(original), step.now(original)):
            raise context.refuse(module, STALE)


def _steps(module: nn.Module, name: str) -> nn.ModuleList:
    """The parametrizations of a tensor, none of a plain one."""
    if not parametrize.is_parametrized(module, name):
        return nn.ModuleList()
    steps = module.get_submodule(f"parametrizations.{name}")
    assert isinstance(steps, nn.ModuleList)
    return steps


def refuse_stale(module: nn.Module, scaling: AbstractScaling, weight: torch.Tensor, context: Context) -> None:
    """What runs must be what the weights say now; a `t` from older weights is refused."""
    if module.training and scaling.refresh_every > 1:
        raise context.refuse(
            module,
            "with `refresh_every` > 1 the forward pass in training may use `t` of older weights. Call `.eval()` first.",
        )
    with torch.no_grad():
        if not same(scaling(weight), scaling.compute(weight)):
            raise context.refuse(module, STALE)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal in every entry; NaN equals NaN, and is refused elsewhere by its own name."""
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def exact(tensor: torch.Tensor, module: nn.Module, name: str, context: Context) -> Float[np.ndarray, "..."]:
    """`tensor` as a float64 array, every entry unchanged and finite."""
    if not tensor.is_floating_point() or tensor.is_quantized:
        raise context.refuse(
            module, f"`{name}` has type {tensor.dtype}. Only real floating-point weights are covered."
        )
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    array = tensor.to("cpu", torch.float64).resolve_neg().numpy()
    if not np.isfinite(array).all():
        raise context.refuse(module, f"`{name}` holds NaN or infinity. Repair or retrain the layer.")
    return array


def matrix_bound(W: Float[np.ndarray, "out in"], what: str) -> Bound:
    r"""Proven norm of a matrix."""
    if not W.any():
        return Bound(0.0, f"{what} is zero")
    certificate = certify(W, np.ones(W.shape[1]), scaling="identity")
    rows, columns = W.shape
    return Bound(
        certificate.c,
        f"W^T W <= c^2 I proven for {what}, {rows} x {columns}",
        certificate=certificate,
    )


def convolution_bound(K: Float[np.ndarray, "out in_per_group *taps"], geometry: Geometry, what: str) -> Bound:
    """Proven norm of a convolution on every image size, or on that of `geometry`."""
    if not K.any():
        return Bound(0.0, f"{what} is zero")
    geometry, remark = covered(geometry)
    certificate = certify_kernel(K, np.ones(K.shape[1] * geometry.groups), geometry)
    size = geometry.image_size
    sizes = f"images of {' x '.join(map(str, size))} pixels" if size else "every image size"
    return Bound(
        certificate.c,
        f"C^T C <= c^2 I proven frequency by frequency for {what}, {' x '.join(map(str, K.shape))}, {sizes}{remark}",
        certificate=certificate,
    )


def certify_kernel(
    K: Float[np.ndarray, "out in_per_group *taps"],
    t: Float[np.ndarray, " n"],
    geometry: Geometry,
    form: Form = "linear",
) -> Certificate:
    """`certify_convolution` of a layer as it runs."""
    return certify_convolution(K, t, geometry, form=form, scaling="identity")


def covered(geometry: Geometry) -> tuple[Geometry, str]:
    """A geometry that the kernel proves, whose convolution contains the given one as a submatrix.

    A circular convolution whose stride does not divide the image selects outputs of the one with stride 1.
    """
    strides = geometry.stride if isinstance(geometry.stride, tuple) else (geometry.stride,)
    if geometry.padding_mode != "circular" or max(strides) == 1:
        return geometry, ""
    size = geometry.image_size
    if size and all(h % s == 0 for h, s in zip(size, strides * (len(size) // len(strides)), strict=True)):
        return geometry, ""
    remark = " (as a selection of the outputs with stride 1, because the stride need not divide the image)"
    return replace(geometry, stride=1), remark


def window_overlap(size: int, stride: int, dilation: int) -> int:
    """In how many windows one pixel of an axis may lie."""
    return -(-size * gcd(stride, dilation) // stride)


def window_square(size: int, stride: int) -> int:
    r"""$\lVert S \rVert_2^2$ of the sums $S$ over windows of an axis, the supremum over all image sizes.

    $S$ is a convolution with the kernel $1, \ldots, 1$. Its polyphase symbol is a row with entries $\sum e^{i \omega \tau}$,
    one a phase, whose absolute values are largest at $\omega = 0$: the number of taps of each phase.
    """
    counts = [len(range(phase, size, stride)) for phase in range(min(stride, size))]
    return sum(count * count for count in counts)
