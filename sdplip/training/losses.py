r"""Losses of certified training under one interface: `loss(logits, labels, context)` is the mean over the batch.

Notation: logits $s$, label $y$, one-hot $e_y$, and $M_{ij}$ the Lipschitz constant of the margin $s_i - s_j$
(`LossContext.pairwise`). The certified radius of a sample is $r = \min_{j \ne y} (s_y - s_j) / M_{yj}$.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sdplip.errors import InvalidConfig

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
                "This loss needs the pairwise constants of the head: pass `LossContext(pairwise=...)`."
            )
        return self.pairwise


NO_CONTEXT = LossContext()
"""For losses that read logits and labels alone, in loops of one's own: `HKR()(field(x), labels)`."""


class AbstractLoss(ABC):
    """A scalar to minimise.

    Attributes:
        needs_pairwise: whether it reads `context.pairwise`.
    """

    needs_pairwise: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, logits: Logits, labels: Labels, context: LossContext = NO_CONTEXT) -> Scalar:
        """The mean loss of the batch. Losses that need pairs of constants ask for a `context`."""


@dataclass(frozen=True)
class CrossEntropy(AbstractLoss):
    r"""Offset cross-entropy $t \cdot \mathrm{CE}((s - u e_y) / t, y)$ (AOL, Prach and Lampert 2022; SLL).

    A larger offset $u$ trades clean accuracy for accuracy at larger radii. Defaults of SLL: $u = 3 \sqrt 2 / 2$, $t = 1/4$.
    """

    offset: float = 1.5 * 2**0.5
    temperature: float = 0.25

    def __call__(self, logits: Logits, labels: Labels, context: LossContext = NO_CONTEXT) -> Scalar:  # noqa: ARG002
        shifted = logits - self.offset * F.one_hot(labels, logits.shape[1])
        return self.temperature * F.cross_entropy(shifted / self.temperature, labels)


@dataclass(frozen=True)
class TauCrossEntropy(AbstractLoss):
    r"""$\mathrm{CE}(\tau s, y) / \tau$ (deel-lip)."""

    tau: float = 4.0

    def __call__(self, logits: Logits, labels: Labels, context: LossContext = NO_CONTEXT) -> Scalar:  # noqa: ARG002
        return F.cross_entropy(self.tau * logits, labels) / self.tau


@dataclass(frozen=True)
class MultiMargin(AbstractLoss):
    r"""$\frac 1 C \sum_{j \ne y} \max(0, m - s_y + s_j)$ (Cayley, CPL); $m = 0.7$ in CPL."""

    margin: float = 0.7

    def __call__(self, logits: Logits, labels: Labels, context: LossContext = NO_CONTEXT) -> Scalar:  # noqa: ARG002
        return F.multi_margin_loss(logits, labels, margin=self.margin)


@dataclass(frozen=True)
class CertificateRegularised(AbstractLoss):
    r"""CR: $\mathrm{CE}(s, y) - \gamma \, \mathrm{mean} \max(0, r)$ (Singla et al. 2022).

    The second term has no gradient at misclassified samples.
    """

    gamma: float = 0.5
    needs_pairwise: ClassVar[bool] = True

    def __call__(self, logits: Logits, labels: Labels, context: LossContext = NO_CONTEXT) -> Scalar:
        radius = radii(logits, labels, context.constants())
        return F.cross_entropy(logits, labels) - self.gamma * radius.relu().mean()


@dataclass(frozen=True)
class EMMA(AbstractLoss):
    r"""$\mathrm{CE}(d + \kappa \epsilon M_y, y)$ with $d_j = s_j - s_y$ and $\kappa_j = \mathrm{clip}(-d_j / (\epsilon M_{yj}),
    0.01, 1)$, which is not differentiated (LiResNet, Hu et al. 2023).

    Training aims at a radius that rises linearly from 0.1 to 3 times `eps` over the first half of training.
    """

    eps: float = 36 / 255
    needs_pairwise: ClassVar[bool] = True

    def __call__(self, logits: Logits, labels: Labels, context: LossContext = NO_CONTEXT) -> Scalar:
        return F.cross_entropy(emma_logits(logits, labels, context, self.eps), labels)


@dataclass(frozen=True)
class LogitAnnealing(AbstractLoss):
    r"""$-T (1 - p)^\beta \log p$ with $p = \mathrm{softmax}((z - \xi e_y) / T)_y$ (BRONet, Lai et al. 2025).

    Attributes:
        offset, temperature, beta: $\xi, T, \beta$.
        eps: $z$ is the logits shifted as in EMMA for this radius (as in BRONet), or the logits themselves if None.
    """

    offset: float = 2.0
    temperature: float = 0.75
    beta: float = 5.0
    eps: float | None = None

    @property
    def needs_pairwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.eps is not None

    def __call__(self, logits: Logits, labels: Labels, context: LossContext = NO_CONTEXT) -> Scalar:
        z = logits if self.eps is None else emma_logits(logits, labels, context, self.eps)
        shifted = z - self.offset * F.one_hot(labels, z.shape[1])
        log_p = -F.cross_entropy(shifted / self.temperature, labels, reduction="none")
        rest = (-torch.expm1(log_p)).clamp(
            min=torch.finfo(log_p.dtype).tiny
        )  # 0 ** beta has no gradient if beta < 1
        return (-self.temperature * rest**self.beta * log_p).mean()


@dataclass(frozen=True)
class HKR(AbstractLoss):
    r"""Hinge and Kantorovich-Rubinstein: $\alpha \, \mathrm{hinge} - (1 - \alpha) \, \mathrm{KR}$ (Serrurier et al. 2021).

    Binary (one logit $f$, labels 0 and 1, $\pm$ the sign of the label): hinge $= E[\max(0, \mu/2 \mp f)]$ and
    $\mathrm{KR} = E[f | 1] - E[f | 0]$. With $C$ logits: the mean over one-against-all problems, the hinge of the true class
    weighted by $C - 1$. A problem of which the batch holds one side only has no KR term.

    Attributes:
        alpha: share of the hinge, in [0, 1].
        margin: $\mu$.
    """

    alpha: float = 0.9
    margin: float = 1.0

    def __call__(self, logits: Logits, labels: Labels, context: LossContext = NO_CONTEXT) -> Scalar:  # noqa: ARG002
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise InvalidConfig(
                f"`HKR` takes logits (batch, classes), or (batch, 1) for two sides, and labels (batch,), but got"
                f" {tuple(logits.shape)} and {tuple(labels.shape)}."
            )
        classes = logits.shape[1]
        mine = labels[:, None] == (1 if classes == 1 else torch.arange(classes, device=labels.device))
        hinge = (self.margin / 2 - torch.where(mine, logits, -logits)).relu()
        if classes > 1:
            hinge = torch.where(mine, (classes - 1) * hinge, hinge)
        positive, negative = mine.sum(0), (~mine).sum(0)
        above = (logits * mine).sum(0) / positive.clamp(min=1)
        below = (logits * ~mine).sum(0) / negative.clamp(min=1)
        both = (positive > 0) & (negative > 0)
        return self.alpha * hinge.mean() - (1 - self.alpha) * ((above - below) * both).mean()


@dataclass(frozen=True)
class GloRo(AbstractLoss):
    r"""Cross-entropy with one more class $s_\bot = \max_{j \ne i} (s_j + \epsilon M_{ij})$, $i = \arg\max s$ (Leino et al. 2021).

    With a `weight` $\lambda$ its TRADES form $\mathrm{CE}(s, y) + \lambda \, \mathrm{KL}(p(s) \Vert p(s, s_\bot))$; the
    divergence is $\log(1 + e^{s_\bot} / \sum_j e^{s_j})$.
    """

    eps: float = 36 / 255
    weight: float | None = None
    needs_pairwise: ClassVar[bool] = True

    def __call__(self, logits: Logits, labels: Labels, context: LossContext = NO_CONTEXT) -> Scalar:
        M = context.constants()
        top = logits.argmax(1)
        rivals = (logits + self.eps * M[top]).masked_fill(_at(top, logits), -torch.inf)
        extended = torch.cat([logits, rivals.amax(1, keepdim=True)], 1)
        if self.weight is None:
            return F.cross_entropy(extended, labels)
        divergence = extended.logsumexp(1) - logits.logsumexp(1)
        return F.cross_entropy(logits, labels) + self.weight * divergence.mean()


def radii(
    logits: Logits, labels: Labels, pairwise: Float[Tensor, "classes classes"]
) -> Float[Tensor, " batch"]:
    r"""$\min_{j \ne y} (s_y - s_j) / M_{yj}$: negative where misclassified, 0 at ties, also at those of equal rows of the head.

    For training: differentiable and not rounded. `sdplip.robustness` certifies.
    """
    margins = logits.gather(1, labels[:, None]) - logits
    M = pairwise[labels].to(logits.dtype).clamp(min=1e-12)
    return (margins / M).masked_fill(_at(labels, logits), torch.inf).amin(1)


def emma_logits(logits: Logits, labels: Labels, context: LossContext, eps: float) -> Logits:
    """The logits that EMMA gives to the cross-entropy, the true class at 0."""
    eps = eps * (0.1 + 2.9 * min(1.0, 2 * context.progress))
    d = logits - logits.gather(1, labels[:, None])
    reach = eps * context.constants()[labels].to(logits.dtype)
    with torch.no_grad():
        kappa = (-d / reach.masked_fill(reach == 0, 1)).clamp(0.01, 1)
    return d + kappa * reach


def _at(classes: Labels, logits: Logits) -> Tensor:
    """Mask of one class a row."""
    return F.one_hot(classes, logits.shape[1]).bool()
