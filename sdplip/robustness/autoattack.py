"""AutoAttack (Croce and Hein, ICML 2020) from the package of its authors, the extra `attacks`: the standard ensemble in l2."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sdplip.errors import InvalidProblem, MissingDependency
from sdplip.robustness.attacks import Attack
from sdplip.robustness.descent import INSIDE, UNIT, Box, check_box, project

LEAST_CLASSES = 4
"""The targeted loss of the ensemble compares four logits."""


def autoattack(*, seed: int = 0, batch: int = 256) -> Attack:
    """The standard ensemble (APGD-CE, targeted APGD, targeted FAB, Square), each only on samples that are not broken yet.

    It computes in float32; the network is asked in its own precision. What it returns is projected, so that rounding does not
    carry it over the radius.

    Raises:
        MissingDependency: `pyautoattack` is not installed.
    """
    require_autoattack()

    def attack(
        network: nn.Module,
        x: Float[Tensor, "n *image"],
        labels: Int[Tensor, " n"],
        eps: Float[Tensor, " n"],
        box: Box = UNIT,
    ) -> Float[Tensor, "n *image"]:
        if box != UNIT:
            raise InvalidProblem("AutoAttack keeps images in [0, 1], not in other limits. Use PGD.")
        check_box(x, box)
        return _attack(network, x, labels, eps, seed, batch)

    return attack


def require_autoattack() -> None:
    """Raises MissingDependency if the package is not installed, before anything long begins."""
    try:
        import pyautoattack  # noqa: F401  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise MissingDependency(
            "AutoAttack needs the package `pyautoattack`. Install `sdplip[attacks]`, or use `--attack pgd`."
        ) from None


class _InSingle(nn.Module):
    """The network as AutoAttack wants it: float32 in, float32 out."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.to(self.dtype)).float()


def _attack(network: nn.Module, x: Tensor, labels: Tensor, eps: Tensor, seed: int, batch: int) -> Tensor:
    from pyautoattack import AutoAttack  # pyright: ignore[reportMissingTypeStubs]

    radius = float(eps[0])
    if not bool((eps == radius).all()) or radius <= 0 or x.ndim != 4:
        raise InvalidProblem(
            "AutoAttack needs one positive radius for all samples, and images (n, channels, height, width). Use PGD."
        )
    with torch.no_grad():
        classes = network(x[:1]).shape[1]
    if classes < LEAST_CLASSES:
        raise InvalidProblem(f"AutoAttack needs at least {LEAST_CLASSES} classes, not {classes}. Use PGD.")
    devices = [x.device] if x.is_cuda else []
    with warnings.catch_warnings(), torch.random.fork_rng(devices=devices):
        warnings.simplefilter("ignore")  # its hints about unusual networks
        ensemble = AutoAttack(_InSingle(network, x.dtype), norm="L2", eps=radius, seed=seed, device=x.device)
        ensemble.apgd_targeted.n_target_classes = ensemble.fab.n_target_classes = min(9, classes - 1)
        found, _ = ensemble.run_standard_evaluation(x.float(), labels, batch_size=batch)
    return project(found.detach().to(x.dtype), x, (eps * INSIDE).to(x), UNIT)
