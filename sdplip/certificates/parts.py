r"""Networks proven part by part: trunks of convolutions with what is behind them, and the parts between maxima over windows.

Maxima over windows lengthen no difference by more than $\sqrt\nu$, where no pixel lies in more than $\nu$ windows. So the product
of the constants of the parts between them, of these roots, and of the slopes that stand alone is a constant of the whole.

A part has one of six proofs. Three need nothing but the weights and are computed again ("product", "composite", "layers"); the
others hold multipliers: of a chain of matrices (`network.py`), or of a trunk (`trunk.py`, `strip.py`) with the matrix R that it
is worth and the proof of the chain that begins with R.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from sdplip.certificates.composite import certify_composite
from sdplip.certificates.network import Slopes, certify_product, network_holds, spectral_norm_above
from sdplip.certificates.rounding import up
from sdplip.certificates.strip import Strip, strip_holds
from sdplip.certificates.trunk import Trunk, trunk_holds
from sdplip.geometry import Geometry
from sdplip.proposals.convolution import certify_convolution

Kind = Literal["product", "composite", "layers", "multipliers", "trunk", "strip"]
CLOSED: tuple[Kind, ...] = ("product", "composite", "layers")
"""Proofs that hold no multipliers: the kernel computes the bound from the weights alone."""
ROOM = 1e-9
"""By which a file claims more than such a computation gave, relative: another BLAS rounds otherwise."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A convolution by its kernel, `(out, in / groups, *taps)`, on images of the size that the geometry says."""

    K: np.ndarray
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class Matrix:
    r"""Any matrix $W^*$ with $\lVert W^* - W \rVert_2 \le$ `error`."""

    W: Float[np.ndarray, "m n"]
    error: float = 0.0


Factor = Kernel | Matrix | float
"""What multiplies a length: a layer, or the largest slope of an activation."""


@dataclass(frozen=True, eq=False)
class ChainPart:
    """Matrices with activations between them; `remainder` is to be added to every bound of the chain."""

    weights: tuple[Float[np.ndarray, "m n"], ...]
    slopes: tuple[Slopes, ...]
    remainder: float = 0.0


@dataclass(frozen=True, eq=False)
class LayersPart:
    """The layers of a part one by one."""

    factors: tuple[Factor, ...]


@dataclass(frozen=True, eq=False)
class TrunkPart:
    """A trunk or strip, and the matrices behind its head with their slopes; `remainder` is to be added to every bound."""

    trunk: Trunk | Strip
    behind: tuple[Float[np.ndarray, "m n"], ...]
    slopes: tuple[Slopes, ...]
    remainder: float = 0.0

    def tail(self, R: Float[np.ndarray, "m m"]) -> ChainPart:
        """What stands behind the trunk, where it is worth `R`."""
        return ChainPart((R, *self.behind), self.slopes)


Part = ChainPart | LayersPart | TrunkPart


@dataclass(frozen=True, eq=False)
class PartProof:
    """Why the constant of a part is at most `bound`.

    Attributes:
        kind: of the proof.
        bound: what is claimed of the part, remainder included.
        inner: of "multipliers" the bound of the chain, without remainder.
        multipliers: of "multipliers" one vector a hidden layer; of "trunk" and "strip" one a convolution with an activation, with
            one number a channel or a neuron.
        slopes: of "multipliers" those that were certified, which contain those of the network.
        front: of "trunk" and "strip" the matrix R; one number behind a last convolution.
        tail: of the same the proof of the chain that begins with R; None behind a last convolution.
    """

    kind: Kind
    bound: float
    inner: float = 0.0
    multipliers: tuple[np.ndarray, ...] = ()
    slopes: tuple[Slopes, ...] = ()
    front: Float[np.ndarray, "m m"] | None = None
    tail: "PartProof | None" = None


def composed(bounds: Iterable[float], overlap: int, slopes: Iterable[float]) -> float:
    """The product of the constants of the parts, of the root of `overlap`, and of slopes that stand alone, rounded up."""
    value = 1.0 if overlap == 1 else up(float(np.sqrt(overlap)))
    for factor in (*slopes, *bounds):
        value = up(value * factor) if factor != 1.0 else value
    return value


def certify_factors(factors: Iterable[Factor]) -> float:
    """The product of proven norms, of kernels frequency by frequency, and of slopes, rounded up; infinite where it overflows."""
    bound = 1.0
    for factor in factors:
        bound = up(bound * _norm(factor))
    return bound


def closed_form(part: Part, kind: Kind) -> float:
    """The bound of a kind in `CLOSED`, computed from the weights.

    Raises:
        NotProvable: it leaves the range of double precision.
    """
    if isinstance(part, LayersPart):
        return certify_factors(part.factors)
    assert isinstance(part, ChainPart)
    value = (certify_product if kind == "product" else certify_composite)(part.weights, part.slopes)
    return up(value + part.remainder) if part.remainder else value


def part_holds(part: Part, proof: PartProof) -> bool:
    """True only if the kernel proves `proof.bound` of `part` in the way that the proof says.

    Raises:
        SdplipError: numbers that are no proof: shapes that do not fit, multipliers that are not positive.
    """
    if isinstance(part, LayersPart):
        return proof.kind == "layers" and closed_form(part, proof.kind) <= proof.bound
    if isinstance(part, ChainPart):
        if proof.kind in ("product", "composite"):
            return closed_form(part, proof.kind) <= proof.bound
        total = up(proof.inner + part.remainder) if part.remainder else proof.inner
        return (
            proof.kind == "multipliers"
            and total <= proof.bound
            and covers(proof.slopes, part.slopes)
            and network_holds(part.weights, proof.multipliers, proof.slopes, proof.inner)
        )
    R = proof.front
    if R is None or len(proof.multipliers) != len(part.trunk.kernels) or not _is_worth(part.trunk, proof, R):
        return False
    if part.trunk.head is None:
        return float(R[0, 0]) <= proof.bound
    if proof.tail is None or not part_holds(part.tail(R), proof.tail):
        return False
    total = up(proof.tail.bound + part.remainder) if part.remainder else proof.tail.bound
    return total <= proof.bound


def _is_worth(trunk: Trunk | Strip, proof: PartProof, R: Float[np.ndarray, "m m"]) -> bool:
    if not (R.ndim == 2 and np.isfinite(R).all()):
        return False
    if isinstance(trunk, Strip):
        return proof.kind == "strip" and strip_holds(trunk, proof.multipliers, R)
    return proof.kind == "trunk" and trunk_holds(trunk, proof.multipliers, R)


def covers(claimed: Sequence[Slopes], own: Sequence[Slopes]) -> bool:
    """Whether the slopes of every layer lie within the claimed ones."""
    if len(claimed) != len(own):
        return False
    pairs = [(a, b, alpha, beta) for (a, b), (alpha, beta) in zip(claimed, own, strict=True)]
    if any(np.ndim(a) and np.ndim(alpha) and np.shape(a) != np.shape(alpha) for a, _, alpha, _ in pairs):
        return False
    return all(np.all(a <= alpha) and np.all(beta <= b) for a, b, alpha, beta in pairs)


def _norm(factor: Factor) -> float:
    if isinstance(factor, Kernel):
        ones = np.ones(factor.K.shape[1] * factor.geometry.groups)
        return certify_convolution(factor.K, ones, factor.geometry).c if factor.K.any() else 0.0
    if isinstance(factor, Matrix):
        norm = spectral_norm_above(factor.W)
        return up(norm + factor.error) if factor.error else norm
    return factor


def arrays(part: Part) -> Sequence[np.ndarray]:
    """The weights of a part, in its order: what a file of certificates has digests of."""
    if isinstance(part, LayersPart):
        return [f.K if isinstance(f, Kernel) else f.W for f in part.factors if isinstance(f, Kernel | Matrix)]
    if isinstance(part, ChainPart):
        return part.weights
    head = () if part.trunk.head is None else (part.trunk.head,)
    return (*part.trunk.kernels, *part.trunk.last_kernels, *head, *part.behind)
