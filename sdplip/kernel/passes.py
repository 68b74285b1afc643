r"""How far a forward pass in floating point is from exact arithmetic, proven, around inputs: `pass_error`.

Assumed of the machine: IEEE arithmetic of one format, rounding to nearest, sums of products in any order, with or without fused
multiply-add; underflow may flush to zero. TF32, bfloat16 passes, Winograd and FFT convolutions do not compute that way.

Statement. Let g compute each node of f in such arithmetic, x' be within r of x, and write $f_v, g_v$ for value v. With a
Lipschitz constant $L_{ab}$ of what a span makes of its input (a single node, or several that a sub-proof bounds together),

    $|g_b(x') - f_b(x')| \le E_b(r) = L_{ab} E_a(r) + \delta_{ab}(r),$

where delta is what the span itself rounds at an input within $d_a(r) = \Lambda_a r + E_a(r)$ of $f_a(x)$, $\Lambda_a$ being a
constant from the input to a. One linear node with sums of k products and a shift: $\delta = \gamma_{k+2} (\lVert |A| \rVert\,
\lVert z \rVert + \lVert b \rVert)$, as $|fl(A z + b) - A z - b| \le \gamma_{k+2} (|A| |z| + |b|)$ entry by entry, with
$\lVert z \rVert \le \lVert f_a(x) \rVert + d_a(r)$. Everything is affine in r: `Affine` holds a number a sample and one slope.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.arithmetic.matrix import Enclosure, lengths
from sdplip.arithmetic.rounding import GENEROUS, up
from sdplip.errors import NotProvable
from sdplip.kernel.rules.closed import node_factor
from sdplip.network import (
    AbstractLinear,
    Activation,
    Average,
    Concatenate,
    Gather,
    Maximum,
    Network,
    Node,
    Norms,
    Operator,
    Sort,
    Sum,
)
from sdplip.shapes import Float

Vector = Float[np.ndarray, " batch"]

REACH = 2.0**20
"""Radii up to which overflow is excluded: no image of fewer than 2^40 pixels in [0, 1] is farther from another."""
FLOOR = 1e-100
"""Added to lengths: exceeds whatever double precision loses to underflow in them."""


@dataclass(frozen=True)
class Format:
    """A floating-point format: unit roundoff, smallest normal number, and the sizes at which overflow is not far."""

    name: str
    unit: float
    tiny: float
    large: float
    dtype: type

    def gamma(self, k: int) -> float:
        r"""$\gamma_k = k u / (1 - k u)$, rounded up (Higham 2002, Lemma 3.1).

        Raises:
            NotProvable: so many terms that nothing is left.
        """
        if k * self.unit > 0.25:
            raise NotProvable(f"Sums of {k} terms have no proven accuracy in {self.name}. Use float64.")
        return k * self.unit / (1 - k * self.unit) * GENEROUS


FORMATS: Mapping[str, Format] = {
    "float32": Format("float32", 2.0**-24, 2.0**-126, 2.0**100, np.float32),
    "float64": Format("float64", 2.0**-53, 2.0**-1022, 2.0**900, np.float64),
}
"""By the name that certificates call them."""


@dataclass(frozen=True, eq=False)
class Affine:
    r"""$\mathrm{constant} + \mathrm{slope} \cdot r$, both nonnegative: one constant a sample, one slope for all."""

    constant: Vector
    slope: float

    def __add__(self, other: "Affine") -> "Affine":
        return Affine((self.constant + other.constant) * GENEROUS, (self.slope + other.slope) * GENEROUS)

    def __rmul__(self, factor: float) -> "Affine":
        return Affine(self.constant * factor * GENEROUS, self.slope * factor * GENEROUS)


@dataclass(frozen=True, eq=False)
class Pass:
    """Bounds at one value: how far the computed one is from the exact one, and how far that may be from the one at x."""

    error: Affine
    apart: Affine


@dataclass(frozen=True)
class Span:
    """The part from value `start` to value `end`, which is `bound`-Lipschitz, proven."""

    start: int
    end: int
    bound: float


def pass_error(
    network: Network, spans: Mapping[int, Span], values: list[Enclosure], format: Format
) -> list[Pass]:
    """Errors of all values that spans begin or end with, around the inputs at which `values` are known.

    Args:
        network: its numbers must be those of the format.
        spans: by their ends; other nodes are taken one by one, which needs a closed form.
        values: from `kernel.evaluate.evaluate`, one batch.
        format: in which the network computes.

    Raises:
        NotProvable: numbers that the format does not hold, functions whose implementation nobody states, sizes near overflow.
    """
    batch = len(values[0].mid)
    nothing = Affine(np.zeros(batch), 0.0)
    found: list[Pass | None] = [Pass(nothing, Affine(np.zeros(batch), 1.0))]
    inside = {k for span in spans.values() for k in _numbers(network, span.start, span.end)} - set(spans)
    for k, node in enumerate(network.nodes, 1):
        if k in inside:
            found.append(None)
        elif k in spans:
            span = spans[k]
            start = _known(found, span.start)
            delta = _within(network, span, start, values, format)
            error = span.bound * start.error + delta
            found.append(Pass(error, span.bound * start.apart + delta))
        else:
            found.append(
                _node(node, [_known(found, i) for i in node.inputs], [values[i] for i in node.inputs], format)
            )
    return [p if p is not None else Pass(nothing, nothing) for p in found]


def _known(found: list[Pass | None], value: int) -> Pass:
    passed = found[value]
    if passed is None:
        raise NotProvable(f"A value inside of a span of the proof is used behind it (value {value}).")
    return passed


def _within(network: Network, span: Span, start: Pass, values: list[Enclosure], format: Format) -> Affine:
    """What the nodes of a span round themselves, with the errors that these make inside of it."""
    nothing = Affine(np.zeros(len(values[0].mid)), 0.0)
    part = network.between(span.start, span.end)
    numbers = _numbers(network, span.start, span.end)
    local = [Pass(nothing, start.apart)]
    for k, node in zip(numbers, part.nodes, strict=True):
        real = network.made(k)
        local.append(_node(node, [local[i] for i in node.inputs], [values[i] for i in real.inputs], format))
    return local[-1].error


def _numbers(network: Network, start: int, end: int) -> list[int]:
    """The values of a part, in its order."""
    wanted = {end}
    for k in range(end, start, -1):
        if k in wanted:
            wanted |= set(network.made(k).inputs)
    return sorted(wanted - {start})


def _node(node: Node, inputs: list[Pass], values: list[Enclosure], format: Format) -> Pass:
    """One node: what it makes of the errors in front of it, and what it rounds."""
    op = node.op
    size = [Affine(sizes(v), 0.0) + p.apart for v, p in zip(values, inputs, strict=True)]
    delta = _rounded(op, size, format, node.title)
    if isinstance(op, Sum | Concatenate):
        error, apart = _total([p.error for p in inputs]), _total([p.apart for p in inputs])
    else:
        factor = node_factor(op)
        factor = absolute_norm(op) if factor is None and isinstance(op, AbstractLinear) else factor
        if factor is None:
            raise NotProvable(f"{node.title} has no factor in closed form. Prove a span for it.")
        error, apart = factor * inputs[0].error, factor * inputs[0].apart
    _check_range(size, delta, format)
    return Pass(error + delta, apart + delta)


def _rounded(op: Operator, sizes: list[Affine], format: Format, title: str) -> Affine:
    """What one node rounds, given bounds of the lengths of its inputs."""
    nothing, z = Affine(np.zeros(len(sizes[0].constant)), 0.0), sizes[0]
    if isinstance(op, Gather | Concatenate | Sort | Maximum):
        return nothing
    if isinstance(op, Sum):
        return format.gamma(len(op.signs)) * _total(sizes) + _tiny(2 * op.length, nothing, format)
    if isinstance(op, Norms):
        n = op.groups.shape[1]
        return format.gamma(n + 8) * z + _tiny(0, nothing, format, n * op.outputs * format.tiny**0.5)
    if isinstance(op, Activation):
        roundings = FUNCTIONS[op.name].roundings if op.name else None
        if roundings is None:
            raise NotProvable(
                f"How {title} is computed is not stated: it calls functions of a library. Certify in exact arithmetic."
            )
        if not roundings:
            return nothing
        steep = float(np.maximum(abs(op.alpha), abs(op.beta)).max())
        offset = np.sqrt(op.outputs) * float(np.max(abs(op.value(np.zeros(op.length)))))
        size = steep * z + Affine(np.full(len(z.constant), offset), 0.0)
        return format.gamma(2 * roundings + 2) * size + _tiny(4 * op.outputs, nothing, format)
    if isinstance(op, AbstractLinear):
        check_numbers(op, format, title)
        terms = op.terms + (8 if op.error and not isinstance(op, Average) else 3)
        b = 0.0 if op.b is None else float(np.linalg.norm(op.b)) * GENEROUS
        size = absolute_norm(op) * z + Affine(np.full(len(z.constant), b), 0.0)
        return format.gamma(terms) * size + _tiny(4 * op.terms * op.outputs, nothing, format)
    raise NotProvable(f"The rounding of {title} is not known. Certify in exact arithmetic.")


def _tiny(count: int, nothing: Affine, format: Format, more: float = 0.0) -> Affine:
    return Affine(nothing.constant + (count + 4) * format.tiny + more + FLOOR, 0.0)


def _total(parts: list[Affine]) -> Affine:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _check_range(sizes: list[Affine], delta: Affine, format: Format) -> None:
    largest = max(float(s.constant.max(initial=0.0)) + s.slope * REACH for s in (*sizes, delta))
    if not largest < format.large:
        raise NotProvable(
            f"Values may come near the end of the range of {format.name}. Scale the network down."
        )


def check_numbers(op: Operator, format: Format, title: str) -> None:
    """The weights must be numbers of the format, or a run would round them first."""
    if format.dtype is np.float64 or not isinstance(op, AbstractLinear) or op.error:
        return
    arrays = [v for v in vars(op).values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    of = vars(op).get("of")
    if isinstance(of, AbstractLinear):
        check_numbers(of, format, title)
    if any((a.astype(np.float32) != a).any() for a in arrays):
        raise NotProvable(
            f"The weights of {title} are no numbers of {format.name}: a run in it would round them. Certify in float64."
        )


def absolute_norm(op: AbstractLinear, steps: int = 12) -> float:
    r"""A bound of $\lVert |A| \rVert_2$, operators only, tight to a few percent.

    Collatz and Wielandt: $\rho(|A|^\top |A|) \le \max_i (|A|^\top |A| d)_i / d_i$ for every positive d; the power method
    proposes d.
    """
    A = op.absolute()
    gained = (op.terms + op.adjoint_terms + 8) * 2.0**-52
    d = np.ones(A.inputs)
    for _ in range(steps):
        z = A.adjoint(A.apply(d))
        if not 0 < z.max() < np.inf:
            break
        d = np.maximum(z / z.max(), 1e-6)
    square = float((A.adjoint(A.apply(d)) / d).max())
    if not np.isfinite(square):
        raise NotProvable("The norm of the absolute values of a layer leaves the range of double precision.")
    return up(float(np.sqrt(square * (1 + gained) * GENEROUS + FLOOR**2)) * (1 + op.error) * GENEROUS)


def sizes(z: Enclosure) -> Vector:
    """Euclidean length of the exact values of each sample, rounded up."""
    return lengths(z.magnitude())
