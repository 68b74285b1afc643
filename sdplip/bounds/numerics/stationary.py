"""What multipliers prove of a stationary network, by the metrics of the rule `frequency`: in floating point, and as a proof."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.frequencies import grid
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.rules.frequency import Metric, behind_segment, inequalities, shadow
from sdplip.kernel.stationary import Key, Plan
from sdplip.network import Network

Vector = Float[np.ndarray, " n"]
ROOMS = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4)
"""By which a bound is tried above its estimate."""


def stationary_proof(
    network: Network, planned: Plan, multipliers: Mapping[Key, Vector]
) -> tuple[float, Proof]:
    """The bound of a network that is stationary up to its output, and its proof.

    Raises:
        NotProvable: these multipliers prove nothing.
    """
    rho, exponent = estimate(planned, dict(multipliers))
    for room in ROOMS:
        c = float(np.ldexp(np.sqrt(rho * (1 + room)), exponent))
        proof = Proof("frequency", {"multipliers": list(multipliers.values()), "c": c})
        with suppress(NotProvable):
            return conclude(Goal(network), proof), proof
    raise NotProvable("These multipliers prove nothing.")


def estimate(planned: Plan, multipliers: dict[Key, Vector]) -> tuple[float, int]:
    r"""$\rho$ and the power of two of the bound, by the metrics that the rule uses, in floating point."""
    n, worst, exponent = planned.views[0].channels, 0.0, 0
    now = Metric(np.broadcast_to(np.eye(n, dtype=complex), (len(grid(planned.torus(0)).points), n, n)), 0)
    for start, end in planned.segments:
        found = list[np.ndarray]()
        for part, inequality in inequalities(planned, start, end, now, multipliers):
            M, exponent = inequality.mid, part.exponent
            if end == planned.stop:
                S = shadow(M, part.matrix(part.out, len(M)).mid)
                if S is None:
                    raise NotProvable("These multipliers leave no metric positive definite.")
                worst = max(worst, float(np.linalg.eigvalsh(S)[:, -1].max()))
                continue
            X = behind_segment(part, M)
            if X is None:
                raise NotProvable("These multipliers leave no metric positive definite.")
            found.append(X)
        if found:
            now = replace(now, X=np.concatenate(found), exponent=exponent)
    return worst, exponent


def exponents(planned: Plan) -> list[int]:
    """By which powers of two `kernel.frequencies` scales the unknowns of a chain."""
    found, e = list[int](), 0
    for k in range(1, planned.stop + 1):
        if k in planned.taps:
            e += planned.taps[k].exponent
        if (k, 0) in planned.unknowns:
            e += int(np.frexp(planned.unknowns[k, 0].delta.mid.max())[1])
            found.append(e)
    return found
