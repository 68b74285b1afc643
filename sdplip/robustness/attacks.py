r"""Attacks: the upper side of the truth. What an attack breaks is not robust; what it does not break may still not be."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sdplip.errors import InvalidProblem
from sdplip.robustness.arithmetic import Precision, device_of, network_in, pixels, plain_arithmetic
from sdplip.robustness.asked import check_samples, run
from sdplip.robustness.certification import Certification, Progress
from sdplip.robustness.descent import (
    INSIDE,
    UNIT,
    Box,
    best_start,
    check_box,
    descend,
    kept,
    radii_of,
)
from sdplip.robustness.half import full

AttackName = Literal["pgd", "autoattack"]
Attack = Callable[[nn.Module, Tensor, Tensor, Tensor, Box], Tensor]
"""`(network, x, labels, eps, box) -> x'` with `eps` one number a sample; may return anything, `broken` measures it."""


def pgd_l2(
    network: nn.Module,
    x: Float[Tensor, "n *image"],
    labels: Int[Tensor, " n"],
    eps: Float[Tensor, " n"] | float,
    *,
    steps: int = 50,
    restarts: int = 4,
    seed: int = 0,
    box: Box = UNIT,
) -> Float[Tensor, "n *image"]:
    r"""The best images that projected gradient descent on $s_y - \max_{j \ne y} s_j$ finds within `eps` and the box.

    As `sdplip.robustness.minimise`; restarts go on only with samples that are not broken yet.

    Args:
        network: runs in the dtype of `x`; one logit decides by its sign.
        eps: radius, one for all samples or one for each.
        box: limits of the inputs; None for inputs without limits.

    Returns:
        Images that are misclassified where that succeeded, else those of the smallest margin.

    Raises:
        InvalidProblem: images outside of the box.
    """
    check_box(x, box)
    generator = torch.Generator().manual_seed(seed)
    radius = radii_of(eps, x) * INSIDE
    best, least = x.clone(), _margin(network, x, labels)
    for restart in range(restarts):
        open_ = (least >= 0).nonzero().flatten()
        if not len(open_):
            break
        x0, y, r = x[open_], labels[open_], radius[open_]
        start = best_start(x0, r, restart, generator, box)
        found, value = descend(lambda z, y=y: own_margin(network(z), y), start, x0, r, steps, box)
        best[open_], least[open_] = kept(best[open_], least[open_], found, value)
    return best


def pgd(*, steps: int = 50, restarts: int = 4, seed: int = 0) -> Attack:
    """`pgd_l2` with these options."""

    def attack(network: nn.Module, x: Tensor, labels: Tensor, eps: Tensor, box: Box = UNIT) -> Tensor:
        return pgd_l2(network, x, labels, eps, steps=steps, restarts=restarts, seed=seed, box=box)

    return attack


def targeted_pgd(*, steps: int = 100, targets: int = 3) -> Attack:
    r"""Descent on $s_y - s_j$ for each of the nearest classes j in turn (Gowal et al., arXiv 1910.09338): where one loss over all
    classes changes its mind on the way, this does not.

    Args:
        targets: that many classes, those of the largest logits at the image.
    """

    def attack(network: nn.Module, x: Tensor, labels: Tensor, eps: Tensor, box: Box = UNIT) -> Tensor:
        check_box(x, box)
        radius = radii_of(eps, x) * INSIDE
        with torch.no_grad():
            logits = two_logits(network(x))
        own = nn.functional.one_hot(labels, logits.shape[1]).bool()
        nearest = logits.masked_fill(own, -torch.inf).argsort(1, descending=True)
        best, least = x.clone(), _margin(network, x, labels)
        for j in nearest.T[: min(targets, logits.shape[1] - 1)]:
            open_ = (least >= 0).nonzero().flatten()
            if not len(open_):
                break
            y, at, x0, r = labels[open_, None], j[open_, None], x[open_], radius[open_]

            def apart(z: Tensor, y: Tensor = y, at: Tensor = at) -> Tensor:
                s = two_logits(network(z))
                return (s.gather(1, y) - s.gather(1, at))[:, 0]

            found, _ = descend(apart, x0, x0, r, steps, box)
            value = _margin(network, found, labels[open_])
            best[open_], least[open_] = kept(best[open_], least[open_], found, value)
        return best

    return attack


CLOSE = 0.01
"""Where less than this share of the images is neither certified nor broken, certificate and attack say nearly the same."""

STRONGER = (targeted_pgd(steps=50),)
"""What is tried in turn on images that are neither certified nor broken, as long as these are many. It costs less than the first
attack; `pgd(restarts=12, seed=1)` may be added where time does not matter."""


def broken(
    network: nn.Module,
    x: Float[Tensor, "n *image"],
    attacked: Float[Tensor, "n *image"],
    labels: Int[Tensor, " n"],
    eps: Float[Tensor, " n"],
    box: Box = UNIT,
) -> Bool[Tensor, " n"]:
    """Which attacked images count: in the box, at a distance of at most `eps` in double precision, and misclassified."""
    inside = (attacked.double() - x.double()).flatten(1).norm(dim=1) <= eps
    if box is not None:
        inside &= ((attacked >= box[0]) & (attacked <= box[1])).flatten(1).all(1)
    return inside & ~_right(network, attacked, labels)


def empirical_robust(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float | np.ndarray,
    *,
    attack: Attack,
    precision: Precision = "float64",
    batch: int = 256,
    box: Box = UNIT,
    progress: Progress | None = None,
) -> Bool[np.ndarray, " n"]:
    """Which images are predicted right, and also after the attack. The network is the one that `certify_accuracy` certifies.

    Args:
        eps: radius, one for all images or one for each.
        box: limits of the images as they enter the network, which attacked ones keep; None for inputs without limits.

    Raises:
        InvalidProblem: shapes that do not fit, images outside of the box, or a negative radius.
    """
    check_samples(images, labels)
    radius = torch.from_numpy(np.broadcast_to(np.asarray(eps, dtype=np.float64), (len(images),)).copy())
    if not bool((radius >= 0).all()):
        raise InvalidProblem(f"`eps` must not be negative or NaN, but is {eps}.")
    device, parts = device_of(model), []
    with plain_arithmetic(device):
        network = network_in(model, precision).requires_grad_(False)
        with parametrize.cached():  # weights are computed once, not at each step
            for x, y, r in zip(images.split(batch), labels.split(batch), radius.split(batch), strict=True):
                x, y, r = pixels(x.to(device), precision), y.to(device), r.to(device)
                survives = _survives(network, x, y, r, attack, box)
                parts.append(survives.cpu().numpy())
                if progress:
                    progress(sum(map(len, parts)), len(images))
    return np.concatenate(parts)


def _survives(
    network: nn.Module, x: Tensor, labels: Tensor, eps: Tensor, attack: Attack, box: Box
) -> Bool[Tensor, " n"]:
    """Of one batch. What is wrong already is not attacked."""
    check_box(x, box)
    survives = _right(network, x, labels)
    left = survives.nonzero().flatten()
    if len(left):
        attacked = attack(network, x[left], labels[left], eps[left], box)
        survives[left] = ~broken(network, x[left], attacked, labels[left], eps[left], box)
    return survives


def attack_at(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    found: Certification,
    radii: Sequence[str],
    *,
    attack: Attack,
    stronger: Sequence[Attack] = (),
    batch: int = 256,
    box: Box = UNIT,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Accuracy that the attack leaves at each radius. What is broken at one radius is broken at every larger one.

    Images that are certified at a radius cannot be broken there; a short attack, one path of 20 steps, checks that.

    Args:
        found: the certification of this very model at these images.
        radii: texts such as "36/255".
        stronger: attacks on the images that are neither certified nor broken, in turn, as long as these are more than `CLOSE` of
            all, such as `STRONGER`.
        box: limits of the images, as for `empirical_robust`.
    """
    alive, left = found.correct.copy(), dict[str, float]()

    def against(at: np.ndarray, eps: str, method: Attack) -> None:
        if len(at) and Fraction(eps) > 0:
            alive[at] = empirical_robust(
                model, images[at], labels[at], float(Fraction(eps)), attack=method, precision=full(found.precision), batch=batch,
                box=box, progress=progress,
            )  # fmt: skip

    for eps in sorted(radii, key=Fraction):
        certified = found.certified_at(eps)
        against(np.flatnonzero(alive & ~certified), eps, attack)
        for method in stronger:
            if (open_ := alive & ~certified).mean() > CLOSE:
                against(np.flatnonzero(open_), eps, method)
        against(np.flatnonzero(alive & certified), eps, pgd(steps=20, restarts=1))
        assert not (certified & ~alive).any(), "a certificate was broken: please report this"
        left[eps] = float(alive.mean())
    return {eps: left[eps] for eps in radii}


def empirical_accuracy(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    attack: Attack,
    precision: Precision = "float64",
    batch: int = 256,
    box: Box = UNIT,
    progress: Progress | None = None,
) -> float:
    """Fraction of `empirical_robust`: never below `Certification.certified(eps)` of the same network."""
    return float(
        empirical_robust(
            model,
            images,
            labels,
            eps,
            attack=attack,
            precision=precision,
            batch=batch,
            box=box,
            progress=progress,
        ).mean()
    )


def own_margin(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Logit of the label minus the largest other one; of one logit f its value for label 1, -f for label 0."""
    logits = two_logits(logits)
    own = nn.functional.one_hot(labels, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).amax(1)


def two_logits(logits: Float[Tensor, "n classes"]) -> Float[Tensor, "n classes"]:
    """Logits of classes: one logit f is read as the two 0, f."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def _right(network: nn.Module, x: Tensor, labels: Tensor) -> Bool[Tensor, " n"]:
    """Which are predicted as their label."""
    return two_logits(run(network, x)).argmax(-1) == labels


def _margin(network: nn.Module, x: Tensor, labels: Tensor) -> Float[Tensor, " n"]:
    with torch.no_grad():
        return own_margin(network(x), labels)
