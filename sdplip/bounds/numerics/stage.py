r"""One segment of a network at all frequencies of its end: from a metric in front of it to the one behind, and derivatives back.

A stage is **plain** where its one unknown v reads the value in front and nothing else, as behind a convolution in a row: then

    M = [ X       W* Lambda ]          X' = Lambda - Lambda W X^-1 W* Lambda
        [ Lambda W   Lambda ] ,

and X, which stands between the aliases of the value in front, is block diagonal: blocks of the channels are factored, one an alias, never
the matrix of all of them. Behind a stride s on images that is $s^6$ times less work. Nothing here is trusted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

Vector = Float[np.ndarray, " p"]
Hermitian = Complex[np.ndarray, "f n n"]  # or real, where no frequency is


@dataclass(frozen=True, eq=False)
class Argument:
    r"""Rows of an unknown: $M_{jj} = \Lambda_j$, $M_{ju} = \Lambda_j W$ on the columns before it, $W = -\delta Y / 2$."""

    rows: slice
    W: Complex[np.ndarray, "f rows before"]
    which: int
    channels: int


@dataclass(frozen=True, eq=False)
class Stage:
    """A segment at the frequencies of its end.

    Attributes:
        width, order: variables of the value in front, and of all.
        arguments: of the unknowns.
        G: the value behind by the variables; None where it is the last unknown.
        place, mirrored: which metric in front each alias has, and whether its conjugate.
        share: of the frequencies.
        coarse: to which frequency of the last stage each belongs.
    """

    width: int
    order: int
    arguments: tuple[Argument, ...]
    G: Complex[np.ndarray, "f m order"] | None
    place: Int[np.ndarray, "f aliases"]
    mirrored: Bool[np.ndarray, "f aliases"]
    share: Float[np.ndarray, " f"]
    coarse: Int[np.ndarray, " f"]

    @property
    def plain(self) -> bool:
        """Whether the value behind is the one unknown, whose argument is made of the value in front alone."""
        return self.G is None and len(self.arguments) == 1

    @cached_property
    def W(self) -> Complex[np.ndarray, "f aliases n p"]:
        """Of a plain stage $W^*$, alias by alias."""
        (one,) = self.arguments
        count, aliases = self.place.shape
        return np.ascontiguousarray(one.W.conj().mT).reshape(count, aliases, self.width // aliases, -1)

    def front(self, X: Hermitian) -> Complex[np.ndarray, "f aliases n n"]:
        """The metric `X` in front of each alias."""
        seen = X[self.place]
        if self.mirrored.any():
            seen = np.where(self.mirrored[..., None, None], seen.conj(), seen)
        return seen

    def matrix(self, X: Hermitian, lams: Sequence[Vector]) -> Hermitian:
        """M, with the metric `X` in front."""
        count, aliases = self.place.shape
        kinds = [X.dtype, *(one.W.dtype for one in self.arguments)]
        M, n = np.zeros((count, self.order, self.order), np.result_type(*kinds)), self.width // aliases
        seen = self.front(X)
        for a in range(aliases):
            M[:, a * n : (a + 1) * n, a * n : (a + 1) * n] = seen[:, a]
        for one in self.arguments:
            lam, r = tiled(lams, one), one.rows
            M[:, range(r.start, r.stop), range(r.start, r.stop)] = lam
            C = lam[:, None] * one.W
            M[:, r, : r.start], M[:, : r.start, r] = C, C.conj().mT
        return M


def tiled(lams: Sequence[Vector], one: Argument) -> Vector:
    """The multipliers of the rows of an unknown: aliases of a channel have the same."""
    return np.tile(lams[one.which], (one.rows.stop - one.rows.start) // one.channels)


def eliminated(stage: Stage, X: Hermitian) -> tuple[np.ndarray, np.ndarray, Hermitian]:
    r"""Of a plain stage the factors of X, $L^{-1} W^*$, both alias by alias, and $W X^{-1} W^*$.

    Raises:
        LinAlgError: the metric is not positive definite.
    """
    L = np.linalg.cholesky(stage.front(X))
    B = np.linalg.solve(L, stage.W)
    flat = B.reshape(len(B), -1, B.shape[-1])
    return L, B, hermitian(flat.conj().mT @ flat)


def hermitian(Y: Hermitian) -> Hermitian:
    """Y without what rounding has left of its other half."""
    return (Y + Y.conj().mT) / 2


def top_factor(stage: Stage, one: Argument, X: Hermitian, lams: Sequence[Vector]) -> float:
    """By which the multipliers of an unknown may be divided at least so that they are feasible beside those before it."""
    root = np.sqrt(tiled(lams, one))
    if stage.plain:
        Y = eliminated(stage, X)[2]
    else:
        M = stage.matrix(X, lams)[:, : one.rows.start, : one.rows.start]
        B = np.linalg.solve(np.linalg.cholesky(M), one.W.conj().mT)
        Y = hermitian(B.conj().mT @ B)
    return max(float(np.linalg.eigvalsh(root[:, None] * Y * root)[:, -1].max()), 1e-100)


def behind_stage(stage: Stage, X: Hermitian, lams: Sequence[Vector], *, last: bool = False) -> Hermitian:
    """The metric behind a stage, of the metric `X` in front of it; of the last one what is to be bounded, $G M^{-1} G^*$.

    Raises:
        LinAlgError: the multipliers are not feasible.
    """
    return forward(stage, X, lams, last=last)[0]


@dataclass(frozen=True, eq=False)
class Passed:
    r"""A stage on the way forward, for the way back.

    Attributes:
        factor: of what it eliminates; alias by alias where the stage is plain.
        B: of a plain stage $L^{-1} W^*$, else nothing.
        Y: of a plain stage $W X^{-1} W^*$.
        H: of another stage, with $dX' = H^* dM H$; of a plain one the multipliers.
    """

    stage: Stage
    factor: np.ndarray
    B: np.ndarray
    Y: np.ndarray
    H: np.ndarray

    @property
    def log(self) -> float:
        """The logarithm of the determinant of what is eliminated, of all frequencies."""
        own = np.log(np.real(np.diagonal(self.factor, 0, -2, -1))).reshape(len(self.factor), -1).sum(-1)
        return 2 * float(self.stage.share @ own)


NONE = np.zeros(0)


def forward(
    stage: Stage, X: Hermitian, lams: Sequence[Vector], *, last: bool = False
) -> tuple[Hermitian, Passed]:
    """The metric behind a stage, or of the last one what is to be bounded, and what the way back needs.

    Raises:
        LinAlgError: the multipliers are not feasible.
    """
    if stage.plain:
        L, B, Y = eliminated(stage, X)
        lam = tiled(lams, stage.arguments[0])
        behind = -(lam[:, None] * Y * lam)
        behind[:, range(len(lam)), range(len(lam))] += lam
        return behind, Passed(stage, L, B, Y, lam)
    M = stage.matrix(X, lams)
    if stage.G is None:
        at = stage.arguments[-1].rows.start
        A, B = M[:, :at, :at], M[:, :at, at:]
    else:
        at, A, B = stage.order, M, stage.G.conj().mT
    L = np.linalg.cholesky(A)
    half = np.linalg.solve(L, B)
    K = np.linalg.solve(L.conj().mT, half)
    Y = hermitian(half.conj().mT @ half)
    if stage.G is None:
        n = B.shape[-1]
        H = np.concatenate([-K, np.broadcast_to(np.eye(n), (len(K), n, n))], 1)
        return M[:, at:, at:] - Y, Passed(stage, L, NONE, Y, H)
    if last:
        return Y, Passed(stage, L, NONE, Y, K)
    behind = hermitian(np.linalg.inv(Y))
    return behind, Passed(stage, L, NONE, Y, K @ behind)


def backward(passed: Passed, back: Hermitian, g: list[Vector], *, final: bool) -> Hermitian:
    """Derivatives by the metric in front of a stage, from those behind it; those by the multipliers are added to `g`.

    `final`: those behind are by what is to be bounded. The logarithm of the determinant counts with -1.
    """
    stage = passed.stage
    if stage.plain:
        blocks = _plain(passed, back, g)
    else:
        D = _whole(passed, back, g, final=final)
        n = stage.width // stage.place.shape[1]
        at = np.arange(stage.width).reshape(-1, n)
        blocks = D[:, at[:, :, None], at[:, None]]
    blocks = np.where(stage.mirrored[..., None, None], blocks.conj(), blocks)
    n = blocks.shape[-1]
    found = np.zeros((stage.place.max() + 1, n, n), blocks.dtype)
    np.add.at(found, stage.place, blocks)
    return found


def _plain(passed: Passed, back: Hermitian, g: list[Vector]) -> Complex[np.ndarray, "f aliases n n"]:
    stage, (one,) = passed.stage, passed.stage.arguments
    L, B, lam = passed.factor, passed.B, passed.H
    own = np.real(np.diagonal(back, axis1=1, axis2=2)) - 2 * np.real(
        np.einsum("fij,fji->fi", back * lam, passed.Y)
    )
    g[one.which] += own.sum(0).reshape(-1, one.channels).sum(0)
    inverse = np.linalg.inv(L)
    Z = inverse.conj().mT @ B
    D = Z @ (lam[:, None] * back * lam)[:, None] @ Z.conj().mT
    return D - (inverse.conj().mT @ inverse) * stage.share[:, None, None, None]


def _whole(passed: Passed, back: Hermitian, g: list[Vector], *, final: bool) -> Hermitian:
    stage, at = passed.stage, passed.factor.shape[-1]
    D = passed.H @ back @ passed.H.conj().mT
    if final:
        D = -D
    inverse = np.linalg.inv(passed.factor)
    D[:, :at, :at] -= (inverse.conj().mT @ inverse) * stage.share[:, None, None]
    for one in stage.arguments:
        r = one.rows
        own = np.real(np.diagonal(D, axis1=1, axis2=2))[:, r].sum(0)
        own = own + 2 * np.real(D[:, r, : r.start].conj() * one.W).sum((0, 2))
        g[one.which] += own.reshape(-1, one.channels).sum(0)
    return D
