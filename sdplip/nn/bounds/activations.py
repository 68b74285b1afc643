"""Rules of activations, torch's and ours. What is not continuous, or has no finite constant, is refused."""

from torch import nn

from sdplip.arithmetic.decimals import above, below
from sdplip.nn.activations import Abs, BetaAbs, GroupSort, Householder, MaxMin, NActivation
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, root_above
from sdplip.nn.bounds.weights import effective
from sdplip.nn.slopes import slopes

SINGLE = 1 + 2.0**-21
"""Covers the rounding of an activation's parameters and their product to single precision, in which kernels may compute."""

PEAKS = {"none": 1.12891, "tanh": 1.12900}
"""Least decimals above the largest derivative of GELU and of its tanh approximation; SiLU and Mish below. Proven in the tests
on a grid with a bound of the second derivative."""


@lipschitz.register(
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Tanh, nn.Tanhshrink, nn.Softshrink, nn.Softsign, nn.LogSigmoid, nn.CELU, nn.Identity,
    nn.Sigmoid, nn.Hardsigmoid, nn.SELU, nn.LeakyReLU, nn.ELU, nn.Softplus,
)  # fmt: skip
def _(module: nn.Module, context: Context) -> Bound:
    least, largest = slopes.dispatch(lipschitz.registered(module) or object)(module)
    value = max(abs(least), abs(largest))
    if not value < float("inf"):
        raise context.refuse(
            module,
            f"with these settings ({module}) it jumps or has no finite slope. Use the defaults of torch.",
        )
    value = float(value) if float(4 * value).is_integer() else value * SINGLE
    return Bound(value, f"slopes in [{below(least, 6)}, {above(largest, 6)}]")


@lipschitz.register(nn.GELU)
def _(module: nn.GELU, context: Context) -> Bound:  # noqa: ARG001
    return Bound(PEAKS[module.approximate], f'slopes of GELU, approximate="{module.approximate}"')


@lipschitz.register(nn.SiLU)
def _(module: nn.SiLU, context: Context) -> Bound:  # noqa: ARG001
    return Bound(1.09985, "largest slope of x sigmoid(x)")


@lipschitz.register(nn.Mish)
def _(module: nn.Mish, context: Context) -> Bound:  # noqa: ARG001
    return Bound(1.08851, "largest slope of x tanh(softplus(x))")


@lipschitz.register(nn.Hardswish)
def _(module: nn.Hardswish, context: Context) -> Bound:  # noqa: ARG001
    return Bound(1.5, "slope (2 x + 3) / 6 at x = 3")


@lipschitz.register(nn.PReLU)
def _(module: nn.PReLU, context: Context) -> Bound:
    largest = float(abs(effective(module, "weight", context)).max())
    return Bound(max(1.0, largest), f"slopes 1 and at most {above(largest, 6)} in absolute value")


@lipschitz.register(nn.RReLU)
def _(module: nn.RReLU, context: Context) -> Bound:
    if module.training:
        raise context.refuse(module, "in training its slopes are random. Call `.eval()` first.")
    slope = (module.lower + module.upper) / 2 * SINGLE
    return Bound(max(1.0, abs(slope)), f"slopes 1 and {above(slope, 6)}")


@lipschitz.register(nn.Threshold)
def _(module: nn.Threshold, context: Context) -> Bound:
    if module.value != module.threshold:
        raise context.refuse(
            module,
            f"it jumps from {module.value} to {module.threshold}, so no finite constant holds. Use `nn.ReLU`.",
        )
    return Bound(1.0, "max(x, threshold)")


@lipschitz.register(nn.Softmax, nn.Softmin, nn.Softmax2d)
def _(module: nn.Module, context: Context) -> Bound:
    _refuse_batch_axis(module, context)
    return Bound(0.5, "rows of diag(p) - p p^T sum to at most 2 p (1 - p) in absolute value")


@lipschitz.register(nn.LogSoftmax)
def _(module: nn.LogSoftmax, context: Context) -> Bound:
    _refuse_batch_axis(module, context)
    shape = context.input_shape
    if shape is None:
        raise context.refuse(
            module,
            "its constant is the root of the number of classes, which is not known. Pass `input_shape`.",
        )
    dim = module.dim
    classes = shape[-1 if dim is None else dim - 1 if dim > 0 else dim] if shape else 1
    return Bound(root_above(float(classes)), f"norm of I - 1 p^T is at most the root of {classes} classes")


@lipschitz.register(nn.GLU)
def _(module: nn.GLU, context: Context) -> Bound:
    raise context.refuse(
        module, "a product of two parts of its input has no finite constant. Use `nn.Softplus`, `MaxMin`, ..."
    )


@lipschitz.register(nn.Hardshrink)
def _(module: nn.Hardshrink, context: Context) -> Bound:
    raise context.refuse(module, "it jumps, so no finite constant holds. Use `nn.Softshrink`.")


@lipschitz.register(GroupSort, MaxMin)
def _(module: nn.Module, context: Context) -> Bound:
    _refuse_batch_axis(module, context)
    return Bound(1.0, "a permutation of the entries at every input")


@lipschitz.register(Abs)
def _(module: Abs, context: Context) -> Bound:  # noqa: ARG001
    return Bound(1.0, "slopes -1 and 1")


@lipschitz.register(BetaAbs)
def _(module: BetaAbs, context: Context) -> Bound:
    _refuse_batch_axis(module, context)
    return Bound(1.0, "slopes -1 and 1")


@lipschitz.register(NActivation)
def _(module: NActivation, context: Context) -> Bound:
    _refuse_batch_axis(module, context)
    effective(module, "knots", context)
    return Bound(1.0, "x - 2 clamp(x), with slopes 1 and -1")


@lipschitz.register(Householder)
def _(module: Householder, context: Context) -> Bound:
    _refuse_batch_axis(module, context)
    square = sum(v.detach().double() ** 2 for v in module.mirror())
    longest = float(square.max()) * (1 + 2.0**-50)  # type: ignore[union-attr]
    return Bound(
        max(1.0, 2 * longest - 1), "identity, or a reflection I - 2 v v^T, continuous where they meet"
    )


def _refuse_batch_axis(module: nn.Module, context: Context) -> None:
    """An axis argument that points at the batch lets samples depend on each other."""
    dim = 1 if isinstance(module, nn.Softmax2d) else module.dim
    shape = context.input_shape
    if dim is None or dim == 0 or (dim < -1 if shape is None else dim == -1 - len(shape)):  # type: ignore[operator]
        raise context.refuse(
            module, f"`dim` is {dim}, which is or may be the batch axis. Use an axis of the samples, 1 or -1."
        )
