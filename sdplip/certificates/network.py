r"""Certificates of whole networks: a chain of metrics in which every layer is proven to be nonexpansive.

Network: $z_0 = x$, $z_k = \varphi_k(W_k z_{k-1} + b_k)$ for $k < l$, $f = W_l z_{l-1} + b_l$; neuron $i$ of layer $k$ has
slopes in $[\alpha_{ki}, \beta_{ki}]$. The increments between two inputs obey $(\Delta z - \alpha y)(\Delta z - \beta y) \le 0$
with $y = W_k \Delta z_{k-1}$, neuron by neuron. With multipliers $\lambda_k \ge 0$ and symmetric matrices $X_0 = I, X_1, \dots$
the two statements

    stage:  [ X_{k-1} + W' diag(alpha beta lambda) W    -W' diag((alpha + beta) lambda) / 2 ]
            [                   .                                 diag(lambda) - X_k        ]  >= 0      for every k < l
    last:   [ X_{l-1}  W_l' ]
            [  W_l   L^2 I  ]  >= 0

say that each layer is nonexpansive from the metric $X_{k-1}$ to the metric $X_k$, and that $\lVert \Delta f \rVert \le L$ times
the length of $\Delta z_{l-1}$ in $X_{l-1}$: so $L$ is a Lipschitz constant. Minimised over everything this is LipSDP-Neuron
(Fazlyab et al. 2019), whose multipliers are $L^2 \lambda / 2$. The $X_k$ are proposals (`metrics.py`); each statement is proven
here by itself, so that a deep network costs one small factorization a layer. `docs/rounding-networks.md` has the constants.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from sdplip.certificates.definite import proves_within
from sdplip.certificates.dense import certify, root_above, square_below
from sdplip.certificates.metrics import Stage, cross, last_scale, propose
from sdplip.certificates.rounding import GENEROUS, TINY, gamma, up
from sdplip.certificates.validate import as_weight
from sdplip.errors import InvalidScaling, InvalidWeight, NotProvable

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]
Slopes = tuple[Vector, Vector]


@dataclass(frozen=True, eq=False)
class NetworkCertificate:
    r"""A proven Lipschitz bound of a network, in the Euclidean norms of its input and output.

    Attributes:
        bound: $L$, proven.
        multipliers: $\lambda_k$ of each hidden layer, one entry a neuron, in the normalisation $X_0 = I$ of this module.
        slopes: $(\alpha_k, \beta_k)$ of each hidden layer.
        method: how the multipliers were proposed; no part of the proof.
    """

    bound: float
    multipliers: tuple[Vector, ...]
    slopes: tuple[Slopes, ...]
    method: str = "given"


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite proves nothing
def certify_network(
    weights: Sequence[Matrix],
    multipliers: Sequence[Vector],
    slopes: Sequence[Slopes] | None = None,
    *,
    method: str = "given",
) -> NetworkCertificate:
    r"""Certificate with the smallest $L$ that these multipliers prove, every rounding included.

    Multipliers that prove nothing (a solver's point is seldom feasible) are first made smaller: all of them by a common
    factor, or
    layer by layer. The certificate holds those that were used.

    Args:
        weights: $W_1, \dots, W_l$, each `(out, in)`, taken exactly as they stand.
        multipliers: $\lambda_1, \dots, \lambda_{l-1}$, nonnegative, in the normalisation $X_0 = I$.
        slopes: $(\alpha_k, \beta_k)$ of the neurons of each hidden layer; None is $[0, 1]$ everywhere.
        method: how the multipliers were proposed, for the record.

    Raises:
        InvalidWeight, InvalidScaling: the input is not what the statement needs.
        NotProvable: the bound leaves the range of double precision.
    """
    chain = _Chain.read(weights, multipliers, slopes)
    if chain.constant:
        return NetworkCertificate(0.0, chain.multipliers, chain.slopes, method)
    for proposal in propose(chain.stages, chain.last):
        if all(map(_stage_holds, proposal.stages)):
            kappa = last_scale(
                proposal.metric, chain.last, lambda k, X=proposal.metric: _last_holds(X, chain.last, k)
            )
            if np.isfinite(kappa):
                used = chain.expand([stage.multiplier for stage in proposal.stages])
                return NetworkCertificate(root_above(kappa, 0), used, chain.slopes, method)
    raise NotProvable(
        "No finite bound could be proven with these multipliers. Rescale the weights by powers of two, or use `certify_product`."
    )


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def network_holds(
    weights: Sequence[Matrix],
    multipliers: Sequence[Vector],
    slopes: Sequence[Slopes] | None,
    bound: float,
) -> bool:
    """True only if these very multipliers prove this very `bound`."""
    chain = _Chain.read(weights, multipliers, slopes)
    if chain.constant:
        return bound >= 0
    kappa = square_below(bound, 0)
    proposal = next(iter(propose(chain.stages, chain.last, repair=False)), None)
    return (
        proposal is not None
        and kappa > 0
        and all(map(_stage_holds, proposal.stages))
        and _last_holds(proposal.metric, chain.last, kappa)
    )


def certify_product(weights: Sequence[Matrix], slopes: Sequence[Slopes] | None = None) -> float:
    r"""The product of proven spectral norms and largest slopes, $\prod_k \lVert W_k \rVert \max |\mathrm{slope}|$, rounded up."""
    bound = 1.0
    for W in weights:
        bound = up(bound * spectral_norm_above(W))
    for alpha, beta in slopes or ():
        bound = up(bound * float(np.maximum(abs(alpha), abs(beta)).max()))
    if not np.isfinite(bound):
        raise NotProvable(
            "The product of the norms leaves the range of double precision. Rescale the weights."
        )
    return bound


def spectral_norm_above(W: Matrix) -> float:
    r"""A proven upper bound of $\lVert W \rVert_2$, tight to about $n^2 u$; 0 of the zero matrix."""
    return certify(W, np.ones(W.shape[1])).c if W.any() else 0.0


def _stage_holds(stage: Stage) -> bool:
    r"""True only if the stage inequality of the module is proven; `R` bounds the rounding error of each entry of `M`."""
    X, W, Y, lam, alpha, beta = stage.before, stage.W, stage.after, stage.multiplier, stage.alpha, stage.beta
    m, n = W.shape
    C = cross(stage)
    corner = np.diag(lam) - Y
    corner_error = gamma(2) * np.diag(abs(corner.diagonal()))
    product = alpha * beta * lam
    curved = bool(((alpha != 0) & (beta != 0)).any())
    largest = 1 + float(abs(W).max())
    lost = (
        (4 + m) * TINY * largest * largest * (1 + float(abs(product).max()) + float(lam.max()))
    )  # underflow
    if (
        stage.first and n > m and not curved
    ):  # Schur complement of the identity block: order m instead of n + m
        norms = np.linalg.norm(C, axis=0)
        M = corner - C.T @ C
        R = gamma(n + 12) * np.outer(norms, norms) * GENEROUS + gamma(3) * abs(M) + corner_error
        return proves_within(M, R + lost * n * (1 + float(norms.max())))
    top, top_error = X, np.zeros_like(X)
    if curved:
        top = X + (W * product[:, None]).T @ W
        top_error = gamma(m + 6) * (abs(W * product[:, None]).T @ abs(W)) + gamma(2) * abs(top)
    M = np.block([[top, C], [C.T, corner]])
    R = np.block([[top_error, gamma(4) * abs(C)], [gamma(4) * abs(C.T), corner_error]])
    return proves_within(M, R + lost)


def _last_holds(X: Matrix, W: Matrix, kappa: float) -> bool:
    M = np.block([[X, W.T], [W, kappa * np.eye(len(W))]])
    return proves_within(M, np.zeros_like(M))


@dataclass(frozen=True, eq=False)
class _Chain:
    """The checked input without its dead neurons: those that no input reaches, that no output sees, or whose slopes are 0.

    Their increments are 0 or do not matter, so they leave the statement exactly; what is left may have multiplier 0 nowhere.
    """

    stages: tuple[Stage, ...]
    last: Matrix
    alive: tuple[np.ndarray, ...]
    multipliers: tuple[Vector, ...]
    slopes: tuple[Slopes, ...]

    @property
    def constant(self) -> bool:
        """Whether no path leads through the network."""
        return not self.last.any()

    def expand(self, used: list[Vector]) -> tuple[Vector, ...]:
        """The given multipliers, with those of the living neurons replaced by `used`."""
        full = [lam.copy() for lam in self.multipliers]
        for lam, alive, new in zip(full, self.alive, used, strict=True):
            lam[alive] = new
        return tuple(full)

    @staticmethod
    def read(
        weights: Sequence[Matrix], multipliers: Sequence[Vector], slopes: Sequence[Slopes] | None
    ) -> "_Chain":
        Ws = [as_weight(W) for W in weights]
        _check_widths(Ws)
        widths = [len(W) for W in Ws[:-1]]
        if slopes is None:
            slopes = [(np.zeros(n), np.ones(n)) for n in widths]
        if not len(multipliers) == len(slopes) == len(widths):
            raise InvalidScaling(
                f"{len(Ws)} weights have {len(widths)} hidden layers, but there are {len(multipliers)} vectors of multipliers and"
                f" {len(slopes)} pairs of slopes. Pass one of each for every hidden layer."
            )
        lams = tuple(_vector("multipliers", lam, n, 0.0) for lam, n in zip(multipliers, widths, strict=True))
        pairs = tuple(
            (_vector("alpha", a, n), _vector("beta", b, n)) for (a, b), n in zip(slopes, widths, strict=True)
        )
        if any((a > b).any() for a, b in pairs):
            raise InvalidScaling(
                "A lower slope `alpha` exceeds the upper slope `beta` of its neuron. Exchange them."
            )
        alive = living_neurons(Ws, pairs)
        stages, columns = [], np.ones(Ws[0].shape[1], bool)
        for k, (W, lam, (a, b), rows) in enumerate(zip(Ws[:-1], lams, pairs, alive, strict=True)):
            if rows.any() and not (lam[rows] > 0).all():
                raise InvalidScaling(
                    f"The multiplier of a neuron of hidden layer {k + 1} that input and output are connected to must be"
                    f" positive, but the least is {lam[rows].min()}. Use a small positive one."
                )
            stages.append(Stage(W[np.ix_(rows, columns)], lam[rows], a[rows], b[rows], first=k == 0))
            columns = rows
        return _Chain(tuple(stages), Ws[-1][:, columns], tuple(alive), lams, pairs)


def living_neurons(Ws: Sequence[Matrix], slopes: Sequence[Slopes]) -> list[np.ndarray]:
    """Of each hidden layer, which neurons an input reaches and an output sees, by weights and slopes that are not 0."""
    alive = [(a != 0) | (b != 0) for a, b in slopes]
    reached = np.ones(Ws[0].shape[1], bool)
    for W, rows in zip(Ws, alive, strict=False):
        rows &= W[:, reached].any(1)
        reached = rows
    for k in reversed(range(len(alive))):
        seen = np.ones(len(Ws[-1]), bool) if k == len(alive) - 1 else alive[k + 1]
        alive[k] &= Ws[k + 1][seen].any(0)
    return alive


def _check_widths(Ws: list[Matrix]) -> None:
    if not Ws:
        raise InvalidWeight("A network needs at least one weight.")
    for k, (V, W) in enumerate(pairwise(Ws)):
        if len(V) != W.shape[1]:
            raise InvalidWeight(
                f"Weight {k + 1} of shape {V.shape} gives {len(V)} numbers, but weight {k + 2} of shape {W.shape} takes"
                f" {W.shape[1]}. Weights are (out, in), first layer first; transpose those that are (in, out)."
            )


def _vector(name: str, v: np.ndarray, n: int, least: float = -np.inf) -> Vector:
    v = np.asarray(v)
    if v.dtype.kind not in "fiub" or v.dtype.itemsize > 8 or v.shape != (n,):
        raise InvalidScaling(
            f"`{name}` of a hidden layer must hold {n} real numbers, but is {v.dtype} of shape {v.shape}."
        )
    v = v.astype(np.float64)
    if not np.isfinite(v).all() or (v < least).any():
        raise InvalidScaling(
            f"`{name}` of a hidden layer must be finite{' and nonnegative' * (least == 0)}, but is {v}."
        )
    return v
