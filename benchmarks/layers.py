"""Cost of a certified layer over the same products without any T, both in one run, interleaved. Prints a table.

    python benchmarks/layers.py                 # every layer, one thread
    python benchmarks/layers.py --threads 2 --rounds 20 --device cuda

A round runs every contestant once, in turn; a ratio is the median over the rounds of (layer / plain) of the same round, so that
a busy machine disturbs both sides alike. `train` is forward and backward, with gradients of input and parameters, `eval` a
forward without gradients. Layers of deel-torchlip and orthogonium take part where these packages are installed.
"""

import argparse
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from sdplip.nn import (
    AOL,
    SLL,
    AbstractScaling,
    BROConv2d,
    CayleyConv2d,
    CompactSandwichConv2d,
    DeepResidualLinear,
    LipKernel,
    LipKernelConv2d,
    LipKernelLinear,
    LipNeXtBlock,
    LipShiFTBlock,
    MultiStep,
    ResidualConv2d,
    ResidualLinear,
    Sandwich,
    SandwichConv2d,
    Spectral,
    orthogonal,
    rescaled,
    together,
)


class PlainResidual(nn.Module):
    """The two products of a residual layer with a constant step: what a layer without T would cost."""

    def __init__(self, layer: ResidualLinear | ResidualConv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.bias = nn.Parameter(torch.zeros(layer.hidden))
        self.conv = isinstance(layer, ResidualConv2d)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv:
            y = nn.functional.conv2d(x, self.weight, self.bias, padding=1).relu()
            return x - 2 * nn.functional.conv_transpose2d(y, self.weight, padding=1)
        y = nn.functional.linear(x, self.weight, self.bias).relu()
        return x - 2 * nn.functional.linear(y, self.weight.mT)


class PublishedSLL(PlainResidual):
    """The SLL layer as published: T from W at every forward, in eval too, with plain autograd."""

    def __init__(self, layer: ResidualLinear | ResidualConv2d) -> None:
        super().__init__(layer)
        self.q = nn.Parameter(torch.randn(layer.hidden))

    def forward(self, x: Tensor) -> Tensor:
        q = self.q.exp()
        if self.conv:
            K = self.weight
            A = nn.functional.conv2d(K, K, padding=K.shape[-1] - 1).abs().sum((2, 3))
            t = (A * q / q[:, None]).sum(1)
            y = nn.functional.conv2d(x, K, self.bias, padding=1).relu() * (2 / t)[:, None, None]
            return x - nn.functional.conv_transpose2d(y, K, padding=1)
        t = (self.weight @ self.weight.mT * (q / q[:, None])).abs().sum(1)
        y = nn.functional.linear(x, self.weight, self.bias).relu() * (2 / t)
        return x - nn.functional.linear(y, self.weight.mT)


def plain_shift(channels: int, size: int) -> nn.Sequential:
    """The products of a LipNeXt block without anything orthogonal about them."""
    block = LipNeXtBlock(channels, (size, size))
    block.mix, block.turn = nn.Conv2d(channels, channels, 1, bias=False), nn.Conv2d(channels, channels, 1)
    return block


def two_and_two(kind: str) -> nn.Module:
    """Two convolutions of 4 x 4 taps with stride 2 and two dense layers, for images of 32 x 32 pixels (2C2F)."""
    if kind == "lipkernel":
        convs = LipKernelConv2d(1, 16, 4, 2, 1), LipKernelConv2d(16, 32, 4, 2, 1)
        return LipKernel(
            [*convs, nn.Flatten(), LipKernelLinear(2048, 100), LipKernelLinear(100, 10)], (1, 32, 32)
        )
    if kind == "sandwich":
        convs = SandwichConv2d(1, 16, 2, 32, stride=2), SandwichConv2d(16, 32, 2, 16, stride=2)
        return nn.Sequential(
            *convs, nn.Flatten(), Sandwich(2048, 100), orthogonal(nn.Linear(100, 10), "cayley")
        )
    new = (lambda layer: layer) if kind == "plain" else (lambda layer: rescaled(layer, "aol"))
    convs = new(nn.Conv2d(1, 16, 4, 2, 1)), nn.ReLU(), new(nn.Conv2d(16, 32, 4, 2, 1)), nn.ReLU()
    return nn.Sequential(*convs, nn.Flatten(), new(nn.Linear(2048, 100)), nn.ReLU(), new(nn.Linear(100, 10)))


class AlwaysTraining(nn.Sequential):
    """Computes its weights at every pass, in eval too: what a network without a memory of them would cost."""

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002 (the signature is that of torch)
        return super().train(True)


class Together(nn.Sequential):
    """Computes the T of its blocks at once."""

    def forward(self, input: Tensor) -> Tensor:
        with together(self):
            return super().forward(input)


@dataclass(frozen=True)
class Contest:
    """Layers that do the same work on the same input; the first is the plain one."""

    name: str
    input_shape: tuple[int, ...]
    layers: dict[str, nn.Module]


def residual(name: str, make: Callable[[AbstractScaling], nn.Module], shape: tuple[int, ...]) -> Contest:
    sll = make(SLL())
    assert isinstance(sll, ResidualLinear | ResidualConv2d)
    ours = {"sll": sll, "sll, T every 4 steps": make(SLL(refresh_every=4)), "aol": make(AOL())}
    if shape[-1] < 1000:
        ours |= {"cpl": make(Spectral()), "two steps": make(MultiStep(2))}
    else:
        ours |= {
            "sll, gradient in bfloat16": make(SLL(gradient_dtype=torch.bfloat16)),
            "sll, products in bfloat16": make(SLL(product_dtype=torch.bfloat16)),
        }
        ours |= {"cpl, T every 16 steps": make(Spectral(iterations=4, refresh_every=16))}
    return Contest(name, shape, {"plain": PlainResidual(sll), "published sll": PublishedSLL(sll), **ours})


OTHERS = {
    "SpectralConv2d": "deel.torchlip",
    "SpectralLinear": "deel.torchlip",
    "AOLConv2D": "orthogonium.layers.conv.AOL",
    "AdaptiveOrthoConv2d": "orthogonium.layers",
    "OrthoLinear": "orthogonium.layers",
}


def others(*names: str, arguments: tuple[int, ...]) -> dict[str, nn.Module]:
    """Layers of deel-torchlip and orthogonium with the arguments of torch's layer, where these packages are installed."""
    return {
        f"{OTHERS[name].split('.')[0]} {name}": getattr(importlib.import_module(OTHERS[name]), name)(
            *arguments
        )
        for name in names
        if importlib.util.find_spec(OTHERS[name].split(".")[0])
    }


def contests(small: bool) -> list[Contest]:
    features, hidden = (288, 205) if small else (2880, 2048)
    n = 64 if small else 512

    def linear(scaling: AbstractScaling) -> nn.Module:
        return ResidualLinear(features, hidden, scaling)

    def blocks(kind: type[nn.Sequential], scaling: str) -> nn.Sequential:
        return kind(*(ResidualConv2d(45, 5, 3, scaling) for _ in range(20)))

    strided = (64, 64, 4, 2, 1)
    return [
        residual("conv 45 -> 5, 3 x 3, 32 x 32", lambda s: ResidualConv2d(45, 5, 3, s), (64, 45, 32, 32)),
        residual(f"dense {features} -> {hidden}", linear, (64, features)),
        Contest(
            f"dense blocks {features} -> {hidden} at the batch of the presets",
            (256, features),
            {
                "plain": PlainResidual(ResidualLinear(features, hidden)),
                "aol": ResidualLinear(features, hidden, "aol"),
                "sll": ResidualLinear(features, hidden),
                "cpl": ResidualLinear(features, hidden, "spectral"),
                "cpl, refresh_every=4": ResidualLinear(features, hidden, Spectral(refresh_every=4)),
                "cpl, refresh_every=8": ResidualLinear(features, hidden, Spectral(refresh_every=8)),
            },
        ),
        Contest(
            "conv 64 -> 64, 3 x 3, 16 x 16",
            (64, 64, 16, 16),
            {
                "plain": nn.Conv2d(64, 64, 3, padding=1),
                "rescaled aol": rescaled(nn.Conv2d(64, 64, 3, padding=1), "aol"),
                "rescaled sll": rescaled(nn.Conv2d(64, 64, 3, padding=1), "sll"),
                "rescaled spectral": rescaled(nn.Conv2d(64, 64, 3, padding=1), "spectral"),
                "rescaled spectral, 16 x 16": rescaled(
                    nn.Conv2d(64, 64, 3, padding=1), Spectral(iterations=5), image_size=(16, 16)
                ),
                "rescaled spectral, refresh_every=4": rescaled(
                    nn.Conv2d(64, 64, 3, padding=1), Spectral(refresh_every=4)
                ),
                "aoc": orthogonal(nn.Conv2d(64, 64, 3, padding=1)),
                "residual sll, two convolutions": ResidualConv2d(64, 64, 3),
                "lipshift block": LipShiFTBlock(64),
                "cayley": CayleyConv2d(64, 64, 3, (16, 16)),
                "bro": BROConv2d(64, 64, 3, (16, 16)),
                **others("SpectralConv2d", "AOLConv2D", "AdaptiveOrthoConv2d", arguments=(64, 64, 3, 1, 1)),
            },
        ),
        Contest(
            "sandwich conv 64 -> 64, 3 x 3, 16 x 16",
            (64, 64, 16, 16),
            {
                "plain": nn.Sequential(
                    nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1, bias=False)
                ),
                "circular": SandwichConv2d(64, 64, 3, (16, 16)),
                "compact": CompactSandwichConv2d(64, 64, 3),
            },
        ),
        Contest(
            "2C2F, 16 and 32 channels, 32 x 32",
            (256, 1, 32, 32),
            {
                "plain": two_and_two("plain"),
                "rescaled aol": two_and_two("aol"),
                "lipkernel": two_and_two("lipkernel"),
                "sandwich, circular": two_and_two("sandwich"),
            },
        ),
        Contest(
            "strided conv 64 -> 64, 4 x 4, stride 2, 32 x 32",
            (64, 64, 32, 32),
            {
                "plain": nn.Conv2d(*strided),
                "rescaled aol": rescaled(nn.Conv2d(*strided), "aol"),
                "aoc": orthogonal(nn.Conv2d(*strided)),
                **others("SpectralConv2d", "AdaptiveOrthoConv2d", arguments=strided),
            },
        ),
        Contest(
            "shift block, 256 channels, 8 x 8",
            (256, 256, 8, 8),
            {"plain": plain_shift(256, 8), "lipnext": LipNeXtBlock(256, (8, 8))},
        ),
        Contest(
            "20 blocks 45 -> 5, 3 x 3, 16 x 16",
            (32, 45, 16, 16),
            {
                "plain": nn.Sequential(*(PlainResidual(ResidualConv2d(45, 5, 3)) for _ in range(20))),
                **{
                    f"{name}, {how}": blocks(kind, scaling)
                    for name, scaling in (("sll", "sll"), ("cpl", "spectral"))
                    for how, kind in (("each", nn.Sequential), ("together", Together))
                },
            },
        ),
        Contest(
            f"dense {n} -> {n}",
            (256, n),
            {
                "plain": nn.Linear(n, n),
                "rescaled aol": rescaled(nn.Linear(n, n), "aol"),
                "rescaled spectral": rescaled(nn.Linear(n, n), "spectral"),
                "rescaled spectral, refresh_every=4": rescaled(nn.Linear(n, n), Spectral(refresh_every=4)),
                "manifold": orthogonal(nn.Linear(n, n), "manifold"),
                "orthogonal exp": orthogonal(nn.Linear(n, n)),
                "orthogonal cayley": orthogonal(nn.Linear(n, n), "cayley"),
                "orthogonal householder": orthogonal(nn.Linear(n, n), "householder"),
                "orthogonal cholesky": orthogonal(nn.Linear(n, n), "cholesky"),
                "orthogonal bro": orthogonal(nn.Linear(n, n), "bro"),
                "sandwich": Sandwich(n, n),
                "residual sll, two products": ResidualLinear(n, n),
                "deep residual, two products": DeepResidualLinear(n, [n]),
                **others("SpectralLinear", "OrthoLinear", arguments=(n, n)),
            },
        ),
        Contest(
            "memory: two dense 64 -> 64",
            (1, 64),
            {
                "plain": nn.Sequential(*(nn.Linear(64, 64) for _ in range(2))),
                "orthogonal exp": nn.Sequential(*(orthogonal(nn.Linear(64, 64)) for _ in range(2))),
                "orthogonal exp, at every pass": AlwaysTraining(
                    *(orthogonal(nn.Linear(64, 64)) for _ in range(2))
                ),
            },
        ),
    ]


def seconds(layer: nn.Module, x: Tensor, train: bool) -> float:
    """Time of one pass: of the processor where one thread works, since others may want it too; of the clock otherwise."""
    clock = time.process_time if not x.is_cuda and torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    if train:
        layer.zero_grad()
        y = layer(x)
        y.backward(torch.ones_like(y))
    else:
        with torch.no_grad():
            layer(x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def compete(contest: Contest, rounds: int, device: str) -> list[tuple[str, float, float, float, float]]:
    """(name, train ms, train ratio, eval ms, eval ratio) of each layer."""
    x = torch.randn(contest.input_shape, device=device)
    columns: dict[str, list[float]] = {name: [] for name in contest.layers}
    for train in (True, False):
        times: dict[str, list[float]] = {name: [] for name in contest.layers}
        for layer in contest.layers.values():
            layer.to(device).train(train)
            seconds(layer, x.requires_grad_(train), train)
        for _ in range(rounds):
            for name, layer in contest.layers.items():
                times[name].append(seconds(layer, x, train))
        for name, own in times.items():
            ratios = [a / b for a, b in zip(own, times["plain"], strict=True)]
            middle = (
                statistics.mean if "every" in name else statistics.median
            )  # only the mean knows rare steps
            columns[name] += [1e3 * middle(own), middle(ratios)]
    return [(name, *values) for name, values in columns.items()]  # pyright: ignore[reportReturnType]


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of certified layers over plain ones.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="smaller dense layers, for a quick look")
    parser.add_argument("--only", default="", help="contests whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {options.device}, {options.threads} threads, {options.rounds} rounds")
    for contest in contests(options.small):
        if options.only in contest.name:
            print(f"\n{contest.name}, batch {contest.input_shape[0]}")
            print(f"  {'':34}{'train ms':>10}{'ratio':>8}{'eval ms':>10}{'ratio':>8}")
            for name, train_ms, train, eval_ms, evaluated in compete(contest, options.rounds, options.device):
                print(f"  {name:34}{train_ms:10.2f}{train:8.2f}{eval_ms:10.2f}{evaluated:8.3f}", flush=True)


if __name__ == "__main__":
    main()
