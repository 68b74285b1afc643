r"""Gram matrices of a symbol at many frequencies, and the proof that they stay below $\kappa$.

$M^* M = \sum_\delta A_\delta e^{i \omega \cdot \delta}$ with the autocorrelation $A_\delta = \sum_q K_q^\top K_{q + \delta}$, which is
computed once. As in `dense`, the smaller of $M^* M \preceq \kappa\,\mathrm{diag}(\tau)$ and $M\,\mathrm{diag}(\tau)^{-1} M^* \preceq
\kappa I$ is used (the latter at $-\omega$, which makes no difference). Where the autocorrelation is too large, M is computed instead.

**Rounding.** An entry of $A_\delta$ sums at most Q products of inner length m. With H pairs $\pm\delta$, the computed real and imaginary
parts of $G(\omega)$ are within $\gamma_{m + Q + H + 64} \sum_\delta \sum_q |K_q|^\top |K_{q + \delta}|$, which is $\beta^\top \beta$; the norm of the
complex error is at most $\sqrt 2$ times $\lVert \beta \rVert_F^2$ times this factor. Computed from M, $2 \gamma_{2 m + 2 Q + 64}$ takes its place.
Entries of K that underflowed lose `TINY` times another entry of K, which is below 1.

**Row sums.** $|G|_{ij} \le \sum_\delta |A_\delta|_{ij}$, so the largest row sum of $T^{-1} \sum_\delta |A_\delta|$ is a $\kappa$ for every
frequency at once. It is attained by scalings of the AOL kind and nonnegative kernels, and loose for others.
"""

from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.rounding import GENEROUS, TINY, gamma
from sdplip.kernel.condition.dense import dominated
from sdplip.kernel.condition.symbol import Lattice, Points, Symbol, waves
from sdplip.shapes import Bool, Complex, Float, Int

Factor = tuple[Int[np.ndarray, "u axes"], Float[np.ndarray, "u inner k"]]

CHUNK = 1 << 20
"""Entries of one batch of matrices: 16 MB."""
STORED = 1 << 24
"""Entries of the largest autocorrelation that is stored, once in `even` and once in `odd`."""
WORK = 4e10
"""Operations that an autocorrelation may take."""
CHEAP = 1e10
"""Operations that row sums may take where the autocorrelation of the columns is not there anyway."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    r"""$G(\omega)$ of a symbol, to compare with $\kappa\,\mathrm{diag}(d)$.

    Attributes:
        rows: whether G is $M\,\mathrm{diag}(\tau)^{-1} M^*$.
        shifts: one of each pair $\pm\delta$ without 0; None where M is computed at each frequency.
        middle: $A_0$.
        even, odd: $A_\delta + A_\delta^\top$ and $A_\delta - A_\delta^\top$, flat.
        error: at least the norm of the error of every computed G.
    """

    symbol: Symbol
    rows: bool
    d: Float[np.ndarray, " k"]
    shifts: Int[np.ndarray, "h axes"] | None
    middle: Float[np.ndarray, "k k"]
    even: Float[np.ndarray, "h kk"]
    odd: Float[np.ndarray, "h kk"]
    error: float

    @property
    def order(self) -> int:
        return len(self.d)

    @property
    def chunk(self) -> int:
        """How many frequencies are treated at once."""
        return max(1, CHUNK // self.order**2)

    @property
    def work(self) -> float:
        """Operations that one frequency takes, roughly."""
        m, n = self.symbol.shape
        making = (
            4 * len(self.even) * self.order**2
            if self.shifts is not None
            else 4 * m * n * (len(self.symbol.taps) + 2 * self.order)
        )
        return 6.0 * self.order**3 + making + 2e5

    def minus_gram(self, points: Points, lattice: Lattice) -> Complex[np.ndarray, "f k k"]:
        """-G at lattice points."""
        if self.shifts is None:
            M = self.symbol.at(points, lattice)
            return (M / -self.symbol.d) @ M.conj().mT if self.rows else -M.conj().mT @ M
        k, f = self.order, len(points)
        z, G = -waves(points, lattice, self.shifts), np.empty((f, k, k, 2))
        np.subtract((np.real(z) @ self.even).reshape(f, k, k), self.middle, out=G[..., 0])
        G[..., 1] = (np.imag(z) @ self.odd).reshape(f, k, k)
        return G.view(np.complex128)[..., 0]

    @np.errstate(all="ignore")  # what overflows proves nothing
    def below(self, kappa: float, points: Points, lattice: Lattice) -> Bool[np.ndarray, " f"]:
        r"""At which of the lattice points $G \preceq \kappa\,\mathrm{diag}(d)$ is proven."""
        if not 0 < kappa < np.inf:
            return np.zeros(len(points), bool)
        S, k = self.minus_gram(points, lattice), self.order
        return dominated(S, np.real(S[:, range(k), range(k)]), self.d, kappa, self.error)

    def row_sums(self) -> float:
        r"""A proven $\kappa$ for every frequency; infinite where it would cost too much."""
        own = self
        if self.rows or self.shifts is None:
            factors, order = _factors(self.symbol, rows=False)
            if _cost(factors, order) > CHEAP or _entries(factors, order) > STORED / 2:
                return np.inf
            own = _spectrum(self.symbol, rows=False)
        symbol, n = own.symbol, own.order
        total = abs(own.middle)
        for even, odd in zip(own.even, own.odd, strict=True):
            A = abs((even + odd).reshape(n, n)) / 2
            total = total + (A + A.T)
        total = total * (1 + gamma(2 * len(own.even) + 8)) + own.error_of_entries()
        e = np.tile(symbol.exponents, symbol.phases) if symbol.linear else symbol.exponents
        with np.errstate(
            over="ignore", under="ignore"
        ):  # the powers of two undo the scaling of the columns, which row sums feel
            sums = (np.ldexp(total, e - e[:, None]) + TINY).sum(-1)
        kappa = float((sums / own.d).max()) * (1 + gamma(n + 16))
        return kappa if np.isfinite(kappa) else np.inf

    def error_of_entries(self) -> Float[np.ndarray, "k k"]:
        r"""At least the sum of the errors of all entries $A_\delta$ as stored, for the columns."""
        beta = self.symbol.envelope
        q, m, _ = self.symbol.taps.shape
        factor = gamma(m * self.symbol.phases + q + 16)
        return (factor * (beta.T @ beta) + 64 * q * q * m * self.symbol.phases * TINY) * GENEROUS


def spectrum(symbol: Symbol) -> Spectrum:
    """The Gram matrices of the smaller of the two statements."""
    m, n = symbol.shape
    return _spectrum(symbol, rows=m < n)


def _spectrum(symbol: Symbol, *, rows: bool) -> Spectrum:
    factors, order = _factors(symbol, rows=rows)
    q, inner = len(symbol.taps), symbol.shape[1] if rows else symbol.shape[0]
    weight = symbol.d if rows else np.ones(inner)
    d = np.ones(order) if rows else symbol.d
    beta = symbol.envelope / symbol.d if rows else symbol.envelope
    square = float((beta * symbol.envelope).sum()) * GENEROUS
    lost = 64.0 * q * q * inner * order * (1 + order) * TINY
    if _cost(factors, order) > WORK or _entries(factors, order) > STORED:
        none = np.zeros((0, order * order))
        error = (2 * gamma(2 * inner + 2 * q + 64) * square + lost) * GENEROUS
        return Spectrum(symbol, rows, d, None, np.zeros((0, 0)), none, none, error)
    codes, box = _codes(factors)
    A = np.zeros((len(codes), order, order))
    for offsets, F in factors:
        left = F / weight[: F.shape[1], None] if rows else F
        for i in range(len(F)):
            shift = np.ravel_multi_index(tuple((offsets[i:] - offsets[i] + box // 2).T), tuple(box))
            A[np.searchsorted(codes, shift)] += left[i].T @ F[i:]
    shifts = np.stack(np.unravel_index(codes, tuple(box)), -1) - box // 2
    A, middle, T = A[1:], A[0], A[1:].mT
    error = (1.5 * gamma(inner + q + len(codes) + 64) * square + lost) * GENEROUS
    flat = (len(codes) - 1, order * order)
    return Spectrum(symbol, rows, d, shifts[1:], middle, (A + T).reshape(flat), (A - T).reshape(flat), error)


def _factors(symbol: Symbol, *, rows: bool) -> tuple[list[Factor], int]:
    """Lists of matrices F whose autocorrelations add up to that of M or of its transpose, sorted by offset; the order."""
    taps = symbol.taps.mT if rows else symbol.taps
    (_, inner, n), order = taps.shape, symbol.shape[0] if rows else symbol.shape[1]
    if symbol.linear == rows:  # the phases divide what is summed over
        found = [(symbol.offsets[symbol.phase == p], taps[symbol.phase == p]) for p in range(symbol.phases)]
    else:
        offsets, where = np.unique(symbol.offsets, axis=0, return_inverse=True)
        F = np.zeros((len(offsets), inner, symbol.phases, n))
        F[where.reshape(-1), :, symbol.phase] = taps
        found = [(offsets, F.reshape(len(offsets), inner, -1))]
    return [(o[s := np.lexsort(o.T[::-1])], F[s]) for o, F in found], order


def _cost(factors: list[Factor], order: int) -> float:
    return sum(float(len(F)) ** 2 * F.shape[1] * order**2 for _, F in factors)


def _entries(factors: list[Factor], order: int) -> float:
    """Of the autocorrelation, an upper bound."""
    reach = np.max([o.max(0) - o.min(0) for o, _ in factors], 0)
    return (float(np.prod(2.0 * reach + 1)) + 1) / 2 * order**2


def _codes(factors: list[Factor]) -> tuple[Int[np.ndarray, " h"], Int[np.ndarray, " axes"]]:
    """The shifts that occur, one of each pair and 0 first, as positions in a box around 0; the box."""
    reach = np.max([o.max(0) - o.min(0) for o, _ in factors], 0)
    box = 2 * reach + 1
    zero = int(np.ravel_multi_index(tuple(reach), tuple(box)))
    found = [np.array([zero])]
    for offsets, _ in factors:
        between = (offsets[None] - offsets[:, None] + reach).reshape(-1, len(reach))
        found.append(np.asarray(np.ravel_multi_index(tuple(between.T), tuple(box))))
    codes = np.unique(np.concatenate(found))
    return codes[codes >= zero], box
