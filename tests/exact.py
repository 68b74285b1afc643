"""Oracle in exact rational arithmetic: is a symmetric matrix positive (semi)definite?"""

from fractions import Fraction

import numpy as np


def residual_matrix(W: np.ndarray, t: np.ndarray, c: float) -> list[list[Fraction]]:
    """The exact matrix c^2 diag(t) - W^T W of doubles (or any other real numbers that Fraction takes)."""
    columns = [[Fraction(x) for x in column] for column in np.asarray(W, np.float64).T.tolist()]
    square = Fraction(c) ** 2
    return [
        [
            (square * Fraction(t[i]) if i == j else 0) - sum(a * b for a, b in zip(v, w, strict=True))
            for j, w in enumerate(columns)
        ]
        for i, v in enumerate(columns)
    ]


def inertia_signs(M: list[list[Fraction]]) -> tuple[bool, bool]:
    """(positive semidefinite, positive definite) by exact LDL^T with diagonal pivoting."""
    M = [row[:] for row in M]
    active = list(range(len(M)))
    while active:
        pivot = max(active, key=lambda i: M[i][i])
        if M[pivot][pivot] < 0:
            return False, False
        if (
            M[pivot][pivot] == 0
        ):  # the largest diagonal entry is 0: semidefinite only if all that is left is 0
            return all(M[i][j] == 0 for i in active for j in active), False
        active.remove(pivot)
        for i in active:
            factor = M[i][pivot] / M[pivot][pivot]
            if factor:
                for j in active:
                    M[i][j] -= factor * M[pivot][j]
    return True, True
