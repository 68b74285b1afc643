r"""Lower bounds of a zero-padded convolution on an image of given size: a witness image and its proven stretch."""

from itertools import product

import numpy as np
from jaxtyping import Float

from sdplip.certificates.certificate import Form
from sdplip.certificates.rounding import GENEROUS, UNIT, down, gamma
from sdplip.certificates.witness import top_eigenvector
from sdplip.geometry import ExpandedGeometry


def image_lower_bound(
    K: np.ndarray, t: np.ndarray, geometry: ExpandedGeometry, form: Form, image: np.ndarray
) -> float:
    r"""Proven lower bound of $\lVert C T^{-1/2} \rVert_2$ (linear) or $\lVert T^{-1/2} C \rVert_2$ (residual) from one `image`.

    `image` has shape `(in, *image_size)` and is read in the coordinates in which the scaled kernel acts.
    """
    B, tau, exponent = _scaled(K, t, geometry, form)
    y = _convolve(B, geometry, image)
    inner, outer = (tau, np.ones(len(y))) if form == "linear" else (np.ones(len(image)), 1 / tau)
    terms = int(np.prod(K.shape[1:]))
    envelope = float(np.linalg.norm(abs(B).sum(tuple(range(2, B.ndim))))) * geometry.groups
    length = float(np.linalg.norm(image))
    error = (gamma(terms + 2) * envelope * length * 2 + 2.0**-500) * GENEROUS
    above = _weighted(y, outer) * (1 - gamma(y.size + 6)) - error
    below = _weighted(image, inner) * (1 + gamma(image.size + 6)) + 2.0**-500
    return max(0.0, down(float(np.ldexp(max(0.0, above / below * (1 - 4 * UNIT)), exponent))))


def propose_image(
    K: np.ndarray, t: np.ndarray, geometry: ExpandedGeometry, form: Form
) -> Float[np.ndarray, "in ..."]:
    """An image that the convolution stretches nearly as far as it can. Not trusted."""
    B, tau, _ = _scaled(K, t, geometry, form)
    inputs = K.shape[1] * geometry.groups
    shape = (inputs, *np.array(geometry.image_size))
    axes = (1,) * (B.ndim - 2)
    inner, outer = (
        (tau.reshape(-1, *axes) ** -0.5, 1.0) if form == "linear" else (1.0, 1 / tau.reshape(-1, *axes))
    )

    def apply(x: np.ndarray) -> np.ndarray:
        image = inner * x.reshape(shape)
        return (inner * _adjoint(B, geometry, outer * _convolve(B, geometry, image))).reshape(-1)

    _, u = top_eigenvector(apply, int(np.prod(shape)), tolerance=1e-6, steps=100)
    return inner * u.reshape(shape)


def _scaled(
    K: np.ndarray, t: np.ndarray, geometry: ExpandedGeometry, form: Form
) -> tuple[Float[np.ndarray, "out in_per_group ..."], Float[np.ndarray, " channels"], int]:
    """Kernel and scaling brought near 1 by powers of two; channels of zero `t` are zero in the kernel."""
    e = np.where(t > 0, np.frexp(t)[1] // 2, 0)
    tau = np.where(t > 0, np.ldexp(t, -2 * e), 1.0)
    ones = (1,) * (K.ndim - 2)
    if form == "linear":  # input channel j of group g is channel g * in_per_group + j of t
        of_kernel = np.repeat(e.reshape(geometry.groups, -1), K.shape[0] // geometry.groups, 0).reshape(
            *K.shape[:2], *ones
        )
    else:
        of_kernel = e.reshape(-1, 1, *ones)
    exponent = int((np.frexp(K)[1] - of_kernel)[K != 0].max())
    return np.ldexp(K, -(of_kernel + exponent)), tau, exponent


def _weighted(x: np.ndarray, weight: np.ndarray) -> float:
    return float(np.sqrt((weight.reshape(-1, *(1,) * (x.ndim - 1)) * x * x).sum()))


def _windows(B: np.ndarray, geometry: ExpandedGeometry):
    """For each kernel tap: its index, and the slice of the padded image that it reads."""
    stride, dilation = np.array(geometry.stride), np.array(geometry.dilation)
    reach = dilation * (np.array(B.shape[2:]) - 1)
    before = reach // 2 if geometry.padding is None else np.array(geometry.padding)
    after = reach - before if geometry.padding is None else before
    padded = np.array(geometry.image_size) + before + after
    count = (padded - reach - 1) // stride + 1
    inside = tuple(slice(b, b + s) for b, s in zip(before, np.array(geometry.image_size), strict=True))
    taps = [
        (
            tap,
            tuple(
                slice(u * d, u * d + (c - 1) * s + 1, s)
                for u, d, c, s in zip(tap, dilation, count, stride, strict=True)
            ),
        )
        for tap in product(*map(range, B.shape[2:]))
    ]
    return tuple(padded.tolist()), tuple(count.tolist()), inside, taps


def _convolve(B: np.ndarray, geometry: ExpandedGeometry, image: np.ndarray) -> Float[np.ndarray, "out ..."]:
    """The zero-padded convolution itself, tap by tap."""
    padded, count, inside, taps = _windows(B, geometry)
    canvas = np.zeros((len(image), *padded))
    canvas[:, *inside] = image
    groups = geometry.groups
    kernel = B.reshape(groups, -1, *B.shape[1:])
    y = np.zeros((groups, kernel.shape[1], int(np.prod(count))))
    for tap, window in taps:
        y += kernel[..., *tap] @ canvas[:, *window].reshape(groups, B.shape[1], -1)
    return y.reshape(-1, *count)


def _adjoint(B: np.ndarray, geometry: ExpandedGeometry, y: np.ndarray) -> Float[np.ndarray, "in ..."]:
    """The transposed map of `_convolve`."""
    padded, count, inside, taps = _windows(B, geometry)
    groups = geometry.groups
    kernel = B.reshape(groups, -1, *B.shape[1:])
    canvas = np.zeros((groups * B.shape[1], *padded))
    y = y.reshape(groups, -1, int(np.prod(count)))
    for tap, window in taps:
        canvas[:, *window] += (kernel[..., *tap].mT @ y).reshape(-1, *count)
    return canvas[:, *inside]
