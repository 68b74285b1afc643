"""Clean and certified accuracy of the network as it stands, cheaply: for the progress bar and for model selection."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.nn.ieee import ieee
from sdplip.nn.losses import radii
from sdplip.training.data import Split, as_float
from sdplip.training.distributed import Team
from sdplip.training.margins import aimed_constants
from sdplip.training.own import monitored_constant, monitored_constants

BATCH = 500


@torch.no_grad()
def validate(
    model: nn.Module, split: Split, eps: float, team: Team, *, own: bool = False, tolerance: float = 1.0
) -> tuple[float, float]:
    """Share of right predictions, and of right ones whose radius exceeds `eps` by the constants that the layers aim at.

    Float32 whatever training runs in. The second number is a monitored estimate: it trusts the layers and rounds nothing. Of the
    user's `own` networks the constants are those that `lipschitz` proves.

    Predictions of numbers are right with an error below `tolerance`; their constant is the one that `lipschitz` proves.
    """
    model.eval()
    counts = torch.zeros(2, dtype=torch.float64)
    with ieee():
        if split.labels.is_floating_point():
            constants = monitored_constant(model, split.shape)
        elif own:
            constants = monitored_constants(model, split.shape)
        else:
            assert isinstance(model, nn.Sequential)
            constants = aimed_constants(model)
        mine = torch.arange(team.rank, len(split), team.world, device=split.labels.device)
        for places in mine.split(BATCH):
            part = split[places]
            outputs = model(as_float(part.images))
            if split.labels.is_floating_point():
                counts += _near(outputs, part.labels, constants * eps, tolerance).cpu()
            else:
                counts += _counts(outputs, part.labels, constants, eps).cpu()
    model.train()
    clean, certified = team.total(counts.to(team.device)).tolist()
    return clean / len(split), certified / len(split)


def _near(outputs: Tensor, targets: Tensor, moved: Tensor, tolerance: float) -> Float[Tensor, "2"]:
    """Predictions that are within the tolerance, and that are so when they move."""
    error = (outputs - targets).norm(dim=1)
    return torch.stack([(error < tolerance).sum(), (error + moved < tolerance).sum()]).double()


def _counts(logits: Tensor, labels: Tensor, constants: Tensor, eps: float) -> Float[Tensor, "2"]:
    if constants.ndim == 0:
        constants = constants.expand(logits.shape[1], logits.shape[1])
    right = logits.argmax(1) == labels
    safe = right & (radii(logits, labels, constants) > eps)
    return torch.stack([right.sum(), safe.sum()]).double()
