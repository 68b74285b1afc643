r"""Theorem 2 of SLL as a figure: among the T for which $T - W^\top W$ is diagonally dominant, AOL comes closest to orthogonal.

Why: such a T is entrywise at least $T_{AOL}$, so $P^\top P$ with $P = W T^{-1/2}$ has its largest eigenvalues at $T_{AOL}$,
where none exceeds 1. So AOL is best in every unitarily invariant norm of $I - P^\top P$. The optimum of the SDP, min trace T
subject to $W^\top W \preceq T$, is not diagonally dominant and comes closer still.

python examples/aol_theorem.py aol_theorem.png
"""

import sys

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sdplip.condition import gram, rescale
from sdplip.plot import INK, PALETTE, save
from sdplip.scalings import aol
from sdplip.solvers import MinTrace, prove, solve

NORMS = {"Frobenius norm": "fro", "spectral norm": 2, "nuclear norm": "nuc"}


def example(n: int = 8) -> Float[np.ndarray, "n n"]:
    """A matrix halfway between orthogonal and Gaussian."""
    rng = np.random.default_rng(3)
    return np.linalg.qr(rng.normal(size=(n, n)))[0] + 0.5 * rng.normal(size=(n, n)) / n**0.5


def dominant_scalings(W: Float[np.ndarray, "m n"], number: int = 4000) -> Float[np.ndarray, "number n"]:
    """Random `t` with `diag(t) - W^T W` diagonally dominant, near AOL's and far from it."""
    rng = np.random.default_rng(0)
    size = 10 ** rng.uniform(-3, 0, size=(number, 1))
    some = rng.random((number, W.shape[1])) < rng.random((number, 1))
    return aol(W) * (1 + size * some * rng.exponential(size=some.shape))


def defects(
    W: Float[np.ndarray, "m n"], t: Float[np.ndarray, "*batch n"], norm: str | int
) -> Float[np.ndarray, " *batch"]:
    r"""$\lVert I - P^\top P \rVert$ for $P = W T^{-1/2}$."""
    return np.linalg.norm(np.eye(W.shape[1]) - gram(rescale(W, t)), norm, axis=(-2, -1))


def optimum(W: Float[np.ndarray, "m n"]) -> Float[np.ndarray, " n"]:
    """The proven scaling of least trace."""
    problem = MinTrace(W)
    t = prove(problem, solve(problem)).t
    assert t is not None, "MinTrace is about t"
    return t


def closest_dominant(norm: str | int) -> tuple[float, float]:
    """(least defect among the dominant scalings, AOL's): never below."""
    W = example()
    return float(defects(W, dominant_scalings(W), norm).min()), float(defects(W, aol(W), norm))


def dominance_of_optimum() -> float:
    r"""Least row of $t_i - \sum_j |G_{ij}|$ at the optimum, relative to `t`: negative means not diagonally dominant."""
    W = example()
    t = optimum(W)
    return float(((t - aol(W)) / t).min())


def figure() -> Figure:
    """Defect against trace: the cloud of dominant scalings, AOL at its lower left end, and the optimum below it."""
    W = example()
    t, best = dominant_scalings(W), optimum(W)
    drawing = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (name, norm) in zip(drawing.subplots(1, 3), NORMS.items(), strict=True):
        traces = t.sum(-1) / best.sum()
        axes.scatter(traces, defects(W, t, norm), s=3, color=PALETTE[5], rasterized=True)
        for label, point, colour, mark, offset in (
            ("AOL", aol(W), PALETTE[1], "o", (9, -7)),
            ("min trace (SDP)", best, "black", "*", (9, -4)),
        ):
            at = (point.sum() / best.sum(), float(defects(W, point, norm)))
            axes.plot(*at, mark, color=colour, markersize=9, zorder=3)
            axes.annotate(label, at, offset, textcoords="offset points", color=colour, fontsize=10)
        axes.set_title(f"{name} of $I - P^T P$", fontsize=10, color=INK)
        axes.set_xlabel("trace of T, relative to the optimum", fontsize=9)
        axes.set_xlim(0.9, 3)
        axes.spines[["top", "right"]].set_visible(False)
    drawing.axes[0].text(1.55, 1.97, "each point: a diagonally dominant T", fontsize=9, color=PALETTE[0])
    return drawing


if __name__ == "__main__":
    for name, norm in NORMS.items():
        computed, theory = closest_dominant(norm)
        best = float(defects(example(), optimum(example()), norm))
        print(
            f"{name:15} least of 4000 dominant T {computed:.6f} >= {theory:.6f} of AOL; SDP optimum {best:.6f}"
        )
    print(f"the optimum violates diagonal dominance by {-dominance_of_optimum():.1%} of t")
    target = sys.argv[1] if len(sys.argv) > 1 else "aol_theorem.png"
    save(figure(), target)
    print(f"figure in {target}")
