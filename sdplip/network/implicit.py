r"""Equilibrium networks $z = \sigma(W z + U x + b)$, $f(x) = G z + D x + b_y$ as graphs, and W in the parametrisations of the papers."""

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.network.graph import INPUT, Builder, Network
from sdplip.network.operators import Activation, Dense, Equilibrium, Sum
from sdplip.shapes import Float

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


def equilibrium_network(
    W: Matrix,
    U: Matrix,
    G: Matrix,
    *,
    D: Matrix | None = None,
    b: Vector | None = None,
    b_y: Vector | None = None,
    activation: Activation | None = None,
) -> Network:
    r"""The network of an equilibrium model.

    Args:
        W: `(hidden, hidden)`.
        U: `(hidden, inputs)`.
        G: `(outputs, hidden)`.
        D: `(outputs, inputs)`; None is 0.
        b, b_y: biases of hidden units and outputs; None is 0.
        activation: of `hidden` entries; None is relu.

    Raises:
        InvalidWeight: shapes that do not fit, numbers that are not finite, an activation of other slopes than [0, 1].
    """
    W, U, G = (np.asarray(A, np.float64) for A in (W, U, G))
    h = len(W)
    if (
        any(A.ndim != 2 for A in (W, U, G))
        or W.shape[1] != h
        or U.shape[0] != h
        or G.shape[1] != h
        or (D is not None and np.shape(D) != (G.shape[0], U.shape[1]))
    ):
        shapes = f"W {W.shape}, U {U.shape}, G {G.shape}" + ("" if D is None else f", D {np.shape(D)}")
        raise InvalidWeight(
            "An equilibrium network needs W (hidden, hidden), U (hidden, inputs), G (outputs, hidden), and D (outputs, inputs) where"
            f" there is one, but has {shapes}."
        )
    op = Equilibrium(W) if activation is None else Equilibrium(W, activation.name, activation.parameters)
    builder = Builder((U.shape[1],))
    z = builder.add(op, builder.add(Dense(U, b), INPUT, name="U"), name="W")
    out = builder.add(Dense(G, b_y), z, name="G")
    if D is not None:
        through = builder.add(Dense(np.asarray(D, np.float64)), INPUT, name="D")
        out = builder.add(Sum((1, 1), len(G)), out, through)
    return builder.finish(out)


def monotone_weight(A: Matrix, B: Matrix, m: float) -> Matrix:
    r"""$W = (1 - m) I - A^\top A + B - B^\top$ of a monDEQ (Winston and Kolter, NeurIPS 2020), computed in double precision.

    For m > 0 the equilibrium exists, but for rounding; the kernel proves it of the numbers that come out.
    """
    A, B = np.asarray(A, np.float64), np.asarray(B, np.float64)
    return (1 - m) * np.eye(A.shape[1]) - A.T @ A + B - B.T


def lben_weight(
    V: Matrix, S: Matrix, U: Matrix, G: Matrix, multipliers: Vector, bound: float, room: float
) -> Matrix:
    r"""$W = I - \Lambda^{-1} (\frac{1}{2 \gamma} (G^\top G + \Lambda U U^\top \Lambda) + V^\top V + \epsilon I + \frac12 (S - S^\top))$.

    The Lipschitz-bounded equilibrium network of constant $\gamma$ (Revay, Wang, Manchester 2020, arXiv 2010.01732) of free parameters V and S
    (hidden, hidden), U, G, $\Lambda$ = `multipliers`, $\gamma$ = `bound`, $\epsilon$ = `room`; in double precision.
    """
    V, S, U, G, lam = (np.asarray(A, np.float64) for A in (V, S, U, G, multipliers))
    R = lam[:, None] * U
    inner = (G.T @ G + R @ R.T) / (2 * bound) + V.T @ V + room * np.eye(len(lam)) + (S - S.T) / 2
    return np.eye(len(lam)) - inner / lam[:, None]
