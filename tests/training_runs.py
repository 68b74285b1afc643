"""A run small enough for tests: 64 images of digits, one convolution of eight channels, four steps an epoch."""

from dataclasses import replace

import torch

from sdplip.training import override, preset
from sdplip.training.config import DataConfig
from sdplip.training.data import load

SMALL = (
    "model.convolutions=1",
    "model.dense=1",
    "model.width=8",
    "model.hidden_channels=8",
    "model.hidden=16",
    "train.batch=16",
    "train.epochs=2",
    "train.device=cpu",
    "train.threads=1",
)


def small(*changes):
    """The configuration."""
    length = any(change.startswith(("train.epochs=", "train.steps=", "train.minutes=")) for change in changes)
    return override(preset("digits-sll"), [*(SMALL[:-3] + SMALL[-2:] if length else SMALL), *changes])


def few(n=64):
    """The first images of the digits."""
    data = load(DataConfig())
    return replace(data, train=data.train[:n], validation=data.validation[:32], test=data.test[:32])


def same_weights(a, b):
    """Whether two state dicts hold the same bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
