r"""`forward_error(model, bound)`: how far computed logits are from exact ones, proven, at an image and everywhere around it.

    >>> analysis = forward_error(network, bound)          # once a network
    >>> logits, error = analysis(x)                       # once a batch; `error` goes to `certified_radius`

What is assumed of the machine: IEEE arithmetic of one format with rounding to nearest; sums of products in any order, with or
without fused multiply-add; underflow may flush to zero. Fast convolutions (Winograd, FFT), TF32 and bfloat16 passes do not
compute that way: run it in `plain_arithmetic()`.

A rule for a module of your own, next to that of `lipschitz`:

    >>> @forward_error.register(MyModule)
    ... def _(module, bound, context):
    ...     return lambda z, norm, distance: (module(z), Affine.zero(z))      # this one moves entries, and rounds nothing
"""

# Note [forward error]. f = f_K ... f_1 in exact arithmetic, g = g_K ... g_1 as computed, h_k(x) = g_k ... g_1 x. A rule bounds
# what its own module adds: |g_k(z) - f_k(z)| <= delta_k(r) for every z = h_{k-1}(x') with |x' - x| <= r. Then with the proven
# bounds L_k of the f_k
#     E_k(r) = L_k E_{k-1}(r) + delta_k(r)                    bounds |h_k(x') - f_k ... f_1 x'|, and
#     D_k(r) = L_k D_{k-1}(r) + delta_k(r) + delta_k(0)       bounds |h_k(x') - h_k(x)|, with D_0(r) = r.
# delta_k grows with |z| <= |h_{k-1}(x)| + D_{k-1}(r), of which the first is measured. All of them are affine in r, because rules
# are affine in norms: an `Affine` holds a number a sample and the slope, which no sample changes.
# For a margin: |(s_y - s_j) - exact| <= |u_y - u_j| E(r) + what the two sums of the head lose. If s are the computed logits at x,
# then class y is computed at every x' within r as long as s_y - s_j - error(0) - L_yj r - error(r) > 0.

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sdplip.arithmetic.rounding import GENEROUS, up
from sdplip.errors import RefusedModule
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.bounds.weights import effective, exact
from sdplip.nn.heads import LastLayerNormalised
from sdplip.robustness.absolute import FLOOR, FORMATS, Format, length_above
from sdplip.robustness.radii import MarginError, predictions

REACH = 2.0**20
"""Radii up to which overflow is excluded: no image of fewer than 2^40 pixels in [0, 1] is farther from another."""


@dataclass(frozen=True, eq=False)
class Affine:
    r"""$\mathrm{constant} + \mathrm{slope} \cdot r$, both nonnegative: one constant a sample, one slope for all."""

    constant: Float[np.ndarray, " batch"]
    slope: float

    @staticmethod
    def zero(x: Tensor) -> "Affine":
        """Nothing, for each sample of `x`."""
        return Affine(np.zeros(len(x)), 0.0)

    def __add__(self, other: "Affine | Float[np.ndarray, ' batch'] | float") -> "Affine":
        add = other if isinstance(other, Affine) else Affine(np.asarray(other), 0.0)
        return Affine((self.constant + add.constant) * ONCE, (self.slope + add.slope) * ONCE)

    def __rmul__(self, factor: float) -> "Affine":
        return Affine(self.constant * factor * ONCE, self.slope * factor * ONCE)


ONCE = 1 + 2.0**-50
"""Covers the rounding of one operation with nonnegative numbers."""

Step = Callable[[Tensor, Affine, Affine], tuple[Tensor, Affine]]
"""`(z, norm, distance) -> (g(z), delta)`: the output of a module as it computes, and what it adds to the error, see Note
[forward error]. `norm` bounds the length of the inputs that the module computes with, `distance` how far they are from `z`."""


@dataclass(frozen=True)
class RoundingContext:
    """Where a rule runs: the dotted name of the module, and the format in which it computes."""

    path: str
    format: Format

    def below(self, name: str) -> "RoundingContext":
        """The context of a submodule."""
        return RoundingContext(f"{self.path}.{name}" if self.path else name, self.format)

    def refuse(self, module: nn.Module, why: str) -> RefusedModule:
        """The error to raise: `why` says what is missing."""
        return RefusedModule(
            f"`{self.path}` ({type(module).__name__}) has no proven rounding error: {why} Certify in float64, or register a"
            " rule with `forward_error.register`."
        )


Rule = Callable[[Any, Bound, RoundingContext], Step]
R = TypeVar("R", bound=Rule)
RULES: dict[type, Rule] = {}
"""By the very class whose `forward` the rule of `lipschitz` speaks about; no rule is inherited."""


class ForwardError:
    """`forward_error(model, bound) -> Analysis`, see above."""

    def register(self, *classes: type[nn.Module]) -> Callable[[R], R]:
        """Decorator that registers a rule `(module, bound, context) -> Step` for `classes`, which `lipschitz` knows."""

        def decorate(rule: R) -> R:
            RULES.update(dict.fromkeys(classes, rule))
            return rule

        return decorate

    def __call__(self, model: nn.Module, bound: Bound) -> "Analysis":
        """The analysis of `model` in the format of its weights.

        Args:
            bound: the `lipschitz(model)` of this very model, which has checked it.

        Raises:
            RefusedModule: a module has no rule, or the weights have no common format.
        """
        format = _format(model)
        context = RoundingContext("", format)
        if not (
            lipschitz.known(model) and isinstance(model, nn.Sequential) and len(model) and is_head(model[-1])
        ):
            return Analysis(chain([model], [bound], [context]), None)
        *layers, last = model._modules
        below = [context.below(name) for name in layers]
        backbone = chain([*model][:-1], bound.parts[:-1], below)
        return Analysis(backbone, _head(model[-1], last, format))


forward_error = ForwardError()


def _format(model: nn.Module) -> Format:
    """The one format of all weights."""
    dtypes = {t.dtype for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()}
    if len(dtypes) != 1 or not dtypes <= set(FORMATS):
        raise RefusedModule(
            f"The weights have the types {sorted(map(str, dtypes))}, not one of float32 and float64. Convert the model with"
            " `.float()` or `.double()`."
        )
    return FORMATS[dtypes.pop()]


def output_error(model: nn.Module, bound: Bound) -> "Flow":
    """`flow(x, distance) -> (y, error, distance of the outputs)`: the error of the outputs themselves, where there are no margins.

    Raises:
        RefusedModule: as `forward_error`.
    """
    analysis = forward_error(model, bound)
    if analysis.head is None:
        return analysis.flow
    return chain([model], [bound], [RoundingContext("", _format(model))])


Flow = Callable[[Tensor, Affine], tuple[Tensor, Affine, Affine]]
"""`(z, distance) -> (output, error, distance of the outputs)` of several modules."""


def chain(modules: Sequence[nn.Module], bounds: Sequence[Bound], contexts: Sequence[RoundingContext]) -> Flow:
    """Modules one after another, by Note [forward error]."""
    parts = [
        (_rule(module, context)(module, bound, context), bound.value)
        for module, bound, context in zip(modules, bounds, contexts, strict=True)
    ]

    def flow(z: Tensor, distance: Affine) -> tuple[Tensor, Affine, Affine]:
        error = Affine.zero(z)
        for local, L in parts:
            z, delta = local(z, distance + lengths(z), distance)
            error = L * error + delta
            distance = L * distance + delta + delta.constant
        return z, error, distance

    return flow


def _rule(module: nn.Module, context: RoundingContext) -> Rule:
    cls = lipschitz.registered(module)
    if cls not in RULES or not lipschitz.known(module):  # a rule speaks about the forward of its class
        raise context.refuse(module, "no rule is registered for this class.")
    return RULES[cls]


def lengths(z: Tensor) -> Float[np.ndarray, " batch"]:
    """Euclidean length of each sample, rounded up."""
    return z.detach().double().flatten(1).norm(dim=1).cpu().numpy() * GENEROUS + FLOOR


@dataclass(frozen=True, eq=False)
class Head:
    """A last linear layer, and what the margins of its logits lose.

    Attributes:
        module: the layer.
        apart: `(classes, classes)`, distances of its rows.
        length, bias: `(classes,)`, lengths of the rows, absolute values of the bias.
        gamma, tiny: relative and absolute error of one sum.
    """

    module: nn.Module
    apart: Float[np.ndarray, "classes classes"]
    length: Float[np.ndarray, " classes"]
    bias: Float[np.ndarray, " classes"]
    gamma: float
    tiny: float

    def lost(
        self, winner: Int[np.ndarray, " batch"], error: Affine, norm: Affine
    ) -> tuple[Float[np.ndarray, "batch classes"], Float[np.ndarray, "batch classes"]]:
        """Constant and slope of what the margins of the winner lose, given error and length of the features."""
        sums = self.gamma * (norm.constant[:, None] * self.length + self.bias) + self.tiny
        steep = self.gamma * norm.slope * self.length
        own = np.take_along_axis(sums, winner[:, None], 1)
        apart = self.apart[winner]
        return (
            (apart * error.constant[:, None] + own + sums) * GENEROUS,
            (apart * error.slope + steep[winner][:, None] + steep) * GENEROUS,
        )


@dataclass(frozen=True, eq=False)
class Analysis:
    """The forward error of one network, to be called on batches in the format of its weights.

    Attributes:
        flow: everything before the head, or the whole network if it has none.
        head: the last linear layer.
    """

    flow: Flow
    head: Head | None

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, MarginError]:
        """The logits as computed, and what the margins lose in one evaluation at an image up to `r` away."""
        z, error, distance = self.flow(x, Affine(np.zeros(len(x)), 1.0))
        if self.head is None:
            pair = up(2**0.5) * error
            each = np.ones((len(z), max(2, z.shape[1])))
            return z, MarginError(pair.constant[:, None] * each, pair.slope * each)
        logits = self.head.module(z)
        return logits, MarginError(*self.head.lost(predictions(logits), error, distance + lengths(z)))

    @torch.no_grad()
    def everywhere(self, x: Tensor) -> tuple[Tensor, Float[np.ndarray, " batch"]]:
        """The logits as computed, and by how much the margin of any two classes is off, in this one evaluation."""
        z, error, distance = self.flow(x, Affine(np.zeros(len(x)), 1.0))
        if self.head is None:
            return z, up(2**0.5) * ONCE * error.constant
        norm, classes = distance + lengths(z), len(self.head.bias)
        each = [self.head.lost(np.full(len(x), k), error, norm)[0].max(1) for k in range(classes)]
        return self.head.module(z), np.max(each, 0)


def is_head(module: nn.Module) -> bool:
    """Whether a last module has pairwise constants."""
    return lipschitz.known(module) and lipschitz.registered(module) in (nn.Linear, LastLayerNormalised)


def _head(module: Any, name: str, format: Format) -> Head:
    context = Context(name)
    U = (
        exact(module.rows().detach(), module, "rows", context)
        if isinstance(module, LastLayerNormalised)
        else effective(module, "weight", context)
    )
    bias = np.zeros(len(U)) if module.bias is None else abs(effective(module, "bias", context))
    if len(U) == 1:  # one logit, read as 0 and itself
        U, bias = np.concatenate([0 * U, U]), np.concatenate([[0.0], bias])
    apart = np.stack([length_above(u - U) for u in U])
    terms = U.shape[1] + 1
    return Head(module, apart, length_above(U), bias, format.gamma(terms), 4 * terms * format.tiny)
