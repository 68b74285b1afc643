r"""Certificates of residual layers: a small $\gamma$ that is proven for multipliers near the proposed ones."""

import numpy as np

from sdplip.arithmetic.rounding import UNIT
from sdplip.errors import NotProvable
from sdplip.kernel.condition.residual import ResidualCertificate, Scaled, inputs, scaled
from sdplip.shapes import Float, array


def certify_residual(
    H: Float[np.ndarray, "k d"],
    G: Float[np.ndarray, "k n"],
    W: Float[np.ndarray, "d n"],
    multipliers: Float[np.ndarray, " n"],
    slopes: tuple[float, float] = (0.0, 1.0),
) -> ResidualCertificate:
    r"""Certificate with a small $\gamma$ that is proven for multipliers near the proposed ones, see `kernel.condition.residual`.

    The optimum often lies where the lower right block is singular; the multipliers are then enlarged a little, by the least power
    of four of the unit roundoff with which the proof succeeds.

    Raises:
        InvalidWeight, InvalidScaling: shapes or values contradict the statement.
        NotProvable: no finite $\gamma$ was found; other multipliers are needed.
    """
    H, G, W, multipliers = inputs(array(H), array(G), array(W), array(multipliers), slopes)
    active = W.any(0) & ((multipliers > 0) | G.any(0))  # the others are constants, or absent
    for power in range(4, 22):
        enlarged = np.where(active, multipliers * (1 + UNIT * 4.0**power), 0.0)
        pieces = scaled(H, G, W, enlarged, slopes)
        estimate = _least_gamma(pieces)
        value = float(np.ldexp(estimate * (1 + UNIT * 4.0**power), 2 * pieces.exponent))
        if np.isfinite(value) and pieces.holds(value):
            return ResidualCertificate(value, enlarged, slopes)
    raise NotProvable(
        "No finite `gamma` could be proven with these `multipliers`. Solve `ResidualLMI` for better ones."
    )


def _least_gamma(pieces: Scaled) -> float:
    """Schur complement of the LMI in floating point, or infinity."""
    with np.errstate(all="ignore"):
        d = pieces.corner.mid.diagonal()
        scale = np.where(d > 0, d, 1.0) ** -0.5
        corner = pieces.corner.mid * scale * scale[:, None]
        side = pieces.side.mid * scale[:, None]
        if not (np.isfinite(corner).all() and np.isfinite(side).all() and np.isfinite(pieces.top.mid).all()):
            return np.inf
        try:
            factor = np.linalg.cholesky(corner) if len(corner) else corner
        except np.linalg.LinAlgError:
            return np.inf
        half = np.linalg.solve(factor, side) if len(corner) else side
        schur = half.T @ half - pieces.top.mid
        return max(float(np.linalg.eigvalsh(schur)[-1]), 1e-300) if np.isfinite(schur).all() else np.inf
