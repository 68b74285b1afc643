r"""Certificates of convolutions: how fine the frequencies must be, the least provable $c$, and a witness."""

from dataclasses import replace

import numpy as np

from sdplip.arithmetic.powers import root_above, square_below
from sdplip.arithmetic.rounding import UNIT, down
from sdplip.arithmetic.semidefinite import slack
from sdplip.errors import NotProvable
from sdplip.geometry import Geometry
from sdplip.kernel.condition.cells import Attempt, Cells, Cover, lattice_for
from sdplip.kernel.condition.certificate import Certificate, Form
from sdplip.kernel.condition.convolution import Statement, statement, wave_stretch
from sdplip.kernel.condition.spectrum import Spectrum, spectrum
from sdplip.kernel.condition.symbol import Symbol
from sdplip.proposals.dense import certify
from sdplip.proposals.image import propose_image
from sdplip.proposals.lattices import affordable
from sdplip.proposals.peaks import Peak, at, climb, highest, nearest, samples
from sdplip.shapes import Float, array


def certify_convolution(
    K: Float[np.ndarray, "out in_per_group ..."],
    t: Float[np.ndarray, " channels"],
    geometry: Geometry = Geometry(),
    *,
    form: Form = "linear",
    scaling: str = "given",
    grid: tuple[int, ...] | None = None,
    dense: bool = False,
    witness: bool = True,
) -> Certificate:
    r"""Certificate with a provable $c$: the convolution $C$ by `K` satisfies $C^\top C \preceq c^2 T$ (linear form, $T$ on input
    channels) or $C C^\top \preceq c^2 T$ (residual form, $T$ on hidden = output channels), `t[i]` repeated over the pixels.

    With `geometry.image_size` the statement is about that size: circular padding is exact per frequency, zero padding is a
    compression of a circular convolution on a larger image. Without it the statement is about every size: cells cover all
    frequencies, and `c` exceeds the truth by less than 0.1 % of small kernels, by a few tenths of a percent of hundreds of channels.

    Args:
        K: kernel as torch stores it, with 1, 2 or 3 image axes.
        t: one positive number a channel.
        grid: frequencies on each axis of the finest lattice, when every size is to be covered; more give a smaller `c` at more cost.
            Multiples of high powers of two are the fastest.
        dense: whether the matrix itself is proven for small images, which is tighter where zeros are padded or outputs cropped: the
            proof is then about this very padding, not about any amount of it.
        witness: whether `c_lower` is looked for, half of the time of many channels; it is 0 else.

    Raises:
        InvalidWeight, InvalidScaling: the input is not what the statement needs.
        UnsupportedConvolution: reflect or replicate padding, or a geometry that contradicts the kernel.
        NotProvable: the bound leaves the range of double precision.
    """
    stated = statement(array(K), array(t), geometry, form, scaling)
    if dense and stated.is_small and not stated.has_waves:
        return _dense(stated, scaling)
    lattice, looseness, c = stated.image_lattice, 0.0, 0.0
    attempts, witnesses = list[Attempt](), list[tuple[Symbol, Peak]]()
    for symbol in sorted(stated.symbols, key=_size, reverse=True):
        own, peak = spectrum(symbol), None
        if lattice is None and grid is not None:
            lattice = lattice_for(symbol.degrees, grid)
        if lattice is None:
            peak = highest(symbol, found := samples(symbol))
            lattice, looseness = affordable(own, peak.value, found[1], len(stated.symbols))
        attempt = Attempt(own, stated.cover(symbol, lattice))
        c, peak = _raised(attempt, c, peak, looseness)
        attempts.append(attempt)
        witnesses += [(symbol, peak)] if peak else []
    c = stated.concluded(attempts)
    certificate = Certificate(stated.t, c, 0.0, np.zeros(0), form, scaling, stated.geometry, lattice, None)
    return _witnessed(stated, certificate, witnesses) if witness else certificate


def _dense(stated: Statement, scaling: str) -> Certificate:
    """The certificate of the dense matrix of small images."""
    found = certify(*stated.matrix(), form=stated.form, scaling=scaling)
    image = found.witness.reshape(stated.picture.shape)
    lower = _safe(stated.picture.stretch(image), stated.picture.map.terms + 16)
    lower = min(lower, found.c_lower)
    return Certificate(stated.t, found.c, lower, image, stated.form, scaling, stated.geometry, ())


def _raised(attempt: Attempt, c: float, peak: Peak | None, looseness: float) -> tuple[float, Peak | None]:
    """Raises an attempt until it is proven, for at least `c`; the c, and the peak that asked for it, None if that is `c`."""
    own, cover, symbol = attempt.spectrum, attempt.cover, attempt.spectrum.symbol
    kappa, sums = square_below(c, symbol.exponent), own.row_sums() if cover.every else np.inf
    if kappa > 0 and (kappa >= sums or not attempt.raised(kappa)):
        return c, None
    peak = highest(symbol, samples(symbol)) if peak is None else peak
    if not cover.every:
        peak = at(symbol, 2 * np.pi * nearest(peak.omega, cover.lattices[0]) / cover.lattices[0], peak.vector)
    factor, room = max((1 + looseness) ** 2, 1.25 / cover.shares[-1] - 0.25), 1.25
    kappa = max(kappa, factor * peak.value + room * _guard(own, peak.value))
    for _ in range(200):
        cells = [] if kappa >= sums else attempt.raised(kappa)
        if not cells:
            return root_above(min(kappa, sums), symbol.exponent), peak
        failed = _failed(own, cover, cells)
        if failed.value > peak.value:
            peak, new = failed, factor * failed.value
        else:
            new, room = 0.0, 4 * room
        kappa = max(new, kappa + room * _guard(own, kappa))
    raise NotProvable(
        "No finite `c` could be proven for this convolution. Rescale the kernel or `t` by a power of two."
    )


def _guard(own: Spectrum, kappa: float) -> float:
    room = slack(own.order, own.order, complex=True) * kappa * float(own.d.max())
    return 2 * (own.error + 2.0**-48 * kappa + room) / float(own.d.min())


def _failed(own: Spectrum, cover: Cover, cells: Cells) -> Peak:
    """The highest peak at or near the cells that could not be proven."""
    level, centers = cells[-1]
    omegas = 2 * np.pi * centers[:: max(1, len(centers) // 16)] / np.array(cover.lattices[level])
    found = max((at(own.symbol, omega) for omega in omegas), key=lambda peak: peak.value)
    return climb(own.symbol, found.omega) if cover.every else found


def _size(symbol: Symbol) -> float:
    """By which groups are ordered: the largest ones first."""
    return float(np.ldexp(np.linalg.norm(symbol.envelope / symbol.d**0.5), symbol.exponent))


def _witnessed(stated: Statement, certificate: Certificate, found: list[tuple[Symbol, Peak]]) -> Certificate:
    """The certificate with the best witness of its kind."""
    lattice, geometry = certificate.grid, stated.geometry
    assert lattice is not None, "a convolution is proven on a lattice"
    if not stated.has_waves or (geometry.image_size is not None and lattice != stated.image_lattice):
        image = propose_image(stated.picture)
        lower = _safe(stated.picture.stretch(image), stated.picture.map.terms + 16)
        return replace(certificate, c_lower=lower, witness=image)
    best = certificate
    for symbol, peak in found:
        point = nearest(peak.omega, lattice)
        vector = at(symbol, 2 * np.pi * point / np.array(lattice), peak.vector).vector
        v = np.concatenate([np.real(vector), np.imag(vector)])
        v /= abs(v).max()
        stretch = wave_stretch(symbol, tuple(point.tolist()), lattice, v)
        lower = _safe(stretch, symbol.shape[1] + len(symbol.taps))
        if lower > best.c_lower or best.frequency is None:
            best = replace(best, c_lower=lower, witness=v, frequency=(symbol.group, *point.tolist()))
    return best


def _safe(lower: float, terms: int) -> float:
    """Less what another BLAS may lose."""
    return max(0.0, down(lower * (1 - 64 * (terms + 16) * UNIT)))
