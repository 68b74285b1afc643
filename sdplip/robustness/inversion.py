r"""`inverse(f, y)`: where an invertible module takes the value y, and how far from there the answer can be, proven.

With a proven lower constant m, $\lVert f(x) - f(z) \rVert \ge m \lVert x - z \rVert$, and as many outputs as inputs, a continuous f is injective, its
image is closed, and open by invariance of domain: $f(x^*) = y$ has exactly one solution. Every point satisfies
$\lVert x - x^* \rVert \le \lVert f(x) - y \rVert / m$: the residual of one evaluation bounds the error, whatever found the point.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.arithmetic.rounding import GENEROUS
from sdplip.errors import InvalidProblem, NotProvable, RefusedModule
from sdplip.nn.bound import LowerBound, lower_lipschitz
from sdplip.nn.bounds.dispatch import Shape, lipschitz
from sdplip.nn.given import count, module, number, tensor
from sdplip.robustness.absolute import FLOOR
from sdplip.robustness.arithmetic import device_of, network_in, plain_arithmetic
from sdplip.robustness.certification import Rounding
from sdplip.robustness.forward_error import Affine, output_error
from sdplip.robustness.preimage import preimage
from sdplip.shapes import short


@dataclass(frozen=True, eq=False)
class Inverse:
    r"""Approximate solutions of $f(x) = y$, one a sample of the batch.

    Attributes:
        point: $x$, in double precision.
        error: $\lVert x - x^* \rVert$ of each sample is at most this.
        residual: $\lVert f(x) - y \rVert$ of each sample as computed.
        lower: the proven constant $m > 0$ of f, so that $1 / m$ bounds the inverse.
        evaluations: of f or its parts, that led to `point`.
        rounding: "proven" if `error` counts all rounding errors of the evaluation; "float64" if it does not, because a module has no
            proven rounding error.
    """

    point: Tensor
    error: Float[np.ndarray, " batch"]
    residual: Float[np.ndarray, " batch"]
    lower: float
    evaluations: int
    rounding: Rounding

    __repr__ = short


def inverse(
    f: nn.Module,
    y: Tensor,
    lower: LowerBound | float | None = None,
    *,
    input_shape: Shape | None = None,
    tolerance: float = 1e-9,
    limit: int = 10_000,
) -> Inverse:
    r"""The solution of $f(x) = y$ for each y of a batch, with a proven error.

    A sequence of modules is inverted from its end: bi-Lipschitz and residual layers by the iteration of Banach, whose rate is proven, and
    Newton's method once that is near; other modules by Newton's method. A few of its steps with the whole f end it.

    Args:
        f: runs as a copy in double precision and eval mode; what is inverted is that copy in exact arithmetic. For the numbers that float32
            runs with in rescaled or orthogonal layers pass `export_plain(f).model`.
        y: `(batch, ...)`, values of f.
        lower: a proven lower constant of f: a `LowerBound`, or a number that you vouch for; None for `lower_lipschitz`.
        input_shape: of one sample in front of f; None for the shape of y.
        tolerance: the error at which to stop. Rounding may stand in the way: `error` is proven whether it is reached or not.
        limit: iterations of Banach after which to stop in any case.

    Raises:
        RefusedModule: no lower constant is proven, or no finite upper one.
        InvalidProblem: y is not as many finite numbers as f has inputs.
        NotProvable: the iteration found nothing finite.
    """
    y, tolerance, limit = tensor("y", y), number("tolerance", tolerance), count("limit", limit, 0)
    if not (y.ndim >= 2 and y.numel() and y.is_floating_point() and bool(y.isfinite().all())):
        raise InvalidProblem(
            f"`y` must be finite numbers of shape (batch, ...), but is {y.dtype} of shape {tuple(y.shape)}."
        )
    if not tolerance > 0:
        raise InvalidProblem(f"`tolerance` must be positive, but is {tolerance}.")
    shape = tuple(y.shape[1:]) if input_shape is None else tuple(input_shape)
    device = device_of(module("f", f))
    with plain_arithmetic(device):
        network = network_in(f, "float64")
        bound = lipschitz(network, input_shape=shape)
        m = _lower(network, shape, lower)
        y = y.to(device_of(network), torch.float64)
        _same_count(network, shape, y)
        x, evaluations = preimage(network, y, shape, m * tolerance / 2, limit)
    if not bool(x.isfinite().all()):
        raise NotProvable(
            "The search for the inverse left the range of double precision. Rescale the weights, or give smaller values `y`."
        )
    with plain_arithmetic(device), torch.no_grad():
        try:
            z, lost, _ = output_error(network, bound)(x, Affine(np.zeros(len(x)), 0.0))
            off, rounding = lost.constant, "proven"
        except RefusedModule:
            z, off, rounding = network(x), np.zeros(len(x)), "float64"
    residual = _lengths(z - y)
    return Inverse(x, (residual + off) / m * GENEROUS, residual, m, evaluations, rounding)


def _lower(network: nn.Module, shape: Shape, lower: LowerBound | float | None) -> float:
    """The lower constant as a positive number."""
    if lower is None:
        return lower_lipschitz(network, input_shape=shape).value
    m = number("lower", lower)
    if not 0 < m < np.inf:
        raise InvalidProblem(f"`lower` must be a positive number, but is {m}. Pass None to have it proven.")
    return m


def _same_count(network: nn.Module, shape: Shape, y: Tensor) -> None:
    """An injective map into more dimensions takes almost no value; one of equal dimensions takes all of them."""
    try:
        with torch.no_grad():
            out = tuple(network(y.new_zeros(1, *shape)).shape[1:])
    except (RuntimeError, ValueError, IndexError) as error:
        raise InvalidProblem(
            f"`f` cannot run on an input of shape {shape}: {error} Pass `input_shape`."
        ) from None
    if out != tuple(y.shape[1:]) or y[0].numel() != y.new_zeros(shape).numel():
        raise InvalidProblem(
            f"`f` maps samples of shape {shape} to {out}, and `y` has samples of shape {tuple(y.shape[1:])}. An inverse needs values of f, as many"
            " numbers as it has inputs."
        )


def _lengths(z: Tensor) -> Float[np.ndarray, " batch"]:
    """Euclidean length of each sample, rounded up, of differences that were rounded once."""
    return z.detach().double().flatten(1).norm(dim=1).cpu().numpy() * GENEROUS**2 + FLOOR
