"""What rigour costs: certified accuracy with and without the proven rounding error, in float32 and float64.

python examples/rigour.py [RUN | FILE.npz --data NAME] [--radii R ...] [--limit N]

RUN is a folder of `sdplip train`; without it the preset `digits-sll` is trained first, which takes seconds. FILE.npz holds matrices with
ReLU between them, in order, without biases; NAME is mnist or fashion_mnist, read from $SDPLIP_DATA/data. "float32 naive" is
what is usually published: float32 logits, nothing subtracted. The measured error is the largest difference between the logits of
the two precisions. "by blocks" is the same network with its sums by blocks of 16 (`sdplip.nn.by_blocks`). Of half precision the
weights are rounded first, so its network is another one.
"""

import argparse
import copy
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sdplip.nn import by_blocks, export_plain, pairwise_lipschitz
from sdplip.robustness.arithmetic import network_in, pixels, plain_arithmetic
from sdplip.robustness.certification import RADII, certify_accuracy
from sdplip.robustness.forward_error import forward_error
from sdplip.robustness.radii import certified_radius, predictions
from sdplip.training import load_run, preset, train
from sdplip.training.data import load
from sdplip.training.tables import DataConfig


@dataclass(frozen=True)
class Row:
    """Certified accuracy at `RADII` and the mean radius of correct samples, for one way to count rounding."""

    what: str
    certified: tuple[float, ...]
    mean_radius: float


@dataclass(frozen=True)
class Rigour:
    """All ways, the largest proven error of a margin and the largest measured one, in float32 and in float64's proof."""

    rows: tuple[Row, ...]
    proven: dict[str, float]
    measured: float


def of_run(run: Path) -> tuple[nn.Module, Tensor, Tensor]:
    """The exported network of a run, whose numbers are the same in both precisions, and its test images."""
    config, trained = load_run(run)
    test = load(replace(config.data, validation=0.0)).test
    return export_plain(trained).model, test.images, test.labels


def of_file(file: Path, data: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A dense network of ReLU in single precision, and test images as rows."""
    with np.load(file, allow_pickle=False) as stored:
        weights = [torch.from_numpy(np.float32(stored[name])) for name in stored.files]
    layers: list[nn.Module] = []
    for weight in weights:
        layers += [nn.Linear(weight.shape[1], weight.shape[0], bias=False), nn.ReLU()]
        with torch.no_grad():
            layers[-2].weight.copy_(weight)  # pyright: ignore[reportCallIssue]
    folder = str(Path(os.environ["SDPLIP_DATA"], "data", data))
    test = load(DataConfig(data, folder, validation=0.0)).test
    return nn.Sequential(*layers[:-1]), test.images.flatten(1), test.labels


def measure(model: nn.Module, images: Tensor, labels: Tensor, radii: Sequence[str] = RADII) -> Rigour:
    """Certify a network whose numbers are stored, in every way."""
    shape, rows, proven, logits = tuple(images.shape[1:]), [], {}, {}
    for precision in ("float32", "float64"):
        network = network_in(model, precision)
        with plain_arithmetic(), torch.no_grad():
            bound = pairwise_lipschitz(network, input_shape=shape)
            analysis = forward_error(network, bound.network)
            parts = [analysis(pixels(part, precision)) for part in images.split(256)]
        logits[precision] = torch.cat([part[0] for part in parts]).double()
        proven[precision] = max(float(part[1].constant.max()) for part in parts)
        radius = certified_radius(logits[precision], bound)
        correct = predictions(logits[precision]) == labels.numpy()
        naive = tuple(float(np.mean(correct & (radius > eval_radius(eps)))) for eps in radii)
        rows.append(Row(f"{precision} naive", naive, float((radius * correct).mean())))
        for scope in ("exact", "computed"):
            found = certify_accuracy(model, images, labels, precision=precision, scope=scope)
            rows.append(
                Row(f"{precision} proven, {scope}", tuple(map(found.certified, radii)), found.mean_radius)
            )
    found = certify_accuracy(by_blocks(copy.deepcopy(model)), images, labels, precision="float32")
    rows.append(Row("float32 by blocks, computed", tuple(map(found.certified, radii)), found.mean_radius))
    for half in ("bfloat16", "float16"):
        found = certify_accuracy(model, images, labels, precision=half, scope="exact")
        rows.append(Row(f"{half} proven, exact", tuple(map(found.certified, radii)), found.mean_radius))
    measured = float(abs(logits["float32"] - logits["float64"]).max())
    return Rigour(tuple(rows), proven, measured)


def eval_radius(text: str) -> float:
    """`36/255` as a number."""
    numerator, _, denominator = text.partition("/")
    return float(numerator) / float(denominator or 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN")
    parser.add_argument("--data", choices=("mnist", "fashion_mnist"))
    parser.add_argument("--radii", nargs="+", default=RADII)
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or Path(folder, "digits")
        if arguments.run is None:
            train(preset("digits-sll"), run)
        model, images, labels = of_file(run, arguments.data) if run.suffix == ".npz" else of_run(run)
    found = measure(model, images[: arguments.limit], labels[: arguments.limit], arguments.radii)
    print(f"{'':28}" + "".join(f"{eps:>9}" for eps in arguments.radii) + "   mean radius")
    for row in found.rows:
        print(
            f"{row.what:28}" + "".join(f"{100 * c:9.2f}" for c in row.certified) + f"   {row.mean_radius:.9f}"
        )
    for precision, error in found.proven.items():
        print(f"largest proven error of a margin in {precision}: {error:.2e}")
    print(f"largest measured difference of float32 and float64 logits: {found.measured:.2e}")


if __name__ == "__main__":
    main()
