r"""One matrix with errors: every operation widens the radius by what it rounds, so that the truth stays inside.

`Enclosure(mid, rad)` stands for every matrix $M^*$ with $|M^* - M| \le R$ entry by entry, real, or complex where `mid` is. For
enclosures $A \ni A^*$, $B \ni B^*$ the result of an operation contains the exact result for $A^*$, $B^*$, whatever they are.

**Rounding.** Round to nearest gives $|fl(x) - x| \le u |fl(x)|$ for one operation, and $k$ products summed in any order, with or
without fused multiply-add, are within $\gamma_k \sum |a_i b_i|$ (Higham 2002, sections 2.2 and 3.1). Radii are sums and
products of nonnegative numbers; `GENEROUS` covers their own rounding.

**Complex numbers.** Real and imaginary part of a sum of k products are sums of 2k real ones, so each is within $\gamma_{2k} \sum
|a_i| |b_i|$ (Cauchy), and the number within $\sqrt 2$ times that: `rounding_of`. Matrices are multiplied in the conventional way, no
Strassen, four real products for a complex one. Where $|x|$ is asked for, $|\mathrm{Re}\,x| + |\mathrm{Im}\,x|$ serves.

**Underflow: one rule.** Midpoints and radii of an enclosure are never subnormal. A subnormal number becomes $0$ with the radius
`TINY` (the smallest normal number, which exceeds it). So it does not matter whether the processor takes subnormal inputs for
zero, and no later scaling can enlarge what is not in the radius. An operation whose result is so small that it may have
underflowed, gradually or to zero, adds `TINY` for each step that may. A radius is zero or normal, hence read as what it is.
Exact zeros (of a block, a diagonal) keep the radius 0 where an operation cannot touch them.

**Overflow.** What is not a finite number becomes $0 \pm \infty$: an infinite radius proves nothing, and stays infinite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdplip.arithmetic.powers import nonzero
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.shapes import Bool, Float, Int

Matrix = Float[np.ndarray, "*batch m n"]
Vector = Float[np.ndarray, " n"]
Array = Float[np.ndarray, "..."]

SMALL = 2.0**64 * TINY
"""Results below may have underflowed, or their error $u |x|$ does."""


@dataclass(frozen=True, eq=False)
class Enclosure:
    r"""All matrices within `rad` of `mid`, entry by entry. Make one by `Enclosure.exact`, `Enclosure.of` or `enclose`.

    Attributes:
        mid: finite, no subnormal entries; leading axes are a batch.
        rad: not negative, zero or normal or infinite, of the same number of axes; an axis of length 1 stands for equal entries.
    """

    mid: Array
    rad: Array

    __array_ufunc__ = None  # so that `array @ enclosure` asks the enclosure

    @staticmethod
    def exact(M: "Array | Enclosure | float") -> "Enclosure":
        """The doubles as they stand; an enclosure stays what it is."""
        return M if isinstance(M, Enclosure) else enclose(M, 0.0)

    @staticmethod
    def of(M: Array, relative: float) -> "Enclosure":
        """Entries known up to a relative error; zeros are exact."""
        stored = enclose(M, 0.0)
        if not relative:
            return stored
        size = stored.magnitude()
        with np.errstate(all="ignore"):
            rad = (stored.rad + relative * size + 2 * TINY * (size > 0)) * GENEROUS
        return enclose(stored.mid, rad)

    @staticmethod
    def block(rows: "Sequence[Sequence[Enclosure | Array]]") -> "Enclosure":
        """Blocks put together, as in `np.block`."""
        parts = [[Enclosure.exact(part) for part in row] for row in rows]
        mid = np.block([[part.mid for part in row] for row in parts])
        if not any(part.rad.any() for row in parts for part in row):
            return enclose(mid, 0.0)
        return enclose(mid, np.block([[part.radius() for part in row] for row in parts]))

    @staticmethod
    def diagonal_of(v: "Enclosure | Vector") -> "Enclosure":
        """The diagonal matrix of a vector."""
        v = Enclosure.exact(v)
        return Enclosure(np.diag(v.mid), np.diag(v.radius()))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mid.shape

    @property
    def T(self) -> "Enclosure":
        return Enclosure(self.mid.mT, self.rad.mT)

    @property
    def H(self) -> "Enclosure":
        """The adjoint."""
        return Enclosure(self.mid.conj().mT, self.rad.mT)

    def __len__(self) -> int:
        return len(self.mid)

    def __getitem__(self, at: Any) -> "Enclosure":
        return Enclosure(self.mid[at], self.radius()[at])

    def radius(self) -> Array:
        """The radius of every entry, in the shape of `mid`; read-only."""
        return np.broadcast_to(self.rad, self.mid.shape)

    def diagonal(self) -> "Enclosure":
        """The entries on the diagonal."""
        return Enclosure(
            np.diagonal(self.mid, axis1=-2, axis2=-1), np.diagonal(self.radius(), axis1=-2, axis2=-1)
        )

    def magnitude(self) -> Array:
        """At least the absolute value of every entry of every member."""
        with np.errstate(all="ignore"):
            return (size_of(self.mid) + self.rad) * GENEROUS

    def ends(self) -> tuple[Array, Array]:
        """Below and above every entry of every real member."""
        with np.errstate(all="ignore"):
            pad = self.rad + (UNIT * 2 * (abs(self.mid) + self.rad) * GENEROUS + TINY) * (self.rad > 0)
            return self.mid - pad, self.mid + pad

    def norm(self) -> float:
        r"""At least the largest $\lVert M^* \rVert_2$ of its members: the smaller of $\lVert \cdot \rVert_F$ and
        $\sqrt{\lVert \cdot \rVert_1 \lVert \cdot \rVert_\infty}$."""
        return norm_above(self.magnitude())

    def error(self) -> float:
        r"""At least the largest $\lVert M^* - M \rVert_2$, likewise."""
        return norm_above(self.radius()) if self.rad.any() else 0.0

    def __neg__(self) -> "Enclosure":
        return Enclosure(-self.mid, self.rad)

    def __add__(self, other: "Enclosure | Array") -> "Enclosure":
        with np.errstate(all="ignore"):
            other = Enclosure.exact(other)
            mid = self.mid + other.mid
            small = (size_of(mid) < SMALL) & ((self.mid != 0) | (other.mid != 0))
            return enclose(mid, _sum(_sum(self.rad, other.rad), _rounded(mid, small)))

    def __radd__(self, other: Array) -> "Enclosure":
        return self + other

    def __sub__(self, other: "Enclosure | Array") -> "Enclosure":
        return self + -Enclosure.exact(other)

    def __rsub__(self, other: Array) -> "Enclosure":
        return -self + other

    def __mul__(self, other: "Enclosure | Array | float") -> "Enclosure":
        """Entry by entry, shapes as in NumPy: `A * v` scales columns, `A * v[:, None]` rows, `A * 2.0` all."""
        with np.errstate(all="ignore"):
            a, b = self, Enclosure.exact(other)
            mid = a.mid * b.mid
            small = (size_of(mid) < SMALL) & (a.mid != 0) & (b.mid != 0)
            rad = _rounded(mid, small)
            for x, y in ((size_of(a.mid), b.rad), (_sum(size_of(b.mid), b.rad), a.rad)):
                if y.any():
                    rad = _sum(rad, x * y * GENEROUS + TINY * ((x != 0) & (y > 0)))
            return enclose(mid, rad)

    def __rmul__(self, other: "Array | float") -> "Enclosure":
        return self * other

    def shifted(
        self, rows: "Int[np.ndarray, ' m'] | int" = 0, columns: "Int[np.ndarray, ' n'] | int" = 0
    ) -> "Enclosure":
        r"""$2^{\mathrm{rows}_i + \mathrm{columns}_j} M_{ij}$: exact, but for underflow."""
        rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
        e = np.expand_dims(rows, -1) + (np.expand_dims(columns, -2) if columns.ndim > 1 else columns)
        with np.errstate(all="ignore"):
            mid, lost = (
                np.array(np.broadcast_to(self.mid, np.broadcast_shapes(self.shape, e.shape))),
                np.zeros(1),
            )
            for part in _parts(mid):
                there = part != 0
                np.ldexp(part, e, out=part)
                lost = lost + (_small(part) & there)
            rad = np.ldexp(self.rad, e) + TINY * (self.rad > 0) if self.rad.any() else np.zeros(1)
            return enclose(mid, _sum(rad, TINY * lost) * GENEROUS)

    def __matmul__(self, other: "Enclosure | Array") -> "Enclosure":
        return product(self, Enclosure.exact(other))

    def __rmatmul__(self, other: Array) -> "Enclosure":
        return product(Enclosure.exact(other), self)

    def plus_diagonal(self, d: "Enclosure | Vector | float") -> "Enclosure":
        """The square matrix with `d` added to its diagonal; nothing else is touched."""
        found = self.diagonal() + (d if isinstance(d, Enclosure) else np.asarray(d, np.float64))
        n, mid = self.mid.shape[-1], self.mid.copy()
        rad = np.array(self.radius())
        mid[..., range(n), range(n)], rad[..., range(n), range(n)] = found.mid, found.radius()
        return Enclosure(mid, rad)


def enclose(mid: "Array | float", rad: "Array | float") -> Enclosure:
    """The enclosure of numbers within `rad` of `mid`, which may hold subnormal numbers, infinities and NaN: see the rule above.

    `rad` has the shape of `mid`, or broadcasts to it.
    """
    mid, rad = np.asarray(mid), np.asarray(rad, np.float64)
    mid = mid.astype(np.complex128 if mid.dtype.kind == "c" else np.float64, copy=False)
    if rad.ndim < mid.ndim:
        rad = rad.reshape((1,) * (mid.ndim - rad.ndim) + rad.shape)
    with np.errstate(all="ignore"):
        if not (rad >= TINY).all():  # zero, subnormal, negative, NaN
            rad = np.where(_small(rad), TINY * nonzero(rad), np.where(rad > 0, rad, np.inf))
        for k, part in enumerate(_parts(mid)):
            subnormal = _small(part)
            if subnormal.any() and (subnormal := subnormal & nonzero(part)).any():
                mid, rad = mid.copy(), rad * GENEROUS + TINY * subnormal
                _parts(mid)[k][subnormal] = 0.0
        if not np.isfinite(mid.sum()):
            lost = ~np.isfinite(mid)
            mid, rad = np.where(lost, 0.0, mid), np.where(lost, np.inf, rad)
    return Enclosure(mid, rad)


def product(A: Enclosure, B: Enclosure) -> Enclosure:
    r"""$A B$; a vector on the right is a column.

    With $k$ terms, $|fl(AB) - A^* B^*| \le \gamma_k |A| |B| + |A| R_B + R_A (|B| + R_B)$ (complex: see above). Where $R_A$ has to
    be multiplied by a matrix anyway, $\gamma_k |A|$ rides along; else $(|A| |B|)_{ij} \le \lVert a_i \rVert \lVert b_j \rVert$
    (Cauchy-Schwarz) saves the product. Each of the $k$ products and partial sums, here and in the two products of the radius,
    may lose `TINY` when it is written and when it is read: $64 (k + 2)$ of them at most. What underflows in $\gamma_k |A|$
    would be multiplied by $|B|$ afterwards, so `TINY` is added there.
    """
    if B.mid.ndim == 1:
        column = product(A, Enclosure(B.mid[:, None], B.rad[:, None]))
        return Enclosure(column.mid[..., 0], column.rad[..., 0])
    k = A.mid.shape[-1]
    lost, rounding = 64 * (k + 2) * TINY, rounding_of(k + 2, A.mid, B.mid) * GENEROUS
    with np.errstate(all="ignore"):
        mid = A.mid @ B.mid
        if A.rad.shape[-1] > 1 and A.rad.any():
            size = size_of(A.mid)
            rad = (rounding * size + A.rad + TINY * (size != 0)) @ (size_of(B.mid) + B.rad)
        else:
            rad = (rounding * lengths(A.mid))[..., None] * lengths(B.mid.mT)[..., None, :]
            if A.rad.any():
                rad += A.rad * (size_of(B.mid) + B.rad).sum(-2, keepdims=True)
        if B.rad.any():
            size = size_of(A.mid)
            rad += size.sum(-1, keepdims=True) * B.rad if B.rad.shape[-2] == 1 else size @ B.rad
        rad *= GENEROUS
        rad += lost
        return enclose(mid, rad)


def lengths(A: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch"]:
    r"""At least the Euclidean length of each row, tight to about $n u$; infinite where a row is not finite.

    Rows whose squares may leave the range of doubles are scaled by a power of two to a largest entry near 1; then squares that
    vanish do not count.
    """
    if A.dtype.kind == "c":
        A = np.concatenate(_parts(A), -1)
    n = A.shape[-1]
    with np.errstate(all="ignore"):
        square = np.einsum("...j,...j->...", A, A)
        found = np.asarray(np.sqrt(square) * (1 + gamma(n + 4)) + n * TINY)
        unsure = ~((square > 2.0**-600) & (square < 2.0**600))
        if unsure.any() and (rows := A[unsure]).any():  # rows of zeros or subnormal numbers have their n TINY
            largest = abs(rows).max(-1, initial=0.0)
            e = np.clip(np.frexp(largest)[1], -1000, 1000)
            scaled = rows * (2.0 ** -e.astype(np.float64))[:, None]
            own = np.ldexp(np.sqrt(np.einsum("kj,kj->k", scaled, scaled)), e) * (1 + gamma(n + 4)) + n * TINY
            found[unsure] = np.where(np.isfinite(largest), own, np.inf)
    return found


def norm_above(R: Float[np.ndarray, "m n"]) -> float:
    r"""At least the spectral norm of every matrix whose entries are at most `R` in absolute value."""
    with np.errstate(all="ignore"):
        frobenius = lengths(lengths(R))
        sums = R.sum(-1).max(initial=0.0), R.sum(-2).max(initial=0.0)
        mixed = np.sqrt(sums[0]) * np.sqrt(sums[1]) * GENEROUS**2 + TINY
    found = float(min(frobenius.max(initial=0.0), mixed))
    return found if np.isfinite(R).all() and np.isfinite(found) else np.inf


def rounding_of(k: int, *operands: Array) -> float:
    r"""The error of a sum of `k` products in any order, relative to $\sum |a_i| |b_i|$."""
    return 1.5 * gamma(2 * k) if any(A.dtype.kind == "c" for A in operands) else gamma(k)


def size_of(x: Array) -> Array:
    """At least the absolute value, but for one rounding; of real numbers that itself."""
    return abs(x) if x.dtype.kind != "c" else abs(np.real(x)) + abs(np.imag(x))


def _parts(x: Array) -> list[Array]:
    """The real numbers that x is made of: views."""
    return [np.real(x), np.imag(x)] if x.dtype.kind == "c" else [x]


def _sum(a: Array, b: Array) -> Array:
    """Of radii, rounded up; nothing is done where one is 0."""
    if not b.any():
        return a
    return (a + b) * GENEROUS if a.any() else b


def _rounded(mid: Array, small: Bool[np.ndarray, "..."]) -> Array:
    """The error of one operation with the result `mid`; `small` are results that may have underflowed.

    A complex product has three roundings in either part, relative to $|a| |b|$, and may lose `TINY` six times.
    """
    rad = UNIT * (1 if mid.dtype.kind != "c" else 5) * size_of(mid)
    return rad + 8 * TINY * small if small.any() else rad


def _small(x: Array) -> Bool[np.ndarray, "..."]:
    """Zero or subnormal; the comparison says so too where the processor reads subnormal numbers as zero."""
    return (x < TINY) & (x > -TINY)
