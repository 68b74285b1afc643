r"""Rule `frequency`: convolutions with activations between them, frequency by frequency, with one multiplier a channel.

The network is stationary (`kernel/stationary.py`): convolutions of any stride and groups, means over windows, factors of channels,
sums and branches, and activations. It is cut where everything passes through. A segment of it carries the metric $X(\omega)$ in front of
it to a metric behind it, $\lVert z \rVert_X^2 = \sum_\omega \tilde z^* X \tilde z$, beginning with $X = I$: with M of
`kernel/frequencies.py` and $G u$ the value behind,

    M - G* X G  >=  0      at every frequency

says that the segment is nonexpansive from one metric to the other. Which metrics are used does not matter; they are computed here, and the
statements are proven with the numbers that stand in memory. What is claimed in the end is one of two things.

- The whole network is stationary: $[M, G^*; G, c^2 I] \succeq 0$ at every frequency of the last segment. The bound is c.
- Behind value `cut` stands a linear map $v \mapsto F v$ up to value `head`: with $[X, \hat F^*; \hat F, Y] \succeq 0$ at every frequency and
  $R R^\top \succeq N^{-1} \sum_\omega \mathrm{Re}\,Y$, $F v = R u$ with $\lVert u \rVert \le \lVert x \rVert$ (Douglas): in front of what follows, the
  convolutions are worth the matrix R. The part proves the network that begins with R.

Slopes of an activation are those of the worst pixel of each channel. Symbols have proven errors, twiddle factors included.

Data: `multipliers`, one vector for each unknown (`Plan.unknowns`), for networks scaled as `kernel/frequencies.py` scales them; and `c`,
or `cut`, `head` and `R` with one part."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.arithmetic.rounding import GENEROUS, UNIT, gamma
from sdplip.arithmetic.semidefinite import proves, slack
from sdplip.errors import NotProvable
from sdplip.kernel.data import array, number, vectors, whole
from sdplip.kernel.frequencies import Segment, aliases_at, grid, pieces, segment, symbol
from sdplip.kernel.linear import head
from sdplip.kernel.maxima import maxima_first
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.stationary import MOST, Key, Plan, Taps, plan
from sdplip.kernel.surgery import behind
from sdplip.shapes import Complex, Float

Hermitian = np.ndarray  # Complex "f n n"
Vector = Float[np.ndarray, " n"]
PIECE = 1 << 22
"""Entries of one batch of inequalities."""
ROOM, WIDE = 1e-9, 1e-7
"""Relative room in every metric: symbols may vanish at some frequencies, and their rounding does not. `WIDE`: behind sums."""
NEAR = 2.0**400
"""Multipliers lie between this and its inverse: then nothing underflows that matters."""


def frequency(goal: Goal, proof: Proof, prove: Prove) -> float:
    """`c`, or what the part proves of the network that begins with `R`."""
    network = maxima_first(goal.network)
    if "c" in proof.data:
        planned = plan(network, network.output)
        c = number(proof, "c")
        multipliers = _multipliers(planned, proof)
        return last(planned, carried(planned, multipliers, whole_way=False), multipliers, c)
    end = whole(proof, "head", 1, network.output)
    planned = plan(network, whole(proof, "cut", 1, end - 1))
    F = head(network, planned.stop, end)
    R = array(proof, "R", (len(F), len(F)))
    T, exponent = front(planned, carried(planned, _multipliers(planned, proof), whole_way=True), F)
    own = Enclosure.exact(R).shifted(-exponent)
    if not proves(own @ own.T - T):
        raise NotProvable("`R` is less than what these multipliers prove of the convolutions.")
    if len(proof.parts) != 1:
        raise NotProvable(
            "A proof by `frequency` with a matrix `R` has one part, the proof of what begins with it."
        )
    return prove(replace(goal, network=behind(network, end, R), region=None, values=False), proof.parts[0])


def _multipliers(planned: Plan, proof: Proof) -> dict[Key, Vector]:
    found = vectors(proof, "multipliers", planned.channels, least=1 / NEAR)
    if any((lam > NEAR).any() for lam in found):
        raise NotProvable(
            f"Multipliers of `frequency` must lie between {1 / NEAR} and {NEAR}. Rescale the kernels."
        )
    return dict(zip(planned.unknowns, found, strict=True))


@dataclass(frozen=True, eq=False)
class Metric:
    """A proven metric of a value, one matrix for each frequency of `grid`, and the power of two by which the value is scaled."""

    X: Hermitian
    exponent: int


def carried(planned: Plan, multipliers: dict[Key, Vector], *, whole_way: bool) -> Metric:
    """The metric behind the last segment (`whole_way`), or in front of it.

    Raises:
        NotProvable: the multipliers leave no metric, or a segment is not proven.
    """
    n = planned.views[0].channels
    now = Metric(np.broadcast_to(np.eye(n, dtype=complex), (len(grid(planned.torus(0)).points), n, n)), 0)
    for start, end in planned.segments if whole_way else planned.segments[:-1]:
        found, exponent = list[Hermitian](), 0
        for part, M in inequalities(planned, start, end, now, multipliers):
            X = behind_segment(part, M.mid)
            if X is None or not _holds(part, M, X):
                raise NotProvable(f"These multipliers prove no metric of value {end} of the network.")
            found.append(X)
            exponent = part.exponent
        now = Metric(np.concatenate(found), exponent)
    return now


def last(planned: Plan, now: Metric, multipliers: dict[Key, Vector], c: float) -> float:
    """`c`, if the last segment proves it.

    Raises:
        NotProvable: it does not.
    """
    start, end = planned.segments[-1]
    for part, M in inequalities(planned, start, end, now, multipliers):
        root = Enclosure.exact(np.full((1, 1), c)).shifted(-part.exponent)
        G = part.matrix(part.out, len(M))
        if not proves(_bordered(M, G, root * root * np.eye(G.shape[-2]))):
            raise NotProvable(f"These multipliers do not prove the bound {c}.")
    return c


def front(planned: Plan, now: Metric, F: Enclosure) -> tuple[Enclosure, int]:
    r"""$N^{-1} \sum \mathrm{Re}\,Y$, proven, without the fourth power of two of the second result.

    Raises:
        NotProvable: it is not proven.
    """
    view, torus = planned.views[planned.stop], planned.torus(planned.stop)
    every, m = grid(torus), len(F)
    places = np.array(list(np.ndindex(*view.pixels)))
    shape = m, view.channels, len(places)
    K = Enclosure(F.mid.reshape(shape), F.radius().reshape(shape))
    if K.mid.size > MOST:
        raise NotProvable(f"The map behind the convolutions has more than {MOST} entries.")
    taps = Taps.of(Enclosure(np.moveaxis(K.mid, 2, 0), np.moveaxis(K.rad, 2, 0)), places, (1,) * len(torus))
    total, size = np.zeros((m, m)), np.zeros((m, m))
    step = max(1, PIECE // (4 * (m + view.channels) ** 2))
    cut = [slice(at, at + step) for at in range(0, len(every.points), step)]
    found = [symbol(taps, torus, every.points[some]) for some in cut]
    shadows = list[Hermitian]()
    for some, G in zip(cut, found, strict=True):
        S = shadow(now.X[some], G.mid)
        if S is None:
            raise NotProvable("A metric in front of the last linear map is not positive definite.")
        shadows.append(S)
    trace = sum(
        float(every.share[some] @ np.real(np.trace(S, axis1=1, axis2=2)))
        for some, S in zip(cut, shadows, strict=True)
    )
    mean = trace / prod(torus) / m
    for some, G, Y in zip(cut, found, shadows, strict=True):
        k, own = range(m), np.real(Y[:, range(m), range(m)])
        Y = Y * (1 + ROOM)
        Y[:, k, k] += 2 * ROOM * (own + mean)
        if not proves(_bordered(Enclosure.exact(now.X[some]), G, Enclosure.exact(Y))):
            raise NotProvable("The map behind the convolutions is not proven.")
        total += (every.share[some, None, None] * np.real(Y)).sum(0)
        size += (every.share[some, None, None] * abs(np.real(Y))).sum(0)
    lost = gamma(len(every.points) + 8) * size * GENEROUS
    T = enclose(total, lost) * enclose(np.full((1, 1), 1 / prod(torus)), UNIT)
    return T, now.exponent + taps.exponent


def inequalities(
    planned: Plan, start: int, end: int, now: Metric, multipliers: dict[Key, Vector]
) -> Iterator[tuple[Segment, Enclosure]]:
    """The segment and M at all frequencies of the end in pieces."""
    there = grid(planned.torus(end)).points
    before = grid(planned.torus(start))
    for some in pieces(planned, start, end, PIECE):
        part = segment(planned, start, end, there[some], now.exponent)
        seen = aliases_at(planned, start, end, there[some])
        X = now.X[before.place[seen]]
        X = np.where(before.mirrored[seen][..., None, None], X.conj(), X)
        yield part, _inequality(part, X, multipliers)


def _inequality(
    part: Segment, X: Complex[np.ndarray, "f aliases n n"], multipliers: dict[Key, Vector]
) -> Enclosure:
    count, aliases, n = X.shape[:3]
    mid, rad = np.zeros((count, part.order, part.order), complex), np.zeros((1, part.order, part.order))
    for a in range(aliases):
        here = slice(a * n, (a + 1) * n)
        mid[:, here, here] = X[:, a]
    for v, width, (y, delta) in zip(part.variables[1:], part.widths[1:], part.arguments, strict=True):
        lam = np.tile(multipliers[v], width // len(multipliers[v]))
        rows = part.columns(v)
        mid[:, range(rows.start, rows.stop), range(rows.start, rows.stop)] = lam
        weight = delta * (-0.5 * lam)[:, None]
        for u, S in y.items():
            columns, C = part.columns(u), S.explicit(1).shifted(S.exponent) * weight
            mid[:, rows, columns], mid[:, columns, rows] = C.mid, C.H.mid
            largest = C.rad.max(0)
            rad[0, rows, columns], rad[0, columns, rows] = largest, largest.T
    return Enclosure(mid, rad)


def behind_segment(part: Segment, M: Hermitian) -> Hermitian | None:
    r"""A metric nearly as large as it can be, exactly Hermitian; None where M is not positive definite. A proposal."""
    room = slack(part.order, complex=True)
    if not part.whole:
        Y = shadow(M, part.matrix(part.out, len(M)).mid)
        if Y is None:
            return None
        k = range(Y.shape[-1])
        Y[:, k, k] *= 1 + 4 * room + WIDE
        try:
            X = np.linalg.inv(Y) * (1 - WIDE)
        except np.linalg.LinAlgError:
            return None
        return (X + X.conj().mT) / 2
    at, k = part.order - part.widths[-1], range(part.widths[-1])
    S, lam = shadow(M[:, :at, :at], M[:, at:, :at]), np.real(np.diagonal(M[0]))[at:]
    if S is None:
        return None
    X = -S * (1 + 2 * room)
    X[:, k, k] = lam * (1 - ROOM) - np.real(S[:, k, k]) * (1 + 4 * room)
    return X


def shadow(M: Hermitian, G: Complex[np.ndarray, "f m n"]) -> Hermitian | None:
    """$G M^{-1} G^*$, exactly Hermitian."""
    try:
        Y = np.linalg.solve(np.linalg.cholesky(M), G.conj().mT)
    except np.linalg.LinAlgError:
        return None
    S = Y.conj().mT @ Y
    return (S + S.conj().mT) / 2


def _holds(part: Segment, M: Enclosure, X: Hermitian) -> bool:
    """Whether M - G* X G is positive semidefinite."""
    if not part.whole:
        G = part.matrix(part.out, len(M))
        return proves(_common(M - G.H @ (Enclosure.exact(X) @ G)))
    at, rad = part.order - part.widths[-1], M.rad.copy()
    k = range(at, part.order)
    M.mid[:, at:, at:] -= X  # entries off the diagonal of the last block are 0 there
    rad[:, k, k] = 2 * UNIT * abs(np.real(M.mid[:, k, k])).max(0)
    return proves(Enclosure(M.mid, rad))


def _bordered(M: Enclosure, G: Enclosure, D: Enclosure) -> Enclosure:
    """[[M, G*], [G, D]], of one D or one a frequency."""
    n, m = G.shape[-1], G.shape[-2]
    mid, rad = np.zeros((len(G), n + m, n + m), complex), np.zeros((1, n + m, n + m))
    mid[:, :n, :n], mid[:, n:, n:], mid[:, n:, :n], mid[:, :n, n:] = M.mid, D.mid, G.mid, G.H.mid
    largest = G.rad.max(0)
    rad[0, :n, :n], rad[0, n:, n:] = M.rad.max(0), D.rad if D.mid.ndim == 2 else D.rad.max(0)
    rad[0, n:, :n], rad[0, :n, n:] = largest, largest.T
    return Enclosure(mid, rad)


def _common(M: Enclosure) -> Enclosure:
    """One radius for all frequencies."""
    rad = M.radius().max(0)
    return Enclosure(M.mid, np.maximum(rad, rad.T)[None])
