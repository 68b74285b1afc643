r"""`lower_lipschitz(module)`: by how much a module expands at least, proven; its bound as data, and the search for the rule.

$\lVert f(x) - f(y) \rVert \ge m \lVert x - y \rVert$ for all x and y. With as many outputs as inputs a continuous f with m > 0 is
invertible, and $1 / m$ is a Lipschitz constant of its inverse. Modules that may map two inputs to one output (ReLU, sorting, pooling, wide
matrices) are refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isfinite, sqrt
from typing import Any, TypeVar

import torch
from torch import nn

from sdplip.arithmetic.decimals import below
from sdplip.arithmetic.rounding import down
from sdplip.display import brief
from sdplip.errors import RefusedModule, SdplipError
from sdplip.nn.bounds.dispatch import Context, Shape, _check, _written_class, lipschitz
from sdplip.nn.given import module as given_module


@dataclass(frozen=True)
class LowerBound:
    r"""A proven lower bound of expansion (l2 to l2), rounded down, of the function that the weights define in exact arithmetic.

    Attributes:
        value: $m > 0$.
        reason: one sentence, why it holds.
        monotone: whether $\langle f(x) - f(y), x - y \rangle \ge m \lVert x - y \rVert^2$, too. Sums of monotone modules add theirs; a composition
            loses it.
        name: the module.
        parts: the bounds that this one is composed of.
    """

    value: float
    reason: str
    monotone: bool = False
    name: str = ""
    parts: tuple["LowerBound", ...] = ()

    __repr__ = brief("value", "name", "reason")

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        """The tree, one line a bound; numbers are shown rounded down."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield " ".join(word for word in (self.name, f">= {below(self.value, 8)}", f"({self.reason})") if word)
        for number, part in enumerate(self.parts, 1):
            last = number == len(self.parts)
            first, *rest = part._lines()
            yield ("└─ " if last else "├─ ") + first
            yield from (("   " if last else "│  ") + line for line in rest)


Rule = Callable[[Any, Context], LowerBound]
R = TypeVar("R", bound=Rule)


class LowerLipschitz:
    r"""`lower_lipschitz(module, input_shape=None) -> LowerBound`: m with $\lVert f(x) - f(y) \rVert \ge m \lVert x - y \rVert$, proven, or an error.

    What has a rule: `BiLipschitz`, `Residual` and `Sum` (one branch minus the others), `Concatenate`, compositions, matrices and circular convolutions by
    a proven least singular value (orthogonal ones too), invertible activations such as leaky ReLU, scales, shifts, moves of entries. With `input_shape`
    every other module that is small is tried: as one matrix where it is linear, else by one inequality (`sdplip.bounds.expansion`).

    Raises:
        RefusedModule: no positive number is proven, or the class has no rule; all that `lipschitz` refuses.
    """

    def __init__(self) -> None:
        self._rules: dict[type, Rule] = {}
        self._otherwise: Rule | None = None

    def __call__(self, module: nn.Module, *, input_shape: Shape | None = None) -> LowerBound:
        given_module("module", module)
        return self.of(module, Context(input_shape=None if input_shape is None else tuple(input_shape)))

    def register(self, *classes: type[nn.Module]) -> Callable[[R], R]:
        """Decorator that registers a rule `(module, context) -> LowerBound` for `classes` that `lipschitz` knows.

        Whoever registers a rule asserts that it is proven for the `forward` that the class had when `lipschitz` got its rule.
        `lower_lipschitz.part(context, child, "name", shape)` gives the bounds of submodules.
        """

        def decorate(rule: R) -> R:
            self._rules.update(dict.fromkeys(classes, rule))
            return rule

        return decorate

    def otherwise(self, rule: R) -> R:
        """Decorator of the rule for modules of all other classes."""
        self._otherwise = rule
        return rule

    def part(
        self, context: Context, module: nn.Module, name: str, input_shape: Shape | None = None
    ) -> LowerBound:
        """The lower bound of a submodule."""
        return self.of(module, below_context(context, name, input_shape))

    def of(self, module: nn.Module, context: Context) -> LowerBound:
        """The lower bound of a module where it runs."""
        rule = self._rules.get(lipschitz.registered(module) or object) if lipschitz.known(module) else None
        try:
            if rule is not None:
                _check(module, context)
            assert self._otherwise is not None
            found = (rule or self._otherwise)(module, context)
        except (RefusedModule, torch.OutOfMemoryError):
            raise
        except SdplipError as error:
            raise context.refuse(module, str(error)) from error
        except RuntimeError as error:
            raise context.refuse(module, f"torch cannot compute its numbers: {error}") from error
        if not (isfinite(found.value) and found.value > 0):
            raise context.refuse(
                module,
                f"no positive lower bound of its expansion is proven ({found.reason}). Different inputs may have one output.",
            )
        name = _written_class(module).__name__
        return (
            found if found.name else replace(found, name=f"{context.path}: {name}" if context.path else name)
        )


lower_lipschitz = LowerLipschitz()


def below_context(context: Context, name: str, input_shape: Shape | None) -> Context:
    """The context of a submodule."""
    return Context(f"{context.path}.{name}" if context.path else name, input_shape)


def product_below(values: tuple[float, ...]) -> float:
    """Product of nonnegative numbers, rounded down."""
    result = 1.0
    for value in values:
        result = _at_most(result * value, lambda a=result, b=value: Fraction(a) * Fraction(b))
    return result


def difference_below(a: float, b: float) -> float:
    """a - b, rounded down; minus infinity where b is infinite."""
    return _at_most(a - b, lambda: Fraction(a) - Fraction(b))


def sum_below(values: tuple[float, ...]) -> float:
    """Sum of nonnegative numbers, rounded down."""
    result = 0.0
    for value in values:
        result = _at_most(result + value, lambda a=result, b=value: Fraction(a) + Fraction(b))
    return result


def root_below(value: float) -> float:
    """Square root, rounded down."""
    root = sqrt(value)
    return root if Fraction(root) ** 2 <= Fraction(value) else down(root)


def _at_most(rounded: float, exact: Callable[[], Fraction]) -> float:
    """The double nearest to a number, or the one before it if that is above."""
    return rounded if not isfinite(rounded) or Fraction(rounded) <= exact() else down(rounded)
