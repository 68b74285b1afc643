r"""Learning-rate schedules as functions of the share $x \in (0, 1)$ of training done, and optimisers of torch from a run file.

Step $s$ of $N$ runs at $x = (s + 1/2) / N$, the middle of its interval: the first step has a small rate, not the peak (as in the
code of SLL), and the last a positive one (that of CPL spends its last epoch at rate 0).
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from sdplip.errors import InvalidConfig
from sdplip.training.optimisers import Lookahead, Muon, ScheduleFree, muon_groups
from sdplip.training.tables import OptimiserConfig

STEPS, REST = 3, 0.01
"""Of muon where the run file says nothing: steps of Newton-Schulz, learning rate of weights that are not orthogonal."""


def factor(config: OptimiserConfig, share: float) -> float:
    """Multiple of the peak learning rate at this share of training; positive inside (0, 1).

    - piecewise_linear (SLL, CPL): 0, 1 at `peak`, 1/20 at `knee`, 0 at the end.
    - one_cycle: cosines from 1/25 to 1 at `peak` and down to 4e-6, torch's `OneCycleLR` without its cycle of momentum.
    - linear, cosine, constant, free: after a linear rise over `warmup`.
    """
    if config.schedule == "piecewise_linear":
        if share < config.peak:
            return share / config.peak
        if share < config.knee:
            return _line(share, config.peak, config.knee, 1, 1 / 20)
        return _line(share, config.knee, 1, 1 / 20, 0)
    if config.schedule == "one_cycle":
        if share < config.peak:
            return _cosine(share / config.peak, 1 / 25, 1)
        return _cosine(_line(share, config.peak, 1, 0, 1), 1, 4e-6)
    if share < config.warmup:
        return share / config.warmup
    if config.schedule == "linear":
        return _line(share, config.warmup, 1, 1, 0)
    if config.schedule == "cosine":
        return _cosine(_line(share, config.warmup, 1, 0, 1), 1, 0)
    return 1.0


def build_schedule(config: OptimiserConfig, total_steps: int) -> Callable[[int], float]:
    """`step -> factor` for `torch.optim.lr_scheduler.LambdaLR`; steps count from 0, and later ones keep the last factor."""
    return lambda step: factor(config, (min(step, total_steps - 1) + 0.5) / total_steps)


def build_optimiser(
    config: OptimiserConfig, model: nn.Module, *, half: bool = False
) -> torch.optim.Optimizer:
    """The optimiser over the parameters of `model`; weight decay only where a parameter has two axes or more.

    Args:
        half: run the directions of muon in bfloat16.

    Raises:
        InvalidConfig: muon for a network without a weight that is orthogonal itself or that a scaling divides by.
    """
    if config.schedule == "free":
        beta, bare = (
            config.momentum,
            replace(config, schedule="constant", momentum=0.0, betas=(0.0, config.betas[1])),
        )
        return ScheduleFree(build_optimiser(bare, model, half=half), beta)
    if config.lookahead is not None:
        return Lookahead(build_optimiser(replace(config, lookahead=None), model, half=half), config.lookahead)
    if config.name == "muon":
        return _muon(config, model, half=half)
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "nadam": torch.optim.NAdam}
    return kinds[config.name](groups, lr=config.lr, betas=config.betas)


def _muon(config: OptimiserConfig, model: nn.Module, *, half: bool) -> Muon:
    groups = muon_groups(model, lr_rest=config.lr_rest or REST, weight_decay=config.weight_decay)
    if not any(group.get("blocks") for group in groups):
        raise InvalidConfig(
            "The optimiser muon is for weights that are orthogonal themselves or that a scaling divides by, and this network has none. Set"
            ' `model.family` = manifold, sll, cpl or aol, make layers of your own with `orthogonal(layer, "manifold")` or `rescaled`, or'
            " choose another optimiser."
        )
    steps = config.newton_schulz or STEPS
    return Muon(groups, config.lr, momentum=config.momentum, steps=steps, half=half, betas=config.betas)


def _line(x: float, start: float, end: float, first: float, last: float) -> float:
    """The line from `(start, first)` to `(end, last)` at `x`."""
    return first + (last - first) * (x - start) / (end - start) if end > start else last


def _cosine(x: float, first: float, last: float) -> float:
    """Half a cosine from `first` at 0 to `last` at 1."""
    return last + (first - last) * (1 + math.cos(math.pi * x)) / 2
