r"""Certificates of a residual layer $h(x) = H x + G \sigma(W^\top x + b)$: a proven $\gamma$ in the LMI of SLL, Theorem 4."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.certificates.definite import proves_semidefinite
from sdplip.certificates.rounding import GENEROUS, TINY, UNIT, down, gamma, up
from sdplip.certificates.validate import as_weight
from sdplip.errors import InvalidScaling, InvalidWeight, NotProvable


@dataclass(frozen=True, eq=False)
class ResidualCertificate:
    r"""Proof that $H x + G \sigma(W^\top x + b)$ is $\sqrt\gamma$-Lipschitz for every $\sigma$ with slopes in $[\alpha, \beta]$.

    Attributes:
        gamma: proven upper bound of the squared Lipschitz constant.
        multipliers: the diagonal of $\Lambda$ with which the LMI holds.
        slopes: $(\alpha, \beta)$.
    """

    gamma: float
    multipliers: Float[np.ndarray, " n"]
    slopes: tuple[float, float]

    @property
    def bound(self) -> float:
        r"""Proven Lipschitz bound $\sqrt\gamma$, rounded up."""
        return up(float(np.sqrt(self.gamma)))


def certify_residual(
    H: Float[np.ndarray, "k d"],
    G: Float[np.ndarray, "k n"],
    W: Float[np.ndarray, "d n"],
    multipliers: Float[np.ndarray, " n"],
    slopes: tuple[float, float] = (0.0, 1.0),
) -> ResidualCertificate:
    r"""Certificate with a small $\gamma$ that is proven for multipliers near the proposed ones.

    $$\begin{bmatrix} \gamma I - H^\top H + 2\alpha\beta W \Lambda W^\top & -H^\top G - (\alpha + \beta) W \Lambda \\
      \cdot & 2 \Lambda - G^\top G \end{bmatrix} \succeq 0$$

    The optimum often lies where the lower right block is singular; the multipliers are then enlarged a little, by the least power
    of four of the unit roundoff with which the proof succeeds. Rounding: `docs/rounding.md`, section 7.

    Raises:
        InvalidWeight, InvalidScaling: shapes or values contradict the statement.
        NotProvable: no finite $\gamma$ was found; other multipliers are needed.
    """
    H, G, W, multipliers = _inputs(H, G, W, multipliers, slopes)
    active = W.any(0) & ((multipliers > 0) | G.any(0))  # the others are constants, or absent
    for power in range(4, 22):
        enlarged = np.where(active, multipliers * (1 + UNIT * 4.0**power), 0.0)
        estimate = _least_gamma(H, G[:, active], W[:, active], enlarged[active], slopes)
        value = estimate * (1 + UNIT * 4.0**power)
        if np.isfinite(value) and residual_holds(H, G, W, enlarged, value, slopes):
            return ResidualCertificate(float(value), enlarged, slopes)
    raise NotProvable(
        "No finite `gamma` could be proven with these `multipliers`. Solve `ResidualLMI` for better ones."
    )


def residual_holds(
    H: Float[np.ndarray, "k d"],
    G: Float[np.ndarray, "k n"],
    W: Float[np.ndarray, "d n"],
    multipliers: Float[np.ndarray, " n"],
    gamma_: float,
    slopes: tuple[float, float] = (0.0, 1.0),
) -> bool:
    r"""True only if the LMI is proven for this very $\gamma$ and these very multipliers."""
    H, G, W, multipliers = _inputs(H, G, W, multipliers, slopes)
    active = W.any(0) & ((multipliers > 0) | G.any(0))
    M, R = _matrix(H, G[:, active], W[:, active], multipliers[active], gamma_, slopes)
    diagonal = M.diagonal()
    if not (np.isfinite(M).all() and np.isfinite(R).all() and (diagonal > 0).all()):
        return False
    e = np.frexp(diagonal)[1] // 2
    M, R = (np.ldexp(np.ldexp(X, -e), -e[:, None]) for X in (M, R))
    error = float((R.sum(-1) + 2 * len(M) * TINY).max()) * GENEROUS
    d = M.diagonal().copy()
    return proves_semidefinite(1.0, d, M, np.zeros(len(d)), error)


def _matrix(H, G, W, L, gamma_: float, slopes: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The matrix of the LMI as computed, and an entrywise bound of its rounding errors."""
    total, product = slopes[0] + slopes[1], 2 * slopes[0] * slopes[1]
    k, d = H.shape
    eye, WL = np.eye(d), W * L
    A = gamma_ * eye - H.T @ H + product * WL @ W.T
    B = -H.T @ G - total * WL
    C = 2 * np.diag(L) - G.T @ G
    absolute = (abs(X) for X in (H, G, W))
    h, g, w = absolute
    wL = w * L
    A_size = gamma_ * eye + h.T @ h + abs(product) * wL @ w.T
    B_size = h.T @ g + (abs(slopes[0]) + abs(slopes[1])) * wL
    C_size = 2 * np.diag(L) + g.T @ g
    underflow = 8 * (k + len(L) + 4) * TINY * (1 + L.max(initial=1.0))
    size = np.block([[A_size, B_size], [B_size.T, C_size]])
    return np.block([[A, B], [B.T, C]]), gamma(k + len(L) + 12) * GENEROUS * size + underflow


def _least_gamma(H, G, W, L, slopes: tuple[float, float]) -> float:
    """Schur complement of the LMI in floating point, or infinity. Not trusted."""
    M, _ = _matrix(H, G, W, L, 0.0, slopes)
    d = H.shape[1]
    scale = np.concatenate([np.ones(d), np.maximum(L, TINY) ** -0.5])
    M = M * scale * scale[:, None]
    try:
        factor = np.linalg.cholesky(M[d:, d:])
    except np.linalg.LinAlgError:
        return np.inf
    side = np.linalg.solve(factor, M[d:, :d])
    return max(float(np.linalg.eigvalsh(side.T @ side - M[:d, :d])[-1]), 1e-300)


def residual_lower_bound(
    H: Float[np.ndarray, "k d"],
    G: Float[np.ndarray, "k n"],
    W: Float[np.ndarray, "d n"],
    Y: Float[np.ndarray, "dn r"],
    slopes: tuple[float, float] = (0.0, 1.0),
) -> float:
    r"""Proven lower bound of every $\gamma$ for which the LMI has multipliers, from the dual factor `Y` of `ResidualLMI`.

    With the map written for slopes $[0, 1]$, $H' = H + \alpha G W^\top$, $G' = (\beta - \alpha) G$, any $Y = [Y_x; Y_u]$ with
    $\lVert u_i \rVert^2 \le \langle u_i, w_i^\top Y_x \rangle$ for every row of $Y_u$ proves
    $\gamma \ge \lVert H' Y_x + G' Y_u \rVert_F^2 / \lVert Y_x \rVert_F^2$. Rows that break the inequality are shortened first.

    Raises:
        InvalidWeight, InvalidScaling: shapes or values contradict the statement.
    """
    H, G, W, _ = _inputs(H, G, W, np.ones(np.shape(W)[-1]), slopes)
    alpha, width = slopes[0], slopes[1] - slopes[0]
    size_H = float(np.linalg.norm(H) + abs(alpha) * np.linalg.norm(G) * np.linalg.norm(W))
    size_G = abs(width) * float(np.linalg.norm(G))
    H, G = H + alpha * (G @ W.T), width * G
    k, d = H.shape
    n = W.shape[1]
    Y = np.asarray(Y, np.float64)
    if Y.ndim != 2 or len(Y) != d + n or not np.isfinite(Y).all():
        raise InvalidScaling(
            f"The dual factor `Y` must be finite with {d + n} rows, but its shape is {Y.shape}."
        )
    Yx, U = Y[:d], Y[d:]
    r = Y.shape[1]
    rows = np.linalg.norm(U, axis=1)
    reach = np.linalg.norm(W, axis=0) * np.linalg.norm(Yx)  # bounds |w_i^T Y_x| and scales its rounding error
    inner = (U * (W.T @ Yx)).sum(-1) - gamma(d + r + 4) * rows * reach * GENEROUS
    squares = rows * rows * (1 + gamma(r + 4)) + TINY
    U = np.clip(inner / squares * (1 - gamma(r + 16)), 0, 1)[:, None] * U
    value = H @ Yx + G @ U
    size = size_H * np.linalg.norm(Yx) + size_G * np.linalg.norm(U)
    above = (
        float(np.linalg.norm(value)) * (1 - gamma(k * r + 4))
        - gamma(d + 2 * n + 12) * float(size) * GENEROUS
        - 2.0**-500
    )
    below = float(np.linalg.norm(Yx)) * (1 + gamma(d * r + 4)) + 2.0**-500
    return max(0.0, down(max(0.0, above / below) ** 2 * (1 - 8 * UNIT)))


def _inputs(H, G, W, multipliers, slopes: tuple[float, float]):
    H, W = as_weight(H, zero=True), as_weight(W)
    G, multipliers = np.asarray(G, np.float64), np.asarray(multipliers, np.float64)
    k, d, n = H.shape[0], H.shape[1], W.shape[1]
    if W.shape[0] != d or G.shape != (k, n):
        raise InvalidWeight(
            f"`H`, `G`, `W` must have shapes (k, d), (k, n), (d, n), but they are {H.shape}, {G.shape}, {W.shape}."
        )
    if not np.isfinite(G).all():
        raise InvalidWeight("`G` is not finite. Repair or retrain the layer.")
    if multipliers.shape != (n,) or not np.isfinite(multipliers).all() or (multipliers < 0).any():
        raise InvalidScaling(f"`multipliers` must be {n} finite numbers that are not negative.")
    if not -np.inf < slopes[0] <= slopes[1] < np.inf:
        raise InvalidScaling(f"`slopes` must be a finite interval, but is {slopes}.")
    return H, np.where(W.any(0), G, 0.0), W, multipliers
