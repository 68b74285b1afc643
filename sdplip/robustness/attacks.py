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
from sdplip.robustness.certification import Certification, Progress, check_samples, run

AttackName = Literal["pgd", "autoattack"]
Attack = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""`(network, x, labels, eps) -> x'` with `eps` one number a sample; may return anything, `broken` measures it."""


def pgd_l2(
    network: nn.Module,
    x: Float[Tensor, "n *image"],
    labels: Int[Tensor, " n"],
    eps: Float[Tensor, " n"] | float,
    *,
    steps: int = 50,
    restarts: int = 4,
    seed: int = 0,
) -> Float[Tensor, "n *image"]:
    r"""The best images that projected gradient ascent on $\max_{j \ne y} s_j - s_y$ finds within `eps` and in [0, 1].

    Steps along the normalised gradient, from 2 eps down to 2 eps / steps along a cosine; the first start is the image itself,
    the others are uniform in the ball. Restarts go on only with samples that are not broken yet. The same seed gives the same
    images on the same machine.

    Args:
        network: runs in the dtype of `x`.
        eps: radius, one for all samples or one for each.

    Returns:
        Images that are misclassified where that succeeded, else those of the largest loss.
    """
    generator = torch.Generator().manual_seed(seed)
    radius = torch.as_tensor(eps, dtype=torch.float64).to(x).expand(len(x)) * (
        1 - 1e-6
    )  # rounding stays inside
    best, loss = x.clone(), _loss(network, x, labels)
    for restart in range(restarts):
        open_ = (loss <= 0).nonzero().flatten()
        if not len(open_):
            break
        x0, y, r = x[open_], labels[open_], _column(radius[open_], x)
        start = x0 if restart == 0 else project(x0 + r * _in_ball(x0, generator), x0, r)
        found, value = _ascend(network, start, x0, y, r, steps)
        better = value > loss[open_]
        best[open_[better]], loss[open_[better]] = found[better], value[better]
    return best


def pgd(*, steps: int = 50, restarts: int = 4, seed: int = 0) -> Attack:
    """`pgd_l2` with these options."""
    return lambda network, x, labels, eps: pgd_l2(
        network, x, labels, eps, steps=steps, restarts=restarts, seed=seed
    )


def broken(
    network: nn.Module,
    x: Float[Tensor, "n *image"],
    attacked: Float[Tensor, "n *image"],
    labels: Int[Tensor, " n"],
    eps: Float[Tensor, " n"],
) -> Bool[Tensor, " n"]:
    """Which attacked images count: in [0, 1], at a distance of at most `eps` in double precision, and misclassified."""
    distance = (attacked.double() - x.double()).flatten(1).norm(dim=1)
    inside = (attacked >= 0).flatten(1).all(1) & (attacked <= 1).flatten(1).all(1) & (distance <= eps)
    return inside & (run(network, attacked).argmax(-1) != labels)


def empirical_robust(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float | np.ndarray,
    *,
    attack: Attack,
    precision: Precision = "float64",
    batch: int = 256,
    progress: Progress | None = None,
) -> Bool[np.ndarray, " n"]:
    """Which images are predicted right, and also after the attack. The network is the one that `certify_accuracy` certifies.

    Args:
        eps: radius, one for all images or one for each.

    Raises:
        InvalidProblem: shapes that do not fit, or a negative radius.
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
                survives = _survives(
                    network, pixels(x.to(device), precision), y.to(device), r.to(device), attack
                )
                parts.append(survives.cpu().numpy())
                if progress:
                    progress(sum(map(len, parts)), len(images))
    return np.concatenate(parts)


def _survives(
    network: nn.Module, x: Tensor, labels: Tensor, eps: Tensor, attack: Attack
) -> Bool[Tensor, " n"]:
    """Of one batch. What is wrong already is not attacked."""
    survives = run(network, x).argmax(-1) == labels
    left = survives.nonzero().flatten()
    if len(left):
        attacked = attack(network, x[left], labels[left], eps[left])
        survives[left] = ~broken(network, x[left], attacked, labels[left], eps[left])
    return survives


def attack_at(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    found: Certification,
    radii: Sequence[str],
    *,
    attack: Attack,
    batch: int = 256,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Accuracy that the attack leaves at each radius. What is broken at one radius is broken at every larger one.

    Images that are certified at a radius cannot be broken there; a short attack, one path of 20 steps, checks that.

    Args:
        found: the certification of this very model at these images.
        radii: texts such as "36/255".
    """
    alive, left = found.correct.copy(), dict[str, float]()
    for eps in sorted(radii, key=Fraction):
        certified = found.certified_at(eps)
        for at, method in (
            (np.flatnonzero(alive & ~certified), attack),
            (np.flatnonzero(alive & certified), pgd(steps=20, restarts=1)),
        ):
            if len(at) and Fraction(eps) > 0:
                alive[at] = empirical_robust(
                    model,
                    images[at],
                    labels[at],
                    float(Fraction(eps)),
                    attack=method,
                    precision=found.precision,
                    batch=batch,
                    progress=progress,
                )
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
    progress: Progress | None = None,
) -> float:
    """Fraction of `empirical_robust`: never below `Certification.certified(eps)` of the same network."""
    return float(
        empirical_robust(
            model, images, labels, eps, attack=attack, precision=precision, batch=batch, progress=progress
        ).mean()
    )


def _ascend(
    network: nn.Module, x: Tensor, center: Tensor, labels: Tensor, r: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """The image of the largest loss on one path of projected gradient ascent, and its loss."""
    best, largest = x, torch.full_like(r.flatten(), -torch.inf)
    for step in range(steps):
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            loss = _margin_loss(network(point), labels)
            (gradient,) = torch.autograd.grad(loss.sum(), point)
        best, largest = _better(best, largest, x, loss.detach())
        length = _column(gradient.flatten(1).norm(dim=1), x)
        rate = 2 * (np.cos(np.pi / 2 * step / steps) + 1 / steps) / 2
        x = project(x + rate * r * gradient / (length + (length == 0)), center, r)
    return _better(best, largest, x, _loss(network, x, labels))


def _better(best: Tensor, largest: Tensor, x: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    """Of each sample the image with the larger loss, and that loss."""
    gain = loss > largest
    return torch.where(_column(gain, x), x, best), torch.where(gain, loss, largest)


@torch.no_grad()
def _loss(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    return _margin_loss(network(x), labels)


def _margin_loss(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Largest other logit minus that of the label."""
    own = nn.functional.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(1) - logits[own]


def project(x: Tensor, center: Tensor, r: Tensor) -> Tensor:
    """Into the ball, then into the cube: the cube contains the center, so the second step leads no farther from it."""
    d = x - center
    length = _column(d.flatten(1).norm(dim=1), x)
    return (center + d * (r / length.clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(1)).clamp(0, 1)


def _in_ball(x: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform points of the unit ball, drawn on the CPU so that every device starts alike."""
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    size = torch.rand(len(x), generator=generator, dtype=torch.float64) ** (1 / x[0].numel())
    return (direction * _column(size / direction.flatten(1).norm(dim=1), direction)).to(x)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """One number a sample, shaped to multiply images."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))
