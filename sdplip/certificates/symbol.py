r"""The symbol of a convolution: one small matrix $M(\omega)$ a frequency, and everything that rounding can do to it.

`docs/rounding.md`, section 5: linear form $M(\omega) = \sum_q K_q e^{i \omega \cdot q}$ (polyphase over the stride), residual
form its transpose, so that in both cases the columns of $M$ are the channels on which $t$ lives.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm, prod

import numpy as np
from jaxtyping import Complex, Float, Int

from sdplip.certificates.certificate import Form
from sdplip.certificates.rounding import GENEROUS, TINY, gamma
from sdplip.certificates.twiddle import ERROR, table
from sdplip.geometry import ExpandedGeometry

CHUNK = 1 << 22
"""Entries of one batch of blocks: 32 MB."""


@dataclass(frozen=True)
class Symbol:
    r"""One channel group, brought near 1 by powers of two.

    $M(\omega)^* M(\omega) \preceq \kappa\,\mathrm{diag}(\tau)$ for all $\omega$ says $C^\top C \preceq c^2 T$ (linear form) or
    $C C^\top \preceq c^2 T$ (residual form) with $c^2 = 4^{\mathrm{exponent}} \kappa$.
    """

    taps: Float[np.ndarray, "q m n"]
    offsets: Int[np.ndarray, "q axes"]
    tau: Float[np.ndarray, " n"]
    columns: Int[np.ndarray, " n"]
    exponents: Int[np.ndarray, " n"]
    grid: tuple[int, ...]
    exponent: int

    @property
    def d(self) -> Float[np.ndarray, " two_n"]:
        """The diagonal of the real blocks `gram` returns."""
        return np.concatenate([self.tau, self.tau])

    @property
    def error(self) -> float:
        r"""Bound of $\lVert G - G^* \rVert_2$ for every block that `gram` computes."""
        q, m, n = self.taps.shape
        return (gamma(2 * m + 4 * q + 16) * 2 * self.envelope_square + 64 * q * m * n * TINY) * GENEROUS

    @property
    def envelope_square(self) -> float:
        r"""$\lVert \sum_q |K_q| \rVert_F^2$, which no frequency exceeds."""
        return float((abs(self.taps).sum(0) ** 2).sum()) * GENEROUS

    def frequencies(self) -> Int[np.ndarray, "f axes"]:
        """Grid points, one of each conjugate pair."""
        points = _lattice(self.grid)
        own = np.ravel_multi_index(tuple(points.T), self.grid)
        mirror = np.ravel_multi_index(tuple((-points % self.grid).T), self.grid)
        return points[own <= mirror]

    def at(
        self, points: Int[np.ndarray, "f axes"]
    ) -> tuple[Float[np.ndarray, "f m n"], Float[np.ndarray, "f m n"]]:
        r"""Real and imaginary part of $M(2 \pi j / N)$ at the grid points $j$; entrywise error at most $\gamma_{q+4}$ times the
        envelope $\sum_q |K_q|$."""
        size = lcm(*self.grid)
        steps = (points * (size // np.array(self.grid))) @ self.offsets.T % size
        cos, sin = table(size)
        flat = self.taps.reshape(len(self.taps), -1)
        shape = (len(points), *self.taps.shape[1:])
        return (cos[steps] @ flat).reshape(shape), (sin[steps] @ flat).reshape(shape)

    def gram(self, points: Int[np.ndarray, "f axes"]) -> Float[np.ndarray, "f two_n two_n"]:
        r"""Hermitian blocks $M^* M$ as real symmetric ones of twice the order, which are positive semidefinite alike."""
        X, Y = self.at(points)
        up_, down_ = np.concatenate([X, Y], -2), np.concatenate([Y, -X], -2)
        real, imaginary = up_.mT @ up_, up_.mT @ down_
        return np.concatenate(
            [np.concatenate([real, -imaginary], -1), np.concatenate([imaginary, real], -1)], -2
        )

    def chunks(self) -> Iterator[Int[np.ndarray, "f axes"]]:
        """The frequencies in pieces whose blocks fit into `CHUNK`."""
        points = self.frequencies()
        length = max(1, CHUNK // (2 * self.taps.shape[2]) ** 2)
        return (points[i : i + length] for i in range(0, len(points), length))

    def dominance(self) -> float:
        r"""A proven $\kappa$ for every frequency, on and off the grid: the largest row sum of $|T^{-1} A|$.

        $A_\delta = \sum_q K_{q+\delta}^\top K_q$ is the autocorrelation; $|M^* M| \le \sum_\delta |A_\delta|$ entrywise.
        Rounding costs $\gamma_{m+q+4} \beta^\top \beta$. The bound is attained by scalings of the AOL kind, and loose for others.
        """
        q, m, n = self.taps.shape
        between = self.offsets[:, None] - self.offsets
        rows = np.zeros((n, n))
        for shift in np.unique(between.reshape(q * q, -1), axis=0):
            A = np.zeros((n, n))
            for i, j in np.argwhere((between == shift).all(-1)):
                A += self.taps[i].T @ self.taps[j]
            rows += abs(A)
        beta = abs(self.taps).sum(0)
        rows = (
            rows * (1 + gamma(q * q + 4))
            + gamma(m + q + 4) * GENEROUS * (beta.T @ beta)
            + 8 * q * q * m * TINY
        )
        with np.errstate(
            over="ignore"
        ):  # the powers of two undo the scaling of the columns, which row sums would feel
            sums = np.ldexp(rows, self.exponents - self.exponents[:, None]).sum(-1)
        return float((sums / self.tau).max()) * (1 + gamma(n + 8))

    def off_grid_factor(self, between: bool) -> float:
        r"""Factor by which $v^* M^* M v$ can exceed its largest grid value: $\prod 2 / (1 + \cos(\pi D / N))$ if every frequency
        counts (`between`), else 1. M. Riesz: a nonnegative trigonometric polynomial of degree $D$ falls off from its maximum no
        faster than a raised cosine."""
        factor = 1.0
        if between:
            degrees = self.offsets.max(0)
            for degree, points in zip(degrees.tolist(), self.grid, strict=True):
                cos = float(table(2 * points)[0][degree]) - ERROR
                factor *= 2 / (1 + cos) * (1 + 2.0**-50)
        return factor


def symbols(
    K: Float[np.ndarray, "out in_per_group ..."],
    t: Float[np.ndarray, " channels"],
    geometry: ExpandedGeometry,
    form: Form,
    grid: tuple[int, ...],
) -> list[tuple[int, Symbol]]:
    """The symbols of all channel groups with a nonzero kernel, each with the number of its group. `geometry` is expanded."""
    blocks = K.reshape(geometry.groups, -1, *K.shape[1:])
    scalings = t.reshape(geometry.groups, -1)
    return [
        (group, _symbol(block, scaling, geometry, form, grid))
        for group, (block, scaling) in enumerate(zip(blocks, scalings, strict=True))
        if block.any()
    ]


def _lattice(shape: tuple[int, ...]) -> Int[np.ndarray, "points axes"]:
    """All index tuples of an array of this shape, in C order."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, len(shape))


def polyphase_offsets(taps: tuple[int, ...], geometry: ExpandedGeometry) -> Int[np.ndarray, "q axes"]:
    """Position of every kernel tap on the coarse (strided) grid."""
    return _lattice(taps) * np.array(geometry.dilation) // np.array(geometry.stride)


def _symbol(
    K: np.ndarray, t: np.ndarray, geometry: ExpandedGeometry, form: Form, grid: tuple[int, ...]
) -> Symbol:
    out, inputs, *taps = K.shape
    positions = _lattice(tuple(taps)) * np.array(geometry.dilation)
    stride = np.array(geometry.stride)
    phase = (
        np.ravel_multi_index(tuple((positions % stride).T), geometry.stride)
        if prod(geometry.stride) > 1
        else 0
    )
    phases = prod(geometry.stride)
    spread = np.zeros((len(positions), out, inputs, phases))
    spread[np.arange(len(positions)), :, :, phase] = K.reshape(out, inputs, -1).transpose(2, 0, 1)
    flat = spread.reshape(len(positions), out, inputs * phases)
    if form == "linear":
        t = np.repeat(t, phases)
    else:
        flat = flat.transpose(0, 2, 1)
    largest = abs(flat).max((0, 1))
    columns = np.flatnonzero(largest)
    e = np.frexp(t[columns])[1] // 2
    exponent = int((np.frexp(largest[columns])[1] - e).max())
    return Symbol(
        taps=np.ldexp(flat[:, :, columns], -(e + exponent)),
        offsets=positions // stride,
        tau=np.ldexp(t[columns], -2 * e),
        columns=columns,
        exponents=e,
        grid=grid,
        exponent=exponent,
    )


def witness_vector(
    symbol: Symbol, point: Int[np.ndarray, " axes"]
) -> tuple[float, Complex[np.ndarray, " n"]]:
    """Largest eigenvalue and eigenvector of the scaled block at one frequency. Not trusted."""
    X, Y = symbol.at(point[None])
    M = (X + 1j * Y)[0] * symbol.tau**-0.5
    _, s, V = np.linalg.svd(M, full_matrices=False)
    return float(s[0] ** 2), V[0].conj() * symbol.tau**-0.5
