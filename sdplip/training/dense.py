"""Networks for rows of a table: dense layers of a family, a last layer with rows of length 1, a factor."""

from itertools import pairwise

from torch import nn

from sdplip.errors import InvalidConfig
from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.nn.activations import MaxMin
from sdplip.nn.containers import Scale
from sdplip.nn.equilibrium import EquilibriumLinear
from sdplip.nn.heads import LastLayerNormalised
from sdplip.nn.initialise import initialise
from sdplip.nn.models import FAMILIES
from sdplip.nn.orthogonal import orthogonal
from sdplip.nn.residual import PadChannels, ResidualLinear
from sdplip.nn.sandwich import Sandwich
from sdplip.training.tables import ModelConfig

WIDTH, DENSE, HIDDEN = 48, 2, 96
"""Of a table network, where the run file says nothing."""


def table_network(config: ModelConfig, shape: tuple[int, ...], outputs: int) -> nn.Sequential:
    """`dense` layers of `width` features (residual layers with `hidden` units), the head, and `Scale(lipschitz)`.

    Its constant is `lipschitz` for one output. The weights come from torch's global generator.

    Raises:
        InvalidConfig: rows with a shape for images or the reverse, or a key that means nothing here.
    """
    if config.shape != "table" or len(shape) != 1:
        raise InvalidConfig(
            f"Rows of numbers need `model.shape` = 'table', and only they, but the samples have the shape {shape} and `model.shape`"
            f" is {config.shape!r}."
        )
    for key in ("kernel", "patch", "convolutions", "hidden_channels", "pool"):
        if vars(config)[key] is not None:
            raise InvalidConfig(f"`model.{key}` has no effect on the shape 'table'. Remove it.")
    if config.head != "lln" or config.family in ("plain", "aoc", "lipkernel") or config.std != 1:
        raise InvalidConfig(
            "The shape 'table' has the head `lln`, a family other than `plain`, `aoc` and `lipkernel`, and rows that are standardised already: leave"
            " `model.head`, `model.std` out and choose `model.family` = sandwich,"
            " equilibrium, sll, cpl, aol, multi_step2, multi_step4, optimal, orthogonal or manifold."
        )
    width, dense = config.width or WIDTH, DENSE if config.dense is None else config.dense
    layers = _layers(config, shape[0], width, dense)
    model = nn.Sequential(
        *layers, LastLayerNormalised(width if layers else shape[0], outputs), Scale(config.lipschitz or 1.0)
    )
    for module in model.modules():
        if isinstance(module, AbstractScaling):
            module.refresh_every = config.refresh_every
    if config.start == "tight":
        initialise(model)
    return model


def _layers(config: ModelConfig, features: int, width: int, dense: int) -> list[nn.Module]:
    if config.family == "equilibrium":
        units = config.hidden or HIDDEN
        return [EquilibriumLinear(n, units, m) for n, m in pairwise([features, *[width] * dense])]
    if config.family in ("sandwich", "orthogonal", "manifold"):
        if config.hidden is not None:
            raise InvalidConfig(
                f"`model.hidden` has no effect on the family {config.family!r}, whose layers have `model.width` outputs. Remove it."
            )
        sizes = [features, *[width] * dense]
        pairs = list(pairwise(sizes))
        if config.family == "sandwich":
            return [Sandwich(n, m) for n, m in pairs]
        if width % 2:
            raise InvalidConfig(f"MaxMin pairs features, so `model.width` must be even, but is {width}.")
        method = "cayley" if config.family == "orthogonal" else "manifold"
        return [module for n, m in pairs for module in (orthogonal(nn.Linear(n, m), method), MaxMin())]
    if dense == 0:
        return []
    if width < features:
        raise InvalidConfig(f"`model.width` must be at least the {features} features, but is {width}.")
    new = FAMILIES[config.family]
    blocks = [ResidualLinear(width, config.hidden or HIDDEN, new()) for _ in range(dense)]
    return [PadChannels(width - features), *blocks]
