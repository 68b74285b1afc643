r"""Multipliers of channels by an interior-point method: the inequality of all layers at once, frequency by frequency. Nothing here
is trusted.

Minimise $\rho$ subject to $M(\omega; \lambda) \succ 0$ and $\rho I - S \succ 0$, where with the argument $Y_j u$ of each unknown

    M(w; lambda) = diag(I, 0) + sum_i lambda_i (e_i a_i* + a_i e_i*),      a_i = (e_i - delta_i y_i*) / 2,

and $S = C M^{-1} C^*$ with the symbol $C(\omega)$ of what stands behind: one such inequality a frequency behind convolutions alone,
one for the mean over the frequencies behind a head. The squared bound is $\rho$. All of it is convex in $(\rho, \lambda)$, and
$-\log\det$ is self-concordant: Newton's method follows its central path, $\rho$ eliminated.
"""

import time
from dataclasses import dataclass
from math import inf

import numpy as np
from jaxtyping import Complex, Float, Int

CENTRED = 0.3
"""Squared Newton decrement below which a point counts as a centre."""
LOST = 45
"""Steps after which the first centre is looked for at a smaller weight."""
FACTOR = 4.0
"""By which the weight of the objective grows from one centre to the next."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    r"""The inequalities of some frequencies: $M = \mathrm{diag}(I, 0) + \sum_i \lambda_i (e_i a_i^* + a_i e_i^*)$.

    Attributes:
        A: the vectors $a_i$ as columns; the first `order - p` rows belong to the input.
        C: symbol of what stands behind; of a head, over the root of all frequencies.
        share: 2, or 1 where a frequency is its own conjugate.
        joint: whether one inequality couples all frequencies (head).
        tied: to which multiplier each column of A belongs: aliases of a channel share theirs.
    """

    A: Complex[np.ndarray, "f order p"]
    C: Complex[np.ndarray, "f m order"]
    share: Float[np.ndarray, " f"]
    joint: bool
    tied: Int[np.ndarray, " p"]

    @property
    def inputs(self) -> int:
        return self.A.shape[1] - self.A.shape[2]

    @property
    def degree(self) -> float:
        """The barrier's parameter: how far above the optimum a centre of weight 1 lies."""
        m = self.C.shape[1]
        return float(self.share.sum()) * self.A.shape[1] + (m if self.joint else m * float(self.share.sum()))

    def matrices(
        self, lam: Float[np.ndarray, " p"]
    ) -> tuple[Complex[np.ndarray, "f order order"], np.ndarray]:
        """M with unit diagonal, and the roots that were divided out."""
        n, lam = self.inputs, lam[self.tied]
        half = self.A * lam
        M = np.zeros((len(self.share), *[self.A.shape[1]] * 2), complex)
        M[:, :, n:] += half
        M[:, n:] += half.conj().mT
        M[:, range(n), range(n)] += 1
        root = np.concatenate([np.ones(n), np.sqrt(lam)])
        return M / root / root[:, None], root

    def gap(self, rho: float, S: Complex[np.ndarray, "f m m"]) -> np.ndarray:
        r"""$\rho I - S$ at each frequency, or once for all."""
        unit = rho * np.eye(S.shape[-1])
        return unit - (self.share[:, None, None] * np.real(S)).sum(0) if self.joint else unit - S

    def centred(self, lam: Float[np.ndarray, " p"], weight: float) -> tuple[float, float]:
        """The best rho beside these multipliers, and the function of the central path there; infinite outside."""
        if not (lam > 0).all():
            return np.inf, np.inf
        M, root = self.matrices(lam)
        try:
            L = np.linalg.cholesky(M)
        except np.linalg.LinAlgError:
            return np.inf, np.inf
        W = np.linalg.solve(L, self.C.conj().mT / root[:, None])
        values = -np.linalg.eigvalsh(self.gap(0.0, W.conj().mT @ W))
        shares = np.ones_like(values) if self.joint else np.broadcast_to(self.share[:, None], values.shape)
        own = np.log(L.diagonal(0, -2, -1).real).sum(-1) + np.log(root).sum()
        rho, of_gap = _centre(values, shares, weight)
        return rho, of_gap - 2 * float((self.share * own).sum())

    def derivatives(self, rho: float, lam: Float[np.ndarray, " p"]) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and Hessian of the barrier in (rho, lambda)."""
        n, w, count = self.inputs, self.share, len(lam)
        M, root = self.matrices(lam)
        Z = np.linalg.inv(M) / root / root[:, None]
        Z = (Z + Z.conj().mT) / 2
        W = Z @ self.C.conj().mT
        Y = np.linalg.inv(self.gap(rho, self.C @ W))
        V = W @ np.linalg.cholesky((Y + Y.conj().mT) / 2)
        G = V @ V.conj().mT
        gradient, hessian = self._moments(Z + G)
        U, weight = W @ Y, 1.0 if self.joint else w
        mixed = 2 * np.einsum("f,fim,fim->i", w, self.A.conj().mT @ U, U[:, n:].conj()).real
        if self.joint:
            hessian = hessian - self._moments(G)[1]
            B = np.einsum("f,fia,fib->iab", w, V[:, n:].conj(), self.A.conj().mT @ V).real
            B = (B + B.mT).reshape(len(self.tied), -1)
            hessian = hessian + B @ B.T
        trace = float((weight * np.trace(Y, axis1=-2, axis2=-1).real).sum())
        square = float((weight * (abs(Y) ** 2).sum((-2, -1))).sum())
        if len(self.tied) > count:
            tie = np.eye(count)[self.tied]
            gradient, mixed, hessian = gradient @ tie, mixed @ tie, tie.T @ hessian @ tie
        return np.concatenate([[-trace], -gradient]), np.block(
            [[np.array([[square]]), mixed[None]], [mixed[:, None], hessian]]
        )

    def _moments(self, T: Complex[np.ndarray, "f order order"]) -> tuple[np.ndarray, np.ndarray]:
        r"""$\mathrm{tr}(T A_i)$ and $\mathrm{tr}(T A_i T A_j)$ for $A_i = e_i a_i^* + a_i e_i^*$, summed over the frequencies."""
        n = self.inputs
        AT = self.A.conj().mT @ T
        P, Q, R = AT[:, :, n:], AT @ self.A, T[:, n:, n:]
        products = np.real(P * P.mT + Q * R.conj())
        first = 2 * np.einsum("f,fii->i", self.share, np.real(P))
        return first, 2 * (self.share[:, None, None] * products).sum(0)


def path(
    spectrum: Spectrum,
    lam: Float[np.ndarray, " p"],
    tolerance: float,
    steps: int = 150,
    begin: float = 1.0,
    until: float = inf,
) -> tuple[float, Float[np.ndarray, " p"], float]:
    """Strictly feasible rho and lambda near the optimum, from a feasible lambda, and a lower value of rho.

    The last is floating point, from the dual of the last centre; 0 where there was none. `begin` is the relative gap of the first
    centre, `tolerance` that of the last; at `until` (of `time.monotonic`) it ends where it is.
    """
    nu, lower, centre, on, tries = spectrum.degree, 0.0, lam, False, 3
    weight, since = nu / spectrum.centred(lam, 1e300)[0] / begin, 0
    for _ in range(steps):
        if time.monotonic() > until:
            break
        since += 1
        if (
            since > LOST and not on
        ):  # along the border Newton's method crawls; centres of smaller weight lie inside
            tries -= 1
            if not tries:
                break
            weight, since = weight / 10, 0
        rho, value = spectrum.centred(lam, weight)
        x = np.concatenate([[rho], lam])
        try:  # near the border rounding may leave the inverse of the gap indefinite
            gradient, hessian = spectrum.derivatives(rho, lam)
            gradient[0] += weight
            sides = np.stack([gradient * x, np.eye(len(x))[0] * rho], -1)
            move, tangent = -np.linalg.solve(hessian * x * x[:, None], sides).T
        except np.linalg.LinAlgError:
            lam = centre
            break
        decrement = -float(move @ (gradient * x))
        if not np.isfinite(decrement) or decrement < 0:
            break
        if decrement < CENTRED:
            on, lower = True, max(lower, rho - (nu + nu**0.5) / weight)
            if nu / weight <= tolerance * rho:
                break
            # the centre is almost linear in 1 / weight, so this reaches the next one
            lam = centre = lam * (1 + move[1:])
            ahead = lam * (1 + (1 - 1 / FACTOR) * weight * tangent[1:])
            weight *= FACTOR
            lam = ahead if np.isfinite(spectrum.centred(ahead, weight)[1]) else lam
            continue
        there = _search(spectrum, lam, move[1:], weight, value)
        if there is None:
            break
        lam = there
    return spectrum.centred(lam, weight)[0], lam, lower


def _search(
    spectrum: Spectrum, lam: np.ndarray, move: np.ndarray, weight: float, value: float
) -> np.ndarray | None:
    """The best of the steps 1, 0.7, 0.5, ...: the first feasible one may lie on the border. None where none is better."""
    best, least = None, value
    for step in 0.7 ** np.arange(40.0):
        there = lam * (1 + step * move)
        trial = spectrum.centred(there, weight)[1]
        if trial < least:
            best, least = there, trial
        elif best is not None:
            break
    return best


def _centre(values: np.ndarray, shares: np.ndarray, weight: float) -> tuple[float, float]:
    r"""The minimum of $w \rho - \sum_i s_i \log(\rho - v_i)$: where $\sum_i s_i / (\rho - v_i) = w$."""
    top = values.max()
    low, high = 0.0, float(shares.sum()) / weight
    for _ in range(60):
        middle = (low + high) / 2
        if (shares / (middle + (top - values))).sum() > weight:
            low = middle
        else:
            high = middle
    gaps = high + (top - values)
    return float(top + high), float(weight * (top + high) - (shares * np.log(gaps)).sum())
