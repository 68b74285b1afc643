r"""The conditions of the rule `pairwise` as one inequality, for the interior-point method of `interior.py`.

    minimise rho   subject to   Z = rho E_0 - C - R' G R >= 0 ,   D F D - N_s >= 0 ,   N_s >= 0 ,   lambda >= 0

R holds $p_i$ of all variables, then $q_i$. G is symmetric: the multiplier $\lambda$ of a variable stands at $(p_i, q_i)$, and the form F
of a pair is added to its 16 entries. Variables y: rho, one $\lambda$ for each group, F of each pair (10 numbers), $N_1$ and $N_{-1}$ (6 each).

In the linear system of a step the two N of a pair are eliminated by themselves, and so are the numbers of F that are about one variable
alone: only their sums over all pairs of the variable are coupled with rho, $\lambda$, and the numbers of F between variables."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sdplip.bounds.numerics.direct import Direct, DirectPositive
from sdplip.bounds.numerics.linear import Group, factored

Matrix = Float[Tensor, "m n"]
Vector = Float[Tensor, " n"]
Index = Int[Tensor, "..."]
ALONE, BETWEEN = torch.tensor([0, 1, 4, 7, 8, 9]), torch.tensor([2, 3, 5, 6])
"""Of the 10 numbers of a form those of one variable alone, and those between both."""
UPPER, ABOVE = torch.triu_indices(4, 4), torch.triu_indices(4, 4, 1)
SIGNS = torch.ones(2, 4, 4, dtype=torch.float64)
SIGNS[1, :2, 2:] = SIGNS[1, 2:, :2] = -1


def symmetric_basis(rows: Index, columns: Index) -> Float[Tensor, "k 4 4"]:
    """Matrices with a 1 at one place and at its mirror image."""
    E = torch.zeros(len(rows), 4, 4, dtype=torch.float64)
    at = torch.arange(len(rows))
    E[at, rows, columns] = E[at, columns, rows] = 1.0
    return E


FORMS, RESTS = symmetric_basis(*UPPER), symmetric_basis(*ABOVE)


@dataclass(frozen=True, eq=False)
class PairInequality:
    """What `Dense` is for one multiplier a neuron.

    Attributes:
        inputs: number of inputs.
        R: p of all variables, then q.
        C: of the output.
        group: the multiplier of each variable.
        at: the variables of each pair.
    """

    inputs: int
    R: Matrix
    C: Matrix
    group: Index
    at: Index

    @property
    def variables(self) -> int:
        return len(self.R) // 2

    @property
    def multipliers(self) -> int:
        return int(self.group.max()) + 1

    @property
    def order(self) -> int:
        return len(self.C) + 20 * len(self.at) + self.multipliers

    def split(self, y: Vector) -> tuple[Vector, Float[Tensor, "pairs 10"], Float[Tensor, "pairs 2 6"]]:
        """Multipliers, forms and rests."""
        k, g = 1 + self.multipliers, len(self.at)
        return y[1:k], y[k : k + 10 * g].reshape(g, 10), y[k + 10 * g :].reshape(g, 2, 6)

    @cached_property
    def entries(self) -> Index:
        """The rows of R of each pair."""
        N = self.variables
        return self.at[:, [0, 0, 1, 1]] + torch.tensor([0, N, 0, N])

    def operator(self, y: Vector) -> Direct:
        r"""$\sum_i y_i A_i$."""
        lam, forms, rests = self.split(y)
        N, F = self.variables, (forms @ FORMS.reshape(10, 16)).reshape(-1, 4, 4)
        G = self.R.new_zeros(2 * N, 2 * N)
        i = torch.arange(N)
        G[i, N + i] = G[N + i, i] = lam[self.group]
        e = self.entries
        G.index_put_((e[:, :, None].expand(-1, 4, 4), e[:, None].expand(-1, 4, 4)), F, accumulate=True)
        main = -(self.R.mT @ (G @ self.R))
        main.diagonal()[: self.inputs] += y[0]
        small = SIGNS * F[:, None] - (rests @ RESTS.reshape(6, 16)).reshape(-1, 2, 4, 4)
        return Direct(main, small.reshape(-1, 4, 4), torch.cat([lam, rests.reshape(-1)]))

    def assemble(self, y: Vector) -> Direct:
        Z = self.operator(y)
        return Direct(Z.main - self.C, Z.small, Z.line)

    def factor(self, y: Vector) -> Direct | None:
        """Z itself; None where it is not positive definite."""
        Z = self.assemble(y)
        return Z if DirectPositive(Z).positive else None

    def inverse(self, y: Vector, factor: Direct) -> DirectPositive:  # noqa: ARG002
        main = torch.cholesky_inverse(torch.linalg.cholesky(factor.main))
        small = torch.cholesky_inverse(torch.linalg.cholesky(factor.small)) if len(self.at) else factor.small
        return DirectPositive(Direct((main + main.mT) / 2, (small + small.mT) / 2, 1 / factor.line))

    def adjoint(self, S: Direct) -> Vector:
        T, N = self.R @ S.main @ self.R.mT, self.variables
        T, i = T + T.mT, torch.arange(N)
        lam = S.line[: self.multipliers].index_add(0, self.group, -T[i, N + i])
        e, small = self.entries, S.small.reshape(-1, 2, 4, 4)
        whole = (SIGNS * (small + small.mT)).sum(1) - T[e[:, :, None], e[:, None]]
        forms = (whole.reshape(-1, 16) @ FORMS.reshape(10, 16).mT) / 2
        rests = -(small + small.mT).reshape(-1, 16) @ RESTS.reshape(6, 16).mT / 2
        rests = rests.reshape(-1) + S.line[self.multipliers :]
        return torch.cat([S.main.diagonal()[: self.inputs].sum()[None], lam, forms.reshape(-1), rests])

    def objective(self, S: Direct) -> float:
        return float((self.C * S.main).sum())

    def product(self, P: DirectPositive, dy: Vector, X: DirectPositive) -> Direct:
        r"""$P (\sum_i dy_i A_i) X$."""
        return self._between(P.matrix, self.operator(dy), X.matrix)

    def bend(
        self,
        P: DirectPositive,
        dy: Vector,
        X: DirectPositive,  # noqa: ARG002
        dX: Direct,
        c: float,  # noqa: ARG002
        first: Direct,  # noqa: ARG002
    ) -> Direct:
        return self._between(P.matrix, self.operator(dy), dX)

    def _between(self, P: Direct, D: Direct, X: Direct) -> Direct:
        return Direct(P.main @ (D.main @ X.main), P.small @ D.small @ X.small, P.line * D.line * X.line)

    def schur(self, P: DirectPositive, X: DirectPositive) -> "Step":
        """The system of a step, by its parts."""
        return Step(self, P.matrix, X.matrix)


@dataclass(frozen=True, eq=False)
class Step:
    """The linear system of a step: `solver` is for it what `linear.factored` is for a matrix.

    Of a form the six numbers of one variable alone enter the matrix of the network only by their sum over all pairs of that variable. So the
    system is solved for rho, multipliers, these sums (three a variable) and the four numbers between the variables of each pair.
    """

    inequality: PairInequality
    P: Direct
    X: Direct

    def solver(self) -> Callable[[Vector], Vector] | None:
        """The solution operator; None where the system is not positive definite."""
        q, g, G = self.inequality, len(self.inequality.at), self.inequality.multipliers
        local = self._local()
        inner = Eliminated.of(local[:, 10:, 10:], local[:, 10:, :10])
        if inner is None:
            return None
        left = local[:, :10, :10] - local[:, :10, 10:] @ inner.back
        own = Eliminated.of(left[:, ALONE[:, None], ALONE], left[:, ALONE[:, None], BETWEEN])
        if own is None:
            return None
        places, where = torch.unique(self._places(UPPER[:, ALONE]), return_inverse=True)
        s, where = len(places), where.reshape(g, 6)
        T = own.half.new_zeros(s, s)
        inverse = torch.cholesky_inverse(own.half) if g else own.half
        T.index_put_(
            (where[:, :, None].expand(-1, 6, 6), where[:, None].expand(-1, 6, 6)), inverse, accumulate=True
        )
        factor, failed = torch.linalg.cholesky_ex(T)
        if int(failed):
            return None
        V = T.new_zeros(s, s + 4 * g)
        V[range(s), range(s)] = 1.0
        between = s + torch.arange(4 * g).reshape(g, 4)
        V.index_put_((where[:, :, None].expand(-1, 6, 4), between[:, None].expand(-1, 6, 4)), own.back)
        weighed = torch.cholesky_solve(V, factor) if s else V
        H = self._coupled(places)
        lam = torch.arange(1, 1 + G)
        H[lam, lam] += (self.P.line * self.X.line)[:G]
        H[1 + G :, 1 + G :] += V.mT @ weighed
        between = between + 1 + G
        H[between[:, :, None], between[:, None]] += left[:, BETWEEN[:, None], BETWEEN] - own.front @ own.back
        solve = factored(H)
        if solve is None:
            return None

        def solution(r: Vector) -> Vector:
            _, forms, rests = q.split(r)
            rests = inner.solve(rests.reshape(g, 12))
            forms = forms - torch.einsum("gfn,gn->gf", local[:, :10, 10:], rests)
            alone = own.solve(forms[:, ALONE])
            sums = alone.new_zeros(s).index_add_(0, where.reshape(-1), alone.reshape(-1))
            right = torch.cat([r[: 1 + G], r.new_zeros(s + 4 * g)])
            right[1 + G :] = weighed.mT @ sums
            right[1 + G + s :] += (forms[:, BETWEEN] - torch.einsum("gcd,gd->gc", own.front, alone)).reshape(
                -1
            )
            found = solve(right)
            x = found[1 + G :]
            nu = weighed @ x - (torch.cholesky_solve(sums[:, None], factor)[:, 0] if s else sums)
            between = x[s:].reshape(g, 4)
            F = forms.new_empty(g, 10)
            F[:, BETWEEN] = between
            F[:, ALONE] = own.solve(forms[:, ALONE] + nu[where]) - torch.einsum(
                "gdc,gc->gd", own.back, between
            )
            rests = rests - torch.einsum("gnf,gf->gn", inner.back, F)
            return torch.cat([found[: 1 + G], F.reshape(-1), rests.reshape(-1)])

        return solution

    def _local(self) -> Float[Tensor, "pairs 22 22"]:
        """The part of a pair: its two matrices of order 4 and its 12 numbers."""
        q, g = self.inequality, len(self.inequality.at)
        H = self.P.main.new_zeros(g, 22, 22)
        P, X = (S.small.reshape(g, 2, 4, 4) for S in (self.P, self.X))
        for s in (0, 1):
            A = torch.cat([SIGNS[s] * FORMS, -RESTS])
            images = (P[:, s, None] @ A @ X[:, s, None]).reshape(g, 16, 16)
            own = images @ A.reshape(16, 16).mT
            at = torch.cat([torch.arange(10), 10 + 6 * s + torch.arange(6)])
            H[:, at[:, None], at] += (own + own.mT) / 2
        H[:, range(10, 22), range(10, 22)] += (self.P.line * self.X.line)[q.multipliers :].reshape(g, 12)
        return H

    def _places(self, of: Index) -> Index:
        """Where entries of every form stand in G."""
        e = self.inequality.entries
        return (2 * self.inequality.variables * e[:, of[0]] + e[:, of[1]]).reshape(-1)

    def _coupled(self, sums: Index) -> Matrix:
        r"""$\mathrm{tr}(A_i P A_j X)$ of the matrix of the network, for rho, $\lambda$, sums at their places in G, numbers between variables."""
        q, N, n = self.inequality, self.inequality.variables, self.inequality.inputs
        RP, RX = q.R @ self.P.main, q.R @ self.X.main
        P, X, mixed = RP @ q.R.mT, RX @ q.R.mT, RP[:, :n] @ RX[:, :n].mT
        i = torch.arange(N)
        used = torch.cat([2 * N * i + N + i, sums, self._places(UPPER[:, BETWEEN])])
        a, b = used // (2 * N), used % (2 * N)
        share = torch.where(a == b, 0.5, 1.0).to(P.dtype)
        whole = P.new_empty(len(used) + 1, len(used) + 1)
        H = whole[1:, 1:]
        torch.mul(_entries(P, a, a), _entries(X, b, b), out=H)
        H.addcmul_(_entries(P, b, b), _entries(X, a, a))
        cross = _entries(P, a, b), _entries(X, a, b)
        H.addcmul_(cross[0], cross[1].mT).addcmul_(cross[0].mT, cross[1])
        H *= share[:, None] * share
        whole[0, 1:] = whole[1:, 0] = -share * (mixed + mixed.mT)[a, b]
        whole[0, 0] = (self.P.main[:n, :n] * self.X.main[:n, :n]).sum()
        if q.multipliers == N:
            return whole
        rest = 1 + q.multipliers + torch.arange(len(used) - N)
        group = torch.cat([q.group.new_zeros(1), 1 + q.group, rest])
        return Group(group, len(rest) + q.multipliers + 1).square(whole)


def _entries(M: Matrix, a: Index, b: Index) -> Matrix:
    return M.index_select(0, a).index_select(1, b)


@dataclass(frozen=True, eq=False)
class Eliminated:
    """Unknowns of each pair that others do not see: x of `A x + B y = r`, so `x = A^-1 r - back y`, with `front` the transpose of B."""

    half: Float[Tensor, "pairs k k"]
    back: Float[Tensor, "pairs k m"]
    front: Float[Tensor, "pairs m k"]

    @staticmethod
    def of(A: Float[Tensor, "pairs k k"], B: Float[Tensor, "pairs k m"]) -> "Eliminated | None":
        """None where one A is not positive definite."""
        half, failed = torch.linalg.cholesky_ex(A)
        return None if failed.any() else Eliminated(half, torch.cholesky_solve(B, half), B.mT)

    def solve(self, r: Float[Tensor, "pairs k"]) -> Float[Tensor, "pairs k"]:
        r"""$A^{-1} r$."""
        return torch.cholesky_solve(r[:, :, None], self.half)[:, :, 0]
