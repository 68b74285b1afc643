"""Tiny networks of every family, trained for about a second on the digits of scikit-learn."""

import functools

import torch
from torch import nn

from sdplip.nn import initialise
from sdplip.nn.models import Plan, orthogonal_network, residual_network

FAMILIES = ("sll", "cpl", "aol", "orthogonal")
PLAN = Plan(2, 1, 8, 8, 32, 2, (1, 8, 8))


@functools.cache
def digits():
    """Images in bytes and labels: 1,500 to train, 297 to test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images * 255 / 16).to(torch.uint8)[:, None]
    labels = torch.from_numpy(bunch.target).long()
    return (images[:1500], labels[:1500]), (images[1500:], labels[1500:])


def untrained(family):
    if family == "orthogonal":
        return orthogonal_network(PLAN)
    model = residual_network(PLAN, {"cpl": "spectral"}.get(family, family), mean=[0.3])
    initialise(model)
    return model


@functools.cache
def trained(family):
    """In eval mode; not to be changed."""
    (images, labels), _ = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = untrained(family)
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(40):
            at = torch.randint(len(images), (128,))
            y = nn.functional.one_hot(labels[at], 10)
            logits = model(images[at] / 255)
            loss = nn.functional.cross_entropy((logits - 0.3 * y) * 8, labels[at])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()
