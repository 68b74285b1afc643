"""What the check has caught: published scalings that do not satisfy W^T W <= T, each with its proven factor.

python examples/caught.py [FOLDER]

Prints the table of docs/caught.md. With FOLDER, also writes the weight and the published t of the first case as files:

sdplip check FOLDER/sll_v1_weight.npy --t FOLDER/sll_v1_t.npy --form residual
"""

import sys
from pathlib import Path

import cvxpy as cp
import numpy as np
import torch
from caught_layers import rows as layer_rows

from sdplip.arithmetic.decimals import below
from sdplip.convolution import aol
from sdplip.geometry import Geometry
from sdplip.proposals import certify, certify_convolution

Row = tuple[str, str, float, float]


def sll_first_release(q: float, eps: float = 1e-6, n: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Weight (hidden, features) and t of the dense layer of SLL's first release: eps in the denominator only.

    `T_i = sum_j |G_ij| q_j / (q_i + eps)` lies below the Gershgorin value (erratum of arXiv 2303.03169v2). Here G = I.
    """
    weight = np.eye(n)
    return weight, (abs(weight @ weight.T) * q).sum(-1) / (q + eps)


def power_iteration(W: np.ndarray, steps: int) -> float:
    """Spectral norm as the published CPL code estimates it: cold start, `steps` iterations, converging from below."""
    v = np.random.default_rng(0).normal(size=W.shape[1])
    for _ in range(steps):
        u = W @ v / np.linalg.norm(W @ v)
        v = W.T @ u / np.linalg.norm(W.T @ u)
    return float(u @ W @ v)


def rows() -> list[Row]:
    """(what, setting, claimed bound, proven lower bound of the true layer constant)."""
    found: list[Row] = []
    for q in (1.0, 1e-3, 1e-5, 1e-6, 1e-7):
        weight, t = sll_first_release(q)
        c = certify(weight.T, t, form="residual").c_lower
        found.append(("SLL, first release, dense block", f"all q = {q:g}", 1.0, 2 * c * c - 1))
    W = np.random.default_rng(1).normal(size=(200, 300))
    for steps in (1, 5, 10, 100):
        t = np.full(300, power_iteration(W, steps) ** 2)
        c = certify(W, t, form="residual").c_lower
        found.append(("CPL, power iteration from a cold start", f"{steps} iterations", 1.0, 2 * c * c - 1))
    layer = torch.nn.Conv2d(8, 8, 3, padding=1, bias=False)
    torch.nn.init.ones_(layer.weight)
    flattened = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
    K = (layer.weight.detach() / flattened).numpy()  # what spectral_norm converges to
    c = certify_convolution(K, np.ones(8), Geometry(image_size=(16, 16))).c_lower
    found.append(("torch spectral_norm on Conv2d", "8 to 8 channels, 3 x 3, all ones", 1.0, c))
    rng = np.random.default_rng(2)
    for n in (50, 100):
        W = rng.normal(size=(n, n))
        c = certify(W, scs_point(W)).c_lower
        found.append(("CVXPY with SCS, least trace, taken at its word", f"n = {n}, eps 1e-5", 1.0, c))
    found += layer_rows()
    found.append(
        (
            "AOL convolution with reflect padding",
            "1 to 9 channels, 3 x 3, 8 x 8 image",
            1.0,
            reflect_padding(),
        )
    )
    return found


def scs_point(W: np.ndarray) -> np.ndarray:
    """The t that CVXPY returns with status "optimal": as users write it, without sdplip."""
    t = cp.Variable(W.shape[1])
    problem = cp.Problem(cp.Minimize(cp.sum(t)), [cp.diag(t) - W.T @ W >> 0])
    problem.solve(solver=cp.SCS, eps=1e-5)
    assert problem.status == "optimal" and t.value is not None
    return t.value


def reflect_padding() -> float:
    """Spectral norm of a reflect-padded convolution whose kernel is scaled by AOL's zero-padding T, by its dense matrix.

    Nine output channels read one tap each, so a pixel counts as often as it is read: 16 times near a reflecting corner, where the
    zero-padding T allows for 9. sdplip refuses this padding; the number is floating point, not a certificate.
    """
    K = np.eye(9).reshape(9, 1, 3, 3)
    K = torch.from_numpy(K / aol(K, Geometry()) ** 0.5)
    pixels = torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)
    padded = torch.nn.functional.pad(pixels, (1, 1, 1, 1), mode="reflect")
    C = torch.nn.functional.conv2d(padded, K).flatten(1)
    return float(torch.linalg.matrix_norm(C, 2))


def main() -> None:
    print("| published practice | setting | claimed | the layer stretches by at least |")
    print("|---|---|---|---|")
    for what, setting, claimed, truth in rows():
        stretch = below(truth, 4) if truth > 1.001 else f"1 + {below(truth - 1, 2)}"
        print(f"| {what} | {setting} | {claimed:g} | {stretch} |")
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        folder.mkdir(parents=True, exist_ok=True)
        weight, t = sll_first_release(1e-6)
        np.save(folder / "sll_v1_weight.npy", weight)
        np.save(folder / "sll_v1_t.npy", t)


if __name__ == "__main__":
    main()
