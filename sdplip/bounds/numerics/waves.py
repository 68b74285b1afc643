"""A stationary network in floating point at all frequencies at once: what searches for multipliers of channels work on."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from jaxtyping import Complex, Float, Int

from sdplip.arithmetic.matrix import Enclosure
from sdplip.bounds.numerics.spectrum import Spectrum
from sdplip.bounds.numerics.stage import Argument, Stage, behind_stage, top_factor
from sdplip.kernel.frequencies import Segment, aliases_at, grid, order_of, segment, symbol
from sdplip.kernel.stationary import Plan, Taps

Vector = Float[np.ndarray, " p"]
Hermitian = Complex[np.ndarray, "f n n"]


@dataclass(frozen=True, eq=False)
class Waves:
    """All stages; behind the last of them the squared length of what stands behind is to be bounded.

    Attributes:
        stages: of the segments; the last one has a `G` unless a head follows.
        head: symbol of what stands behind over the root of the number of frequencies, which it couples; None where nothing does.
        inputs: channels of the input.
        channels: of each unknown.
        exponent: the bound is $2^e \\sqrt{\\rho}$.
    """

    plan: Plan
    stages: tuple[Stage, ...]
    head: Complex[np.ndarray, "f m channels"] | None
    inputs: int
    channels: tuple[int, ...]
    exponent: int

    @property
    def start(self) -> Hermitian:
        """The metric of the input."""
        return np.broadcast_to(
            np.eye(self.inputs, dtype=complex), (self.stages[0].place.max() + 1, self.inputs, self.inputs)
        )

    @property
    def share(self) -> Float[np.ndarray, " f"]:
        """Of the frequencies of the last stage."""
        return self.stages[-1].share

    def layers(self, lam: Vector) -> list[Vector]:
        """The multipliers of each unknown."""
        return np.split(lam, np.cumsum(self.channels)[:-1])

    def sweep(self, lam: Vector) -> tuple[np.ndarray, np.ndarray] | None:
        r"""Room in the metrics and the largest eigenvalue of $G M^{-1} G^*$, of every frequency; None where a metric fails.

        Behind a head the second is that of the frequency alone, which is no bound.
        """
        if not (lam > 0).all():
            return None
        lams, room = self.layers(lam), np.full(len(self.share), np.inf)
        X = self.start
        try:
            for k, stage in enumerate(self.stages):
                M = stage.matrix(X, lams)
                root = np.sqrt(np.real(np.diagonal(M, axis1=1, axis2=2)))
                M = M / root[:, None] / root[:, :, None]
                L = np.linalg.cholesky(M)
                if stage.arguments:
                    at = stage.arguments[0].rows.start
                    own = np.real(np.diagonal(L, axis1=1, axis2=2))[:, at:].min(-1)
                    np.minimum.at(room, stage.coarse, own)
                last = k == len(self.stages) - 1
                if stage.G is None:
                    n = stage.arguments[-1].rows.stop - stage.arguments[-1].rows.start
                    corner = L[:, -n:, -n:]
                    own = root[:, -n:]
                    if last and self.head is not None:
                        B = np.linalg.solve(own[:, :, None] * corner, self.head.conj().mT)
                        return room, np.linalg.norm(B, 2, axis=(-2, -1)) ** 2
                    X = own[:, :, None] * (corner @ corner.conj().mT) * own[:, None]
                    continue
                B = np.linalg.solve(L, (stage.G / root[:, None]).conj().mT)
                if last and self.head is None:
                    return room, np.linalg.norm(B, 2, axis=(-2, -1)) ** 2
                X = np.linalg.inv(B.conj().mT @ B)
                X = (X + X.conj().mT) / 2
            assert self.head is not None
            B = np.linalg.solve(np.linalg.cholesky(X), self.head.conj().mT)
            return room, np.linalg.norm(B, 2, axis=(-2, -1)) ** 2
        except np.linalg.LinAlgError:
            return None

    def value(self, lam: Vector) -> float:
        r"""The least $\rho$, infinite where the multipliers are not feasible."""
        if self.head is not None:
            T = self.shadow(lam)
            return np.inf if T is None else float(np.linalg.eigvalsh(T)[-1])
        swept = self.sweep(lam)
        return np.inf if swept is None else float(swept[1].max())

    def shadow(self, lam: Vector) -> Float[np.ndarray, "m m"] | None:
        r"""$\sum_\omega \mathrm{Re}\,\hat F X^{-1} \hat F^*$ behind a head; None where the multipliers are not feasible."""
        X = self.metric(lam)
        if X is None or self.head is None:
            return None
        try:
            B = np.linalg.solve(np.linalg.cholesky(X), self.head.conj().mT)
        except np.linalg.LinAlgError:
            return None
        return mean(self.share, B)

    def metric(self, lam: Vector) -> Hermitian | None:
        """Behind the last stage."""
        if not (lam > 0).all():
            return None
        lams = self.layers(lam)
        X = self.start
        try:
            for stage in self.stages:
                X = behind_stage(stage, X, lams)
            np.linalg.cholesky(X)
        except np.linalg.LinAlgError:
            return None
        return X

    def spectral(self, shapes: Sequence[Vector] | None = None, share: float = 0.5) -> Vector | None:
        """Multipliers of the given shapes (equal ones), each unknown times one factor: `share` of the largest that is feasible.

        Half is best for a layer alone. None where numbers leave the range.
        """
        lams = [np.ones(n) for n in self.channels] if shapes is None else [np.array(s, float) for s in shapes]
        X = self.start
        try:
            for stage in self.stages:
                for one in stage.arguments:
                    lams[one.which] = lams[one.which] * (share / top_factor(stage, one, X, lams))
                X = behind_stage(stage, X, lams)
        except np.linalg.LinAlgError:
            return None
        return np.concatenate(lams) if lams else np.zeros(0)


def mean(share: Float[np.ndarray, " f"], B: Complex[np.ndarray, "f k m"]) -> Float[np.ndarray, "m m"]:
    r"""$\sum_\omega s_\omega \mathrm{Re}\,B^* B$, as one product of real matrices."""
    flat = (B * np.sqrt(share)[:, None, None]).reshape(-1, B.shape[-1])
    return np.real(flat).T @ np.real(flat) + np.imag(flat).T @ np.imag(flat)


def work(plan: Plan) -> float:
    """Entries of the matrices of all stages at all frequencies."""
    return sum(_summed(plan, a, b, 2) for a, b in plan.segments)


def passes(plan: Plan) -> float:
    """Frequencies times the cubes of the orders that are factored in all stages: the work of one pass, about fifty operations each."""
    return sum(_summed(plan, a, b, 3) for a, b in plan.segments)


def _summed(plan: Plan, start: int, end: int, power: int) -> float:
    """Frequencies of a segment times that power of its order; of a plain one (`stage.Stage`) of its blocks."""
    count, order = len(grid(plan.torus(end)).points), order_of(plan, start, end)
    inside = [v for v in plan.unknowns if start < v[0] <= end]
    if inside != [(end, 0)] or plan.unknowns[end, 0].alpha.any():
        return float(count * order**power)
    n, p = plan.views[start].channels, plan.views[end].channels
    aliases = (order - p) // n
    return float(count * (aliases * n * (n + p) ** (power - 1) + p**power))


def cubes(plan: Plan) -> float:
    """Frequencies times the cubes of the orders of all segments: the work of a proof, about fifty operations each."""
    return float(sum(len(grid(plan.torus(b)).points) * order_of(plan, a, b) ** 3 for a, b in plan.segments))


def waves(plan: Plan, F: Enclosure | None = None) -> Waves:
    """The stages of a plan, and of the matrix `F` behind it, one column for each entry of the last value."""
    which = {v: k for k, v in enumerate(plan.unknowns)}
    stages, exponent = list[Stage](), 0
    last = grid(plan.torus(plan.stop))
    for start, end in plan.segments:
        there, before = grid(plan.torus(end)), grid(plan.torus(start))
        part = segment(plan, start, end, there.points, exponent)
        seen, exponent = aliases_at(plan, start, end, there.points), part.exponent
        arguments = tuple(
            Argument(part.columns(v), _row(part, k, len(there.points)), which[v], plan.views[v[0]].channels)
            for k, v in enumerate(part.variables[1:])
        )
        ends = F is None and end == plan.stop
        G = None if part.whole and not ends else _matrix(part, part.out, len(there.points))
        folded = there.points % np.array(plan.torus(plan.stop))
        coarse = last.place[np.ravel_multi_index(tuple(folded.T), plan.torus(plan.stop))]
        stages.append(
            Stage(
                part.widths[0],
                part.order,
                arguments,
                G,
                before.place[seen],
                before.mirrored[seen],
                there.share,
                coarse,
            )
        )
    head = None
    if F is not None:
        view, torus = plan.views[plan.stop], plan.torus(plan.stop)
        places = np.array(list(np.ndindex(*view.pixels)))
        K = F.mid.reshape(len(F), view.channels, -1)
        taps = Taps.of(np.moveaxis(K, 2, 0), places, (1,) * len(torus))
        head = symbol(taps, torus, last.points).mid * prod(torus) ** -0.5
        exponent += taps.exponent
    return Waves(plan, tuple(stages), head, plan.views[0].channels, plan.channels, exponent)


def joint(every: Waves, kept: Int[np.ndarray, " g"] | None = None) -> Spectrum:
    """All layers in one inequality, at all frequencies or some of them."""
    plan, there = every.plan, grid(every.plan.torus(every.plan.stop))
    kept = np.arange(len(there.points)) if kept is None else kept
    count = len(kept)
    part = segment(plan, 0, plan.stop, there.points[kept], 0)
    n, order, at = part.widths[0], part.order, np.cumsum([0, *every.channels])
    A, tied = np.zeros((count, order, order - n), complex), np.zeros(order - n, int)
    for k, v in enumerate(part.variables[1:]):
        rows = part.columns(v)
        here = slice(rows.start - n, rows.stop - n)
        A[:, : rows.start, here] = _row(part, k, count).conj().mT
        A[:, rows, here] = 0.5 * np.eye(rows.stop - rows.start)
        tied[here] = at[k] + np.arange(rows.stop - rows.start) % every.channels[k]
    out = _matrix(part, part.out, count)
    C = out if every.head is None else every.head[kept] @ out
    return Spectrum(A, C, there.share[kept], every.head is not None, tied)


def _row(part: Segment, k: int, count: int) -> Complex[np.ndarray, "f rows before"]:
    y, delta = part.arguments[k]
    full = _matrix(part, y, count)
    return full[:, :, : part.columns(part.variables[k + 1]).start] * (-0.5 * delta.mid)


def _matrix(part: Segment, expression, count: int) -> Complex[np.ndarray, "f m order"]:
    return part.matrix(expression, count).mid
