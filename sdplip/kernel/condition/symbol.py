r"""The symbol of a convolution: one small complex matrix $M(\omega)$ a frequency, and what rounding can do to it.

A convolution with taps $K_q$ acts at frequency $\omega$ as $M(\omega) = \sum_q K_q e^{i \omega \cdot q}$. An image splits into
$\prod s$ *phases*; a convolution of stride s is one of stride 1 on the phases, with taps at $\lfloor q / s \rfloor$ (polyphase form).
The columns of M are the channels on which t lives: inputs, each phase with the same t (linear form), or hidden units (residual
form: M is transposed).

**Rounding.** Let $\beta = \sum_q |K_q|$ entrywise, phases apart, which bounds $|M(\omega)|$ at every frequency. Cosines and sines
come from `twiddle`, within $2 u$; the product of up to three waves is within $16 u$. The computed real and imaginary parts of M are
therefore within $\gamma_{Q + 16} \beta$ of the truth, Q being the number of taps.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from sdplip.arithmetic.powers import near_one, nonzero, split
from sdplip.arithmetic.rounding import gamma
from sdplip.arithmetic.twiddle import table
from sdplip.geometry import ExpandedGeometry
from sdplip.kernel.condition.certificate import Form
from sdplip.shapes import Complex, Float, Int

Points = Int[np.ndarray, "f axes"]
Lattice = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Symbol:
    r"""One channel group, brought near 1 by powers of two: $M^* M \preceq \kappa\,\mathrm{diag}(\tau)$ at all $\omega$ says
    $C^\top C \preceq c^2 T$ (linear form) or $C C^\top \preceq c^2 T$ (residual form) with $c^2 = 4^{\mathrm{exponent}} \kappa$.

    Attributes:
        group: its number.
        taps: the columns carry t.
        offsets: where each tap lies on the coarse grid, from 0.
        phase: to which phase it belongs, of `phases` that hold taps.
        linear: whether the phases divide the columns, else the rows.
        tau: of each column, before the division into phases.
        exponents: half of the powers of two that were taken out of t.
        exponent: the one that is left.
    """

    group: int
    taps: Float[np.ndarray, "q m n"]
    offsets: Int[np.ndarray, "q axes"]
    phase: Int[np.ndarray, " q"]
    phases: int
    linear: bool
    tau: Float[np.ndarray, " n"]
    exponents: Int[np.ndarray, " n"]
    exponent: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of M."""
        _, m, n = self.taps.shape
        return (m, self.phases * n) if self.linear else (self.phases * m, n)

    @property
    def d(self) -> Float[np.ndarray, " columns"]:
        r"""$\tau$ of the columns of M, phase after phase."""
        return np.tile(self.tau, self.phases) if self.linear else self.tau

    @property
    def degrees(self) -> tuple[int, ...]:
        """Of the trigonometric polynomials $v^* M^* M v$, on each axis."""
        return tuple(self.offsets.max(0).tolist())

    @cached_property
    def envelope(self) -> Float[np.ndarray, "rows columns"]:
        r"""$\beta$ rounded up."""
        return self.sums(abs(self.taps), np.ones((1, len(self.taps))))[0] * (1 + gamma(len(self.taps) + 2))

    def at(self, points: Points, lattice: Lattice) -> Complex[np.ndarray, "f rows columns"]:
        r"""$M(2 \pi j / N)$ at the lattice points j."""
        return self.sums(self.taps, waves(points, lattice, self.offsets))

    def sums(self, taps: Float[np.ndarray, "q m n"], z: np.ndarray) -> np.ndarray:
        r"""$\sum_q z_q K_q$ for each row of z, phases beside or below one another."""
        (_, m, n), f = taps.shape, len(z)
        parts = []
        for p in range(self.phases):
            own = self.phase == p
            flat, w = taps[own].reshape(-1, m * n), z[:, own]
            if np.iscomplexobj(z):
                both, M = np.concatenate([np.real(w), np.imag(w)]) @ flat, np.empty((f, m * n, 2))
                M[..., 0], M[..., 1] = both[:f], both[f:]
                M = M.view(np.complex128)[..., 0]
            else:
                M = w @ flat
            parts.append(M.reshape(f, m, n))
        return parts[0] if self.phases == 1 else np.concatenate(parts, 2 if self.linear else 1)


def symbols(
    K: Float[np.ndarray, "out in_per_group ..."],
    t: Float[np.ndarray, " channels"],
    geometry: ExpandedGeometry,
    form: Form,
) -> list[Symbol]:
    """The symbols of all channel groups with a nonzero kernel."""
    blocks = K.reshape(geometry.groups, -1, *K.shape[1:])
    scalings = t.reshape(geometry.groups, -1)
    return [
        _symbol(group, block, scaling, without_idle_dilation(geometry), form)
        for group, (block, scaling) in enumerate(zip(blocks, scalings, strict=True))
        if nonzero(block).any()
    ]


def without_idle_dilation(geometry: ExpandedGeometry) -> ExpandedGeometry:
    """Dilation only relabels the frequencies when all of them count and the stride does not see it."""
    if geometry.image_size is not None or prod(geometry.stride) != 1:
        return geometry
    return ExpandedGeometry(
        geometry.stride,
        geometry.padding_mode,
        geometry.padding,
        (1,) * len(geometry.dilation),
        geometry.groups,
    )


def waves(points: Points, lattice: Lattice, offsets: Int[np.ndarray, "q axes"]) -> Complex[np.ndarray, "f q"]:
    r"""$e^{2 \pi i j \cdot q / N}$, each within $16 u$."""
    z = np.ones((len(points), len(offsets)), np.complex128)
    for axis, size in enumerate(lattice):
        if size > 1 and offsets[:, axis].any():
            cos, sin = table(size)
            steps = points[:, axis, None] * offsets[:, axis] % size
            z = z * (cos[steps] + 1j * sin[steps])
    return z


def lattice_points(shape: Lattice) -> Points:
    """All index tuples of an array of this shape, in C order."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, len(shape))


def halved(points: Points, lattice: Lattice) -> Points:
    """One of each pair of conjugate points, whose Gram matrices are conjugate."""
    own = np.ravel_multi_index(tuple((points % lattice).T), lattice)
    mirror = np.ravel_multi_index(tuple((-points % lattice).T), lattice)
    return points[own <= mirror]


def _symbol(group: int, K: np.ndarray, t: np.ndarray, geometry: ExpandedGeometry, form: Form) -> Symbol:
    out, inputs, *taps = K.shape
    positions = lattice_points(tuple(taps)) * np.array(geometry.dilation)
    stride = np.array(geometry.stride)
    every = np.ravel_multi_index(tuple((positions % stride).T), geometry.stride)
    used, phase = np.unique(every, return_inverse=True)
    flat = K.reshape(out, inputs, -1).transpose(2, 0, 1)
    if form == "residual":
        flat = flat.transpose(0, 2, 1)
    f, E = split(t)
    e = np.where(nonzero(t), E // 2, 0)
    tau = np.where(nonzero(t), np.ldexp(f, E - 2 * e), 1.0)  # where t is 0, so is the column
    scaled, exponent = near_one(np.ascontiguousarray(flat), e[None, None], (0, 1))
    return Symbol(
        group, scaled, positions // stride, phase.reshape(-1), len(used), form == "linear", tau, e, exponent
    )
