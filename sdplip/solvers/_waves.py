r"""Low-rank ascent for a convolution: one Gram matrix a frequency, one `t` for all, on a growing working set of frequencies.

The dual point is one thin factor $V_\omega$ a frequency, and $\sum_\omega \lVert v_{\omega i} \rVert^2 = 1$ for every channel: the rows
of all of them side by side are unit vectors, so the landscape is that of one matrix. An optimum needs ranks with
$\sum_\omega r_\omega^2 \le n$. A few steps of rank one on all frequencies say where the mass goes; then the working set is climbed, all
frequencies are priced by Lanczos iteration, and those that `t` does not cover come in with their eigenvectors.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from sdplip.solvers._climb import DOUBLE, ROUGH, SINGLE, Anchored, climb, double, single
from sdplip.solvers._landscapes import FEW, Height, Rows, Spheres, Vector
from sdplip.solvers._lowrank import ascent, least_rank
from sdplip.solvers._prices import Symbols

Factors = Complex[Tensor, "k n r"]

SCOUTING = 12
"""Steps of rank one on all frequencies."""


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
class Grams:
    """Gram matrices of the working set."""

    G: Complex[Tensor, "k n n"]

    def apply(self, V: Rows) -> Rows:
        """G V, from the left: torch takes rows of few factors faster than columns."""
        return _rows((_factors(V, len(self.G)).mH @ self.G).mH)

    def single(self) -> "Grams":
        """In single precision."""
        return Grams(self.G.to(torch.complex64))


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
        rng = np.random.default_rng(0)
        warm = rng.standard_normal((len(S), 2 * len(self.t)), np.float32).view(np.complex64)
        theta, _ = S.priced(self.new.numpy(), tolerance, warm, np.ones(len(S), bool))
        return replace(self, t=min(self.t, self.new * float(theta.max()), key=lambda t: float(t.sum())))


def wave_points(S: Symbols, tolerance: float) -> Iterator[WavePoint]:
    """Ever better intervals for symbols with columns of lengths near 1 and costs of 1; ends where rounding allows no ascent."""
    Y, chosen, vectors = _scouted(S)
    best, floor = replace(begin_wave(S), Y=Y, chosen=chosen), torch.from_numpy(S.squares.max(0))
    seen, seen_t, check = np.full(len(S), np.inf), best.t, 1e-3
    grams = dict[int, Complex[Tensor, "n n"]]()
    while True:
        at, before = None, best.lower
        grams = {f: grams[f] if f in grams else _gram(S, f) for f in best.chosen.tolist()}
        for at in _climbed(Grams(torch.stack(list(grams.values()))), floor, best.Y, check):
            value = at.value if at.t.dtype == torch.float64 else at.value * (1 - SINGLE)
            best = replace(best, new=double(at.t), Y=_factors(double(at.V), len(grams)), lower=value)
            yield best
        assert at is not None, "a climb begins with a point"
        known = seen * float((seen_t / at.t).max())
        asked = known > 1 - 1e-3
        fine = max(tolerance, min(1e-4, 0.1 * at.slope))
        theta, vectors = S.priced(at.t.numpy(), fine, vectors, asked)
        seen, seen_t = np.where(asked, theta, known), at.t
        top = float(seen.max())
        if top * float(at.t.sum()) < best.objective:
            best = replace(best, t=at.t * top)
        yield best
        if best.gap <= tolerance or (at.slope > check and best.lower <= before):
            return
        best, grown = _joined(best, torch.from_numpy(theta), torch.from_numpy(vectors), at)
        check = at.slope / 10 if not grown else max(at.slope / 10, min(check, (top - 1) / 10))


def begin_wave(S: Symbols) -> WavePoint:
    r"""$t_i = \max_\omega \lVert w_i\rVert \sum_j \lVert w_j\rVert$, which is feasible, and no dual point."""
    norms = torch.from_numpy(S.squares).sqrt()
    t = (norms * norms.sum(-1, keepdim=True)).amax(0)
    return WavePoint(
        t, t, torch.zeros(1, len(t), 1, dtype=torch.complex128), torch.zeros(1, dtype=torch.int64), 0.0
    )


def _gram(S: Symbols, f: int) -> Complex[Tensor, "n n"]:
    (P,) = torch.from_numpy(S.exact(np.array([f])))
    return P.mH @ P


def _climbed(grams: Grams, floor: Vector, Y: Factors, check: float) -> Iterator[Height]:
    """An ascent on the working set to that slope, in single precision first; the last point is in double."""
    low, V, count = grams.single(), _rows(Y), len(Y)
    rough = Waves(low.apply, single(floor), count)
    for at in climb(rough, rough.domain(single(V)), SINGLE):
        V = double(at.V)
        yield at
        if at.slope <= max(check, ROUGH):
            break
    fine = Waves(Anchored(grams, low), floor, count)
    for at in climb(fine, fine.domain(V), DOUBLE):
        yield at
        if at.slope <= check:
            break


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


def _scouted(S: Symbols) -> tuple[Factors, Int[Tensor, " k"], Complex[np.ndarray, "F n"]]:
    """The frequencies that a few steps of rank one on all lead to, random factors of the rank that so many need, and those of rank one."""
    F, n = S.squares.shape
    count = min(F, max(8, n // 8))
    rank = min(n, least_rank(-(-n // count)))
    generator = torch.Generator().manual_seed(0)
    V = torch.randn(n, 2 * F, generator=generator)
    chosen = torch.arange(F)
    if count < F:
        land = Waves(lambda V: _rows(_all(S, V)), torch.from_numpy(S.squares.max(0)).float(), F)
        for step, at in enumerate(ascent(land, land.domain(V), SINGLE)):
            V = at.V
            if step == SCOUTING:
                break
        chosen = (_factors(V, F).abs() ** 2).sum((-2, -1)).topk(count).indices
    Y = torch.randn(count, n, rank, dtype=torch.complex128, generator=generator)
    return Y, chosen, _factors(V, F)[..., 0].numpy().copy()


def _all(S: Symbols, V: Rows) -> Factors:
    return torch.from_numpy(S.gram(_factors(V, len(S))[..., 0].contiguous().numpy()))[..., None]


def _factors(V: Rows, count: int) -> Factors:
    n = len(V)
    return torch.view_as_complex(V.reshape(n, count, -1, 2)).movedim(1, 0)


def _rows(Y: Factors) -> Rows:
    k, n, r = Y.shape
    return torch.view_as_real(Y.movedim(0, 1).resolve_conj().contiguous()).reshape(n, k * r * 2)
