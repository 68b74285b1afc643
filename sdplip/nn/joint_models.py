"""Networks of layers that have a constant only together: LipKernel, and equilibria. All are `nn.Sequential`, in the shape of a `Plan`."""

from itertools import pairwise

from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.nn.activations import MaxMin
from sdplip.nn.dissipative import LipKernelConv2d, LipKernelLinear
from sdplip.nn.equilibrium import EquilibriumLinear
from sdplip.nn.heads import LastLayerNormalised
from sdplip.nn.lipkernel import LipKernel
from sdplip.nn.models import Plan


def lipkernel_network(plan: Plan) -> nn.Sequential:
    """`LipKernel` of convolutions with stride 2 and dense layers, MaxMin, last layer with rows of length 1.

    Each convolution halves the image and doubles the channels, of which there are `plan.width` behind the first; then means over
    `plan.pool` pixels and `plan.dense` dense layers of `plan.hidden` features. Patches and hidden channels mean nothing here.

    Raises:
        InvalidWeight: an odd `plan.kernel` or `plan.hidden`, no dense layer, an image that does not halve so often.
    """
    channels, rows, columns = plan.image
    halves = 2**plan.convolutions * plan.pool
    if plan.convolutions and plan.kernel % 2:
        raise InvalidWeight(
            f"LipKernel convolutions have stride 2, so `kernel` must be even, but is {plan.kernel}. Use 4."
        )
    if plan.dense < 1 or plan.hidden % 2:
        raise InvalidWeight(
            "A network of LipKernel layers needs a dense layer, and an even number of hidden units for MaxMin, but has"
            f" `dense` = {plan.dense} and `hidden` = {plan.hidden}."
        )
    if rows % halves or columns % halves:
        raise InvalidWeight(
            f"`convolutions` = {plan.convolutions} and `pool` = {plan.pool} divide the sides of the images by {halves}, but they"
            f" are {rows} x {columns}. Use fewer convolutions or another `pool`."
        )
    widths = [channels, *(plan.width * 2**k for k in range(plan.convolutions))]
    convs = [LipKernelConv2d(n, m, plan.kernel, 2, plan.kernel // 2 - 1) for n, m in pairwise(widths)]
    means = [nn.AvgPool2d(plan.pool)] if plan.pool > 1 else []
    features = widths[-1] * (rows // halves) * (columns // halves)
    dense = [LipKernelLinear(n, m) for n, m in pairwise([features, *[plan.hidden] * plan.dense])]
    body = LipKernel([*convs, *means, nn.Flatten(), *dense], plan.image)
    return nn.Sequential(body, MaxMin(), LastLayerNormalised(plan.hidden, plan.classes))


def equilibrium_network(plan: Plan) -> nn.Sequential:
    """`EquilibriumLinear` of `plan.hidden` units and as many outputs, `plan.dense` times, last layer with rows of length 1.

    Raises:
        InvalidWeight: a plan with convolutions, or without dense layers.
    """
    if plan.convolutions or plan.dense < 1:
        raise InvalidWeight(
            "A network of equilibria has dense layers alone, at least one, but the plan is of"
            f" {plan.convolutions} convolutions and {plan.dense} dense layers."
        )
    features = plan.image[0] * plan.image[1] * plan.image[2]
    sizes = [features, *[plan.hidden] * plan.dense]
    layers = [EquilibriumLinear(n, m, m) for n, m in pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *layers, LastLayerNormalised(plan.hidden, plan.classes))
