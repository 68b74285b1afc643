"""Rules of normalisation layers and dropout."""

import numpy as np
import torch
from torch import nn

from sdplip.arithmetic.rounding import up
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, quotient_above, shown
from sdplip.nn.bounds.weights import effective, exact
from sdplip.nn.heads import Normalise, UnitSphere
from sdplip.nn.normalisation import ActNorm, BatchLipNorm

DROPOUTS = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@lipschitz.register(*DROPOUTS)
def _(module: nn.Dropout, context: Context) -> Bound:
    if module.training:
        raise context.refuse(
            module, "it is in training mode, where it drops entries at random. Call `.eval()` first."
        )
    return Bound(1.0, "the identity in eval mode")


@lipschitz.register(*BATCH)
def _(module: nn.BatchNorm2d, context: Context) -> Bound:
    if module.training or module.running_var is None:
        raise context.refuse(
            module, "it normalises by the statistics of the batch, so samples depend on each other. Call `.eval()` first"
            " (and keep `track_running_stats=True`).",
        )  # fmt: skip
    return _fixed_statistics(module, context)


@lipschitz.register(*INSTANCE)
def _(module: nn.InstanceNorm2d, context: Context) -> Bound:
    if (
        module.running_var is not None and module.track_running_stats
    ):  # else forward takes those of the sample
        if module.training:
            raise context.refuse(
                module, "in training it changes its running statistics. Call `.eval()` first."
            )
        return _fixed_statistics(module, context)
    return _own_statistics(module, float(module.eps), context)


@lipschitz.register(nn.LayerNorm, nn.GroupNorm)
def _(module: nn.LayerNorm, context: Context) -> Bound:
    return _own_statistics(module, float(module.eps), context)


@lipschitz.register(nn.RMSNorm)
def _(module: nn.RMSNorm, context: Context) -> Bound:
    eps = module.eps
    if eps is None:
        raise context.refuse(
            module,
            "`eps` is None, which lets torch choose it by the type of the input. Pass a number to `nn.RMSNorm`.",
        )
    return _own_statistics(module, float(eps), context)


@lipschitz.register(nn.LocalResponseNorm, nn.CrossMapLRN2d)
def _(module: nn.Module, context: Context) -> Bound:
    raise context.refuse(module, "no rule is proven for local response normalisation. Leave it out.")


@lipschitz.register(Normalise)
def _(module: Normalise, context: Context) -> Bound:
    scale = float(abs(effective(module, "inverse_std", context)).max())
    return Bound(scale, "1 over the smallest standard deviation of a channel")


@lipschitz.register(BatchLipNorm)
def _(module: BatchLipNorm, context: Context) -> Bound:
    variance = effective(module, "variance", context)
    if not (variance >= 0).all():
        raise context.refuse(module, "`variance` is negative. Repair the statistics.")
    scale = float(abs(exact(module.scale().detach(), module, "scale", context)))
    after = "; in training, until the next batch changes the statistics" if module.training else ""
    return Bound(
        scale, f"one scale for all channels, {shown(scale)}, by the running statistics in use{after}"
    )


@lipschitz.register(ActNorm)
def _(module: ActNorm, context: Context) -> Bound:
    if module.training and not bool(module.ready):
        raise context.refuse(
            module, "its first batch in training will set its scales. Run it on a batch, or call `.eval()`."
        )
    largest = float(abs(exact(module.scale().detach(), module, "scale", context)).max())
    return Bound(largest, f"multiplies channels by at most {shown(largest)} in absolute value")


def _fixed_statistics(module: nn.BatchNorm2d | nn.InstanceNorm2d, context: Context) -> Bound:
    """Each channel is multiplied by gamma over the root of its running variance: a fixed diagonal map."""
    variance = effective(module, "running_var", context)
    if not (variance >= 0).all() or module.eps < 0 or not (variance + module.eps > 0).all():
        raise context.refuse(module, "`running_var + eps` is not positive. Repair the statistics.")
    root = np.nextafter(np.sqrt(np.nextafter(variance + _least(module.eps), 0)), 0)
    scale = np.ones_like(variance) if module.weight is None else abs(effective(module, "weight", context))
    value = up(up(float((scale / root).max())))
    return Bound(value, "the largest |weight| / sqrt(running_var + eps), fixed in eval mode")


def _own_statistics(module: nn.Module, eps: float, context: Context) -> Bound:
    r"""$x \mapsto \gamma (x - \mu) / s$ with $s^2 = \mathrm{var} + \varepsilon$.

    The Jacobian is $\frac\gamma s (P - \frac{z z^\top}{n s^2})$ with the projection $P$ to mean 0 and $z = x - \mu$: at most
    $\max|\gamma| / \sqrt\varepsilon$, which it reaches on a constant image. RMS norm is the same with $P = I$, $\mu = 0$.
    """
    if not eps > 0:
        raise context.refuse(
            module, f"`eps` is {eps}: without it the map has no finite constant. Use a positive `eps`."
        )
    weight = getattr(module, "weight", None)
    scale = 1.0 if weight is None else float(abs(effective(module, "weight", context)).max())
    value = quotient_above(scale, float(np.nextafter(np.sqrt(_least(eps)), 0))) if scale else 0.0
    return Bound(value, f"max |weight| / sqrt(eps) with eps = {eps:g}, reached where all entries are equal")


def _least(eps: float) -> float:
    """The least number that a kernel may use for `eps`: it may be rounded to single precision."""
    return min(float(eps), float(torch.tensor(eps, dtype=torch.float32)))


@lipschitz.register(UnitSphere)
def _(module: UnitSphere, context: Context) -> Bound:
    """v / |v| is the projection onto the ball of radius h, over h, wherever |v| >= h; and |(x, h)| >= h."""
    if not module.height > 0:
        raise context.refuse(
            module,
            "division by the length has no finite constant near 0. Use a positive `height`, or bound the network in front of it:"
            " `sdplip.robustness.angle_radius` and `anchored_radius` take embeddings that are not normalised.",
        )
    return Bound(
        quotient_above(1.0, module.height),
        f"a point of length {shown(module.height)} at least, divided by its length",
    )
