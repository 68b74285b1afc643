"""A network's Lipschitz constant over its training, from both sides (Khromov and Singh 2023, arXiv 2302.10886).

Digits of scikit-learn, 64-48-48-10, ReLU, with and without weight decay. Above: the product of the layers' norms, and LipSDP with
a multiplier for each neuron; both proven. Below: the largest Jacobian found, beginning at the training images. The truth lies
between: counted are epochs at which a Jacobian of torch at a training image exceeds what was proven.
"""

import copy
import time

import numpy as np
import torch
from exhibit import panels, save, show
from sklearn.datasets import load_digits
from torch import nn
from torch.func import jacrev, vmap

import sdplip
from sdplip.plot.style import DASHES, PALETTE

TOLERANCE = 0.02
EPOCHS = (0, 1, 2, 4, 8, 16, 24, 32, 45, 60)
SIDES = ("product", "LipSDP", "largest Jacobian")


def train(decay: float, epochs: tuple[int, ...], width: int):
    """The network at these epochs, by a generator, and its accuracy on digits that it has not seen."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    mine = torch.arange(len(y)) % 5 != 0
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=decay)
    for epoch in range(epochs[-1] + 1):
        if epoch in epochs:
            with torch.no_grad():
                accuracy = float((model(x[~mine]).argmax(1) == y[~mine]).float().mean())
            yield epoch, model, x[mine], accuracy
        for batch in torch.nonzero(mine)[:, 0][torch.randperm(int(mine.sum()))].split(64):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def sides(model: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """The three sides, and the largest norm of torch's own Jacobians at the points x."""
    product = sdplip.bound(model, "product")
    joint = sdplip.bound(model, "lipsdp-neuron", points=x)
    jacobians = vmap(jacrev(copy.deepcopy(model).double()))(x.double())
    at_data = float(torch.linalg.matrix_norm(jacobians.detach(), 2).max())
    return dict(zip((*SIDES, "at the data"), (product.bound, joint.bound, joint.lower, at_data), strict=True))


def main(quick=False, out=None):
    epochs, width = ((0, 1, 3), 16) if quick else (EPOCHS, 48)
    curves: dict[float, list[dict[str, float]]] = {}
    for decay in (0.0, 0.5):
        for epoch, model, x, accuracy in train(decay, epochs, width):
            start = time.process_time()
            found = sides(model, x)
            curves.setdefault(decay, []).append(found)
            said = ", ".join(f"{side} {value:.5g}" for side, value in found.items())
            print(
                f"decay {decay:g}, epoch {epoch:2d}, accuracy {accuracy:.3f}: {said} ({time.process_time() - start:.1f} s)"
            )
    if out:
        draw(epochs, curves, out)
    last = [rows[-1] for rows in curves.values()]
    computed = {
        "epochs above what is proven": sum(
            row["at the data"] > row["LipSDP"] for rows in curves.values() for row in rows
        ),
        "largest Jacobian / LipSDP at the end": min(row["largest Jacobian"] / row["LipSDP"] for row in last),
    }
    return computed, dict(zip(computed, (0, 1), strict=True))


def draw(epochs, curves, out) -> None:
    figure, (left, right) = panels(2, size=(8.6, 3.7), width_ratios=(1.35, 1))
    for (decay, rows), dash in zip(curves.items(), ("-", DASHES[1]), strict=True):
        said = f"weight decay {decay:g}"
        for side, colour in zip(SIDES[:2], (PALETTE[1], PALETTE[0]), strict=True):
            left.plot(
                epochs, [row[side] for row in rows], color=colour, linestyle=dash, label=f"{side}, {said}"
            )
        lower = [row[SIDES[2]] for row in rows]
        left.plot(
            epochs,
            lower,
            "o",
            color=PALETTE[2],
            mfc=PALETTE[2] if decay == 0 else "none",
            label=f"{SIDES[2]}, {said}",
        )
        for side, colour in zip(SIDES[:2], (PALETTE[1], PALETTE[0]), strict=True):
            over = [100 * (row[side] / row[SIDES[2]] - 1) for row in rows]
            right.plot(epochs, np.maximum(over, 0.01), color=colour, linestyle=dash)
    left.set(
        yscale="log", xlabel="epoch", ylabel="Lipschitz constant", title="proven from above, found from below"
    )
    left.legend()
    right.set(yscale="log", xlabel="epoch", title="above the largest Jacobian, percent")
    for axes in (left, right):
        axes.grid()
    save(figure, out, __file__, left)


if __name__ == "__main__":
    show(main, TOLERANCE)
