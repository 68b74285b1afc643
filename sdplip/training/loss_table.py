"""The table `loss` of a run file."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from sdplip.errors import InvalidConfig
from sdplip.training.fields import NotNegative, Positive, Range, Share, check

Loss = Literal[
    "cross_entropy",
    "tau_cross_entropy",
    "multi_margin",
    "cr",
    "emma",
    "logit_annealing",
    "hkr",
    "gloro",
    "cll",
    "crm",
    "mse",
    "mae",
]


@dataclass(frozen=True)
class LossConfig:
    """The loss. None is the published value of that loss; a key that the loss has no use for must be None.

    Attributes:
        offset: subtracted from the logit of the true class (cross_entropy, logit_annealing).
        temperature: divides the logits (cross_entropy, tau_cross_entropy: 1 / tau, logit_annealing).
        margin: of the hinge (multi_margin, hkr).
        eps: radius in pixel units that training aims at (emma, gloro, cll; logit_annealing: of its EMMA shift, None for no shift).
        gamma: weight of the mean certified radius (cr).
        alpha: share of the hinge in [0, 1] (hkr).
        beta: exponent of the annealing (logit_annealing).
        tolerance: errors below it count as right, in standard deviations of the targets (mse, mae; training does not read it).
        weight: weight of the divergence (gloro in its TRADES form; None is the cross-entropy with one more class), of the squared
            constant (cll), of the radii (crm).
        slack: share of the logistic distribution beyond `eps`, in (0, 1) (cll).
        sharpness: of the soft minimum over the classes (crm).
        radius: in pixel units, from which on a sample is left alone (crm).
        ramp: multiples of `eps` from which to which the radius rises over the first half of training (emma, logit_annealing).
    """

    name: Loss = "cross_entropy"
    offset: float | None = None
    temperature: Positive | None = None
    margin: Positive | None = None
    eps: Positive | None = None
    gamma: NotNegative | None = None
    alpha: Share | None = None
    beta: NotNegative | None = None
    weight: NotNegative | None = None
    slack: Annotated[float, Range(0, 1, strict=True)] | None = None
    sharpness: Positive | None = None
    radius: float | None = None
    ramp: tuple[Positive, Positive] | None = None
    tolerance: Positive | None = None

    def __post_init__(self) -> None:
        check(self)
        for key, value in dataclasses.asdict(self).items():
            if key != "name" and value is not None and key not in LOSS_KEYS[self.name]:
                raise InvalidConfig(
                    f"`loss.{key}` = {value!r} has no effect on the loss {self.name!r}, which knows"
                    f" {', '.join(LOSS_KEYS[self.name])}. Remove it, or set it to none."
                )


LOSS_KEYS: dict[str, tuple[str, ...]] = {
    "cross_entropy": ("offset", "temperature"),
    "tau_cross_entropy": ("temperature",),
    "multi_margin": ("margin",),
    "cr": ("gamma",),
    "emma": ("eps", "ramp"),
    "logit_annealing": ("offset", "temperature", "beta", "eps", "ramp"),
    "hkr": ("alpha", "margin"),
    "gloro": ("eps", "weight"),
    "cll": ("eps", "slack", "weight"),
    "crm": ("weight", "sharpness", "radius"),
    "mse": ("tolerance",),
    "mae": ("tolerance",),
}
"""The keys that each loss reads."""
