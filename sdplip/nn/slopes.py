r"""Slopes of elementwise activations: what a residual step needs to know of $\sigma$."""

from functools import singledispatch

from torch import nn

from sdplip.errors import SdplipError


class UnsupportedActivation(SdplipError, ValueError):
    """The activation is not elementwise with slopes in an interval [0, beta]."""


@singledispatch
def slopes(activation: nn.Module) -> tuple[float, float]:
    r"""Interval $[\alpha, \beta]$ of all difference quotients of an elementwise activation.

    Users register their own activations: `slopes.register(MyActivation)(lambda a: (0.0, 1.0))`.

    Raises:
        UnsupportedActivation: no interval is known for this very class.
    """
    name = type(activation).__name__
    raise UnsupportedActivation(
        f"`{name}` is not known to act elementwise with slopes in some [0, beta], which the theorem of residual layers needs"
        " (MaxMin and GroupSort mix coordinates; put them between blocks). Use nn.ReLU, nn.Tanh, nn.Softplus ..., or register"
        f" its slopes: `slopes.register({name})(lambda a: (0.0, 1.0))`."
    )


def monotone_slope(activation: nn.Module) -> float:
    r"""The $\beta$ of an activation with slopes in $[0, \beta]$, as the step $(h + L) / \beta$ of a residual layer needs it.

    Raises:
        UnsupportedActivation: unknown class (subclasses count as unknown), or a slope below 0.
    """
    known = type(activation) in slopes.registry
    least, beta = slopes(activation) if known else slopes.registry[object](activation)
    if not (0 <= least <= beta and 0 < beta < float("inf")):
        raise UnsupportedActivation(
            f"`{activation}` has slopes in [{least}, {beta}], but the theorem of residual layers needs [0, beta]: with a falling"
            " piece no positive step is safe. Use nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ELU or"
            " nn.Hardtanh."
        )
    return beta


for _class in (
    nn.ReLU,
    nn.ReLU6,
    nn.Hardtanh,
    nn.Tanh,
    nn.Tanhshrink,
    nn.Softshrink,
    nn.Softsign,
    nn.LogSigmoid,
):
    slopes.register(_class)(lambda _: (0.0, 1.0))
slopes.register(nn.CELU)(lambda a: (0.0, 1.0) if a.alpha > 0 else (-float("inf"), float("inf")))
slopes.register(nn.Identity)(lambda _: (1.0, 1.0))
slopes.register(nn.Sigmoid)(lambda _: (0.0, 0.25))
slopes.register(nn.Hardsigmoid)(lambda _: (0.0, 1 / 6))
slopes.register(nn.SELU)(lambda _: (0.0, 1.7580993408473769))  # scale * alpha, met at 0 from below
for _class, _least in ((nn.GELU, -0.13), (nn.SiLU, -0.1), (nn.Mish, -0.12)):
    slopes.register(_class)(lambda _, least=_least: (least, 1.2))


@slopes.register(nn.LeakyReLU)
def _(activation: nn.LeakyReLU) -> tuple[float, float]:
    a = float(activation.negative_slope)
    return min(a, 1.0), max(a, 1.0)


@slopes.register(nn.ELU)
def _(activation: nn.ELU) -> tuple[float, float]:
    return min(0.0, activation.alpha), max(1.0, activation.alpha)


@slopes.register(nn.Softplus)
def _(activation: nn.Softplus) -> tuple[float, float]:
    if activation.beta > 0 and activation.threshold >= 20:
        return 0.0, 1.0
    return -float("inf"), float("inf")  # below that threshold torch lets the function jump down visibly
