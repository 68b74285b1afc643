"""Four published layers whose constant is another than the one they claim: what `examples/caught.py` prints of them.

Each is rebuilt from its formula; no published code runs.
"""

import torch
from torch import Tensor

from sdplip.geometry import Geometry
from sdplip.nn import LipShiFTBlock
from sdplip.proposals import certify, certify_convolution

Row = tuple[str, str, float, float]


def normalised(W: Tensor) -> Tensor:
    """$W R^{-1}$ with $R^\\top R = W^\\top W + I$: norm below 1."""
    R = torch.linalg.cholesky(W.mT @ W + torch.eye(W.shape[1], dtype=W.dtype), upper=True)
    return torch.linalg.solve_triangular(R, W, upper=True, left=False)


def ldlt_residual(first: Tensor, inner: Tensor, last: Tensor) -> Tensor:
    r"""Jacobian, every ReLU active, of the residual class of LDLTFlossing (commit 1759e77) with one hidden layer, $x \mapsto A x + B
    \sigma(C x)$.

    $D_0 = I - A^\top A$ and $D_1 = 2 I - C D_0^{-1} C^\top$ are those of the inequality, but $B^\top \Sigma B \preceq D_1 / 2$ with $\Sigma = I + A
    D_0^{-2} A^\top$: the terms $B^\top X$ with $X = A D_0^{-1} C^\top$ are missing, and $D_0^{-2}$ stands for $D_0^{-1}$.
    """
    n, m = first.shape[0], inner.shape[0]
    A = normalised(first)
    inverse = first.mT @ first + torch.eye(n, dtype=first.dtype)  # of D_0
    L = torch.linalg.cholesky(inverse)
    C = 2**0.5 * torch.linalg.solve_triangular(L, normalised(inner), upper=False, left=False)
    root = torch.linalg.cholesky(2 * torch.eye(m, dtype=first.dtype) - C @ inverse @ C.mT)
    R = torch.linalg.cholesky(torch.eye(n, dtype=first.dtype) + A @ inverse @ inverse @ A.mT, upper=True)
    B = torch.linalg.solve_triangular(R, normalised(last) @ root.mT, upper=True) / 2**0.5
    return A + B @ C


def steepest_ldlt(n: int, m: int, steps: int = 150) -> float:
    """Norm that some of its weights reach, by gradient ascent on the free matrices; proven of the Jacobian as it was computed."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((n, n), (m, n), (n, m))
    free = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    optimiser = torch.optim.Adam(free, lr=0.2)
    for _ in range(steps):
        optimiser.zero_grad()
        (-torch.linalg.matrix_norm(ldlt_residual(*free), 2)).backward()
        optimiser.step()
    J = ldlt_residual(*free).detach().numpy()
    return certify(J, torch.ones(n, dtype=torch.float64).numpy()).c_lower


def lipshift(blocks: int = 28, claimed: float = 192.0, drop: float = 0.2) -> tuple[float, float]:
    """What LipShiFT's `lipschitz()` says of equal blocks in eval mode, and how far two inputs are pushed apart.

    It multiplies the constant of each branch by the probability `1 - d` that DropPath keeps it (d from 0 to `drop`), while DropPath is the
    identity in eval mode. Two channels, no convolution: each block multiplies (t, -t) by 1 + 2 s. s is chosen so that the claim is
    `claimed`, the published constant of the CIFAR-10 model.
    """
    rates = torch.linspace(0, drop, blocks, dtype=torch.float64)

    def said(s: float) -> float:
        return float((1 + (1 - rates) * 2 * s).prod())

    low, high = 0.0, 1.0
    while high - low > 1e-12:
        low, high = (low, (low + high) / 2) if said((low + high) / 2) > claimed else ((low + high) / 2, high)
    model = torch.nn.Sequential(*(LipShiFTBlock(2, 0, start=low) for _ in range(blocks))).double().eval()
    with torch.no_grad():
        for block in model:
            block[1].branch[1].branch[1].factors.zero_()  # alpha
        x = torch.tensor([1.0, -1.0], dtype=torch.float64).reshape(1, 2, 1, 1)
        return said(low), float((model(2 * x) - model(x)).norm() / x.norm())


def strided_patches(out: int) -> float:
    """Proven norm of a kernel of orthonormal patches, 4 x 4 with stride 4 and dilation 2: one pixel is read up to four times.

    orthogonium (d54ed63) refuses a stride with a dilation that it divides, and accepts this one.
    """
    generator = torch.Generator().manual_seed(0)
    M = torch.linalg.qr(torch.randn(32, 32, generator=generator, dtype=torch.float64)).Q[:out]
    geometry = Geometry(4, "circular", 2, 2, image_size=(16, 16))
    K = M.reshape(out, 2, 4, 4).numpy()
    return certify_convolution(K, torch.ones(2, dtype=torch.float64).numpy(), geometry).c_lower


def monotone_slices(n: int, units: list[int], mu: float = 0.1, nu: float = 10.0) -> float:
    r"""Proven stretch of $F(x) = \mu x + \sqrt{g / 2} S^\top z$, $z_k = \sigma(V_k z_{k - 1} + \sqrt{2 g} S_k x + b_k)$, $g = \nu - \mu$, with the slices
    of PLNet's bi-Lipschitz layer (bdc38ea), which claims $\nu$.

    $S_k = A_k Q_k - B_k Q_{k - 1}$, $V_k = 2 B_k A_{k - 1}^\top$ with orthonormal rows in $(A_k\ B_k)$ and disjoint slices $Q_k$ of one orthonormal
    matrix would have the constants $\mu$ and $\nu$. The code moves on by `idx =+ nz`, which assigns: from the third layer on a slice is used again. Every
    pattern of active ReLUs is met by some biases, which are free; the worst of 500 drawn ones counts.
    """
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    Q = torch.linalg.qr(normal(n, sum(units)).mT if sum(units) > n else normal(n, sum(units))).Q
    Q = Q if sum(units) > n else Q.mT
    S, V, start, before = [], [], 0, (None, None)
    for k, m in enumerate(units):
        AB = torch.linalg.qr(normal(m + (units[k - 1] if k else 0), m)).Q.mT
        A, B, part = AB[:, :m], AB[:, m:], Q[start : start + m]
        S.append(A @ part - (B @ before[1] if k else 0))
        V.append(2 * B @ before[0].mT if k else None)
        start, before = m, (A, part)  # idx =+ nz
    worst = torch.zeros(n, n, dtype=torch.float64)
    for trial in range(500):
        J, z = mu * torch.eye(n, dtype=torch.float64), torch.zeros(0, n, dtype=torch.float64)
        for Sk, Vk in zip(S, V, strict=True):
            on = torch.randint(0, 2, (len(Sk), 1), generator=generator) ** min(trial, 1)  # first, all
            z = on * ((2 * (nu - mu)) ** 0.5 * Sk + (0 if Vk is None else Vk @ z))
            J = J + ((nu - mu) / 2) ** 0.5 * Sk.mT @ z
        worst = max(worst, J, key=lambda M: float(torch.linalg.matrix_norm(M, 2)))
    return certify(worst.numpy(), torch.ones(n, dtype=torch.float64).numpy()).c_lower


JITTERS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)


def jittered(Q: Tensor) -> Tensor:
    """Cholesky factor of Q, or of what the LipKernel code (2D-LipCNNs, bdc58de) puts in its place where that fails."""
    for jitter in JITTERS:
        L, failed = torch.linalg.cholesky_ex(Q + jitter * torch.eye(len(Q), dtype=Q.dtype))
        if not failed:
            return L
    raise ValueError("The published code fails here too.")


def lipkernel(psi: float) -> float:
    r"""Proven norm of the Jacobian, every ReLU active, of two pointwise convolutions and a last layer by the formulas of LipKernel.

    Without state $F_2$ is the metric $Q = L^\top L$ in front, $g = \psi^2$, $K = -\sqrt{2 g}\, V^\top L_s^\top$ with $L_s L_s^\top = Q$,
    and behind it $L_+ = \sqrt{2 / g}\, U$. The first layer reads its one channel into one of two, so its U and the metric behind it
    are singular: the factorisation fails, and what is added opens a way that $\psi$ makes as wide as it likes.
    """
    first, second = (
        torch.tensor([[-1.0, 0.0]], dtype=torch.float64),
        torch.tensor([[-0.5], [0.0]], dtype=torch.float64) * 2**0.5,
    )
    K, Q = [], torch.eye(1, dtype=torch.float64)
    for V, scale in ((first, psi), (second, 1.0)):
        K.append(-(2**0.5) * scale * V.mT @ jittered(Q).mT)
        values, vectors = torch.linalg.eigh(torch.eye(V.shape[1], dtype=V.dtype) - V.mT @ V)
        U = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.mT
        Q = 2 / scale**2 * U.mT @ U
    J = (Q.sqrt() @ K[1] @ K[0]).numpy()
    return certify(J, torch.ones(1, dtype=torch.float64).numpy()).c_lower


def lben(V: Tensor) -> Tensor:
    r"""W of the dense class of Havens et al. (commit 4e563f8), which forms $V V$ where the square $V^\top V$ is meant.

    With U = G = I, $\Lambda$ = I, $\gamma$ = 1, no skew part: $W = I - \frac12 (G^\top G + U U^\top) - V V$. V starts symmetric, where both are one.
    """
    return -V @ V


def equilibrium_slope(W: Tensor) -> float:
    """Proven norm of the Jacobian of $z = \\mathrm{relu}(W z + x)$ where all units are on, as it was computed."""
    one = torch.ones(len(W), dtype=W.dtype)
    return certify(torch.linalg.inv(one.diag() - W).numpy(), one.numpy()).c_lower


def rows() -> list[Row]:
    """(what, setting, claimed bound, lower bound of the true constant)."""
    found: list[Row] = []
    for n, m in ((2, 2), (8, 8)):
        what = f"{n} features, {m} hidden units"
        found.append(("LDLT residual class, cross terms left out", what, 1.0, steepest_ldlt(n, m)))
    for out in (2, 8, 32):
        what = f"2 to {out} channels, 4 x 4, stride 4, dilation 2"
        found.append(("orthogonal patches (orthogonium) with dilation", what, 1.0, strided_patches(out)))
    for n, units in ((8, [4] * 3), (8, [4] * 4), (10, [6] * 6)):
        what = f"{len(units)} hidden layers of {units[0]}"
        found.append(("PLNet's bi-Lipschitz layer, slices used twice", what, 10.0, monotone_slices(n, units)))
    for psi in (1e6, 1e7):
        what = f"two pointwise layers, psi = {psi:.0e}".replace("e+0", "e")
        found.append(("LipKernel, factorisations helped along", what, 1.0, lipkernel(psi)))
    claimed, truth = lipshift()
    found.append(("LipShiFT, DropPath counted in eval mode", "28 equal blocks", claimed, truth))
    skew = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    for share in (0.6, 0.9, 0.99):
        setting = f"V = {share:g} times a rotation by 90 degrees, U = G = I"
        found.append(
            ("equilibrium (dense LBEN), V V for V' V", setting, 1.0, equilibrium_slope(lben(share * skew)))
        )
    return found
