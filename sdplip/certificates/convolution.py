r"""Certificates of a convolution: one $t$ a channel, proven for every frequency, hence for a given image size or for all."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from sdplip.certificates.certificate import Certificate, Form
from sdplip.certificates.definite import guard_scale, least_scale, proves_semidefinite
from sdplip.certificates.dense import root_above, square_below
from sdplip.certificates.image import image_lower_bound, propose_image
from sdplip.certificates.rounding import GENEROUS, UNIT, down, gamma
from sdplip.certificates.symbol import Symbol, polyphase_offsets, symbols, witness_vector
from sdplip.certificates.validate import as_scaling, as_weight
from sdplip.errors import InvalidCertificate, UnsupportedConvolution
from sdplip.geometry import ExpandedGeometry, Geometry

DEFAULT_POINTS = {1: 4096, 2: 64, 3: 16}
"""Frequencies on each axis when every image size is to be covered."""

DOMINANCE_TAPS = 49
"""Kernels of more taps skip the row sums of their autocorrelation, whose cost grows with the square of the taps."""


def certify_convolution(
    K: Float[np.ndarray, "out in_per_group ..."],
    t: Float[np.ndarray, " channels"],
    geometry: Geometry = Geometry(),
    *,
    form: Form = "linear",
    scaling: str = "given",
    grid: tuple[int, ...] | None = None,
) -> Certificate:
    r"""Certificate with a provable $c$: the convolution $C$ by `K` satisfies $C^\top C \preceq c^2 T$ (linear form, $T$ on input
    channels) or $C C^\top \preceq c^2 T$ (residual form, $T$ on hidden = output channels), `t[i]` repeated over the pixels.

    With `geometry.image_size` the statement is about that size: circular padding is exact per frequency, zero padding is a
    compression of a circular convolution on a larger image. Without it the statement is about every size: the symbol is proven on
    a grid of frequencies and M. Riesz' lemma covers what lies between them (`docs/rounding.md`, section 5).

    Args:
        K: kernel as torch stores it, with 1, 2 or 3 image axes.
        t: one positive number a channel.
        grid: frequencies on each axis, when every size is to be covered; more points give a smaller `c` at more cost.

    Raises:
        InvalidWeight, InvalidScaling: the input is not what the statement needs.
        UnsupportedConvolution: reflect or replicate padding, or a geometry that contradicts the kernel.
    """
    K = as_weight(K, (3, 4, 5))
    geometry = geometry.expand(K.shape)
    grid = frequency_grid(K.shape[2:], geometry, grid)
    t = as_scaling(t, _nonzero_channels(K, geometry.groups, form), scaling)
    groups = kernel_symbols(K, t, geometry, form, grid)
    c, lower, frequency, witness = 0.0, -1.0, None, np.zeros(0)
    for group, symbol in groups:
        estimate, point = _largest_block(symbol)
        kappa = least_scale(
            estimate,
            guard=lambda kappa, s=symbol: _guard(s, kappa),
            proves=lambda kappa, s=symbol: _proves(s, kappa),
        )
        kappa = kappa * symbol.off_grid_factor(geometry.image_size is None) * (1 + 4 * UNIT)
        c = max(c, root_above(min(kappa, _dominance(symbol, geometry)), symbol.exponent))
        _, v = witness_vector(symbol, point)
        candidate = np.concatenate([np.real(v), np.imag(v)])
        value = _lower(symbol, point, candidate)
        if value > lower:
            lower, frequency, witness = value, (group, *point.tolist()), candidate
    certificate = Certificate(t, c, max(lower, 0.0), witness, form, scaling, geometry, grid, frequency)
    if geometry.image_size is None or geometry.padding_mode == "circular":
        return certificate
    image = propose_image(K, t, geometry, form)
    lower = image_lower_bound(K, t, geometry, form, image)
    return replace(certificate, c_lower=lower, witness=image, frequency=None)


def convolution_holds(K: Float[np.ndarray, "out in_per_group ..."], certificate: Certificate) -> bool:
    """True only if the upper bound `c` of the certificate is proven for this kernel."""
    K, geometry, t = _inputs(K, certificate)
    grid = certificate.grid or ()
    if grid != frequency_grid(K.shape[2:], geometry, grid):
        raise InvalidCertificate(
            f"The grid {grid} of the certificate does not cover its geometry. Certify the layer anew."
        )
    for _, symbol in kernel_symbols(K, t, geometry, certificate.form, grid):
        kappa = square_below(certificate.c, symbol.exponent)
        if kappa >= _dominance(symbol, geometry):
            continue
        factor = symbol.off_grid_factor(geometry.image_size is None)
        if not _proves(symbol, down(kappa / factor) * (1 - 4 * UNIT)):
            return False
    return True


def _dominance(symbol: Symbol, geometry: ExpandedGeometry) -> float:
    """The row-sum bound where every frequency counts and the kernel is small enough for it to pay, else infinity."""
    return (
        symbol.dominance() if geometry.image_size is None and len(symbol.taps) <= DOMINANCE_TAPS else np.inf
    )


def convolution_lower_bound(K: Float[np.ndarray, "out in_per_group ..."], certificate: Certificate) -> float:
    """Proven lower bound of every valid `c` for this kernel, from the witness of the certificate."""
    K, geometry, t = _inputs(K, certificate)
    if certificate.frequency is None:
        return image_lower_bound(K, t, geometry, certificate.form, certificate.witness)
    group, *point = certificate.frequency
    for number, symbol in kernel_symbols(K, t, geometry, certificate.form, certificate.grid or ()):
        if number == group and certificate.witness.shape == symbol.d.shape:
            return _lower(symbol, np.array(point), certificate.witness)
    raise InvalidCertificate(
        f"The witness does not fit channel group {group} of this kernel. Certify the layer anew."
    )


def _inputs(K: np.ndarray, certificate: Certificate) -> tuple[np.ndarray, ExpandedGeometry, np.ndarray]:
    K = as_weight(K, (3, 4, 5))
    geometry = (certificate.geometry or Geometry()).expand(K.shape)
    t = as_scaling(
        certificate.t, _nonzero_channels(K, geometry.groups, certificate.form), certificate.scaling
    )
    return K, geometry, t


def _nonzero_channels(K: np.ndarray, groups: int, form: Form) -> np.ndarray:
    """Which channels that carry t have a nonzero kernel."""
    if form == "residual":
        return np.asarray(K.any(tuple(range(1, K.ndim))))
    blocks = K.reshape(groups, -1, *K.shape[1:])
    return blocks.any((1, *range(3, blocks.ndim))).reshape(-1)


def kernel_symbols(
    K: np.ndarray, t: np.ndarray, geometry: ExpandedGeometry, form: Form, grid: tuple[int, ...]
) -> list[tuple[int, Symbol]]:
    """The symbols of all channel groups that the statement of `geometry` needs, each with the number of its group."""
    return symbols(K, t, _without_idle_dilation(geometry), form, grid)


def _without_idle_dilation(geometry: ExpandedGeometry) -> ExpandedGeometry:
    """Dilation only relabels the frequencies when all of them count and the stride does not see it."""
    if geometry.image_size is not None or np.prod(geometry.stride) != 1:
        return geometry
    return replace(geometry, dilation=(1,) * len(geometry.dilation))


def frequency_grid(
    taps: tuple[int, ...], geometry: ExpandedGeometry, wanted: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Number of frequencies on each axis that proves the statement of `geometry`."""
    stride, dilation = np.array(geometry.stride), np.array(geometry.dilation)
    if geometry.image_size is not None:
        size = np.array(geometry.image_size)
        if geometry.padding_mode == "zeros":
            size = size + dilation * (np.array(taps) - 1)
        return tuple((-(-size // stride)).tolist())
    degrees = polyphase_offsets(taps, _without_idle_dilation(geometry)).max(0).tolist()
    points = wanted or (DEFAULT_POINTS[len(taps)],) * len(taps)
    if len(points) != len(taps) or any(n < 2 * degree + 1 for n, degree in zip(points, degrees, strict=True)):
        raise UnsupportedConvolution(
            f"`grid` must have {len(taps)} entries above twice the kernel's degrees {degrees}, but is {tuple(points)}."
        )
    return tuple(1 if degree == 0 else int(n) for n, degree in zip(points, degrees, strict=True))


def _largest_block(symbol: Symbol) -> tuple[float, np.ndarray]:
    """Estimate of the least kappa over the grid, and the frequency that needs it. Not trusted.

    The Frobenius norm of G^4 orders the frequencies; eigenvalues are computed only while that bound exceeds the best found.
    """
    points, bounds = [], []
    r = np.concatenate([symbol.tau, symbol.tau]) ** -0.5
    for chunk in symbol.chunks():
        G = symbol.gram(chunk) * (r[:, None] * r)
        scale = np.sqrt((G * G).sum((-2, -1))) + 1e-300
        G = G / scale[:, None, None]
        G = G @ G
        G = G @ G
        points.append(chunk)
        bounds.append(scale * (0.5 * (G * G).sum((-2, -1))) ** 0.125)
    points, bounds = np.concatenate(points), np.concatenate(bounds)
    best, where = 0.0, points[0]
    for i in np.argsort(-bounds):
        if bounds[i] <= best:
            break
        value, _ = witness_vector(symbol, points[i])
        if value > best:
            best, where = value, points[i]
    return best, where


def _guard(symbol: Symbol, kappa: float) -> float:
    diagonal = np.full(len(symbol.d), symbol.envelope_square)
    return guard_scale(kappa, symbol.d, diagonal, symbol.error)


def _proves(symbol: Symbol, kappa: float) -> bool:
    for chunk in symbol.chunks():
        G = symbol.gram(chunk)
        diagonal = G.diagonal(0, -2, -1).copy()
        if not proves_semidefinite(kappa, symbol.d, np.negative(G, out=G), diagonal, symbol.error):
            return False
    return True


def _lower(symbol: Symbol, point: np.ndarray, v: Float[np.ndarray, " two_n"]) -> float:
    r"""Rayleigh quotient of $M$ at one frequency, rounded down; `v` holds the real and then the imaginary parts."""
    q, m, n = symbol.taps.shape
    X, Y = (part[0] for part in symbol.at(point[None]))
    y = np.block([[X, -Y], [Y, X]]) @ v
    length = float(np.linalg.norm(v))
    error = (gamma(2 * n + q + 8) * 2 * symbol.envelope_square**0.5 * length + 2.0**-500) * GENEROUS
    above = float(np.linalg.norm(y)) * (1 - gamma(2 * m + 3)) - error
    below = float(np.sqrt((symbol.d * v * v).sum())) * (1 + gamma(2 * n + 4)) + 2.0**-500
    return max(0.0, down(float(np.ldexp(max(0.0, above / below * (1 - 4 * UNIT)), symbol.exponent))))
