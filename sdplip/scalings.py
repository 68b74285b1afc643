r"""Closed-form scalings: functions $W \mapsto t$ with $W^\top W \preceq \mathrm{diag}(t)$ in exact arithmetic.

Shapes: $W$ is `(*batch, m, n)`, $t$ is `(*batch, n)`. One text for NumPy and torch; differentiable on torch tensors.
A zero column gives `t == 0` in every Gershgorin-type scaling; `condition.rescale` handles it.
Sources: AOL (Prach and Lampert 2022), SLL (Araujo et al. 2023, Theorems 1 to 3), Gram iteration (Delattre et al. 2023).
"""

from collections.abc import Callable

from jaxtyping import Float

from sdplip.condition import Array, gram, normalised, perron_vector


def identity(W: Float[Array, "*batch m n"]) -> Float[Array, "*batch n"]:
    r"""All ones. $W^\top W \preceq I$ says that $W$ is 1-Lipschitz as it stands; orthogonal layers meet it with equality.

    This is the one scaling here that need not satisfy the condition: it asks the question.
    """
    return (W * 0).sum(-2) + 1


def spectral(W: Float[Array, "*batch m n"], iterations: int = 7) -> Float[Array, "*batch n"]:
    r"""Uniform scaling $t_i = s^2$ with $s \ge \lVert W \rVert_2$ from Gram iteration: spectral normalisation, CPL.

    $\lVert W \rVert_2^2 \le \lVert G^{2^k} \rVert_F^{2^{-k}}$ holds at every $k$ = `iterations` and converges quadratically
    (Delattre et al. 2023); power iteration converges from below and proves nothing.
    """
    return identity(W) * gram_iteration(W, iterations)[0][..., None]


def gram_iteration(
    W: Float[Array, "*batch m n"], iterations: int, symmetric: Callable[[Array], Array] = gram
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch k k"]]:
    r"""The bound $\lVert G^p \rVert_F^{1/p}$, $p = 2^{\text{iterations}}$, and $G^p / \lVert G^p \rVert_F$, nearly the projector
    on the top singular vector. $G$ is the smaller one of $W^\top W$ and $W W^\top$.

    Args:
        symmetric: computes $W^\top W$.
    """
    m, n = W.shape[-2:]
    M = symmetric(W if n <= m else W.mT)
    M, norm = normalised(M)
    square = norm
    for k in range(1, iterations + 1):
        M, norm = normalised(symmetric(M))  # M is symmetric
        square = square * norm ** (0.5**k)
    return square, M


def aol(W: Float[Array, "*batch m n"]) -> Float[Array, "*batch n"]:
    r"""Almost-orthogonal scaling $t_i = \sum_j |G_{ij}|$ (AOL; SLL with $q = 1$)."""
    return abs(gram(W)).sum(-1)


def gershgorin(W: Float[Array, "*batch m n"], q: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    r"""SLL scaling $t_i = \sum_j |G_{ij}| q_j / q_i$ for any $q > 0$ (SLL, Theorem 3)."""
    return _weighted_rows(abs(gram(W)), q)


def perron_q(W: Float[Array, "*batch m n"], iterations: int = 10) -> Float[Array, "*batch n"]:
    r"""Approximate Perron vector of $|W^\top W|$, positive, mean 1.

    The $q$ for which `gershgorin` is most nearly uniform: its largest $t_i$ tends to the spectral radius of $|G|$, the least that
    any $q$ can reach. Any positive $q$ is valid, so the quality of the approximation never touches soundness.
    """
    return perron_vector(abs(gram(W)), iterations)


def perron(W: Float[Array, "*batch m n"], iterations: int = 10) -> Float[Array, "*batch n"]:
    """SLL scaling with the Perron `q` of the absolute Gram matrix: the most uniform scaling of the Gershgorin family."""
    S = abs(gram(W))
    return _weighted_rows(S, perron_vector(S, iterations))


def multi_step(
    W: Float[Array, "*batch m n"], p: int = 2, q: Float[Array, "*batch n"] | None = None
) -> Float[Array, "*batch n"]:
    r"""Multi-step scaling $t_i = \bigl(\sum_j |(G^p)_{ij}| q_j / q_i\bigr)^{1/p}$; `p == 1` is SLL, large `p` is spectral.

    Valid because $\mathrm{diag}(t)^p \succeq G^p$ and $x \mapsto x^{1/p}$ is operator monotone (Löwner and Heinz).
    """
    if p < 1:
        raise ValueError(f"`p` must be a whole number of at least 1, but is {p}.")
    G = gram(W)
    power, scale = normalised(G)
    scale = scale ** (1 / p)
    for _ in range(p - 1):
        power, norm = normalised(power @ G)
        scale = scale * norm ** (1 / p)
    rows = abs(power).sum(-1) if q is None else _weighted_rows(abs(power), q)
    return scale[..., None] * (rows + (rows == 0)) ** (1 / p) * (rows != 0)


def _weighted_rows(S: Float[Array, "*batch n n"], q: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    r"""$\sum_j S_{ij} q_j / q_i$."""
    return (S * q[..., None, :]).sum(-1) / q
