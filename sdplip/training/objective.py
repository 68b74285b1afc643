"""Network and loss as one module: what several processes differentiate together."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from sdplip.nn.losses import AbstractLoss, LossContext
from sdplip.nn.together import together
from sdplip.training.margins import aimed_constants
from sdplip.training.precision import Precision, lowered


class Objective(nn.Module):
    """The mean loss of a batch: `forward(images, labels, share)`.

    Args:
        model: whose parameters are trained; the constants of the margins are read from it.
        forward_pass: the model itself, or a compiled form of it.
        precision: of the forward pass; the loss is computed in float32.
    """

    def __init__(
        self,
        model: nn.Module,
        forward_pass: Callable[[Tensor], Tensor],
        loss: AbstractLoss,
        precision: Precision,
    ) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.precision: Precision = precision
        self._run = (forward_pass,)  # in a tuple, so that its parameters are not listed twice

    def forward(self, images: Tensor, labels: Tensor, share: float) -> Tensor:
        model = self._run[0]
        eager = (
            together(self.model) if model is self.model else nullcontext()
        )  # a compiler merges them itself
        with eager, lowered(images.device, self.precision):
            logits = model(images)
        pairwise = None
        if self.loss.needs_pairwise:
            assert isinstance(self.model, nn.Sequential)
            pairwise = aimed_constants(self.model)
        with torch.autocast(images.device.type, enabled=False):
            return self.loss(logits.float(), labels, LossContext(pairwise, share))
