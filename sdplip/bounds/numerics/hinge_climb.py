"""The lower side of a search on patterns: points with a large Jacobian, their value proven by `kernel.witness`."""

from dataclasses import dataclass, field

import numpy as np

from sdplip.bounds.numerics.hinge_bounds import Plain
from sdplip.bounds.numerics.hinge_points import look
from sdplip.kernel.hinges import Hinges, Patterns
from sdplip.kernel.regions import Ball, Box, Cut
from sdplip.kernel.sides import Sides
from sdplip.kernel.witness import jacobian_below, steepness
from sdplip.shapes import Float, Int

Points = Float[np.ndarray, "points inputs"]
Pattern = Int[np.ndarray, " hinges"]
SAMPLES = 2000
"""Points that are looked at first."""
STARTS = 4
"""Of these the best, from which the search climbs."""
PROGRAMS = 400
"""Linear programs of one climb, at most."""


@dataclass(eq=False)
class Lower:
    """The largest proven value so far.

    Attributes:
        where: sides of hinges; None where any biases count.
        value: proven.
        x: a point that has it; None where no point does, or only some biases.
        pattern: its sides.
    """

    hinges: Hinges
    plain: Plain
    where: Sides | None
    value: float = 0.0
    x: Float[np.ndarray, " inputs"] | None = None
    pattern: Pattern | None = None
    seen: set[bytes] = field(default_factory=set)

    def sample(self, rng: np.random.Generator) -> None:
        """Random points, and uphill from the best; or random patterns, where any biases count."""
        if self.where is None:
            sides = (rng.random((64, self.hinges.order)) < rng.uniform(0.3, 1.0, (64, 1))).astype(np.int8)
            for pattern in self._uphill(sides):
                self.of(pattern)
            return
        points = self._points(rng)
        patterns = self.plain.pattern_at(points)
        norms = self.plain.jacobian_norms(patterns)
        for k in np.argsort(-norms, kind="stable")[:STARTS].tolist():
            self.at(points[k], climb=True)
        for pattern in self._uphill(patterns[np.argsort(-norms, kind="stable")[:STARTS]]):
            self.towards(pattern)

    def at(self, x: Float[np.ndarray, " inputs"], *, climb: bool = False) -> None:
        """A point; and the patterns beside that it has."""
        assert self.where is not None
        pattern = self.plain.pattern_at(x[None])
        if float(self.plain.jacobian_norms(pattern)[0]) > self.value:
            found = steepness(self.hinges, self.where.region, x)
            if found > self.value:
                self.value, self.x, self.pattern = found, x.copy(), pattern[0]
                climb = True
        if climb and pattern.tobytes() not in self.seen:
            self._climb(pattern[0])

    def of(self, pattern: Pattern) -> None:
        """A pattern that counts whether or not it has a point: some biases give it one."""
        if self.hinges.free and float(self.plain.jacobian_norms(pattern[None])[0]) > self.value:
            found = jacobian_below(self.hinges, pattern[None])
            if found > self.value:
                self.value, self.pattern = found, pattern.copy()

    def towards(self, pattern: Pattern) -> None:
        """Points near a pattern that has none: of the program with the least violation."""
        assert self.where is not None
        found = look(self.plain, self.where, pattern)
        if found is not None:
            self.at(found.x, climb=True)

    def _climb(self, pattern: Pattern) -> None:
        """From a pattern that has a point to neighbours with a larger Jacobian that have one too."""
        assert self.where is not None
        programs, N = 0, self.hinges.order
        now = float(self.plain.jacobian_norms(pattern[None])[0])
        while programs < PROGRAMS and pattern.tobytes() not in self.seen:
            self.seen.add(pattern.tobytes())
            near = np.repeat(pattern[None], N, 0)
            near[np.arange(N), np.arange(N)] ^= 1
            norms = self.plain.jacobian_norms(near)
            for k in np.argsort(-norms, kind="stable").tolist():
                if norms[k] <= now * (1 + 1e-12):
                    return
                programs += 1
                found = look(self.plain, self.where, near[k])
                if found is None or not found.slack > 0:
                    continue
                pattern, now = near[k], float(norms[k])
                if now > self.value:
                    value = steepness(self.hinges, self.where.region, found.x)
                    if value > self.value:
                        self.value, self.x, self.pattern = value, found.x.copy(), pattern
                break

    def _uphill(self, patterns: Patterns) -> Patterns:
        """Patterns of larger Jacobians, one side changed at a time, whether they have points or not."""
        patterns, now = patterns.copy(), self.plain.jacobian_norms(patterns)
        N = self.hinges.order
        for _ in range(4 * N):
            near = np.repeat(patterns, N, 0).reshape(len(patterns), N, N)
            near[:, np.arange(N), np.arange(N)] ^= 1
            norms = self.plain.jacobian_norms(near.reshape(-1, N)).reshape(len(patterns), N)
            best = norms.argmax(1)
            better = norms[np.arange(len(patterns)), best] > now * (1 + 1e-12)
            if not better.any():
                break
            k = np.flatnonzero(better)
            patterns[k, best[k]] ^= 1
            now[k] = norms[k, best[k]]
        return patterns

    def _points(self, rng: np.random.Generator) -> Points:
        assert self.where is not None
        n, region = self.hinges.inputs, self.where.region
        if region is None:
            return rng.normal(size=(SAMPLES, n)) * 10.0 ** rng.uniform(-1, 2, size=(SAMPLES, 1))
        if isinstance(region, Box):
            return region.lower + rng.uniform(size=(SAMPLES, n)) * (region.upper - region.lower)
        ball = region.ball if isinstance(region, Cut) else region
        assert isinstance(ball, Ball)
        v = rng.normal(size=(SAMPLES, n))
        share = rng.uniform(size=(SAMPLES, 1)) ** (1 / n) / np.linalg.norm(v, axis=1, keepdims=True)
        points = ball.center + v * (0.999 * ball.radius * share)
        if isinstance(region, Cut):
            middle, half = (
                (region.box.lower + region.box.upper) / 2,
                (region.box.upper - region.box.lower) / 2,
            )
            points = middle + np.clip(points - middle, -0.999 * half, 0.999 * half)
        return points
