"""A running mean of the weights, beside whatever trains them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sdplip.nn.manifold import as_matrices, manifold_weights, polar


class Average:
    r"""$a \leftarrow d\, a + (1 - d)\, w$ for every parameter $w$ that is trained, with $d = \min(\mathrm{decay}, (1 + n) / (10 + n))$ at step $n$.

    Early means forget fast, so that they do not drag the initial weights along. Buffers are those of the model.

    Args:
        model: whose parameters are averaged.
        decay: the largest $d$, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.blocks = manifold_weights(model)
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.means: list[Tensor] = [w.detach().clone() for w in self.weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after `step` steps in."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.means, [w.detach() for w in self.weights], share)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A block in which the parameters are their means, orthogonal ones the polar factor of theirs."""
        kept = [w.detach().clone() for w in self.weights]
        with torch.no_grad():
            for w, mean in zip(self.weights, self.means, strict=True):
                w.copy_(mean)
                if w in self.blocks:
                    w.copy_(polar(as_matrices(mean, self.blocks[w])).reshape(w.shape))
        try:
            yield
        finally:
            with torch.no_grad():
                for w, old in zip(self.weights, kept, strict=True):
                    w.copy_(old)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {f"{index}": mean for index, mean in enumerate(self.means)}

    @torch.no_grad()
    def recall(self, tensors: dict[str, Tensor]) -> None:
        """Go on with the means of a checkpoint."""
        for index, mean in enumerate(self.means):
            mean.copy_(tensors[f"{index}"])
