"""Validation images, taken from the training images and never from the test set."""

import numpy as np
import torch

from sdplip.errors import InvalidData
from sdplip.training.data.dataset import Split
from sdplip.training.data.order import permutation


def hold_out(split: Split, share: float, *, seed: int = 0) -> tuple[Split, Split]:
    """`(rest, held)`: `round(share * count)` images of every class (of a table: of all rows) are held, both parts in the order of `split`.

    The choice depends on the labels and on `seed` alone (not on the seed of a training run), so every run and every machine
    selects its models on the same images.

    Raises:
        InvalidData: a share outside of (0, 1), or one that leaves a part empty.
    """
    if not 0 < share < 1:
        raise InvalidData(
            f"`validation` is a share of the training images, in [0, 1), but it is {share}. Use 0.1, or 0 to hold out nothing."
        )
    labels = split.labels.cpu().numpy()
    if split.labels.is_floating_point():
        labels = np.zeros(len(labels), np.int64)  # targets are no classes
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held[members[permutation(len(members), seed, int(label))][: round(share * len(members))]] = True
    if held.all() or not held.any():
        raise InvalidData(
            f"`validation = {share}` of {len(labels)} training images leaves "
            f"{'no image to train on' if held.all() else 'no validation image'}. Use another share, or 0 to hold out nothing."
        )
    mask = torch.from_numpy(held).to(split.labels.device)
    return split[~mask], split[mask]
