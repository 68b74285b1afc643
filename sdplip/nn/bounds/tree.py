"""The bound of a module as data: a number, the sentence that says why, and the bounds that it rests on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf, isfinite, sqrt

from sdplip.arithmetic.decimals import above
from sdplip.arithmetic.rounding import up
from sdplip.display import brief, html
from sdplip.kernel.condition import Certificate


@dataclass(frozen=True)
class Bound:
    r"""A proven upper bound of the Lipschitz constant (l2 to l2) of a module, rounded outward.

    It speaks about the function that the weights define in exact arithmetic; the rounding of a forward pass comes on top.

    Attributes:
        value: the bound.
        reason: one sentence, why it holds.
        name: the module, for example "0: Linear(64 -> 10)".
        parts: the bounds that this one is composed of.
        others: further valid bounds of the same module, which are larger.
        certificate: what the trusted kernel proved, where this bound is a proof about one weight.
        head: of a forward that was followed, the name of the module that makes the output, if the last of `parts` is its bound.
    """

    value: float
    reason: str
    name: str = ""
    parts: tuple["Bound", ...] = ()
    others: tuple["Bound", ...] = ()
    certificate: Certificate | None = None
    head: str = ""

    __repr__ = brief("value", "name", "reason")
    _repr_html_ = html

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        """The tree, one line a bound; numbers are shown rounded up."""
        return "\n".join(self._lines())

    def certificates(self) -> Iterator[tuple[str, Certificate]]:
        """Every certificate of the tree that the bound rests on, with the name of its module."""
        if self.certificate is not None:
            yield self.name, self.certificate
        for part in self.parts:
            yield from part.certificates()

    def _lines(self, label: str = "") -> Iterator[str]:
        yield " ".join(
            word for word in (label, self.name, f"<= {shown(self.value)}", f"({self.reason})") if word
        )
        below = [("", part) for part in self.parts] + [("also valid:", other) for other in self.others]
        for number, (mark, bound) in enumerate(below, 1):
            last = number == len(below)
            first, *rest = bound._lines(mark)
            yield ("└─ " if last else "├─ ") + first
            yield from (("   " if last else "│  ") + line for line in rest)


def shown(value: float) -> str:
    """At most eight digits, rounded up, so that a printed bound is a bound."""
    return above(value, 8)


def best(*bounds: Bound) -> Bound:
    """The least of several valid bounds of one module; the others stay visible in `others`."""
    first, *rest = sorted(bounds, key=lambda bound: bound.value)
    return replace(first, others=first.others + tuple(rest))


def product_above(values: tuple[float, ...]) -> float:
    """Product of nonnegative numbers, rounded up."""
    result = 1.0
    for value in values:
        result = _at_least(result * value, lambda a=result, b=value: Fraction(a) * Fraction(b))
    return result


def sum_above(values: tuple[float, ...]) -> float:
    """Sum of nonnegative numbers, rounded up."""
    result = 0.0
    for value in values:
        result = _at_least(result + value, lambda a=result, b=value: Fraction(a) + Fraction(b))
    return result


def root_above(value: float) -> float:
    """Square root, rounded up."""
    root = sqrt(value)
    return root if root == inf or Fraction(root) ** 2 >= Fraction(value) else up(root)


def root_sum_square_above(values: tuple[float, ...]) -> float:
    """Root of the sum of squares, rounded up."""
    return root_above(sum_above(tuple(product_above((value, value)) for value in values)))


def quotient_above(numerator: float, denominator: float) -> float:
    """Quotient of positive numbers, rounded up."""
    return _at_least(numerator / denominator, lambda: Fraction(numerator) / Fraction(denominator))


def _at_least(rounded: float, exact: Callable[[], Fraction]) -> float:
    """The double nearest to a number, or the next one if that is below it."""
    return rounded if not isfinite(rounded) or Fraction(rounded) >= exact() else up(rounded)
