r"""Kernels that dissipate: convolutions as shift registers, with a quadratic form of the state that no input can increase."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.nn.cayley import cayley

EPSILON = 1e-4
"""Times the identity, beside free Gram matrices: what keeps all factorisations far from singular."""
ROUNDING = 1e-9
"""Of row sums that must stay above a matrix in double precision, however large it has grown."""
SHRINK = 0.999
"""Norm of what reads the metric in front, below 1, so that the metric behind can be inverted."""
LIMIT = 10.0
"""Of the root mean square of the singular values of free matrices; far larger ones are beyond double precision."""

Made = tuple[Tensor, Tensor, Tensor]

# Note [dissipation]. A causal convolution keeps a state x of past inputs, x+ = A x + B u, y = (C D) (x u). With Q = L'L in front, Q+ behind
# and a diagonal Lam > 0, sum |L+ z|^2 <= sum |L u|^2 for z = s(y), slopes in [0, 1], follows from some P > 0 with
#     [F, -(C D)' Lam; ., 2 Lam - Q+] >= 0,   F = [P - A'PA, -A'PB; ., Q - B'PB],
# and F > 0 exactly if P^-1 - A P^-1 A' - B Q^-1 B' > 0 (two Schur complements).


def gramian_kernel(
    H: Float[Tensor, "n n"],
    free: Float[Tensor, "n_plus_in_plus_out out"],
    log_gamma: Float[Tensor, " out"],
    L: Float[Tensor, "in in"],
    taps: int,
) -> Made:
    r"""Kernel `(out, in, taps)`, $L_+$ and $\Lambda$ of one axis (Pauli et al., CDC 2023), see Note [dissipation].

    $P^{-1} = \sum_k A^k (B Q^{-1} B^\top + H^\top H + \epsilon I) A^{k \top}$, finite because a register forgets; $F = L_F^\top L_F$; and with
    $E E^\top = I - N^\top N$ for `split`'s $N$: $(C\ D) = \sqrt 2\, \Gamma^{-1} N^\top L_F$, $\Lambda = \Gamma^2$, $L_+ = \sqrt 2\, E^\top \Gamma$.
    """
    channels, out, H = len(L), len(log_gamma), _bounded(H)
    Q = L.mT @ L
    A, B = _register(channels, taps, L)
    entered = B @ torch.linalg.solve(Q, B.mT)
    P = _inverse(_lyapunov(A, entered + _gram(H, _size(entered)), taps))
    root = torch.linalg.cholesky(_dissipated(P, A, B, Q)).mT
    gamma = log_gamma.exp()
    N, E = split(free, len(A) + channels)
    K = math.sqrt(2) / gamma[:, None] * (N.mT @ root)
    return K.reshape(out, taps, channels).mT, math.sqrt(2) * E.mT * gamma, gamma**2


def roesser_kernel(
    free: list[Tensor], log_gamma: Float[Tensor, " out"], L: Float[Tensor, "in in"], taps: int
) -> Made:
    r"""Kernel `(out, in, taps, taps)`, $L_+$ and $\Lambda$ of two axes (LipKernel, Pauli et al. 2024).

    One state carries partial sums down the rows, $x^1_+ = A_{11} x^1 + A_{12} x^2 + B_1 u$, the other past inputs along them; what is free of the
    rows of taps but the last are $A_{12}$, $B_1$. $P = \mathrm{diag}(P_1, P_2)$ as in Note [dissipation], first $P_2$, then $P_1$. The outputs read
    $x^1$ by a fixed $C_1$; completing the square in it leaves, with $m = C_1 F_1^{-1} C_1^\top$ and $2 g > m$, $L_g L_g^\top = 2\, \mathrm{diag}(g)
    - m$, $L_s L_s^\top = F_2 - F_{12}^\top F_1^{-1} F_{12}$,
    $(C_2\ D) = C_1 F_1^{-1} F_{12} - L_g N^\top L_s^\top$, $\Lambda = \mathrm{diag}(g)^{-1}$, $L_+ = E^\top L_g^\top \mathrm{diag}(g)^{-1}$.
    $g$ is half the row sums of $\lvert m \rvert$, a little enlarged, plus $e^{\texttt{log\_gamma}}$.

    Args:
        free: $A_{12}$, $B_1$, $H_1$, $H_2$, and the matrix of which `split` makes $N$ and $E$.
    """
    A12, B1, H1, H2 = (_bounded(f) for f in free[:4])
    channels, out = len(L), len(log_gamma)
    n1, n2 = len(A12), A12.shape[1]
    Q = L.mT @ L
    A22, B2 = _register(channels, taps, L)
    A11, C1 = _register(out, taps, L)
    A11, C1 = A11.mT, C1.mT  # partial sums move on towards the output
    solved = torch.linalg.solve(Q, torch.cat([B1, B2]).mT)
    X11, X12, X22 = B1 @ solved[:, :n1], B1 @ solved[:, n1:], B2 @ solved[:, n1:]
    E = _gram(H2, _size(X22))  # T2 - A22 T2 A22' - X22
    T2 = _lyapunov(A22, X22 + E, taps)
    K = X12 + A12 @ T2 @ A22.mT
    inside = A12 @ T2 @ A12.mT + X11 + (K @ torch.linalg.solve(E, K.mT) if n2 else 0)
    T1 = _lyapunov(A11, inside + _gram(H1, _size(inside) + _size(X22)), taps)
    P = torch.block_diag(_inverse(T1), _inverse(T2))
    A = torch.cat([torch.cat([A11, A12], 1), torch.cat([A12.new_zeros(n2, n1), A22], 1)])
    whole = _dissipated(P, A, torch.cat([B1, B2]), Q)
    F12, F2 = whole[:n1, n1:], whole[n1:, n1:]
    solved = torch.linalg.solve(whole[:n1, :n1], torch.cat([C1.mT, F12], 1))
    m, moved, rest = C1 @ solved[:, :out], C1 @ solved[:, out:], F2 - F12.mT @ solved[:, out:]
    g = (1 + ROUNDING) * abs(m).sum(1) / 2 + log_gamma.exp()
    outer, inner = _cholesky(2 * torch.diag(g) - m), _cholesky(rest)
    N, E = split(free[4], n2 + channels)
    bottom = moved - outer @ N.mT @ inner.mT
    rows = torch.cat([torch.cat([A12, B1], 1), bottom])
    kernel = rows.reshape(taps, out, taps, channels).permute(1, 3, 0, 2)
    return kernel, (E.mT @ outer.mT) / g, 1 / g


def _register(channels: int, taps: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Shift by one and entrance of a register of `taps - 1` past inputs, the oldest first."""
    n = channels * (taps - 1)
    I = torch.eye(n + channels, dtype=like.dtype, device=like.device)  # noqa: E741
    return I[channels:, channels:].roll(channels, 1).triu(1)[:n, :n], I[channels:, n:]


def _lyapunov(A: Tensor, Y: Tensor, taps: int) -> Tensor:
    """The sum of A^j Y A'^j over all j that are not 0."""
    total, moved = Y, Y
    for _ in range(taps - 2):
        moved = A @ moved @ A.mT
        total = total + moved
    return total


def split(free: Float[Tensor, "rows_plus_out out"], rows: int) -> tuple[Tensor, Tensor]:
    r"""N with $\lVert N \rVert_2 \le$ `SHRINK`, the first rows of a Cayley transform, and E with $E E^\top = I - N^\top N$."""
    N = SHRINK * cayley(free)[:rows]
    return N, _cholesky(torch.eye(free.shape[1], dtype=free.dtype, device=free.device) - N.mT @ N)


def _bounded(free: Tensor) -> Tensor:
    """The free matrix, large ones drawn in."""
    return free / (1 + (free * free).sum() / (max(1, min(free.shape)) * LIMIT**2)).sqrt()


def _size(X: Tensor) -> Tensor:
    """Mean of what is not 0 on the diagonal."""
    return X.diagonal().sum() / max(1, int((X.diagonal() != 0).sum()))


def _gram(H: Tensor, size: Tensor) -> Tensor:
    """H'H and a part of the identity, in that size."""
    I = torch.eye(len(H), dtype=H.dtype, device=H.device)  # noqa: E741
    return size * (H.mT @ H + EPSILON * I)


def _inverse(X: Tensor) -> Tensor:
    Y = torch.linalg.inv(X)
    return (Y + Y.mT) / 2


def _cholesky(M: Tensor) -> Tensor:
    return torch.linalg.cholesky((M + M.mT) / 2)


def _dissipated(P: Tensor, A: Tensor, B: Tensor, Q: Tensor) -> Tensor:
    """F of Note [dissipation]."""
    AB = torch.cat([A, B], 1)
    M = torch.block_diag(P, Q) - AB.mT @ P @ AB
    return (M + M.mT) / 2
