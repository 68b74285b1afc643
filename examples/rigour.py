"""What rigour costs: certified accuracy with and without the proven rounding error, in float32 and float64.

python examples/rigour.py [RUN] [--limit N]

RUN is a folder of `sdplip train`; without it the preset `digits-sll` is trained first, which takes seconds. "float32 naive" is
what is usually published: float32 logits, nothing subtracted. The measured error is the largest difference between the logits of
the two precisions.
"""

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sdplip.nn import export_plain, pairwise_lipschitz
from sdplip.robustness.arithmetic import network_in, pixels, plain_arithmetic
from sdplip.robustness.certification import RADII, certify_accuracy
from sdplip.robustness.forward_error import forward_error
from sdplip.robustness.radii import certified_radius, predictions
from sdplip.training import load_run, preset, train
from sdplip.training.data import load


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


def measure(run: Path, limit: int | None = None) -> Rigour:
    """Certify the exported network of a run, whose numbers are the same in both precisions."""
    config, trained = load_run(run)
    test = load(replace(config.data, validation=0.0)).test
    images, labels = test.images[:limit], test.labels[:limit]
    model, shape = export_plain(trained).model, tuple(images.shape[1:])
    rows, proven, logits = [], {}, {}
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
        naive = tuple(float(np.mean(correct & (radius > eval_radius(eps)))) for eps in RADII)
        rows.append(Row(f"{precision} naive", naive, float((radius * correct).mean())))
        for scope in ("exact", "computed"):
            found = certify_accuracy(model, images, labels, precision=precision, scope=scope)
            certified = tuple(found.certified(eps) for eps in RADII)
            rows.append(Row(f"{precision} proven, {scope}", certified, found.mean_radius))
    measured = float(abs(logits["float32"] - logits["float64"]).max())
    return Rigour(tuple(rows), proven, measured)


def eval_radius(text: str) -> float:
    """`36/255` as a number."""
    numerator, _, denominator = text.partition("/")
    return float(numerator) / float(denominator or 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or Path(folder, "digits")
        if arguments.run is None:
            train(preset("digits-sll"), run)
        found = measure(run, arguments.limit)
    print(f"{'':28}" + "".join(f"{eps:>9}" for eps in RADII) + "   mean radius")
    for row in found.rows:
        print(
            f"{row.what:28}" + "".join(f"{100 * c:9.2f}" for c in row.certified) + f"   {row.mean_radius:.9f}"
        )
    for precision, error in found.proven.items():
        print(f"largest proven error of a margin in {precision}: {error:.2e}")
    print(f"largest measured difference of float32 and float64 logits: {found.measured:.2e}")


if __name__ == "__main__":
    main()
