r"""Proofs of Lipschitz bounds of a system of increments (`system.py`): one linear matrix inequality for the whole network.

With multipliers $\lambda \ge 0$ of the quadratic inequalities, weights $w$ included, the statement

    kappa |x|^2 + sum_i lambda_i w_i (v_i - alpha_i y_i)(v_i - beta_i y_i) - |f|^2 >= 0   for all x and v

proves the Lipschitz constant $\sqrt\kappa$, because each sum of a multiplier is at most 0 on increments of the network. In
matrices

    M = kappa E_x + diag_v(lambda w) - sym(e_v lambda w (alpha + beta) y) + y' diag(lambda w alpha beta) y - f' f >= 0 .

The entries of M carry the errors of the rows and of their own formation, entry by entry; `proves_within` does the rest.
`docs/rounding-systems.md` has the constants.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float

from sdplip.certificates.definite import proves_within
from sdplip.certificates.dense import root_above, square_below
from sdplip.certificates.network import spectral_norm_above
from sdplip.certificates.rounding import GENEROUS, TINY, gamma, up
from sdplip.certificates.system import Layers, Map, Skip, Slope, Sort, System, product_rows
from sdplip.certificates.validate import as_weight
from sdplip.errors import InvalidScaling, NotProvable

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class SystemCertificate:
    """A proven Lipschitz bound in Euclidean norms.

    Attributes:
        bound: $L$, proven.
        multipliers: one for each nonlinear neuron or sorted group, in the order of the system.
        method: how they were proposed; no part of the proof.
    """

    bound: float
    multipliers: Vector
    method: str = "given"


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite proves nothing
def certify_system(system: System, multipliers: Vector, *, method: str = "given") -> SystemCertificate:
    r"""Certificate with a small $L$ that these multipliers prove, enlarged a little where they prove nothing.

    Raises:
        InvalidScaling: not one finite positive multiplier each.
        NotProvable: no finite bound was found.
    """
    given = _checked(system, multipliers)
    for spread in (
        (0.0, *(10.0**-p for p in range(12, 7, -1))),
        [10.0 ** -(p / 2) for p in range(14, -2, -1)],
    ):
        found = [_estimate(system, lam) for lam in _enlarged(system, given, spread)]
        for estimate, parts in sorted(found, key=lambda pair: pair[0])[:3]:
            kappa = _least(parts, estimate)
            if np.isfinite(kappa):
                return SystemCertificate(root_above(kappa, 0), parts.multipliers, method)
    raise NotProvable(
        "No finite bound could be proven with these multipliers. Use the product bound, or rescale the weights by powers of two."
    )


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def system_holds(system: System, multipliers: Vector, bound: float) -> bool:
    """True only if these very multipliers prove this very `bound`."""
    kappa = square_below(bound, 0)
    return _parts(system, _checked(system, multipliers)).holds(kappa) if kappa > 0 else False


def certify_composition(layers: Layers) -> float:
    r"""The product of proven norms and slopes along the layers; $1 + L$ of a residual sum, 1 of sorting. Rounded up.

    Raises:
        NotProvable: it leaves the range of double precision.
    """
    bound = 1.0
    for run in _runs(layers):
        layer = run[0]
        if isinstance(layer, Map):
            factor = _norm_of_product(run)
        elif isinstance(layer, Slope):
            factor = float(np.maximum(abs(layer.alpha), abs(layer.beta)).max())
        elif isinstance(layer, Skip):
            factor = up(1.0 + certify_composition(layer.branch))
        else:
            assert isinstance(layer, Sort)
            factor = 1.0
        bound = up(bound * factor) if factor != 1.0 else bound
    if not np.isfinite(bound):
        raise NotProvable(
            "The product of the norms leaves the range of double precision. Rescale the weights."
        )
    return bound


def certify_rows(layers: Layers) -> Vector:
    r"""Proven bounds of every output alone: `certify_composition` in front of the last matrices, times the length of each row.

    Raises:
        NotProvable: one leaves the range of double precision.
    """
    *front, run = _runs(layers)
    before = certify_composition([layer for part in front for layer in part])
    if not isinstance(run[0], Map):
        *_, last = (layer for layer in layers if isinstance(layer, Map | Skip))
        while isinstance(last, Skip):
            *_, last = (layer for layer in last.branch if isinstance(layer, Map | Skip))
        return np.full(len(last.W), certify_composition(layers))
    rows, error = _product(run)
    n = rows.shape[1]
    lengths = np.sqrt(((abs(rows) + error) ** 2).sum(1)) * (1 + gamma(n + 6)) + n * 2.0**-500
    bounds = np.nextafter(before * lengths, np.inf)
    if not np.isfinite(bounds).all():
        raise NotProvable(
            "The product of the norms leaves the range of double precision. Rescale the weights."
        )
    return bounds


def _runs(layers: Layers) -> Iterator[list[Map | Slope | Sort | Skip]]:
    """The layers one by one, but consecutive matrices together."""
    for matrices, some in groupby(layers, lambda layer: isinstance(layer, Map)):
        if matrices:
            yield list(some)
        else:
            yield from ([layer] for layer in some)


def _product(run: list[Map | Slope | Sort | Skip]) -> tuple[Matrix, Matrix]:
    """The product of matrices and an entrywise bound of its error."""
    rows, error = None, None
    for layer in run:
        assert isinstance(layer, Map)
        W = as_weight(layer.W, zero=True)
        if rows is None or error is None:
            rows, error = W, layer.error * abs(W)
        else:
            rows, error = product_rows(W, rows, error, layer.error)
    assert rows is not None and error is not None
    return rows, error


def _norm_of_product(run: list[Map | Slope | Sort | Skip]) -> float:
    rows, error = _product(run)
    left_out = (
        up(float(np.linalg.norm(error)) * (1 + gamma(error.size + 4)) + 2.0**-500) if error.any() else 0.0
    )
    return up(spectral_norm_above(rows) + left_out) if left_out else spectral_norm_above(rows)


@dataclass(frozen=True, eq=False)
class _Parts:
    """The matrix without kappa, and an entrywise bound of its errors."""

    M: Matrix
    R: Matrix
    inputs: int
    multipliers: Vector

    def holds(self, kappa: float) -> bool:
        M, R, at = self.M.copy(), self.R.copy(), np.arange(self.inputs)
        M[at, at] += kappa
        R[at, at] += gamma(2) * (kappa + abs(M[at, at]))
        return proves_within(M, R)


def _parts(system: System, multipliers: Vector) -> _Parts:
    n, N = system.inputs, system.order
    lam = multipliers[system.group] * system.weight
    s = np.concatenate([lam * system.alpha * system.beta, -np.ones(len(system.out))])
    Z = np.concatenate([system.y, system.out])
    E = np.concatenate([system.y_error, system.out_error])
    if not s[:N].any():
        s, Z, E = s[N:], Z[N:], E[N:]
    A, a = abs(Z), abs(s)[:, None]
    M = (Z * s[:, None]).T @ Z
    reach = A + E
    R = E.T @ (a * reach) + A.T @ (a * E) + gamma(len(Z) + 16) * (reach.T @ (a * reach))
    half = (0.5 * lam * (system.alpha + system.beta))[:, None]
    side, side_error = half * system.y, abs(half) * (system.y_error + gamma(8) * abs(system.y))
    M[n:] -= side
    M[:, n:] -= side.T
    R[n:] += side_error
    R[:, n:] += side_error.T
    at = np.arange(n, n + N)
    M[at, at] += lam
    R[at, at] += gamma(4) * lam
    size = 1 + float(max(abs(Z).max(initial=0.0), abs(system.y).max(initial=0.0)))
    lost = (8 + len(Z)) * TINY * size * size * (1 + float(a.max(initial=0.0)) + float(lam.max(initial=0.0)))
    # the three sums above round each entry at most three times more
    return _Parts(M, (R + gamma(6) * (abs(M) + R) + lost) * GENEROUS, n, multipliers)


def _enlarged(system: System, multipliers: Vector, spread) -> Iterator[Vector]:
    """Multipliers with room in every layer: the last a little larger, the one before more, the first most."""
    depth = np.zeros(len(multipliers), int)
    depth[system.group] = system.depth
    last = depth.max(initial=0)
    for epsilon in spread:
        yield multipliers * (1 + epsilon) ** (last + 1 - depth)


def _estimate(system: System, multipliers: Vector) -> tuple[float, _Parts]:
    parts = _parts(system, multipliers)
    return _schur(parts, _room(parts)), parts


def _room(parts: _Parts) -> float:
    return 8 * gamma(len(parts.M) + 16) * (len(parts.M) + 1)


def _schur(parts: _Parts, room: float) -> float:
    """The least kappa by a Schur complement in floating point, with `room` off the diagonal; or infinity. Not trusted."""
    n = parts.inputs
    M = parts.M
    d = M.diagonal()[n:]
    if not np.isfinite(M).all() or not (d > 0).all():
        return np.inf
    corner = -M[:n, :n]
    if len(d):
        r = d**-0.5
        inner = r[:, None] * M[n:, n:] * r
        inner[np.diag_indices_from(inner)] *= 1 - room
        try:
            factor = np.linalg.cholesky(inner)
        except np.linalg.LinAlgError:
            return np.inf
        side = np.linalg.solve(factor, r[:, None] * M[n:, :n])
        corner = corner + side.T @ side
    return max(float(np.linalg.eigvalsh((corner + corner.T) / 2)[-1]), 1e-300)


def _least(parts: _Parts, estimate: float) -> float:
    room = _room(parts)
    for _ in range(8):
        kappa = estimate * (1 + room)
        if np.isfinite(kappa) and parts.holds(kappa):
            return kappa
        room *= 8
        estimate = _schur(parts, room)
    return np.inf


def _checked(system: System, multipliers: Vector) -> Vector:
    lam = np.asarray(multipliers)
    if lam.dtype.kind not in "fiub" or lam.dtype.itemsize > 8 or lam.shape != (system.multipliers,):
        raise InvalidScaling(
            f"There must be {system.multipliers} multipliers, one for each nonlinear neuron or sorted group, but they are"
            f" {lam.dtype} of shape {lam.shape}."
        )
    lam = lam.astype(np.float64)
    if not np.isfinite(lam).all() or (lam <= 0).any():
        raise InvalidScaling("Multipliers must be finite and positive. Use small positive ones instead of 0.")
    return lam
