r"""What does it cost to compute T only at every k-th step of training? Accuracy on the digits of scikit-learn, three seeds.

    python examples/refresh_accuracy.py

prints a Markdown table. Every model is trained with `refresh_every=k` in all its layers and judged in eval mode, where T is
computed from the final weights: a test image counts as certified at radius 0.5 if its margin is above $0.5 \sqrt 2 L$, with the
proven $L$ = `lipschitz(model).value`. The shuffles and initial weights of a seed are the same for every k. Between two
computations T only grows with the weight: with its norm (SLL), with the image of a vector that power iteration follows (CPL), or
along the slope of the last computation (CPL's convolutions).
"""

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from sdplip.nn import (
    SLL,
    AbstractScaling,
    PadChannels,
    ResidualConv2d,
    ResidualLinear,
    Spectral,
    initialise,
    lipschitz,
    rescaled,
)

RADIUS, EPOCHS, BATCH, TEMPERATURE = 0.5, 30, 64, 0.25
Split = tuple[Tensor, Tensor, Tensor, Tensor]


def digits() -> Split:
    """Training and test images in [0, 1] (64 pixels) and their labels."""
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(images / 16, labels, test_size=0.25, random_state=0)
    floats = (torch.tensor(x, dtype=torch.float32) for x in (train_x, test_x))
    return (*floats, torch.tensor(train_y), torch.tensor(test_y))


def dense(kind: type[AbstractScaling], refresh_every: int) -> nn.Sequential:
    """Three residual layers of 128 hidden units and a rescaled head."""
    blocks = (ResidualLinear(64, 128, kind(refresh_every=refresh_every)) for _ in range(3))
    return nn.Sequential(*blocks, rescaled(nn.Linear(64, 10), kind(refresh_every=refresh_every)))


def convolutions(kind: type[AbstractScaling], refresh_every: int) -> nn.Sequential:
    """Three residual convolutions of 16 hidden channels on 8 channels, and a rescaled head."""
    blocks = (ResidualConv2d(8, 16, 3, kind(refresh_every=refresh_every)) for _ in range(3))
    head = rescaled(nn.Linear(512, 10), kind(refresh_every=refresh_every))
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), PadChannels(7), *blocks, nn.Flatten(), head)


KINDS = {
    "sll": partial(dense, SLL),
    "spectral (CPL)": partial(dense, Spectral),
    "spectral (CPL), convolutions": partial(convolutions, Spectral),
}


def trained(
    network: Callable[[int], nn.Sequential],
    refresh_every: int,
    rate: float,
    seed: int,
    train_x: Tensor,
    train_y: Tensor,
) -> nn.Sequential:
    """The network after training with Adam on the cross-entropy of logits over a temperature, in eval mode."""
    torch.manual_seed(seed)
    model = initialise(network(refresh_every))
    steps = EPOCHS * (len(train_x) // BATCH)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(train_x))
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            loss = nn.functional.cross_entropy(model(train_x[batch]) / TEMPERATURE, train_y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def scores(model: nn.Sequential, x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """Clean accuracy, certified accuracy at `RADIUS`, and the proven bound that it rests on."""
    L = lipschitz(model).value
    logits = model(x)
    right = logits.gather(1, y[:, None])[:, 0]
    rival = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    margin = (right - rival).double()
    return (margin > 0).double().mean().item(), (margin > RADIUS * 2**0.5 * L).double().mean().item(), L


def refresh_accuracy(
    every: Sequence[int] = (1, 4, 16), rates: Sequence[float] = (1e-2, 1e-3), seeds: Sequence[int] = (0, 1, 2)
) -> dict[tuple[str, float, int], list[tuple[float, float, float]]]:
    """`scores` of each seed, for each scaling, rate and k."""
    train_x, test_x, train_y, test_y = digits()
    return {
        (name, rate, k): [
            scores(trained(network, k, rate, seed, train_x, train_y), test_x, test_y) for seed in seeds
        ]
        for name, network in KINDS.items()
        for rate in rates
        for k in every
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"| T | rate | `refresh_every` | accuracy | certified at radius {RADIUS} | largest proven bound |")
    print("|---|---|--:|--:|--:|--:|")
    for (name, rate, k), found in refresh_accuracy().items():
        *shares, bounds = zip(*found, strict=True)
        spread = (f"{100 * statistics.mean(v):.1f} ± {100 * statistics.stdev(v):.1f} %" for v in shares)
        print(f"| {name} | {rate:g} | {k} | {' | '.join(spread)} | {max(bounds):.7f} |")
