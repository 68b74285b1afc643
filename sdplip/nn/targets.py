r"""What losses are told: labels in any of the usual forms, and the constants of margins; and what they share."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sdplip.errors import InvalidConfig

RAMP = (0.1, 3.0)
"""Multiples of the radius that EMMA aims at, at the beginning and from the middle of training on (LiResNet, BRONet on CIFAR; BRONet on ImageNet
ends at 2)."""

Logits = Float[Tensor, "batch classes"]
Labels = Int[Tensor, " batch"]
Scalar = Float[Tensor, ""]


@dataclass(frozen=True, eq=False)
class LossContext:
    """What a loss may need besides logits and labels.

    Attributes:
        pairwise: `(classes, classes)` constants of the margins in pixel units, differentiable or not; None if no loss reads it.
        progress: share of training done, in [0, 1].
    """

    pairwise: Float[Tensor, "classes classes"] | None = None
    progress: float = 1.0

    def constants(self) -> Float[Tensor, "classes classes"]:
        """`pairwise`, or the reason why there is a need for it."""
        if self.pairwise is None:
            raise InvalidConfig(
                "This loss needs the pairwise constants of the margins. Pass the Lipschitz constant of the network as a third argument,"
                " `loss(logits, labels, 1.0)`, or a matrix of one constant a pair of classes."
            )
        return self.pairwise


Constants = LossContext | Tensor | float | None
"""What a loss may be told: everything, the matrix of constants, the constant of the network, or nothing."""


def class_indices(logits: Logits, labels: Tensor) -> Labels:
    """Class indices of labels in any of the usual forms.

    Raises:
        InvalidConfig: labels that do not fit the logits.
    """
    if logits.ndim != 2:
        raise InvalidConfig(f"Logits have the shape `(batch, classes)`, but got {tuple(logits.shape)}.")
    batch, classes = logits.shape
    if labels.shape == logits.shape and classes > 1:
        return labels.argmax(1)
    if labels.numel() != batch or labels.ndim > 2:
        raise InvalidConfig(
            f"Labels are class indices `({batch},)` or one-hot rows `({batch}, {classes})`, but have the shape {tuple(labels.shape)}."
        )
    labels = labels.reshape(batch)
    return (labels > 0).long() if classes == 1 else labels.long()


def pairwise_of(constant: Tensor | float | None, logits: Logits) -> Tensor | None:
    """Constants of all margins of a network with one constant, 0 on the diagonal."""
    if constant is None or (isinstance(constant, Tensor) and constant.ndim == 2):
        return constant
    classes = logits.shape[-1]
    eye = torch.eye(classes, dtype=logits.dtype, device=logits.device)
    return (1 - eye) * (2**0.5 * torch.as_tensor(constant, dtype=logits.dtype, device=logits.device))


def radii(
    logits: Logits, labels: Labels, pairwise: Float[Tensor, "classes classes"]
) -> Float[Tensor, " batch"]:
    r"""$\min_{j \ne y} (s_y - s_j) / M_{yj}$: negative where misclassified, 0 at ties, also at those of equal rows of the head.

    For training: differentiable and not rounded. `sdplip.robustness` certifies.
    """
    margins = logits.gather(1, labels[:, None]) - logits
    M = pairwise[labels].to(logits.dtype).clamp(min=1e-12)
    return (margins / M).masked_fill(at(labels, logits), torch.inf).amin(1)


def emma_logits(
    logits: Logits, labels: Labels, context: LossContext, eps: float, ramp: tuple[float, float] = RAMP
) -> Logits:
    """The logits that EMMA gives to the cross-entropy, the true class at 0; `eps` rises between the multiples `ramp` over half of training."""
    eps = eps * (ramp[0] + (ramp[1] - ramp[0]) * min(1.0, 2 * context.progress))
    d = logits - logits.gather(1, labels[:, None])
    reach = eps * context.constants()[labels].to(logits.dtype)
    with torch.no_grad():
        kappa = (-d / reach.masked_fill(reach == 0, 1)).clamp(0.01, 1)
    return d + kappa * reach


def at(classes: Labels, logits: Logits) -> Tensor:
    """Mask of one class a row."""
    return F.one_hot(classes, logits.shape[1]).bool()
