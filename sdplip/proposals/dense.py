r"""Certificates of one matrix: the least provable $c$ with $W^\top W \preceq c^2\,\mathrm{diag}(t)$, and a proven lower bound."""

from collections.abc import Callable

import numpy as np

from sdplip.arithmetic.powers import root_above
from sdplip.arithmetic.rounding import down, gamma
from sdplip.arithmetic.semidefinite import slack
from sdplip.kernel.condition.certificate import Certificate, Form
from sdplip.kernel.condition.dense import Gram, Scaled, scale
from sdplip.proposals.lanczos import top_eigenvector, top_ritz
from sdplip.shapes import Float, array

Vector = Float[np.ndarray, " k"]

FEW = 72
"""So many eigenvalues are computed at once."""


def certify(
    W: Float[np.ndarray, "m n"],
    t: Float[np.ndarray, " n"],
    *,
    form: Form = "linear",
    scaling: str = "given",
    start: Float[np.ndarray, "n r"] | None = None,
) -> Certificate:
    r"""Certificate with the smallest $c$ that double precision can prove in $W^\top W \preceq c^2\,\mathrm{diag}(t)$.

    `c_lower <= least c <= c`, both proven, every rounding and underflow included. `W` is always the matrix of $W^\top W$: the
    weight `(out, in)` of a linear layer, the transposed weight `(features, hidden)` of a residual layer.

    Args:
        W: real matrix, array or tensor of any float or integer type; it is taken exactly as it stands.
        t: positive on every nonzero column of `W`; it is taken exactly as it stands.
        form: the layer whose bound follows: "linear" $W T^{-1/2} x$ or "residual" $x - 2 W T^{-1} \sigma(W^\top x + b)$.
        scaling: how `t` was proposed, for the record.
        start: a few vectors that nearly span the eigenvectors of $T^{-1/2} W^\top W T^{-1/2}$ with the largest eigenvalue, where
            somebody knows them: then fewer proofs are tried. It is not trusted.

    Raises:
        InvalidWeight, InvalidScaling: the input is not what the statement needs.
        NotProvable: the bound leaves the range of double precision.
    """
    scaled = scale(array(W), array(t), scaling)
    gram = scaled.gram()
    estimate, v = _propose(scaled, gram, start)
    k, top = len(gram.d), float(gram.d.max())
    guard = (slack(k) / 2 * top * estimate + 2 * gram.error) / float(gram.d.min())
    c = root_above(least_scale(estimate, guard, gram.below), scaled.exponent)
    witness = np.zeros(scaled.width)
    witness[scaled.columns] = v
    t = np.asarray(t).astype(np.float64)
    return Certificate(t=t, c=c, c_lower=_lower(scaled, witness), witness=witness, form=form, scaling=scaling)


def least_scale(estimate: float, guard: float, proves: Callable[[float], bool]) -> float:
    r"""A small $\kappa$ for which `proves(kappa)` is True; infinite if none was found.

    `estimate` proposes the least $\kappa$ and is not trusted: when the proof fails, the proposal grows. The first proposal lies a
    quarter of `guard` above what ought to be provable, so that another BLAS can prove it again.
    """
    room = 1.25
    for _ in range(40):
        kappa = estimate + room * guard
        if np.isfinite(kappa) and proves(kappa):
            return kappa
        room *= 4
    return np.inf


def _lower(scaled: Scaled, witness: Vector) -> float:
    """What the witness proves, less what another BLAS may lose."""
    B, v = scaled.B, witness[scaled.columns]
    stretch = float(np.linalg.norm(B @ v))
    loss = 4 * gamma(B.shape[1] + 8) * float(np.linalg.norm(B)) * float(np.linalg.norm(v)) / (stretch or 1.0)
    return max(0.0, down(scaled.stretch(witness) * (1 - min(1.0, loss))))


def _propose(
    scaled: Scaled, gram: Gram, start: Float[np.ndarray, "n r"] | None = None
) -> tuple[float, Vector]:
    """Estimate of the least kappa and a witness that attains it nearly. Not trusted."""
    r = gram.d**-0.5
    if start is not None and start.shape[0] == scaled.width and 4 * start.shape[1] < len(r):
        S = start[scaled.columns] * ((scaled.tau**-0.5)[:, None] if scaled.wide else 1.0)
        S = scaled.B @ S if scaled.wide else S
        apply = lambda X: -r[:, None] * (gram.minus @ (r[:, None] * X))  # noqa: E731
        estimate, rho, u = top_ritz(apply, S / abs(S).max(), 1e-12, 4)
        estimate += min(rho, rho * rho / (2.0**-10 * estimate))  # the next eigenvalues are likely that far
    elif len(r) <= FEW:
        values, vectors = np.linalg.eigh(-r[:, None] * gram.minus * r)
        estimate, u = float(values[-1]), vectors[:, -1]
    else:
        estimate, u = top_eigenvector(lambda x: -r * (gram.minus @ (r * x)), len(r))
    v = scaled.B.T @ u / scaled.tau if scaled.wide else r * u
    return estimate, v / abs(v).max()
