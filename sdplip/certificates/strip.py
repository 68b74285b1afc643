r"""Certificates of convolutions with one multiplier for every neuron: a matrix that is banded along the rows of the image.

For a strip of convolutions $W_1, \dots, W_h$ with activations of slopes in $[0, \beta_k]$ and multipliers $\lambda_k > 0$ let S
be the symmetric matrix over the image x and the outputs $v_k$ of the activations with blocks

    S_xx = I,    S_kk = 2 diag(lambda_k),    S_k,k-1 = -beta_k diag(lambda_k) W_k

and F what stands behind. If $[S, F^\top; F, R R^\top] \succeq 0$, then $F v = R u$ with $|u| \le |x|$ for all increments: in
front of what follows, the strip is worth the matrix R. (Schur complement, and $v_i (v_i - \beta (W z)_i) \le 0$ for every
neuron.) This is LipSDP-Neuron of the unrolled network. Row r of an image meets rows near r only; so variables in the order of the
rows of the image make S block tridiagonal, a matrix F behind it is a border, and a last convolution one more layer of the band (R
is then one number). `docs/rounding-networks.md`, section 7.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from jaxtyping import Float, Int

from sdplip.certificates.arrow import Arrow, holds
from sdplip.certificates.rounding import TINY, UNIT, gamma
from sdplip.geometry import ExpandedGeometry

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution by its kernel `(out, in / groups, *taps)` on images of one size, zeros or nothing around them.

    Attributes:
        K, geometry: as torch has them; the geometry is expanded, with the size of the image.
    """

    K: np.ndarray
    geometry: ExpandedGeometry

    @property
    def image(self) -> tuple[int, ...]:
        size = self.geometry.image_size
        assert size is not None
        return size

    @property
    def before(self) -> tuple[int, ...]:
        """Zeros in front of each axis."""
        d, k = self.geometry.dilation, self.K.shape[2:]
        same = tuple(a * (b - 1) // 2 for a, b in zip(d, k, strict=True))
        return same if self.geometry.padding is None else self.geometry.padding

    @property
    def output(self) -> tuple[int, ...]:
        """Pixels behind the layer."""
        g, taps = self.geometry, self.K.shape[2:]
        reach = tuple(d * (k - 1) for d, k in zip(g.dilation, taps, strict=True))
        both = reach if g.padding is None else tuple(2 * p for p in g.padding)
        axes = zip(self.image, both, reach, g.stride, strict=True)
        return tuple((n + b - r - 1) // s + 1 for n, b, r, s in axes)

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """(row behind, row in front, tap) wherever a tap of the first axis falls into the image."""
        g = self.geometry
        for r, i in product(range(self.output[0]), range(self.K.shape[2])):
            at = r * g.stride[0] - self.before[0] + i * g.dilation[0]
            if 0 <= at < self.image[0]:
                yield r, at, i

    def between_rows(self) -> list[Matrix]:
        """For each tap of the first axis the matrix from one row of the image to one row behind, channels first."""
        g, (m, n) = self.geometry, self.K.shape[:2]
        behind, front = self.output[1:], self.image[1:]
        blocks = np.zeros((self.K.shape[2], m, prod(behind), n * g.groups, prod(front)))
        grid = np.meshgrid(*map(np.arange, behind), indexing="ij") if behind else []
        pixels = np.array([axis.reshape(-1) for axis in grid], int).T.reshape(prod(behind), len(behind))
        group = [o // (m // g.groups) for o in range(m)]
        for taps in product(*map(range, self.K.shape[3:])):
            at = pixels * g.stride[1:] - self.before[1:] + np.array(taps, int) * g.dilation[1:]
            inside = ((at >= 0) & (at < np.array(front, int))).all(1)
            p = np.flatnonzero(inside)
            q = (
                np.atleast_1d(np.ravel_multi_index(tuple(at[inside].T), front))
                if behind
                else np.zeros(1, int)
            )
            for o in range(m):
                c = group[o] * n + np.arange(n)
                for i in range(self.K.shape[2]):
                    blocks[i, o, p[:, None], c, q[:, None]] = self.K[(o, slice(None), i, *taps)]
        return list(blocks.reshape(self.K.shape[2], m * prod(behind), -1))


@dataclass(frozen=True, eq=False)
class Strip:
    """Convolutions with activations of slopes in [0, `slopes[k]`], and what stands behind: a convolution or a matrix.

    Attributes:
        layers: those with activations, first one first; each reads what the one before writes.
        slopes: the largest slope of each.
        last: a convolution behind them, or None.
        head: matrix `(m, channels * pixels)` behind them, or None.
    """

    layers: tuple[Layer, ...]
    slopes: tuple[float, ...]
    last: Layer | None = None
    head: Matrix | None = None

    @property
    def every(self) -> tuple[Layer, ...]:
        return self.layers if self.last is None else (*self.layers, self.last)

    @property
    def kernels(self) -> tuple[np.ndarray, ...]:
        return tuple(layer.K for layer in self.layers)

    @property
    def last_kernels(self) -> tuple[np.ndarray, ...]:
        """The kernel behind the strip, if there is one."""
        return () if self.last is None else (self.last.K,)

    def neurons(self) -> list[int]:
        """Multipliers of each layer: one for each output, channels first, then pixel rows."""
        return [len(layer.K) * prod(layer.output) for layer in self.layers]


def strip_holds(strip: Strip, multipliers: Sequence[Vector], R: Matrix) -> bool:
    """True only if these very multipliers prove that the strip is worth `R`, one number behind a last convolution."""
    sizes, m = strip.neurons(), 1 if strip.head is None else len(strip.head)
    if [v.shape for v in multipliers] != [(n,) for n in sizes] or R.shape != (m, m):
        return False
    if not all(np.isfinite(v).all() and (v > 0).all() for v in multipliers) or not np.isfinite(R).all():
        return False
    if strip.head is None and not R[0, 0] > 0:  # a bound; its square would be proven for a negative one too
        return False
    if (strip.head is None) == (strip.last is None) or any(not 0 <= b < np.inf for b in strip.slopes):
        return False
    band = Placed.of(strip)
    arrow = band.arrow(multipliers, R)
    return arrow is not None and holds(arrow, *band.errors(R))


@dataclass(frozen=True, eq=False)
class Placed:
    """Where every variable stands, and the matrices between rows.

    Attributes:
        strip: what this is the band of.
        place: for the image and each layer, block and offset in it of each row: `(rows, 2)`.
        sizes: variables of each block.
        between: of each layer, one matrix for each tap of the first axis.
    """

    strip: Strip
    place: tuple[Int[np.ndarray, "rows 2"], ...]
    sizes: tuple[int, ...]
    between: tuple[list[Matrix], ...]

    @staticmethod
    def of(strip: Strip) -> "Placed":
        every = strip.every
        stride, strides, height = 1, [1], 1
        for layer in every:
            reach = max(
                layer.before[0], layer.geometry.dilation[0] * (layer.K.shape[2] - 1) - layer.before[0]
            )
            height = max(height, stride * reach)
            stride *= layer.geometry.stride[0]
            strides.append(stride)
        counts = [every[0].image[0], *(layer.output[0] for layer in every)]
        blocks = [np.arange(n) * s // height for n, s in zip(counts, strides, strict=True)]
        numbers = np.unique(np.concatenate(blocks))
        widths = [every[0].K.shape[1] * every[0].geometry.groups * prod(every[0].image[1:])]
        widths += [len(layer.K) * prod(layer.output[1:]) for layer in every]
        filled, place = np.zeros(len(numbers), int), []
        for rows, width in zip(blocks, widths, strict=True):
            at = np.zeros((len(rows), 2), int)
            for r, block in enumerate(np.searchsorted(numbers, rows)):
                at[r] = block, filled[block]
                filled[block] += width
            place.append(at)
        return Placed(
            strip, tuple(place), tuple(filled.tolist()), tuple(layer.between_rows() for layer in every)
        )

    def width(self, layer: int) -> int:
        """Variables in a row of the image (0) or behind a layer."""
        return self.between[0][0].shape[1] if layer == 0 else len(self.between[layer - 1][0])

    def by_rows(self, v: Vector, layer: int) -> Float[np.ndarray, "rows width"]:
        """Numbers of the neurons of a layer, channels first, as rows of the image."""
        K, out = self.strip.every[layer - 1].K, self.strip.every[layer - 1].output
        return np.moveaxis(v.reshape(len(K), out[0], -1), 1, 0).reshape(out[0], -1)

    def couplings(self) -> Iterator[tuple[int, int, int, Matrix]]:
        """(layer, row behind, row in front, matrix) of all layers."""
        for k, layer in enumerate(self.strip.every, 1):
            for r, at, tap in layer.rows():
                yield k, r, at, self.between[k - 1][tap]

    def arrow(self, multipliers: Sequence[Vector], R: Matrix) -> Arrow | None:
        """The matrix that must be positive semidefinite, two roundings an entry at most; None if it does not fit the band."""
        m = 0 if self.strip.head is None else len(self.strip.head)
        found = Arrow.zeros(self.sizes, m)
        last = self.strip.last is not None
        rows = [self.by_rows(v, k) for k, v in enumerate(multipliers, 1)]
        for k, places in enumerate(self.place):
            n = self.width(k)
            for r, (block, at) in enumerate(places):
                i = range(at, at + n)
                output = last and k == len(self.place) - 1
                found.diagonal[block][i, i] = (
                    1.0 if k == 0 else R[0, 0] ** 2 if output else 2 * rows[k - 1][r]
                )
        for k, r, at, W in self.couplings():
            (a, i), (b, j) = self.place[k][r], self.place[k - 1][at]
            if abs(a - b) > 1:
                return None
            output = last and k == len(self.place) - 1
            C = W if output else -(self.strip.slopes[k - 1] * rows[k - 1][r])[:, None] * W
            found.couple(a, slice(i, i + len(W)), b, slice(j, j + W.shape[1]), C)
        if self.strip.head is not None:
            k, head = (
                len(self.place) - 1,
                self.strip.head.reshape(m, len(self.strip.layers[-1].K), self.place[-1].shape[0], -1),
            )
            n = self.width(k)
            for r, (block, at) in enumerate(self.place[k]):
                found.border[block][:, at : at + n] = head[:, :, r].reshape(m, n)
            C = R @ R.T
            found.corner[:] = (C + C.T) / 2
        return found

    def errors(self, R: Matrix) -> tuple[float, Vector]:
        """Relative error of every entry of `arrow`, and what the rows of its corner are off besides, in the sum of entries."""
        m = len(R)
        size = abs(R) @ (abs(R).T @ np.ones(m))
        return 4 * UNIT, gamma(m + 4) * size + 4 * m * TINY
