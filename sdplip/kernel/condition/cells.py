r"""Cells that cover all frequencies: what is proven at their centers holds everywhere.

For fixed v, $p(\omega) = v^* M^* M v$ is a nonnegative trigonometric polynomial of degree $D_k$ on axis k. Let S be the largest
$\lambda_{\max}(\omega)$ of all frequencies (of $M^* M$ relative to T), attained at $\omega^*$ with the vector v. Along a straight line,
$p(\omega^* + s x)$ is of exponential type $\sum_k D_k |x_k|$ in s, and $|p - S / 2| \le S / 2$; M. Riesz' lemma (for such functions:
Boas, *Entire Functions*, 11.4) says that it falls off from its maximum no faster than a cosine,

$$ p(\omega^* + x) \ge S\,\frac{1 + \cos r}{2}, \qquad r = \sum_k D_k |x_k| \le \pi . $$

If $\omega^*$ lies in a cell with center $\omega_c$ and radius $r_c$ in that sense, $S \le 2 \lambda_{\max}(\omega_c) / (1 + \cos r_c)$. So
$\lambda_{\max}(\omega_c) \le \kappa (1 + \cos r_c) / 2$ for all cells of a cover proves $S \le \kappa$. A cell that fails is divided; far from the
peaks large cells do.

**Cells.** On a lattice of even sizes $N_k$ the diamonds $\sum_k |\omega_k - \omega_{c,k}| / h_k \le 1$, $h_k = 2 \pi / N_k$, around the points of odd
coordinate sum tile the line and the plane; $r_c = \max_k D_k h_k$. On the lattice twice as fine the diamonds around $2 c \pm e_k$
tile the one around c, and their coordinate sums are odd again. With three axes, planes at all points of the lattice of the first axis come before: they
cost the factor $(1 + \cos(\pi D_1 / N_1)) / 2$, because S of the nearest plane is at least that much of S. Axes of degree 0 have one point.
Of conjugate cells, whose matrices are conjugate, one is looked at.
"""

from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.rounding import down
from sdplip.arithmetic.twiddle import ERROR, table
from sdplip.errors import NotProvable, UnsupportedConvolution
from sdplip.kernel.condition.spectrum import Spectrum
from sdplip.kernel.condition.symbol import Lattice, Points, halved, lattice_points

Cells = list[tuple[int, Points]]
"""Cells that wait for a proof: level and centers."""

COARSEST = 1.3
"""Radius of the largest cells that are tried."""
FINEST = 1 << 16
"""Points of the finest lattice on one axis; its table of cosines takes a tenth of a second."""
WORK = 4e12
"""Operations after which a proof is given up: a minute or two."""


@dataclass(frozen=True, eq=False)
class Cover:
    """Centers to begin with, and for each level its lattice and the share of kappa that its centers must not exceed.

    `every` says whether all frequencies are covered, not only those of one lattice.
    """

    every: bool
    base: Points
    lattices: tuple[Lattice, ...]
    shares: tuple[float, ...]
    axes: tuple[int, ...] = ()

    def children(self, centers: Points) -> Points:
        """The cells of the next level into which cells are divided."""
        steps = []
        for axis in self.axes:
            for sign in (1, -1):
                step = np.zeros(centers.shape[1], centers.dtype)
                step[axis] = sign
                steps.append(step)
        doubled = np.ones(centers.shape[1], centers.dtype)
        doubled[list(self.axes)] = 2
        return (centers[:, None] * doubled + np.array(steps)).reshape(-1, centers.shape[1])


def every_frequency(degrees: Lattice, finest: Lattice) -> Cover:
    """A cover of all frequencies down to a finest lattice, see `lattice_for`.

    Raises:
        UnsupportedConvolution: it is too coarse, or too fine.
    """
    finest = lattice_for(degrees, finest)
    lattices, outer, inner = levels(degrees, finest)
    fixed = 1.0
    for k in outer:
        fixed *= (1 + float(table(2 * finest[k])[0][degrees[k]]) - ERROR) / 2
    shares = []
    for sizes in lattices:
        cos = min((float(table(sizes[k])[0][degrees[k]]) - ERROR for k in inner), default=1.0)
        shares.append(down(fixed * (1 + cos) / 2 * (1 - 2.0**-50)))
    if not min(shares) > 0.05:
        raise UnsupportedConvolution(
            f"The `grid` {finest} is too coarse for a kernel of degrees {degrees}. Choose a finer one."
        )
    if np.prod(np.array(lattices[0], float)) > 1 << 20:
        raise UnsupportedConvolution(
            f"The `grid` {finest} has too many points. Choose multiples of a high power of two."
        )
    points = lattice_points(lattices[0])
    if inner:
        points = points[points[:, inner].sum(1) % 2 == 1]
    return Cover(True, halved(points, lattices[0]), lattices, tuple(shares), inner)


def levels(degrees: Lattice, finest: Lattice) -> tuple[tuple[Lattice, ...], tuple[int, ...], tuple[int, ...]]:
    """The lattices of all levels, coarsest first; the axes of planes and those of cells.

    Sizes are halved while they stay even and cells no larger than `COARSEST`.
    """
    active = tuple(k for k, degree in enumerate(degrees) if degree)
    outer, inner = active[:-2], active[-2:]
    lattices = [finest]
    while inner and all(
        lattices[0][k] % 4 == 0 and 4 * np.pi * degrees[k] <= COARSEST * lattices[0][k] for k in inner
    ):
        lattices.insert(0, tuple(n // 2 if k in inner else n for k, n in enumerate(lattices[0])))
    return tuple(lattices), outer, inner


def lattice_for(degrees: Lattice, points: Lattice) -> Lattice:
    """The finest lattice that `points` on each axis ask for: even, and 1 on axes of degree 0.

    Raises:
        UnsupportedConvolution: too coarse, too fine, or another number of axes.
    """
    if len(points) != len(degrees) or any(
        isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 2 * degree + 1 or n > FINEST
        for n, degree in zip(points, degrees, strict=True)
    ):
        raise UnsupportedConvolution(
            f"`grid` must have {len(degrees)} entries above twice the kernel's degrees {degrees} and at most {FINEST}, but is"
            f" {tuple(points)}."
        )
    return tuple(1 if degree == 0 else int(n) + int(n) % 2 for n, degree in zip(points, degrees, strict=True))


def all_points(lattice: Lattice) -> Cover:
    """Every point of a lattice, for images of one size; nothing lies between them."""
    return Cover(False, halved(lattice_points(lattice), lattice), (lattice,), (1.0,))


def unproven(spectrum: Spectrum, kappa: float, cover: Cover, cells: Cells | None = None) -> Cells:
    r"""What is left of `cells` (of the whole cover if None) when $\kappa$ is proven for as many as possible: nothing if it holds.

    Ends at the first cell of the finest level that fails, which is then in the last entry. What was proven for one $\kappa$ stays
    proven for larger ones.

    Raises:
        NotProvable: it would take too long.
    """
    cells, left = [(0, cover.base)] if cells is None else list(cells), WORK
    while cells:
        level, centers = cells.pop()
        some, rest = centers[: spectrum.chunk], centers[spectrum.chunk :]
        if len(rest):
            cells.append((level, rest))
        left -= len(some) * spectrum.work
        if left < 0:
            raise NotProvable(
                "This bound of a convolution takes too many frequencies to prove. Choose a coarser `grid`."
            )
        good = spectrum.below(down(kappa * cover.shares[level]), some, cover.lattices[level])
        bad = some[~good]
        if not len(bad):
            continue
        if level + 1 == len(cover.lattices):
            cells.append((level, bad))
            return cells
        cells.append((level + 1, cover.children(bad)))
    return cells


class Attempt:
    """A proof in progress: what was proven for one kappa stays proven for larger ones."""

    def __init__(self, spectrum: Spectrum, cover: Cover) -> None:
        self.spectrum, self.cover = spectrum, cover
        self._cells: Cells | None = None
        self._kappa = 0.0

    def raised(self, kappa: float) -> Cells:
        """What is left to prove for this kappa, or a larger one that was tried before: nothing if it holds.

        Raises:
            NotProvable: it would take too long.
        """
        self._kappa = max(self._kappa, kappa)
        self._cells = unproven(self.spectrum, self._kappa, self.cover, self._cells)
        return list(self._cells)

    @property
    def proven(self) -> float:
        """The kappa that is proven, infinite while something is left."""
        return np.inf if self._cells is None or self._cells else self._kappa
