"""Networks of the kinds ConvSmall and ConvLarge, and of one with residual blocks: public files, and what is trained here for a few steps.

Convolutions of the kind ConvLarge have kernels of 3 x 3 and 4 x 4 pixels in turn, with the strides 1, 2, 1, 2, and matrices to 512, 512 and 10
units behind them. They are trained for `STEPS` batches of 64 images with Adam, seed 0, and stored beside the file of results: bounds of
networks with weights of that kind are what matters here, not their accuracy.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from files import said_of
from torch import nn

from sdplip.network import Network
from sdplip.network.read.file import kind_of, read_file
from sdplip.network.read.torch import read_module
from sdplip.training.data import load_arrays

STEPS = 150
LARGE = {
    "ConvLarge, MNIST": ("mnist", (1, 28, 28), (32, 32, 64, 64)),
    "ConvLarge, CIFAR-10": ("cifar10", (3, 32, 32), (24, 24, 48, 48)),
}
"""Data, shape of an image, channels."""
FILES = ("kw_mnist.pth", "cifar_deep_kw.onnx", "resnet_2b.onnx")


def image_networks(folder: Path, data: Path) -> Iterator[tuple[str, Callable[[], Network]]]:
    """Name, and what makes the network."""
    for name in FILES:
        yield name, lambda name=name: from_file(data / "public" / name)
    for name, (images, shape, channels) in LARGE.items():
        at = folder / f"convlarge_{images}.pth"
        yield (
            name,
            lambda at=at, images=images, shape=shape, channels=channels: read_module(
                trained(at, data / "data" / images, shape, channels), shape
            ),
        )


def from_file(path: Path) -> Network:
    """The network of a file, with what `files.py` says of it."""
    kind, said = kind_of(path), said_of(path)
    return read_file(path, {"kind": kind, **said} if said else None, biases=False).network


def conv_large(shape: tuple[int, int, int], channels: tuple[int, ...], units: int = 512) -> nn.Sequential:
    """Four convolutions, two of which halve the image, and three matrices."""
    layers, into, side = list[nn.Module](), shape[0], shape[1]
    for k, n in enumerate(channels):
        layers += [nn.Conv2d(into, n, 3 + k % 2, 1 + k % 2, 1), nn.ReLU()]
        into, side = n, side // (1 + k % 2)
    layers += [nn.Flatten(), nn.Linear(into * side * side, units), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 10))


def trained(at: Path, data: Path, shape: tuple[int, int, int], channels: tuple[int, ...]) -> nn.Sequential:
    """A few steps of Adam; from the file where it is stored."""
    torch.manual_seed(0)
    model = conv_large(shape, channels)
    if at.exists():
        model.load_state_dict(torch.load(at, weights_only=True))
        return model
    arrays = load_arrays(data.name, data)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for rows in torch.randperm(len(arrays.train_images))[: 64 * STEPS].split(64):
        images = torch.as_tensor(np.asarray(arrays.train_images)[rows.numpy()], dtype=torch.float32)
        images = images.reshape(-1, *shape) / (255 if images.max() > 1 else 1)
        labels = torch.as_tensor(np.asarray(arrays.train_labels)[rows.numpy()]).long()
        loss = nn.functional.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.save(model.state_dict(), at)
    return model
