r"""The inequality of the rule `pairwise` as CVXPY writes it, for small networks and second opinions."""

import contextlib
import warnings
from dataclasses import dataclass

import cvxpy as cp
import numpy as np

from sdplip.bounds.increments import Increments
from sdplip.bounds.methods.reference import EXACT
from sdplip.bounds.numerics.pair_forms import ABOVE, PairForms, Scaled, candidates, rows
from sdplip.kernel.rules.pairwise import SIGNS
from sdplip.solvers.cvxpy import CVXPY, options_of
from sdplip.solvers.solution import Status

MARGIN = 1e-8
"""Of every condition, relative to coordinates of order one: a solver's point violates conditions a little."""


@dataclass(frozen=True)
class ReferencePairs:
    """Multipliers of pairs by a general solver.

    Attributes:
        layers: between the two neurons of a pair at most; 0 is the same layer, None any two neurons.
        solver: which one.
    """

    layers: int | None = None
    solver: CVXPY = EXACT

    def __call__(self, system: Increments) -> PairForms:
        r"""Minimise $\kappa$ subject to the conditions of the rule, each with a margin.

        Raises:
            SolverUnavailable: the solver is not installed.
            numpy.linalg.LinAlgError: it found no point, or numbers leave the range of double precision.
        """
        options, at = options_of(self.solver), candidates(system, self.layers)
        scaled = Scaled.of(system)
        system, e = scaled.system, np.eye(system.order, system.inputs + system.order, system.inputs)
        n, N = system.inputs, system.order
        p, q = e - system.alpha[:, None] * system.y, e - system.beta[:, None] * system.y
        kappa, lam = cp.Variable(name="kappa"), cp.Variable(system.multipliers, nonneg=True)
        inputs = np.diag(np.concatenate([np.ones(n), np.zeros(N)]))
        M = kappa * inputs - system.out.T @ system.out
        M = M + p.T @ cp.diag(lam[system.group]) @ q
        conditions, forms = [], [cp.Variable((4, 4), symmetric=True) for _ in at]
        rests = [[cp.Variable((4, 4), symmetric=True) for _ in SIGNS] for _ in at]
        for F, both, R in zip(forms, rests, rows(system, at), strict=True):
            M = M - R.T @ F @ R
            for S, rest in zip(SIGNS, both, strict=True):
                conditions += [rest >= 0, cp.diag(rest) == 0, cp.multiply(S, F) - rest >> MARGIN * np.eye(4)]
        problem = cp.Problem(cp.Minimize(kappa), [(M + M.T) / 2 >> MARGIN * np.eye(n + N), *conditions])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(cp.SolverError):
                problem.solve(solver=self.solver.solver, **options)
        if kappa.value is None or lam.value is None:
            raise np.linalg.LinAlgError("the general solver found no point")
        found = np.array([F.value for F in forms]).reshape(len(at), 4, 4)
        above = np.array([[np.asarray(rest.value)[ABOVE] for rest in both] for both in rests]).reshape(
            len(at), 2, 6
        )
        status = Status.OPTIMAL if problem.status == cp.OPTIMAL else Status.INACCURATE
        lam, above = np.maximum(lam.value, 1e-12), np.maximum(above, 0.0)
        iterations = int(problem.solver_stats.num_iters or 0)
        return scaled.back(PairForms(lam, at, (found + found.mT) / 2, above, status, iterations=iterations))
