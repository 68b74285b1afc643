"""The images with the smallest and the largest certified radii, each with what an attack makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdplip.arithmetic.decimals import above, below
from sdplip.html.elements import Node, joined, paragraph, tag
from sdplip.html.pictures import picture

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sdplip.robustness.certification import Certification

FEW = 4
"""Images of each kind."""
FARTHEST, HALVINGS = 8.0, 6
"""An attack is tried up to so many times the radius; then the distance is halved so often."""


@dataclass(frozen=True, eq=False)
class Attacked:
    """An image, what an attack found nearest to it, and its distance; None where none was found."""

    image: np.ndarray
    found: np.ndarray | None
    distance: float
    label: int
    other: int
    radius: float


def samples_body(
    network: "nn.Module", images: "Tensor", found: "Certification", classes: Sequence[str]
) -> Node:
    """Both ends of the radii; the truth lies between radius and distance of the attacked image.

    Args:
        network: that was certified.
        images: `(n, channels, height, width)`, bytes or floating point in [0, 1].
    """
    right = np.flatnonzero(found.correct & (found.radius > 0))
    if not len(right):
        return paragraph("No image is certified.")
    order = right[np.argsort(found.radius[right], kind="stable")]
    ends = {"Smallest radii": order[:FEW], "Largest radii": order[::-1][:FEW].copy()}
    words = (
        "Image, the nearest one of another class that projected gradient descent found, and their difference (grey is none)."
        " Nearer than the certified radius there is none; the distance of the attack is the upper side."
    )
    parts = [paragraph(words)]
    for title, which in ends.items():
        tried = attacked(network, images[which], found.label[which], found.radius[which])
        parts += [tag("h3", title), joined("pairs", *(_pair(one, classes) for one in tried))]
    return joined("", *parts)


def attacked(
    network: "nn.Module", images: "Tensor", labels: np.ndarray, radius: np.ndarray
) -> list[Attacked]:
    """The nearest images of another class that PGD finds, by bisection of its radius from the certified one on."""
    import torch

    from sdplip.robustness.arithmetic import device_of, network_in, pixels
    from sdplip.robustness.attacks import pgd_l2

    model = network_in(network, "float64").requires_grad_(False)
    x = pixels(images.to(device_of(model)), "float64")
    y = torch.from_numpy(np.asarray(labels)).to(x.device)
    low = torch.from_numpy(np.asarray(radius, np.float64)).to(x.device)
    high, best = FARTHEST * low, x.clone()
    hit = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    distance = torch.full((len(x),), float("inf"), dtype=torch.float64, device=x.device)
    for step in range(HALVINGS + 1):
        eps = high if step == 0 else (low * high).sqrt()
        tried = pgd_l2(model, x, y, eps, steps=40, restarts=2)
        with torch.no_grad():
            wrong = model(tried).argmax(-1) != y
        far = (tried - x).flatten(1).norm(dim=1)
        better = wrong & (far < distance)
        best[better], distance = tried[better], torch.where(better, far, distance)
        hit |= wrong
        high, low = torch.where(wrong, torch.minimum(eps, far), high), torch.where(wrong, low, eps)
    with torch.no_grad():
        other = model(best).argmax(-1).tolist()
    return [
        Attacked(a.numpy(), b.numpy() if h else None, float(d), int(label), o, float(r))
        for a, b, h, d, label, o, r in zip(
            x.cpu(), best.cpu(), hit.tolist(), distance.tolist(), labels, other, radius, strict=True
        )
    ]  # fmt: skip


def _pair(one: Attacked, classes: Sequence[str]) -> Node:
    name = classes[one.label]
    shown = [picture(one.image, name)]
    words = f"certified radius {below(one.radius, 4)}, no attack found within {FARTHEST:g} times that"
    if one.found is not None:
        difference = one.found - one.image
        scaled = 0.5 + 0.5 * difference / (np.abs(difference).max() or 1.0)
        other = classes[one.other]
        shown += [picture(one.found, other), picture(scaled, "their difference, scaled")]
        words = (
            f"{name}: certified radius {below(one.radius, 4)}; {other} at distance {above(one.distance, 4)}"
        )
    return tag("div", joined("images", *shown), tag("div", words), class_="card")
