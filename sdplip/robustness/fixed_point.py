r"""`fixed_point(f)`: the fixed point of a contraction, and how far from it the answer can be, proven.

With a proven constant $q < 1$, $x = f(x)$ has exactly one solution $x^*$ (Banach), and every point satisfies
$|x - x^*| \le |f(x) - x| / (1 - q)$: the residual of one evaluation bounds the error, whatever the iteration before was.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.arithmetic.decimals import above
from sdplip.arithmetic.rounding import GENEROUS, down
from sdplip.errors import InvalidProblem, NotProvable, RefusedModule
from sdplip.nn.bounds.dispatch import lipschitz
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.given import count, number, tensor
from sdplip.robustness.absolute import FLOOR
from sdplip.robustness.arithmetic import device_of, network_in, plain_arithmetic
from sdplip.robustness.certification import Rounding
from sdplip.robustness.forward_error import Affine, output_error
from sdplip.shapes import said, short


@dataclass(frozen=True, eq=False)
class FixedPoint:
    r"""Approximate fixed points, one a sample of the batch.

    Attributes:
        point: $x$, of the shape of the start.
        error: $|x - x^*|$ of each sample is at most this.
        residual: $|f(x) - x|$ of each sample as computed.
        rate: the proven constant $q < 1$ of the map.
        history: the largest residual of the batch at every point, the last one included.
        guaranteed: iterations after which exact arithmetic has an error of at most `tolerance`, by the first residual and `rate`
            alone.
        rounding: "proven" if `error` counts all rounding errors of the evaluation; "float64" if it does not: a module has no
            proven rounding error, or `f` is a function that nobody can look into.
    """

    point: Tensor
    error: Float[np.ndarray, " batch"]
    residual: Float[np.ndarray, " batch"]
    rate: float
    history: tuple[float, ...]
    guaranteed: int
    rounding: Rounding

    __repr__ = short

    @property
    def iterations(self) -> int:
        """Evaluations that led from the start to `point`."""
        return len(self.history) - 1


def fixed_point(
    f: nn.Module | Callable[[Tensor], Tensor],
    start: Tensor,
    rate: Bound | float | None = None,
    *,
    tolerance: float = 1e-9,
    limit: int = 100_000,
) -> FixedPoint:
    r"""The solution of $x = f(x)$ by iteration, with a proven error.

    Args:
        f: a contraction on samples of the shape of `start`. A module runs as a copy in double precision and eval mode, whose
            constant is proven; a function runs as it is.
        start: `(batch, ...)`; each sample has a fixed point of its own.
        rate: a proven constant of `f`: a `Bound`, or a number that you vouch for, needed where `f` is a function; None for the
            `lipschitz` of a module.
        tolerance: the error at which to stop. Rounding may stand in the way: `error` is proven whether it is reached or not.
        limit: iterations after which to stop in any case.

    Raises:
        NotProvable: the constant is 1 or more, so no solution need exist.
        InvalidProblem: `f` changes the shape or returns what is not finite; no rate for a function.
        RefusedModule: the module has no Lipschitz bound.
    """
    start, tolerance, limit = tensor("start", start), number("tolerance", tolerance), count("limit", limit, 0)
    if (
        start.ndim < 2
        or not start.numel()
        or not start.is_floating_point()
        or not bool(start.isfinite().all())
    ):
        raise InvalidProblem(
            f"`start` must be finite numbers of shape (batch, ...), but is {start.dtype} of shape {tuple(start.shape)}."
        )
    if not tolerance > 0:
        raise InvalidProblem(f"`tolerance` must be positive, but is {tolerance}.")
    evaluate, q, rounding, x = _prepared(f, start, rate)
    gap, history, guaranteed = down(1 - q), list[float](), limit
    while True:
        y, lost = evaluate(x)
        if not isinstance(y, Tensor):
            raise InvalidProblem(f"`f` must return a tensor, but returns {said(y)}.")
        if y.shape != x.shape or not bool(y.isfinite().all()):
            raise InvalidProblem(
                f"`f` must return finite numbers of shape {tuple(x.shape)}, but returns shape {tuple(y.shape)}"
                f"{'' if bool(y.isfinite().all()) else ' with NaN or infinity'}."
            )
        residual = _lengths(y - x)
        error = (residual + lost) / gap * GENEROUS
        if not history:
            guaranteed = _needed(q, float(error.max()), tolerance)
        history.append(float(residual.max()))
        if float(error.max()) <= tolerance or len(history) > min(limit, guaranteed + SPARE):
            break
        x = y
    return FixedPoint(x, error, residual, q, tuple(history), guaranteed, rounding)


SPARE = 10
"""Iterations beyond the guaranteed ones, in which rounding may settle."""

Evaluate = Callable[[Tensor], tuple[Tensor, Float[np.ndarray, " batch"]]]
"""f(x) as computed, and how far each sample may be from the exact value."""


def _prepared(
    f: nn.Module | Callable[[Tensor], Tensor], start: Tensor, rate: Bound | float | None
) -> tuple[Evaluate, float, Rounding, Tensor]:
    """The evaluation, the rate, whether rounding is counted, and the start in the arithmetic of the evaluation."""
    if not callable(f):
        raise InvalidProblem(f"`f` must be a module or a function of a tensor, but is {said(f)}.")
    if not isinstance(f, nn.Module):
        if rate is None:
            raise InvalidProblem(
                "`f` is a function, so its `rate` must be given: a proven constant, such as"
                " `lipschitz(network).value * certify(S, numpy.ones(n)).bound` for x -> S network(x) + e. Or pass a module."
            )
        return lambda x: (_plain(f, x), np.zeros(len(x))), contraction(rate), "float64", start
    device = device_of(f)
    with plain_arithmetic(device):
        network = network_in(f, "float64")
        bound = lipschitz(network, input_shape=tuple(start.shape[1:]))
    q = contraction(bound if rate is None else rate)
    x = start.to(device_of(network), torch.float64)
    try:
        flow = output_error(network, bound)
    except RefusedModule:
        return lambda x: (_plain(network, x), np.zeros(len(x))), q, "float64", x

    def evaluate(x: Tensor) -> tuple[Tensor, Float[np.ndarray, " batch"]]:
        with plain_arithmetic(device), torch.no_grad():
            y, lost, _ = flow(x, Affine(np.zeros(len(x)), 0.0))
        return y, lost.constant

    return evaluate, q, "proven", x


def _plain(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with plain_arithmetic(x.device), torch.no_grad():
        return f(x)


def contraction(rate: Bound | float) -> float:
    """The rate as a number below 1.

    Raises:
        NotProvable: it is not.
        InvalidProblem: it is no constant at all.
    """
    q = number("rate", rate)
    if not q >= 0:
        raise InvalidProblem(f"`rate` must be a Lipschitz constant, but is {q}.")
    if q >= 1:
        raise NotProvable(
            f"The proven constant of the map is {above(q, 9)}, not below 1: a fixed point need not exist, and no error can be proven."
            " Put `Scale(0.99)` behind it, or give a smaller proven `rate`."
        )
    return q


def _needed(q: float, error: float, tolerance: float) -> int:
    r"""The least k with $q^k \mathrm{error} \le \mathrm{tolerance}$, perhaps one more."""
    if error <= tolerance:
        return 0
    if q == 0:
        return 1
    return math.ceil((math.log(tolerance) - math.log(error)) / math.log1p(q - 1) * (1 + 1e-9))


def _lengths(z: Tensor) -> Float[np.ndarray, " batch"]:
    """Euclidean length of each sample, rounded up, of differences that were rounded once."""
    return z.detach().double().flatten(1).norm(dim=1).cpu().numpy() * GENEROUS**2 + FLOOR
