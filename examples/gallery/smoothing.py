"""Randomized smoothing beside the deterministic certificate of a 1-Lipschitz network, and of plain ones.

What smoothing certifies (Cohen, Rosenfeld and Kolter 2019) holds with a probability, of a classifier that can only be sampled, and
costs a thousand evaluations an image. It works for every network, best for one trained with noise. A 1-Lipschitz network does not
need it. The two kinds of certificates are two kinds of curves: solid is proven, broken is sampled, and never one number of both.
"""

import numpy as np
import torch
from exhibit import panels, save, show
from torch import nn

from sdplip.nn import LastLayerNormalised, MaxMin, orthogonal
from sdplip.nn.losses import CrossEntropy, LossContext
from sdplip.plot.style import DASHES, INK, PALETTE
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.curve import Curve, curve_of_certification, curve_of_radii
from sdplip.robustness.smoothing import Smoothed, Smoothing, certify_smoothed
from sdplip.training import load_arrays

TOLERANCE = 0.0
SIGMA, WIDTH = 0.5, 128


def lipschitz_network() -> nn.Module:
    blocks = [m for n in (64, WIDTH, WIDTH) for m in (orthogonal(nn.Linear(n, WIDTH), "cayley"), MaxMin())]
    return nn.Sequential(nn.Flatten(), *blocks, LastLayerNormalised(WIDTH, 10))


def plain_network() -> nn.Module:
    blocks = [m for n in (64, WIDTH, WIDTH) for m in (nn.Linear(n, WIDTH), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *blocks, nn.Linear(WIDTH, 10))


def train(
    f: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, noise: float = 0.0, offset: float = 0.0
) -> nn.Module:
    """By cross-entropy, on images with or without noise."""
    optimizer = torch.optim.Adam(f.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(steps):
        i = torch.randint(len(x), (128,))
        logits = f(x[i] + noise * torch.randn(x[i].shape))
        loss = CrossEntropy(offset, 0.25 if offset else 1.0)(logits, y[i], LossContext())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return f.eval()


def sampled(name: str, found: Smoothed) -> Curve:
    return curve_of_radii(
        name, found.radius, found.correct, probability=found.probability, evaluations=found.evaluations
    )


def main(quick=False, out=None):
    data = load_arrays("digits")
    x, y = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
    images, labels = (
        torch.from_numpy(v)[: 12 if quick else 100] for v in (data.test_images, data.test_labels)
    )
    torch.manual_seed(0)
    steps = 60 if quick else 600
    networks = {
        "1-Lipschitz": train(lipschitz_network(), x, y, steps, offset=0.7),
        "plain, trained with noise": train(plain_network(), x, y, steps, noise=SIGMA),
        "plain": train(plain_network(), x, y, steps),
    }
    proof = certify_accuracy(networks["1-Lipschitz"], images, labels)
    curves = [curve_of_certification("proven: 1-Lipschitz", proof)]
    found = list[Smoothed]()
    for name, network in networks.items():
        constants = proof.constants if name == "1-Lipschitz" else None
        smoothing = Smoothing(SIGMA, 100 if quick else 1000)
        for one in certify_smoothed(
            network, images, labels, smoothing, constants=constants, precision="float32", batch=256
        ):
            found.append(one)
            curves.append(sampled(f"{'Cohen' if one.method == 'cohen' else 'Lipschitz score'}: {name}", one))
    for curve in curves:
        print(
            f"{curve.label}: clean {curve.clean:.1%}",
            *(f"{r:g}: {curve.at(r):.1%}" for r in (0.25, 0.5, 1, 1.5)),
        )
    cost = [1000 * each.seconds / each.n for each in (proof, found[-1])]
    print(f"an image: proof {cost[0]:.3f} ms with the bound of the network, smoothing {cost[1]:.1f} ms")
    if out:
        draw(curves, out)
    over = max(float(one.radius.max()) for one in found if one.method == "cohen") > smoothing.ceiling
    computed = {
        "kinds of certificates in the proven curve": float(curves[0].probability is not None),
        "radii above what n samples can give": float(over),
        "curves that name their probability": float(sum(c.probability == 0.999 for c in curves)),
    }
    return computed, dict(zip(computed, (0.0, 0.0, 4.0), strict=True))


def draw(curves: list[Curve], out) -> None:
    figure, (axes,) = panels(1, size=(8.0, 4.2))
    for k, curve in enumerate(curves):
        proven = curve.probability is None
        axes.step(
            np.append(curve.radii, 9), 100 * np.append(curve.accuracy, curve.accuracy[-1]), where="post", label=curve.label,
            color=INK if proven else PALETTE[k - 1], linestyle="-" if proven else DASHES[k - 1], linewidth=2.2 if proven else 1.5,
        )  # fmt: skip
    axes.set(xlim=(0, 2), ylim=(0, 100), xlabel="radius, l2", ylabel="right and certified beyond, %")
    axes.set_title(f"digits, noise {SIGMA}: solid is proven, broken holds with a probability")
    axes.grid()
    figure.legend(loc="outside lower center", ncols=1)
    save(figure, out, __file__, axes)


if __name__ == "__main__":
    show(main, TOLERANCE)
