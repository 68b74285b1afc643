"""Matrices of rational numbers, as lists of rows, and the one question about them: is this one positive semidefinite?"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import isqrt, lcm

import numpy as np

Vector = list[Fraction]
Matrix = list[Vector]


def exact(A: Iterable[Iterable[float]]) -> Matrix:
    """The doubles of a matrix as they stand."""
    return [[Fraction(float(a)) for a in row] for row in A]


def vector(v: Iterable[float]) -> Vector:
    return [Fraction(float(x)) for x in v]


def eye(n: int) -> Matrix:
    return [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]


def zeros(m: int, n: int) -> Matrix:
    return [[Fraction(0)] * n for _ in range(m)]


def transposed(A: Matrix) -> Matrix:
    return [list(column) for column in zip(*A, strict=True)]


def times(A: Matrix, B: Matrix) -> Matrix:
    columns = transposed(B)
    return [
        [sum((a * b for a, b in zip(row, column, strict=True) if a and b), Fraction(0)) for column in columns]
        for row in A
    ]


def scaled(A: Matrix, rows: Sequence[Fraction] | Fraction) -> Matrix:
    """Rows times numbers, or all of it times one."""
    each = [rows] * len(A) if isinstance(rows, Fraction) else rows
    return [[r * a for a in row] for r, row in zip(each, A, strict=True)]


def plus(A: Matrix, B: Matrix, sign: int = 1) -> Matrix:
    return [[a + sign * b for a, b in zip(v, w, strict=True)] for v, w in zip(A, B, strict=True)]


def diagonal(v: Sequence[Fraction]) -> Matrix:
    return [[x if i == j else Fraction(0) for j in range(len(v))] for i, x in enumerate(v)]


def inverse(A: Matrix) -> Matrix:
    """Gauss and Jordan.

    Raises:
        ZeroDivisionError: there is none.
    """
    n = len(A)
    M = [[*row, *unit] for row, unit in zip(A, eye(n), strict=True)]
    for k in range(n):
        p = next((i for i in range(k, n) if M[i][k]), None)
        if p is None:
            raise ZeroDivisionError("the matrix is singular")
        M[k], M[p] = M[p], M[k]
        M[k] = [x / M[k][k] for x in M[k]]
        for i in range(n):
            if i != k and M[i][k]:
                M[i] = [a - M[i][k] * b for a, b in zip(M[i], M[k], strict=True)]
    return [row[n:] for row in M]


def semidefinite(A: Matrix) -> bool:
    """Whether a symmetric matrix is positive semidefinite: elimination without fractions (Bareiss), largest diagonal entry first."""
    common = lcm(*(x.denominator for row in A for x in row)) if A else 1
    M = [[int(x * common) for x in row] for row in A]
    left, before = list(range(len(M))), 1
    while left:
        p = max(left, key=lambda i: M[i][i])
        if M[p][p] < 0:
            return False
        if M[p][p] == 0:
            return not any(M[i][j] for i in left for j in left)
        left.remove(p)
        pivot = M[p][p]
        for i in left:
            for j in left:
                M[i][j] = (pivot * M[i][j] - M[i][p] * M[p][j]) // before
        before = pivot
    return True


def root_above(x: Fraction, bits: int = 120) -> Fraction:
    """At least the square root, and above it by less than one part in $2^{bits}$ (of numbers that are not tiny)."""
    scale = 1 << max(0, bits + (x.denominator.bit_length() - x.numerator.bit_length()))
    root = isqrt(x.numerator * scale * scale // x.denominator) + 1
    return Fraction(root, scale) if x else Fraction(0)


def norm_at_most(A: Matrix, c: Fraction) -> bool:
    """Whether the spectral norm is at most c."""
    small = A if len(A) <= len(A[0]) else transposed(A)
    return c >= 0 and semidefinite(plus(diagonal([c * c] * len(small)), times(small, transposed(small)), -1))


def doubles(A: Matrix) -> np.ndarray:
    """Rounded, for sampling."""
    return np.array([[float(x) for x in row] for row in A])
