r"""Low-rank ascent for a convolution: one Gram matrix a frequency, one `t` for all, on a growing working set of frequencies.

The dual point is one thin factor $V_\omega$ a frequency, and $\sum_\omega \lVert v_{\omega i} \rVert^2 = 1$ for every channel: the rows
of all of them side by side are unit vectors, so the landscape is that of one matrix. An optimum needs ranks with
$\sum_\omega r_\omega^2 \le n$. A few steps of rank one on all frequencies say where the mass goes; then the working set is climbed, all
frequencies are priced by Lanczos iteration, and those that `t` does not cover come in with their eigenvectors.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from sdplip.solvers._climb import DOUBLE, SINGLE, climb
from sdplip.solvers._landscapes import FEW, Height, Rows, Spheres, Vector
from sdplip.solvers._lowrank import ascent, least_rank
from sdplip.solvers._steps import least_eigenpairs, random_vectors

Symbols = Complex[Tensor, "F m n"]
Factors = Complex[Tensor, "k n r"]

SCOUTING = 12
"""Steps of rank one on all frequencies."""

CACHED = 2**20
"""Entries of the symbols whose eigenvalues are estimated at once: what caches hold."""


@dataclass(frozen=True, eq=False)
class Waves(Spheres):
    """Least trace over `count` frequencies; their factors stand side by side in V, real parts before imaginary ones."""

    count: int = 1

    def thinner(self, V: Rows) -> Rows | None:
        Y = _factors(V, self.count)
        values, Q = torch.linalg.eigh(Y.mH @ Y)
        rank = int((values > FEW**2 * values.max()).sum(-1).max())
        return None if rank > 0.9 * Y.shape[-1] else _rows((Y @ Q)[..., -rank:])


@dataclass(frozen=True, eq=False)
class WavePoint:
    """Factors on the frequencies `chosen` whose value is `lower`, the `t` that they ask for, and the best feasible `t` so far."""

    t: Vector
    new: Vector
    Y: Factors
    chosen: Int[Tensor, " k"]
    lower: float

    @property
    def objective(self) -> float:
        """The trace."""
        return float(self.t.sum())

    @property
    def gap(self) -> float:
        """Relative."""
        return 1 - self.lower / self.objective if self.objective else 0.0

    def lifted(self, S: Symbols, tolerance: float) -> "WavePoint":
        """With the `t` that the factors ask for, lifted until it covers all frequencies, if that is better."""
        low = S.to(torch.complex64)
        theta, _ = _priced(S, low, self.new, tolerance, random_vectors(low.mH)[..., 0])
        return replace(self, t=min(self.t, self.new * float(theta.max()), key=lambda t: float(t.sum())))


def wave_points(S: Symbols, tolerance: float) -> Iterator[WavePoint]:
    """Ever better intervals for symbols with columns of lengths near 1 and costs of 1; ends where rounding allows no ascent."""
    first, low = begin_wave(S), S.to(torch.complex64)
    Y, chosen, vectors = _scouted(low)
    best, floor = replace(first, Y=Y, chosen=chosen), _squares(S).amax(0)
    seen = torch.full((len(S),), torch.inf, dtype=torch.float64)
    seen_t, check = best.t, 1e-3
    while True:
        G = S[best.chosen].mH @ S[best.chosen]
        land = Waves(_apply(G), floor, len(G))
        at, before = None, best.lower
        for at in climb(land, land.domain(_rows(best.Y)), DOUBLE):
            best = replace(best, new=at.t, Y=_factors(at.V, len(G)), lower=at.value)
            if at.slope <= check:
                break
            yield best
        assert at is not None, "a climb begins with a point"
        ask = seen * float((seen_t / at.t).max()) > 1 - 1e-3
        theta = torch.where(ask, 0.0, seen * float((seen_t / at.t).max()))
        fine = max(tolerance, min(1e-4, 0.1 * at.slope))
        theta[ask], vectors[ask] = _priced(S[ask], low[ask], at.t, fine, vectors[ask])
        seen, seen_t = theta, at.t
        top = float(theta.max())
        if top * float(at.t.sum()) < best.objective:
            best = replace(best, t=at.t * top)
        yield best
        if best.gap <= tolerance or (at.slope > check and best.lower <= before):
            return
        best, grown = _joined(best, theta, vectors, at)
        check = at.slope / 10 if not grown else max(at.slope / 10, min(check, (top - 1) / 10))


def begin_wave(S: Symbols) -> WavePoint:
    r"""$t_i = \max_\omega \lVert w_i\rVert \sum_j \lVert w_j\rVert$, which is feasible, and no dual point."""
    norms = _squares(S).sqrt()
    t = (norms * norms.sum(-1, keepdim=True)).amax(0)
    return WavePoint(
        t, t, torch.zeros(1, len(t), 1, dtype=torch.complex128), torch.zeros(1, dtype=torch.int64), 0.0
    )


def _squares(S: Symbols) -> Float[Tensor, "F n"]:
    """Of the lengths of the columns."""
    return (torch.real(S) ** 2 + torch.imag(S) ** 2).sum(-2)


def _joined(
    best: WavePoint, theta: Float[Tensor, " F"], vectors: Complex[Tensor, "F n"], at: Height
) -> tuple[WavePoint, bool]:
    """The point with columns for the worst frequencies that are not covered, without those that carry nothing; whether any came."""
    Y, chosen = best.Y, best.chosen
    mass = (Y.abs() ** 2).sum((-2, -1))
    keep = mass > FEW**2 * mass.max()
    Y, chosen = Y[keep], chosen[keep]
    excess = theta - 1
    worst = excess.topk(min(len(theta), max(8, len(best.t) // 16))).indices
    worst = worst[excess[worst] > max(0.0, 0.1 * float(excess.max()))]
    worst = worst[excess[worst] > 10 * at.slope]
    if not len(worst):
        return replace(best, Y=Y, chosen=chosen), False
    inside = dict(zip(chosen.tolist(), range(len(chosen)), strict=True))
    wider = torch.zeros((len(chosen) + len(worst), Y.shape[1], Y.shape[2] + 1), dtype=Y.dtype)
    wider[: len(chosen), :, :-1] = Y
    added = []
    for f in worst.tolist():
        column = vectors[f] / at.t.sqrt()
        k = inside.get(f, len(chosen) + len(added))
        if f not in inside:
            added.append(f)
        wider[k, :, -1] = column * (0.1 / column.abs().max())
    chosen = torch.cat([chosen, torch.tensor(added, dtype=chosen.dtype)])
    return replace(best, Y=wider[: len(chosen)], chosen=chosen), True


def _scouted(
    S: Complex[Tensor, "F m n"],
) -> tuple[Factors, Int[Tensor, " k"], Complex[Tensor, "F n"]]:
    """The frequencies that a few steps of rank one on all lead to, random factors of the rank that so many need, and those of rank one."""
    F, n = len(S), S.shape[-1]
    count = min(F, max(8, n // 8))
    rank = min(n, least_rank(-(-n // count)))
    generator = torch.Generator().manual_seed(0)
    V = torch.randn(n, 2 * F, generator=generator)
    chosen = torch.arange(F)
    if count < F:
        land = Waves(lambda V: _rows(S.mH @ (S @ _factors(V, F))), _squares(S).amax(0), F)
        for step, at in enumerate(ascent(land, land.domain(V), SINGLE)):
            V = at.V
            if step == SCOUTING:
                break
        chosen = (_factors(V, F).abs() ** 2).sum((-2, -1)).topk(count).indices
    Y = torch.randn(count, n, rank, dtype=torch.complex128, generator=generator)
    return Y, chosen, _factors(V, F)[..., 0].clone()


def _priced(
    S: Symbols, low: Symbols, t: Vector, tolerance: float, warm: Complex[Tensor, "F n"]
) -> tuple[Float[Tensor, " F"], Complex[Tensor, "F n"]]:
    r"""Estimates of $\lambda_{\max}(T^{-1/2} S^* S T^{-1/2})$ from above, likely, and eigenvectors, from those that are `warm`.

    All in single precision first, a few at a time, no better than it takes to see that most do not matter; then, from the highest
    on, in double, until no other can be the highest.
    """
    n, scale = S.shape[-1], t.rsqrt()
    if n <= 64:
        P = S * scale
        values, vectors = torch.linalg.eigh(P.mH @ P)
        return values[:, -1], vectors[..., -1].to(warm.dtype)
    theta, vectors = torch.zeros(len(S), dtype=torch.float64), warm.clone()
    width = max(1, CACHED // (S.shape[1] * n))
    for a in range(0, len(S), width):
        P = low[a : a + width] * scale.float()
        found, rho, vectors[a : a + width] = _top(P, warm[a : a + width], 3e-3, 40)
        theta[a : a + width] = (found + rho).double()
    highest = 0.0
    for f in theta.argsort(descending=True).tolist():
        if theta[f] <= highest:
            break
        found, rho, x = _top((S[f] * scale)[None], vectors[f].to(S.dtype)[None], tolerance / 8, 120)
        theta[f] = float(found + torch.minimum(rho, rho**2 * 2**10))
        vectors[f], highest = x[0].to(vectors.dtype), max(highest, float(theta[f]))
    return theta, vectors


def _top(
    P: Complex[Tensor, "k m n"], warm: Complex[Tensor, "k n"], tolerance: float, steps: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"], Complex[Tensor, "k n"]]:
    """Largest eigenvalues of the Gram matrices, residuals and vectors; rough where they are below 0.99."""
    theta, rho, x = least_eigenpairs(
        lambda v: -(P.mH @ (P @ v)), warm[..., None], tolerance=tolerance, steps=steps, clear=-0.99
    )
    return -theta, rho, x


def _apply(G: Complex[Tensor, "k n n"]):
    return lambda V: _rows(G @ _factors(V, len(G)))


def _factors(V: Rows, count: int) -> Factors:
    n = len(V)
    return torch.view_as_complex(V.reshape(n, count, -1, 2)).movedim(1, 0)


def _rows(Y: Factors) -> Rows:
    k, n, r = Y.shape
    return torch.view_as_real(Y.movedim(0, 1).contiguous()).reshape(n, k * r * 2)
