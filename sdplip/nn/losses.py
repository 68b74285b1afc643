r"""Losses of certified training as modules: `loss(logits, labels)` is the mean over the batch.

    >>> HKR()(logits, labels)                # most losses need nothing else
    >>> EMMA()(logits, labels, 1.0)          # some read the constants of margins: of a network with this Lipschitz constant,
    >>> EMMA()(logits, labels, pairwise)     # or one a pair of classes, such as `aimed_constants(model)`

Labels are class indices, or what HKR users have: one-hot rows, and +1 and -1 for a single logit.

Notation: logits $s$, label $y$, one-hot $e_y$, and $M_{ij}$ the Lipschitz constant of the margin $s_i - s_j$
(`LossContext.pairwise`). The certified radius of a sample is $r = \min_{j \ne y} (s_y - s_j) / M_{yj}$.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdplip.errors import InvalidConfig
from sdplip.nn.targets import (
    RAMP,
    Constants,
    Labels,
    Logits,
    LossContext,
    Scalar,
    at,
    class_indices,
    emma_logits,
    pairwise_of,
    radii,
)


class AbstractLoss(nn.Module, ABC):
    """A scalar to minimise.

    Attributes:
        needs_pairwise: whether it reads the constants of margins.
    """

    needs_pairwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__init__()

    def forward(self, logits: Logits, labels: Tensor, context: Constants = None) -> Scalar:
        """The mean loss of the batch.

        Args:
            labels: class indices `(batch,)`, one-hot rows `(batch, classes)`, or +1 and -1 for a single logit.
            context: constants of the margins, where the loss reads them: a matrix `(classes, classes)`; or a number, the Lipschitz
                constant of the network, which bounds every margin by sqrt(2) times itself.

        Raises:
            InvalidConfig: labels of another shape, or no constants where the loss needs them.
        """
        if not isinstance(context, LossContext):
            context = LossContext(pairwise_of(context, logits))
        return self.value(logits, class_indices(logits, labels), context)

    @abstractmethod
    def value(self, logits: Logits, labels: Labels, context: LossContext) -> Scalar:
        """The mean loss for class indices."""


@dataclass(eq=False)
class CrossEntropy(AbstractLoss):
    r"""Offset cross-entropy $t \cdot \mathrm{CE}((s - u e_y) / t, y)$ (AOL, Prach and Lampert 2022; SLL).

    A larger offset $u$ trades clean accuracy for accuracy at larger radii. Defaults of SLL: $u = 3 \sqrt 2 / 2$, $t = 1/4$.
    """

    offset: float = 1.5 * 2**0.5
    temperature: float = 0.25

    def value(self, logits: Logits, labels: Labels, context: LossContext) -> Scalar:  # noqa: ARG002
        shifted = logits - self.offset * F.one_hot(labels, logits.shape[1])
        return self.temperature * F.cross_entropy(shifted / self.temperature, labels)


@dataclass(eq=False)
class TauCrossEntropy(AbstractLoss):
    r"""$\mathrm{CE}(\tau s, y) / \tau$ (deel-lip)."""

    tau: float = 4.0

    def value(self, logits: Logits, labels: Labels, context: LossContext) -> Scalar:  # noqa: ARG002
        return F.cross_entropy(self.tau * logits, labels) / self.tau


@dataclass(eq=False)
class MultiMargin(AbstractLoss):
    r"""$\frac 1 C \sum_{j \ne y} \max(0, m - s_y + s_j)$ (Cayley, CPL); $m = 0.7$ in CPL."""

    margin: float = 0.7

    def value(self, logits: Logits, labels: Labels, context: LossContext) -> Scalar:  # noqa: ARG002
        return F.multi_margin_loss(logits, labels, margin=self.margin)


@dataclass(eq=False)
class CertificateRegularised(AbstractLoss):
    r"""CR: $\mathrm{CE}(s, y) - \gamma \, \mathrm{mean} \max(0, r)$ (Singla et al. 2022).

    The second term has no gradient at misclassified samples.
    """

    gamma: float = 0.5
    needs_pairwise: ClassVar[bool] = True

    def value(self, logits: Logits, labels: Labels, context: LossContext) -> Scalar:
        radius = radii(logits, labels, context.constants())
        return F.cross_entropy(logits, labels) - self.gamma * radius.relu().mean()


@dataclass(eq=False)
class EMMA(AbstractLoss):
    r"""$\mathrm{CE}(d + \kappa \epsilon M_y, y)$ with $d_j = s_j - s_y$ and $\kappa_j = \mathrm{clip}(-d_j / (\epsilon M_{yj}),
    0.01, 1)$, which is not differentiated (LiResNet, Hu et al. 2023).

    Training aims at a radius that rises linearly from 0.1 to 3 times `eps` (the two numbers of `ramp`) over the first half of training.
    """

    eps: float = 36 / 255
    ramp: tuple[float, float] = RAMP
    needs_pairwise: ClassVar[bool] = True

    def value(self, logits: Logits, labels: Labels, context: LossContext) -> Scalar:
        return F.cross_entropy(emma_logits(logits, labels, context, self.eps, self.ramp), labels)


@dataclass(eq=False)
class LogitAnnealing(AbstractLoss):
    r"""$-T (1 - p)^\beta \log p$ with $p = \mathrm{softmax}((z - \xi e_y) / T)_y$ (BRONet, Lai et al. 2025).

    Attributes:
        offset, temperature, beta: $\xi, T, \beta$.
        eps: $z$ is the logits shifted as in EMMA for this radius (as in BRONet), or the logits themselves if None.
        ramp: as of EMMA.
    """

    offset: float = 2.0
    temperature: float = 0.75
    beta: float = 5.0
    eps: float | None = None
    ramp: tuple[float, float] = RAMP

    @property
    def needs_pairwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.eps is not None

    def value(self, logits: Logits, labels: Labels, context: LossContext) -> Scalar:
        z = logits if self.eps is None else emma_logits(logits, labels, context, self.eps, self.ramp)
        shifted = z - self.offset * F.one_hot(labels, z.shape[1])
        log_p = -F.cross_entropy(shifted / self.temperature, labels, reduction="none")
        rest = (-torch.expm1(log_p)).clamp(
            min=torch.finfo(log_p.dtype).tiny
        )  # 0 ** beta has no gradient if beta < 1
        return (-self.temperature * rest**self.beta * log_p).mean()


@dataclass(eq=False)
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

    def value(self, logits: Logits, labels: Labels, context: LossContext) -> Scalar:  # noqa: ARG002
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


@dataclass(eq=False)
class GloRo(AbstractLoss):
    r"""Cross-entropy with one more class $s_\bot = \max_{j \ne i} (s_j + \epsilon M_{ij})$, $i = \arg\max s$ (Leino et al. 2021).

    With a `weight` $\lambda$ its TRADES form $\mathrm{CE}(s, y) + \lambda \, \mathrm{KL}(p(s) \Vert p(s, s_\bot))$; the
    divergence is $\log(1 + e^{s_\bot} / \sum_j e^{s_j})$.
    """

    eps: float = 36 / 255
    weight: float | None = None
    needs_pairwise: ClassVar[bool] = True

    def value(self, logits: Logits, labels: Labels, context: LossContext) -> Scalar:
        M = context.constants()
        top = logits.argmax(1)
        rivals = (logits + self.eps * M[top]).masked_fill(at(top, logits), -torch.inf)
        extended = torch.cat([logits, rivals.amax(1, keepdim=True)], 1)
        if self.weight is None:
            return F.cross_entropy(extended, labels)
        divergence = extended.logsumexp(1) - logits.logsumexp(1)
        return F.cross_entropy(logits, labels) + self.weight * divergence.mean()


@dataclass(eq=False)
class CLL(AbstractLoss):
    r"""Calibrated Lipschitz-margin loss $\mathrm{CE}((d_j + \epsilon (1 - 2 [j = y])) / \sigma, y) + \lambda \max_{ij} M_{ij}^2$
    (Losch et al., GCPR 2023).

    $d_j = (s_j - s_y) / M_{yj}$ are signed distances in the input, and $\sigma = 2 \epsilon / Q(p)$ with $Q(p) = 2 \ln \frac{1 - p/2}{p/2}$ is the
    width at which the logistic distribution leaves the mass $p$, the slack, outside of $\pm \epsilon$. Smaller $p$ is steeper. The constants
    are not differentiated in the first term.

    Attributes:
        eps: $\epsilon$, the radius aimed at.
        slack: $p$, in (0, 1).
        weight: $\lambda$.
    """

    eps: float = 36 / 255
    slack: float = 0.3
    weight: float = 1e-4
    needs_pairwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.slack < 1 and self.eps > 0):
            raise InvalidConfig(
                f"`slack` must lie in (0, 1) and `eps` be positive, but they are {self.slack} and {self.eps}."
            )

    @property
    def width(self) -> float:
        r"""$Q(p)$."""
        return 2 * log((1 - self.slack / 2) / (self.slack / 2))

    def value(self, logits: Logits, labels: Labels, context: LossContext) -> Scalar:
        M = context.constants().to(logits.dtype)
        mine = at(labels, logits)
        reach = M.detach()[labels].masked_fill(mine, 1).clamp(min=1e-12)  # 0 / 0 at the class itself
        d = (logits - logits.gather(1, labels[:, None])) / reach + self.eps * torch.where(mine, -1.0, 1.0)
        return F.cross_entropy(d * (self.width / (2 * self.eps)), labels) + self.weight * M.amax() ** 2


@dataclass(eq=False)
class CRM(AbstractLoss):
    r"""Certified radius maximisation $\mathrm{CE}(s, y) + \frac \mu {\alpha B} \sum_{i : r_i < r_0} \log \sum_{j \ne y} e^{-\alpha r_{ij}}$
    (Fazlyab et al., NeurIPS 2023).

    $r_{ij} = (s_y - s_j) / M_{yj}$, whose least is the radius $r_i$; the sum is a soft minimum, differentiated through the constants too.
    Unlike in `CertificateRegularised`, misclassified samples count. Published: $\alpha = 5$ with $\mu = 30$, $r_0 = 2.2$ on MNIST, and 15 and 0.2 on
    CIFAR-10.

    Attributes:
        weight: $\mu$.
        sharpness: $\alpha$.
        radius: $r_0$, from which on a sample is left alone.
    """

    weight: float = 15.0
    sharpness: float = 5.0
    radius: float = 0.2
    needs_pairwise: ClassVar[bool] = True

    def value(self, logits: Logits, labels: Labels, context: LossContext) -> Scalar:
        mine = at(labels, logits)
        M = context.constants()[labels].to(logits.dtype).masked_fill(mine, 1).clamp(min=1e-12)
        r = ((logits.gather(1, labels[:, None]) - logits) / M).masked_fill(mine, torch.inf)
        near = r.amin(1) < self.radius
        soft = torch.logsumexp(-self.sharpness * r, 1)
        return F.cross_entropy(logits, labels) + self.weight / self.sharpness * (soft * near).mean()


@dataclass(eq=False)
class AbstractRegression(AbstractLoss):
    """A loss of numbers: `logits` are predictions `(batch, outputs)`, `labels` targets of that shape.

    Attributes:
        tolerance: errors below it count as right when a run is validated and certified; training does not read it.
    """

    tolerance: float = 1.0

    def forward(self, logits: Tensor, labels: Tensor, context: Constants = None) -> Scalar:  # noqa: ARG002
        """The mean loss of the batch.

        Raises:
            InvalidConfig: targets of another shape than the predictions: broadcasting would compare each with every other.
        """
        if logits.shape != labels.shape or not labels.is_floating_point():
            raise InvalidConfig(
                f"Targets must be numbers of the shape of the predictions, {tuple(logits.shape)}, but are {labels.dtype} of shape"
                f" {tuple(labels.shape)}."
            )
        return self.value(logits, labels, LossContext())


@dataclass(eq=False)
class MeanSquare(AbstractRegression):
    r"""Mean squared error, $\mathrm{mean} (f - y)^2$."""

    def value(self, logits: Tensor, labels: Tensor, context: LossContext) -> Scalar:  # noqa: ARG002
        return F.mse_loss(logits, labels)


@dataclass(eq=False)
class MeanAbsolute(AbstractRegression):
    r"""Mean absolute error, $\mathrm{mean} |f - y|$: outliers count less."""

    def value(self, logits: Tensor, labels: Tensor, context: LossContext) -> Scalar:  # noqa: ARG002
        return F.l1_loss(logits, labels)
