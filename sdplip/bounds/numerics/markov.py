r"""Symmetric matrices whose inverse is block tridiagonal: a block depends on distant ones through its neighbours.

    M_{kj} = up_k M_{k+1,j}  for j > k,        M_{k+1,j} = down_k M_{kj}  for j <= k

Inverses of block tridiagonal matrices are of this kind, and so is the completion of largest determinant of a matrix that is
given on the three diagonals only (Grone, Johnson, Sa, Wolkowicz 1984; Fukuda, Kojima, Murota, Nakata 2000). Their three diagonals
cost $\sum n_k^3$, and so do those of a product with a block tridiagonal matrix between them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Matrix = Tensor
cholesky = torch.linalg.cholesky_ex


@dataclass(frozen=True, eq=False)
class Band:
    """Three block diagonals: `diagonal[k]` is block (k, k), `lower[k]` is (k + 1, k), `upper[k]` is (k, k + 1)."""

    diagonal: Sequence[Matrix]
    lower: Sequence[Matrix]
    upper: Sequence[Matrix]

    def _with(self, other: "Band", rule: Callable[[Matrix, Matrix], Matrix]) -> "Band":
        return Band(
            [rule(a, b) for a, b in zip(self.diagonal, other.diagonal, strict=True)],
            [rule(a, b) for a, b in zip(self.lower, other.lower, strict=True)],
            [rule(a, b) for a, b in zip(self.upper, other.upper, strict=True)],
        )

    def __add__(self, other: "Band") -> "Band":
        return self._with(other, torch.add)

    def __sub__(self, other: "Band") -> "Band":
        return self._with(other, torch.sub)

    def __rmul__(self, c: float) -> "Band":
        return Band([c * a for a in self.diagonal], [c * a for a in self.lower], [c * a for a in self.upper])

    def __truediv__(self, c: float) -> "Band":
        return 1 / c * self

    @property
    def mT(self) -> "Band":
        return Band([a.mT for a in self.diagonal], [a.mT for a in self.upper], [a.mT for a in self.lower])


@dataclass(frozen=True, eq=False)
class Markov:
    """Such a matrix, positive definite: its three diagonals, called `matrix`, and the two factors of each pair of neighbours.

    `rest` is what `up` leaves over, $M_{kk} - up_k M_{k+1,k}$, and the last diagonal block.
    """

    matrix: Band
    up: Sequence[Matrix]
    down: Sequence[Matrix]
    rest: Sequence[Matrix]

    def scaled(self, c: float) -> "Markov":
        return Markov(c * self.matrix, self.up, self.down, [c * T for T in self.rest])

    def reach(self, step: Band, most: float, digits: int = 4) -> float:
        """How far, at most `most`, one may go along `step`; by trial factorizations."""
        return farthest(lambda c: _is_definite(self.matrix, step, c), most, digits)

    def moved(self, step: Band, c: float) -> "Markov | None":
        """The completion after `c` times `step`, less where rounding demands it."""
        tries = (completion(self.matrix + c * 0.8**k * step) for k in range(20))
        return next((there for there in tries if there is not None), None)


def farthest(possible: Callable[[float], bool], most: float, digits: int = 4) -> float:
    """The largest number up to `most` that is `possible`, from below, by bisection; 0 where it is below a millionth."""
    if possible(most):
        return most
    low, high = most / 2, most
    while not possible(low):
        low, high = low / 2, low
        if low < 1e-6:
            return 0.0
    for _ in range(digits):
        middle = (low + high) / 2
        low, high = (middle, high) if possible(middle) else (low, middle)
    return low


def inverse(Z: Band, factors: Sequence[Matrix], sides: Sequence[Matrix]) -> Markov | None:
    """The inverse of a positive definite Z with its block Cholesky factor; None where the one from below breaks down."""
    up = [
        -torch.linalg.solve_triangular(L.mT, side, upper=True)
        for L, side in zip(factors, sides, strict=False)
    ]
    rest = [torch.cholesky_inverse(L) for L in factors]
    diagonal, upper = [rest[-1]], list[Matrix]()
    for T, u in zip(reversed(rest[:-1]), reversed(up), strict=True):
        upper.append(u @ diagonal[-1])
        D = T + upper[-1] @ u.mT
        diagonal.append((D + D.mT) / 2)
    upper = upper[::-1]
    down, S = list[Matrix](), Z.diagonal[-1]
    for D, side in zip(reversed(Z.diagonal[:-1]), reversed(Z.lower), strict=True):
        L, failed = cholesky(S)
        if int(failed):
            return None
        down.append(-torch.cholesky_solve(side, L))
        S = D + side.mT @ down[-1]
        S = (S + S.mT) / 2
    return Markov(Band(diagonal[::-1], [u.mT for u in upper], upper), up, down[::-1], rest)


def completion(band: Band) -> Markov | None:
    """The completion of largest determinant; None where the symmetric `band` has no positive definite one."""
    factors = []
    for D in band.diagonal:
        L, failed = cholesky(D)
        if int(failed):
            return None
        factors.append(L)
    up = [torch.cholesky_solve(low, L).mT for low, L in zip(band.lower, factors[1:], strict=True)]
    rest = [D - u @ low for D, u, low in zip(band.diagonal, up, band.lower, strict=False)]
    if any(int(cholesky(T)[1]) for T in rest):
        return None
    down = [torch.cholesky_solve(u, L).mT for u, L in zip(band.upper, factors, strict=False)]
    return Markov(band, up, down, [*rest, band.diagonal[-1]])


def _is_definite(band: Band, step: Band, c: float) -> bool:
    """Whether there is a completion of `band + c * step`."""
    side = None
    for k, (D, dD) in enumerate(zip(band.diagonal, step.diagonal, strict=True)):
        D = torch.add(D, dD, alpha=c)
        if side is not None and int(cholesky(D - side.mT @ side)[1]):
            return False
        if k < len(band.upper):
            L, failed = cholesky(D)
            if int(failed):
                return False
            side = torch.linalg.solve_triangular(
                L, torch.add(band.upper[k], step.upper[k], alpha=c), upper=False
            )
    return True


# Note [agreement of blocks]
# Near the optimum the rows of Y = D X are as small as the gap, sums of terms that are not, and P is as large as its inverse. Two
# rules keep the product true to X, whose blocks are nearly dependent: a factor of P meets whole rows of Y only, in which the
# terms have cancelled; and everything is taken from one factorization, P_{k,k+1} = up_k P_{k+1,k+1}. The factors `down` of P
# come from another one, which agrees up to rounding times the condition of Z: with them the method stops at a millionth.
def product(P: Markov, D: Band, X: Markov) -> Band:
    r"""The three diagonals of $P Y$, $Y = D X$, for a symmetric block tridiagonal D (see `square`).

    With $P_{ki} = P_{kk} Q_{ki}$ for $i \le k$, `right[k]` is $\sum_{i \le k} Q_{ki} Y_{i,k+1}$, `above[k]` the same of column k;
    `left` is $\sum_{i > k} P_{k+1,i} Y_{ik}$. Row k of P is `up[k]` times the next one, and `rest[k]` from the diagonal on.
    """
    p, x, last = P.matrix, X.matrix, len(D.lower)
    ahead = [
        d @ S for d, S in zip(D.upper, x.lower, strict=True)
    ]  # of the diagonal blocks of Y, by way of the next block
    part, above, right = _times(D.diagonal[0], x.diagonal[0]), list[Matrix](), list[Matrix]()
    for k in range(last):
        right.append(part @ X.down[k].mT + D.upper[k] @ x.diagonal[k + 1])
        above.append(part + ahead[k])
        part = _times(D.diagonal[k + 1], x.diagonal[k + 1])
        part = part.addmm(D.lower[k], x.upper[k]).addmm(P.up[k].mT, right[k])
    diagonal, lower, upper = [p.diagonal[last] @ part], list[Matrix](), list[Matrix]()
    left = part
    for k in reversed(range(last)):
        side = torch.addmm(_times(D.diagonal[k + 1], x.lower[k]), D.lower[k], x.diagonal[k])
        if k + 1 < last:
            far = torch.addmm(P.up[k + 1] @ left, p.diagonal[k + 1], ahead[k + 1])
            left = torch.addmm(p.diagonal[k + 1] @ side, far, X.up[k].mT)
        else:
            left = p.diagonal[k + 1] @ side
        lower.append(torch.addmm(left, p.lower[k], above[k]))
        upper.append(torch.addmm(P.rest[k] @ right[k], P.up[k], diagonal[-1]))
        diagonal.append(torch.addmm(P.rest[k] @ above[k], P.up[k], lower[-1]))
    return Band(diagonal[::-1], lower[::-1], upper[::-1])


def square(D: Matrix) -> Matrix:
    """D as a matrix, where it may be the diagonal of one, as a column."""
    return torch.diag(D[:, 0]) if D.shape[1] == 1 else D


def _times(D: Matrix, M: Matrix) -> Matrix:
    """`square(D) @ M`."""
    return D * M if D.shape[1] == 1 else D @ M
