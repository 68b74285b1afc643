r"""Convolutions: one $t$ a channel, proven for every frequency, hence for a given image size or for all.

With `geometry.image_size` the statement is about that size. Circular padding: $\omega$ runs through the grid $2 \pi j / N$, N =
image size / stride (a crop of the output only drops rows). Zero padding of any amount: the layer is a compression of the circular
convolution on $N \ge h + d (k - 1)$ pixels: embed the image, convolve, drop outputs; neither lengthens. Without a size, and where
its grid would be too fine, the statement is about every size: $\omega$ runs through all frequencies (`cells`). On small images the
dense matrix itself is proven, which is tighter where zeros are padded or outputs cropped; the certificate has an empty grid then.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from math import prod
from operator import index

import numpy as np

from sdplip.arithmetic.matrix import enclose
from sdplip.arithmetic.powers import nonzero, root_above, square_below, times_below
from sdplip.arithmetic.rayleigh import quotient
from sdplip.arithmetic.rounding import GENEROUS, TINY, gamma
from sdplip.errors import InvalidCertificate, NotProvable
from sdplip.geometry import ExpandedGeometry, Geometry
from sdplip.kernel.condition.cells import Attempt, Cover, all_points, every_frequency, unproven
from sdplip.kernel.condition.certificate import Certificate, Form
from sdplip.kernel.condition.dense import holds
from sdplip.kernel.condition.image import (
    Picture,
    largest_image,
    padded_convolution,
    picture,
    witness_shape,
)
from sdplip.kernel.condition.known import remember
from sdplip.kernel.condition.spectrum import spectrum
from sdplip.kernel.condition.symbol import Lattice, Symbol, symbols
from sdplip.kernel.condition.validate import as_scaling, as_weight
from sdplip.shapes import Float

Kernel = Float[np.ndarray, "out in_per_group ..."]

MOST = 1 << 16
"""Frequencies of the largest grid of one image size; larger images are covered by cells."""
DENSE = 1 << 18
"""Entries of the largest dense matrix of a convolution that is proven."""
ROOM = 1 << 22
"""Entries of images that are made in any case; more, only in proportion to the witness that is given."""


def convolution_holds(K: Kernel, certificate: Certificate) -> bool:
    """True only if the upper bound `c` of the certificate is proven for this kernel.

    Raises:
        InvalidWeight, InvalidScaling, UnsupportedConvolution: there is no such statement about this kernel.
        NotProvable: the proof would take too long.
    """
    return _stated(K, certificate).holds(certificate.c, certificate.grid)


def convolution_lower_bound(K: Kernel, certificate: Certificate) -> float:
    """Proven lower bound of every valid `c` for this kernel, from the witness of the certificate.

    Raises:
        InvalidWeight, InvalidScaling, UnsupportedConvolution: there is no such statement about this kernel.
        InvalidCertificate, NotProvable: the witness is of another kind or shape than the geometry needs.
    """
    stated = _stated(K, certificate)
    if certificate.frequency is not None:
        return stated.stretch_of_wave(certificate.frequency, certificate.grid, certificate.witness)
    if stated.geometry.image_size is not None:  # looked at before images of that size are made
        shape = witness_shape(stated.K, stated.geometry, stated.form)
        if np.shape(certificate.witness) != shape:
            raise NotProvable(f"The witness of this convolution must be an image of shape {shape}.")
        if largest_image(stated.K, stated.geometry) > max(ROOM, 16 * prod(shape)):
            raise NotProvable(
                "Padding and stride of this convolution make images far larger than its witness."
            )
    return stated.picture.stretch(certificate.witness)


@dataclass(frozen=True, eq=False)
class Statement:
    r"""$C^\top C \preceq c^2 T$ (linear form) or $C C^\top \preceq c^2 T$ (residual form) of a convolution. `statement` makes it."""

    K: Kernel
    t: Float[np.ndarray, " channels"]
    geometry: ExpandedGeometry
    form: Form

    @cached_property
    def symbols(self) -> list[Symbol]:
        """Of all channel groups whose kernel is not zero."""
        return symbols(self.K, self.t, self.geometry, self.form)

    @cached_property
    def picture(self) -> Picture:
        """The map of images of the size that is spoken of.

        Raises:
            InvalidCertificate: every size is.
        """
        if self.geometry.image_size is None:
            raise InvalidCertificate(
                "A statement about every image size has a wave as its witness, with a `frequency`."
            )
        return picture(self.K, self.t, self.geometry, self.form)

    @property
    def image_lattice(self) -> Lattice | None:
        """The frequencies that prove the statement of one image size; None of every size, and of images that are too large."""
        return None if self.geometry.image_size is None else image_lattice(self.K.shape[2:], self.geometry)

    @property
    def has_waves(self) -> bool:
        """Whether images are stretched as the symbol stretches waves: on large images, and by a circulant that crops nothing."""
        geometry = self.geometry
        if geometry.image_size is None:
            return True
        reach = [d * (k - 1) for d, k in zip(geometry.dilation, self.K.shape[2:], strict=True)]
        pads = geometry.pads(self.K.shape)
        return geometry.padding_mode == "circular" and all(
            sum(p) == r for p, r in zip(pads, reach, strict=True)
        )

    @property
    def is_small(self) -> bool:
        """Whether the dense matrix may be proven: it has few entries, each of them one of the kernel."""
        geometry = self.geometry
        if geometry.image_size is None:
            return False
        reach = [d * (k - 1) for d, k in zip(geometry.dilation, self.K.shape[2:], strict=True)]
        once = geometry.padding_mode == "zeros" or all(
            r < h for r, h in zip(reach, geometry.image_size, strict=True)
        )
        sizes = [prod(witness_shape(self.K, geometry, form)) for form in ("linear", "residual")]
        return once and prod(sizes) <= DENSE and largest_image(self.K, geometry) <= DENSE

    def matrix(self) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, " n"]]:
        """The matrix of the condition on small images, entries bit for bit, and t of each of its columns."""
        assert self.is_small, "dense matrices are for small images"
        C = padded_convolution(self.K, self.geometry).dense(DENSE)
        W = C if self.form == "linear" else C.T
        return W, np.repeat(self.t, W.shape[1] // len(self.t))

    def cover(self, symbol: Symbol, grid: Lattice | None) -> Cover:
        """The frequencies that prove a symbol: those of the image size if `grid` says so, else cells that cover all."""
        if grid is None:
            raise InvalidCertificate(
                "The certificate of a convolution needs its `grid`. Certify the layer anew."
            )
        if grid == self.image_lattice:
            return all_points(grid)
        return every_frequency(symbol.degrees, grid)

    def holds(self, c: float, grid: Lattice | None) -> bool:
        """Whether all groups are proven to stay below `c`; an empty grid stands for the dense matrix."""
        if grid == ():
            return self.is_small and holds(*self.matrix(), c)
        for symbol in self.symbols:
            kappa, where, own = square_below(c, symbol.exponent), self.cover(symbol, grid), spectrum(symbol)
            if not (where.every and kappa >= own.row_sums()) and unproven(own, kappa, where):
                return False
        return True

    def concluded(self, attempts: Iterable[Attempt]) -> float:
        """The least c that attempts at all groups prove, rounded up, infinite if one is missing or unfinished; remembered."""
        found = {id(attempt.spectrum.symbol): attempt for attempt in attempts}
        c = 0.0
        for symbol in self.symbols:
            attempt = found.get(id(symbol))
            if attempt is None:
                return np.inf
            kappa = attempt.proven
            if attempt.cover.every:
                kappa = min(kappa, attempt.spectrum.row_sums())
            c = max(c, root_above(kappa * (1 + 2.0**-50), symbol.exponent))
        remember(self.digest, c)
        return c

    @property
    def digest(self) -> bytes:
        """SHA-256 of everything that the statement is about."""
        sha = sha256(repr((self.K.shape, self.geometry, self.form)).encode())
        sha.update(np.ascontiguousarray(self.K, "<f8").tobytes())
        sha.update(np.ascontiguousarray(self.t, "<f8").tobytes())
        return sha.digest()

    def stretch_of_wave(
        self, frequency: tuple[int, ...], grid: Lattice | None, witness: Float[np.ndarray, " two_n"]
    ) -> float:
        r"""Proven lower bound of c from one frequency, channel group first; `witness` holds real and then imaginary parts.

        Raises:
            InvalidCertificate, NotProvable: no wave of this statement.
        """
        try:
            group, *point = map(index, frequency)
        except (TypeError, ValueError):
            raise InvalidCertificate(
                f"A frequency is a channel group and a lattice point, not {frequency!r}."
            ) from None
        symbol = next((symbol for symbol in self.symbols if symbol.group == group), None)
        if symbol is None or not self.has_waves:
            raise InvalidCertificate(
                f"A wave of channel group {group} is no witness of this convolution: where zeros are padded or outputs cropped, it is"
                " an image. Certify the layer anew."
            )
        where = self.cover(symbol, grid)
        if len(point) != len(where.lattices[-1]) or (where.every and self.geometry.image_size is not None):
            raise InvalidCertificate(f"The images have no frequency {frequency}. Certify the layer anew.")
        return wave_stretch(symbol, tuple(point), where.lattices[-1], witness)


def statement(
    K: Kernel,
    t: Float[np.ndarray, " channels"],
    geometry: Geometry | None,
    form: Form,
    scaling: str = "given",
) -> Statement:
    """The statement about a kernel, checked.

    Raises:
        InvalidWeight, InvalidScaling, UnsupportedConvolution: its parts contradict each other.
    """
    K = as_weight(K, (3, 4, 5))
    expanded = (geometry or Geometry()).expand(K.shape)
    if form == "residual":
        needed = nonzero(K).any(tuple(range(1, K.ndim)))
    else:
        blocks = nonzero(K).reshape(expanded.groups, -1, *K.shape[1:])
        needed = blocks.any((1, *range(3, blocks.ndim))).reshape(-1)
    return Statement(K, as_scaling(t, np.asarray(needed), scaling), expanded, form)


def image_lattice(taps: tuple[int, ...], geometry: ExpandedGeometry) -> Lattice | None:
    """The frequencies that prove the statement of the image size that `geometry` has; None of images that are too large."""
    stride, dilation, size = map(np.array, (geometry.stride, geometry.dilation, geometry.image_size))
    if geometry.padding_mode == "zeros":
        size = size + dilation * (np.array(taps) - 1)
    found = tuple((-(-size // stride)).tolist())
    return found if prod(found) <= MOST else None


def wave_stretch(
    symbol: Symbol, point: tuple[int, ...], lattice: Lattice, witness: Float[np.ndarray, " two_n"]
) -> float:
    r"""$2^g \lVert M v \rVert / \lVert v \rVert_\tau$ at one lattice point, rounded down, in the real form of twice the order.

    Raises:
        NotProvable: the witness does not hold that many finite numbers.
    """
    M = symbol.at(np.array([[p % n for p, n in zip(point, lattice, strict=True)]]), lattice)[0]
    q = len(symbol.taps)
    rad = (gamma(q + 16) * symbol.envelope + 4 * (q + 1) * TINY) * GENEROUS
    real = enclose(np.block([[M.real, -M.imag], [M.imag, M.real]]), np.block([[rad, rad], [rad, rad]]))
    found = quotient(real, witness, np.tile(symbol.d, 2))
    return times_below(found, symbol.exponent)


def _stated(K: Kernel, certificate: Certificate) -> Statement:
    return statement(K, certificate.t, certificate.geometry, certificate.form, certificate.scaling)
