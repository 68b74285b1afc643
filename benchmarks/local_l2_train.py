"""The networks of local_l2.py and their training: cross-entropy at images moved by three steps of gradient descent within the radius, plus a penalty
times the sum of the logarithms of the layers' norms (power method)."""

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from sdplip.robustness.descent import descend
from sdplip.training.data import load_arrays

BATCH, RATE, STEPS = 256, 1e-3, 3
KEPT = 200
"""Test images that are stored beside the weights."""


@dataclass(frozen=True)
class Kind:
    """One network: data, radius, epochs, penalty, what was published (LipNaive, SDP-CROWN, PGD; in percent), and how it is built.

    Attributes:
        kernels: (channels, taps, stride, padding).
        half: trained in bfloat16, its weights in float32.
    """

    data: str
    eps: str
    epochs: float
    penalty: float
    published: tuple[float, float, float]
    hidden: tuple[int, ...]
    kernels: tuple[tuple[int, int, int, int], ...] = ()
    half: bool = False

    def build(self) -> nn.Sequential:
        channels, size = (1, 28) if self.data == "mnist" else (3, 32)
        layers = []
        for out, taps, stride, pad in self.kernels:
            layers += [nn.Conv2d(channels, out, taps, stride, pad), nn.ReLU()]
            channels, size = out, (size + 2 * pad - taps) // stride + 1
        layers.append(nn.Flatten())
        for n, m in zip((channels * size * size, *self.hidden), (*self.hidden, 10), strict=True):
            layers += [nn.Linear(n, m), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


KINDS = {
    "mlp": Kind("mnist", "1", 3, 0.3, (29, 32.5, 54), (100, 100, 100)),
    "convsmall": Kind("mnist", "3/10", 1, 0.3, (77.5, 81.5, 84.5), (100,), ((16, 4, 2, 1), (32, 4, 2, 1))),
    "convlarge": Kind(
        "mnist",
        "3/10",
        0.6,
        0.1,
        (77, 79.5, 84),
        (512, 512),
        ((32, 3, 1, 1), (32, 4, 2, 1), (64, 3, 1, 1), (64, 4, 2, 1)),
        half=True,
    ),
    "cnn-a": Kind(
        "cifar10", "24/255", 6, 0.15, (39, 49, 55.5), (100,), ((16, 4, 2, 1), (32, 4, 2, 1)), half=True
    ),
    "cnn-b": Kind(
        "cifar10", "24/255", 3.5, 0.15, (33, 49.5, 59.5), (250,), ((32, 5, 2, 0), (128, 4, 2, 1)), half=True
    ),
}


class Norms:
    """The norms of all layers, one step of the power method each time they are asked for."""

    def __init__(self, model: nn.Sequential, x: Tensor):
        self.layers: list[nn.Conv2d | nn.Linear] = []
        self.vectors: list[Tensor] = []
        with torch.no_grad():
            for layer in model:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    self.layers.append(layer)
                    self.vectors.append(torch.randn_like(x[:1]))
                x = layer(x)

    def log(self) -> Tensor:
        total = torch.zeros(())
        for k, layer in enumerate(self.layers):
            with torch.no_grad():
                v = self.vectors[k]
                v = self._back(layer, self._through(layer, v), v)
                self.vectors[k] = v = v / v.norm()
            total = total + self._through(layer, v).norm().log()
        return total

    @staticmethod
    def _through(layer: nn.Conv2d | nn.Linear, v: Tensor) -> Tensor:
        if isinstance(layer, nn.Linear):
            return v @ layer.weight.mT
        return F.conv2d(v, layer.weight, None, layer.stride, layer.padding)  # type: ignore[arg-type]

    @staticmethod
    def _back(layer: nn.Conv2d | nn.Linear, y: Tensor, v: Tensor) -> Tensor:
        if isinstance(layer, nn.Linear):
            return y @ layer.weight
        return conv2d_input(v.shape, layer.weight, y, layer.stride, layer.padding)  # type: ignore[arg-type]


def train(name: str, folder: Path, data: Path, epochs: float | None) -> None:
    """Trains one network and writes its weights, and the test images to be certified."""
    kind, begin = KINDS[name], time.process_time()
    torch.manual_seed(0)
    model, arrays = kind.build(), load_arrays(kind.data, data / kind.data)
    images, labels = torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels)
    norms, eps = Norms(model, images[:1]), float(Fraction(kind.eps))
    steps = int((epochs or kind.epochs) * len(images) / BATCH)
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3 * RATE, total_steps=steps)
    order = torch.randperm(len(images))
    for step in range(steps):
        at = order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(images)]
        x, y = images[at], labels[at]
        if kind.data == "cifar10":
            x = torch.where((torch.rand(len(x)) < 0.5)[:, None, None, None], x, x.flip(-1))
        reach = torch.full((len(x),), min(1.0, 2 * step / steps) * eps)

        def margin(z: Tensor, y: Tensor = y) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=kind.half):
                return -F.cross_entropy(model(z), y, reduction="none").float()

        moved, _ = descend(margin, x, x, reach, STEPS, (0.0, 1.0))
        loss = kind.penalty * norms.log() - margin(moved.detach()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(
                f"{name} step {step} of {steps}, loss {loss.item():.3f}, {time.process_time() - begin:.0f} s",
                flush=True,
            )
    folder.mkdir(parents=True, exist_ok=True)
    stored = {"model": model.state_dict(), "seconds": time.process_time() - begin}
    kept = torch.from_numpy(arrays.test_images[:KEPT]), torch.from_numpy(arrays.test_labels[:KEPT])
    torch.save(stored | dict(zip(("images", "labels"), kept, strict=True)), folder / f"{name}.pt")
