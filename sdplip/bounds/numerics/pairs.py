"""Multipliers of pairs: LipSDP first, then pairs that its moments price highest, round by round, by interior point."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from sdplip.bounds.increments import Increments
from sdplip.bounds.numerics.interior import Iterate, iterates
from sdplip.bounds.numerics.pair_forms import PairForms, Pairs, Scaled, candidates, few
from sdplip.bounds.numerics.pair_inequality import ABOVE, FORMS, PairInequality
from sdplip.bounds.numerics.pricing import ROUGH, prices
from sdplip.solvers.solution import Status

Vector = torch.Tensor
GoesOn = Callable[[int, float, float], bool]
ROUND = 2e-3
"""Relative gap at which a round ends whose prices are asked for."""
ROUGH_END = 1e-5
"""Relative gap above which the end is said to be inaccurate."""
ROOM = 0.2
"""Of a multiplier that the forms of its variable take at the start."""
CROSS = [2, 3, 5, 6]
"""Which of the 10 numbers of a form stand between the two variables."""
IDLE = 1e-3
"""Forms whose part between the two variables is smaller are given up; multipliers are of order one."""


@dataclass(frozen=True)
class Pricing:
    """How pairs are chosen.

    Attributes:
        most: pairs at once; the linear system of a step has four unknowns for each, and three for each variable. None is `few` of the
            variables.
        rounds: at most so many times pairs are added.
        gap: relative, of the squared bound, at the end.
    """

    most: int | None = None
    rounds: int = 5
    gap: float = 1e-6


def best(system: Increments, goes_on: GoesOn | None = None, options: Pricing | None = None) -> PairForms:
    """The forms found; where time is over, those of the best round.

    Raises:
        numpy.linalg.LinAlgError: no point was found, or there are no pairs.
    """
    return _Search(Scaled.of(system), goes_on, options or Pricing()).run()


@dataclass(eq=False)
class _Search:
    """One search.

    Attributes:
        iterations: of all rounds.
        more: whether there is time.
    """

    scaled: Scaled
    goes_on: GoesOn | None
    options: Pricing
    iterations: int = 0
    more: bool = True

    def run(self) -> PairForms:
        every, gap = candidates(self.scaled.system), self.options.gap
        if not len(every):
            raise np.linalg.LinAlgError("there are no pairs")
        found = [self.solved(every, gap) if len(every) <= self.most else self.solved(every[:0], ROUND)]
        for k in range(self.options.rounds if len(every) > self.most else 0):
            if not self.more or found[-1] is None:
                break
            last = k == self.options.rounds - 1 or _gained(found) < ROUND
            old, new = self.chosen(found[-1], every, last=last)
            last = last or not len(new)
            found.append(self.solved(np.concatenate([old, new]), gap if last else ROUND))
            if last:
                break
        points = [done for done in found if done is not None]
        if not points:
            raise np.linalg.LinAlgError("no point was found")
        done = min(points, key=lambda done: float(done.best.y[0]))
        return self.scaled.back(self.forms(done, every))

    @property
    def most(self) -> int:
        return few(self.scaled.system.order) if self.options.most is None else self.options.most

    def chosen(self, done: "Done", every: Pairs, *, last: bool) -> tuple[Pairs, Pairs]:
        """Pairs that are at work, and those of the highest prices; in the last round also what is worth little."""
        q = done.inequality
        old, N = q.at.numpy(), q.variables
        if len(old):
            old = old[(abs(q.split(done.best.y)[1][:, CROSS]).amax(1) > IDLE).numpy()]
        new = every[~np.isin(every @ [N, 1], old @ [N, 1])]
        value = prices(q.R, done.best.X.matrix.main, new, ROUGH / 20 if last else ROUGH)
        order = np.argsort(-value)[: max(self.most - len(old), 0)]
        return old, new[order[value[order] > 0]]

    def solved(self, at: Pairs, gap: float) -> "Done | None":
        """The best point for these pairs."""
        q = inequality(self.scaled.system, at)
        y, best = start(q, self.scaled.system.depth), None
        if y is None:
            return None
        for point in iterates(q, y):
            self.iterations += 1
            stalled = best is not None and abs(point.gap) > 0.9 * abs(best.gap) and abs(point.gap) < 1e-4
            best = point if best is None or abs(point.gap) < abs(best.gap) else best
            size = self.scaled.kappa**0.5
            ends = size * float(point.y[0]) ** 0.5, size * max(point.lower, 0.0) ** 0.5
            self.more = self.goes_on is None or self.goes_on(self.iterations, *ends)
            if abs(point.gap) <= gap or stalled or not self.more:
                break
        return None if best is None else Done(q, best)

    def forms(self, done: "Done", every: Pairs) -> PairForms:
        """In the words of the kernel."""
        q, y = done.inequality, done.best.y
        lam, forms, rests = q.split(y)
        F = (forms @ FORMS.reshape(10, 16)).reshape(-1, 4, 4).numpy()
        found = PairForms(2 * lam.numpy(), q.at.numpy(), F, rests.numpy(), iterations=self.iterations)
        if not self.more:
            return replace(found, status=Status.STOPPED)
        if abs(done.best.gap) > ROUGH_END:
            return replace(found, status=Status.INACCURATE)
        all_of_them = len(q.at) == len(every)
        return replace(found, sdp_lower=max(done.best.lower, 0.0) ** 0.5 if all_of_them else None)


def _gained(found: "list[Done | None]") -> float:
    """By how much the last round came below the one before, relative; at first 1."""
    values = [float(done.best.y[0]) for done in found[-2:] if done is not None]
    return 1.0 if len(values) < 2 else 1 - values[1] / values[0]


@dataclass(frozen=True, eq=False)
class Done:
    """A round: its pairs and its best point."""

    inequality: PairInequality
    best: Iterate


def inequality(system: Increments, at: Pairs) -> PairInequality:
    """Of a scaled system and some of its pairs."""
    n, N = system.inputs, system.order
    e = np.eye(N, n + N, n)
    R = np.concatenate([e - system.alpha[:, None] * system.y, system.beta[:, None] * system.y - e])
    there = (torch.tensor(np.ascontiguousarray(v)) for v in (R, system.out.T @ system.out, system.group, at))
    return PairInequality(n, *there)


def start(q: PairInequality, depth: np.ndarray) -> Vector | None:
    """A point well inside: each layer has half of its multipliers to spare, and forms take a part of that; None where rounding spoils it.

    That of the closed form lies near the boundary, and with forms that fit between, all steps of the method are short.
    """
    y = torch.zeros(1 + q.multipliers + 22 * len(q.at), dtype=torch.float64)
    lam, forms, rests = q.split(y)
    spread = torch.tensor(2.0 ** (depth.max(initial=0) - depth))
    lam[q.group] = spread
    size = ROOM * spread[q.at] / torch.bincount(q.at.reshape(-1), minlength=q.variables)[q.at]
    four = size[:, [0, 0, 1, 1]]
    forms[:, [0, 4, 7, 9]] = four
    rests[:] = (0.2 * (four[:, :, None] * four[:, None]).sqrt())[:, None, *ABOVE]
    y[0] = 1.0
    for _ in range(100):
        if q.factor(y) is not None:
            return y
        y[0] = 2 * y[0]
    return None
