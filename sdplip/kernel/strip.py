r"""Convolutions row by row of the image: a matrix that is banded, with one multiplier for every neuron.

For a strip of convolutions $W_1, \dots, W_h$ with activations of slopes in $[0, \beta_k]$ and multipliers $\lambda_k > 0$ let S
be the symmetric matrix over the image x and the outputs $v_k$ of the activations with blocks

    S_xx = I,    S_kk = 2 diag(lambda_k),    S_k,k-1 = -beta_k diag(lambda_k) W_k

and F what stands behind. Row r of an image meets rows near r only; so variables in the order of the rows of the image make S block
tridiagonal, a matrix F behind it is a border, and a last convolution one more layer of the band. Entries of kernels stand in S as they
are, so nothing is lost to unrolling; an entry beta lambda W has two roundings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import UNIT
from sdplip.arithmetic.semidefinite import Arrow
from sdplip.errors import NotProvable
from sdplip.network import Activation, Convolution, Network
from sdplip.shapes import Float, Int

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]
MOST = 1 << 27
"""Entries of the largest band: a gigabyte."""


@dataclass(frozen=True, eq=False)
class Band:
    """A symmetric matrix in floating point: blocks on the diagonal, `lower[k]` left of block k + 1, the border, and its corner."""

    diagonal: list[Matrix]
    lower: list[Matrix]
    border: list[Matrix]
    corner: Matrix

    @staticmethod
    def zeros(sizes: tuple[int, ...], m: int) -> "Band":
        return Band(
            [np.zeros((n, n)) for n in sizes],
            [np.zeros((b, a)) for a, b in pairwise(sizes)],
            [np.zeros((m, n)) for n in sizes],
            np.zeros((m, m)),
        )

    def couple(self, a: int, rows: slice, b: int, columns: slice, C: Matrix) -> None:
        """Writes C at rows of block a and columns of block b, which are the same or neighbours, and its transpose."""
        if a == b:
            self.diagonal[a][rows, columns] = C
            self.diagonal[a][columns, rows] = C.T
        elif a > b:
            self.lower[b][rows, columns] = C
        else:
            self.lower[a][columns, rows] = C.T


@dataclass(frozen=True, eq=False)
class Strip:
    """Convolutions with activations of slopes in [0, `slopes[k]`], and what stands behind: a convolution or a matrix.

    Attributes:
        layers: those with activations, first one first; each reads what the one before writes.
        slopes: the largest slope of each.
        last: a convolution behind them, or None.
        head: matrix `(m, channels * pixels)` behind them, or None.
    """

    layers: tuple[Convolution, ...]
    slopes: tuple[float, ...]
    last: Convolution | None = None
    head: Enclosure | None = None

    @property
    def every(self) -> tuple[Convolution, ...]:
        return self.layers if self.last is None else (*self.layers, self.last)

    @property
    def rows(self) -> int:
        """Of what stands behind: the order of R."""
        return 1 if self.head is None else len(self.head)

    def neurons(self) -> list[int]:
        """Multipliers of each layer: one for each output, channels first, then pixel rows."""
        return [layer.outputs for layer in self.layers]


def leading(network: Network) -> tuple[Strip, int]:
    """The longest strip that a network begins with, without what stands behind it, and the value where it ends.

    Raises:
        NotProvable: there is none.
    """
    layers, slopes, at = list[Convolution](), list[float](), 0
    for k in range(1, network.output, 2):
        op, act = network.made(k), network.made(k + 1)
        if not (
            isinstance(op.op, Convolution)
            and not op.op.circular
            and op.op.K.any()
            and op.inputs == (k - 1,)
            and isinstance(act.op, Activation)
            and act.inputs == (k,)
            and act.op.alpha.min() >= 0
            and network.users[k - 1] == (k,)
            and network.users[k] == (k + 1,)
        ):
            break
        layers.append(op.op)
        slopes.append(float(act.op.beta.max()))
        at = k + 1
    if not layers:
        raise NotProvable(
            "`banded` needs convolutions without circular padding, each followed by an activation of slopes between 0 and a bound."
        )
    return Strip(tuple(layers), tuple(slopes)), at


def tap_rows(layer: Convolution) -> Iterator[tuple[int, int, int]]:
    """(row behind, row in front, tap) wherever a tap of the first axis falls into the image."""
    for r, i in product(range(layer.output_size[0]), range(layer.K.shape[2])):
        at = r * layer.stride[0] - layer.pads[0][0] + i * layer.dilation[0]
        if 0 <= at < layer.image_size[0]:
            yield r, at, i


def between_rows(layer: Convolution) -> list[Matrix]:
    """For each tap of the first axis the matrix from one row of the image to one row behind, channels first."""
    m, n = layer.K.shape[:2]
    behind, front = layer.output_size[1:], layer.image_size[1:]
    stride, dilation, before = layer.stride[1:], layer.dilation[1:], [a for a, _ in layer.pads[1:]]
    blocks = np.zeros((layer.K.shape[2], m, prod(behind), n * layer.groups, prod(front)))
    pixels = np.array(list(np.ndindex(*behind)), int).reshape(prod(behind), len(behind))
    for taps in product(*map(range, layer.K.shape[3:])):
        at = (
            pixels * np.array(stride, int)
            - np.array(before, int)
            + np.array(taps, int) * np.array(dilation, int)
        )
        inside = ((at >= 0) & (at < np.array(front, int))).all(1)
        p = np.flatnonzero(inside)
        q = np.atleast_1d(np.ravel_multi_index(tuple(at[inside].T), front)) if behind else np.zeros(1, int)
        for o in range(m):
            c = o // (m // layer.groups) * n + np.arange(n)
            for i in range(layer.K.shape[2]):
                blocks[i, o, p[:, None], c, q[:, None]] = layer.K[(o, slice(None), i, *taps)]
    return list(blocks.reshape(layer.K.shape[2], m * prod(behind), -1))


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
            reach = max(layer.pads[0][0], layer.reach[0] - layer.pads[0][0])
            height = max(height, stride * reach)
            stride *= layer.stride[0]
            strides.append(stride)
        counts = [every[0].image_size[0], *(layer.output_size[0] for layer in every)]
        blocks = [np.arange(n) * s // height for n, s in zip(counts, strides, strict=True)]
        numbers = np.unique(np.concatenate(blocks))
        widths = [every[0].channels * prod(every[0].image_size[1:])]
        widths += [len(layer.K) * prod(layer.output_size[1:]) for layer in every]
        filled, place = np.zeros(len(numbers), int), []
        for rows, width in zip(blocks, widths, strict=True):
            at = np.zeros((len(rows), 2), int)
            for r, block in enumerate(np.searchsorted(numbers, rows)):
                at[r] = block, filled[block]
                filled[block] += width
            place.append(at)
        return Placed(
            strip, tuple(place), tuple(filled.tolist()), tuple(between_rows(layer) for layer in every)
        )

    def width(self, layer: int) -> int:
        """Variables in a row of the image (0) or behind a layer."""
        return self.between[0][0].shape[1] if layer == 0 else len(self.between[layer - 1][0])

    def by_rows(self, v: Vector, layer: int) -> Float[np.ndarray, "rows width"]:
        """Numbers of the neurons of a layer, channels first, as rows of the image."""
        K, out = self.strip.every[layer - 1].K, self.strip.every[layer - 1].output_size
        return np.moveaxis(v.reshape(len(K), out[0], -1), 1, 0).reshape(out[0], -1)

    def couplings(self) -> Iterator[tuple[int, int, int, Matrix]]:
        """(layer, row behind, row in front, matrix) of all layers."""
        for k, layer in enumerate(self.strip.every, 1):
            for r, at, tap in tap_rows(layer):
                yield k, r, at, self.between[k - 1][tap]

    def matrix(self, multipliers: Sequence[Vector], corner: Matrix) -> Band:
        """The matrix in floating point; `corner` is its corner, or the number behind a last convolution.

        Raises:
            NotProvable: rows that do not fit the band.
        """
        head, last = self.strip.head, self.strip.last is not None
        m = 0 if head is None else len(head)
        found = Band.zeros(self.sizes, m)
        rows = [self.by_rows(v, k) for k, v in enumerate(multipliers, 1)]
        for k, places in enumerate(self.place):
            n = self.width(k)
            for r, (block, at) in enumerate(places):
                i = range(at, at + n)
                output = last and k == len(self.place) - 1
                found.diagonal[block][i, i] = (
                    1.0 if k == 0 else corner[0, 0] if output else 2 * rows[k - 1][r]
                )
        for k, r, at, W in self.couplings():
            (a, i), (b, j) = self.place[k][r], self.place[k - 1][at]
            if abs(a - b) > 1:
                raise NotProvable("The rows of these convolutions do not make a band.")
            output = last and k == len(self.place) - 1
            C = W if output else -(self.strip.slopes[k - 1] * rows[k - 1][r])[:, None] * W
            found.couple(a, slice(i, i + len(W)), b, slice(j, j + W.shape[1]), C)
        if head is not None:
            for r, (block, at) in enumerate(self.place[-1]):
                found.border[block][:, at : at + self.width(len(self.place) - 1)] = self.row(head.mid, r)
            found.corner[:] = (corner + corner.T) / 2
        return found

    def row(self, F: Matrix, r: int) -> Matrix:
        """The columns of a matrix behind the strip that read row r of the image."""
        m = len(F)
        return F.reshape(m, len(self.strip.layers[-1].K), self.place[-1].shape[0], -1)[:, :, r].reshape(m, -1)

    def enclosed(self, multipliers: Sequence[Vector], R: Matrix) -> Arrow:
        """The matrix that must be positive semidefinite, with the rounding of its own formation.

        Raises:
            NotProvable: rows that do not fit the band.
        """
        worth = Enclosure.exact(R) @ Enclosure.exact(R).T
        found = self.matrix(multipliers, worth.mid)
        border = [Enclosure.exact(F) for F in found.border]
        head = self.strip.head
        if head is not None:
            radius = head.radius()
            errors = [np.zeros_like(F) for F in found.border]
            for r, (block, at) in enumerate(self.place[-1]):
                errors[block][:, at : at + self.width(len(self.place) - 1)] = self.row(radius, r)
            border = [Enclosure(F, E) for F, E in zip(found.border, errors, strict=True)]
        relative = 6 * UNIT + (
            0.0 if head is not None else float(worth.radius()[0, 0] / max(worth.mid[0, 0], 1e-300))
        )
        return Arrow(
            [Enclosure.of(A, relative) for A in found.diagonal],
            [Enclosure.of(B, relative) for B in found.lower],
            border,
            worth if head is not None else Enclosure.exact(found.corner),
        )
