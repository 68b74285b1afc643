"""Regression with one knob that has a meaning: a prediction moves by at most L standard deviations a standard deviation.

scikit-learn's diabetes data, 442 patients with ten measurements, five folds, two Sandwich layers of 48 (Wang and Manchester 2023), no
other regularisation. Small L keeps the network from fitting noise, and proves an interval around every prediction: at all rows within r
it is f(x) +- L r. The plain network has a proven constant too, too large to be of use. Ridge regression is the honest rival.
"""

import numpy as np
import torch
from exhibit import panels, save, show
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from torch import nn

from sdplip.nn import LastLayerNormalised, Sandwich, Scale
from sdplip.plot.style import DASHES, INK, PALETTE
from sdplip.robustness.regression import certify_regression

TOLERANCE = 0.0
WIDTH = 48


def network(L: float | None) -> nn.Module:
    """Of constant L, or a plain one."""
    torch.manual_seed(0)
    if L is None:
        return nn.Sequential(
            nn.Linear(10, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
        )
    return nn.Sequential(Sandwich(10, WIDTH), Sandwich(WIDTH, WIDTH), LastLayerNormalised(WIDTH, 1), Scale(L))


def train(f: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> nn.Module:
    optimizer = torch.optim.Adam(f.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, epochs * (len(x) // 64))
    for _ in range(epochs):
        for i in torch.randperm(len(x))[: len(x) // 64 * 64].split(64):
            loss = (f(x[i]) - y[i]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return f.eval()


def steepest(f: nn.Module, x: torch.Tensor, r: float) -> torch.Tensor:
    """How far a row moves the prediction that goes a distance r uphill, in five steps."""
    z = x.clone()
    for _ in range(5):
        z.requires_grad_()
        (g,) = torch.autograd.grad(f(z).sum(), z)
        step = z.detach() + 0.5 * r * g / g.norm(dim=1, keepdim=True).clamp_min(1e-12) - x
        z = x + step.renorm(2, 0, r) * (1 - 1e-6)
    return (f(z) - f(x)).abs()[:, 0]


def main(quick=False, out=None):
    X, Y = load_diabetes(return_X_y=True)
    splits = list(KFold(5, shuffle=True, random_state=0).split(X))[: 1 if quick else None]
    knobs = (0.3, 0.6, 1.0, 2.0, 4.0, 8.0, None)[:: 3 if quick else 1]
    r2 = {L: [] for L in knobs} | {"ridge": []}
    beyond, found = 0, None
    for train_rows, test_rows in splits:
        mean, std = X[train_rows].mean(0), X[train_rows].std(0)
        middle, unit = Y[train_rows].mean(), Y[train_rows].std()
        x, p = ((X[rows] - mean) / std for rows in (train_rows, test_rows))
        y, q = ((Y[rows] - middle) / unit for rows in (train_rows, test_rows))
        r2["ridge"].append(Ridge(20.0).fit(x, y).score(p, q))
        for L in knobs:
            tensors = [torch.tensor(v, dtype=torch.float32) for v in (x, y[:, None], p, q[:, None])]
            f = train(network(L), *tensors[:2], 8 if quick else 40).double()
            rows, targets = tensors[2].double(), tensors[3].double()
            answer = certify_regression(f, rows, targets)
            r2[L].append(answer.r2())
            beyond += int((steepest(f, rows, 0.5).detach().numpy() > answer.interval(0.5)).sum())
            found = (answer, unit) if knobs[1] == L else found
            name = "plain" if L is None else f"L = {L}"
            print(f"{name}: R2 {r2[L][-1]:.3f}, proven constant {answer.bound.value:.2f}")
    print({str(L): round(float(np.mean(v)), 3) for L, v in r2.items()})
    if out:
        draw(knobs, r2, *found, answer.bound.value, out)
    return {"predictions moved beyond their interval": beyond}, {"predictions moved beyond their interval": 0}


def draw(knobs, r2, answer, unit, plain, out) -> None:
    figure, (left, right) = panels(2, size=(8.6, 3.7))
    steps = [L for L in knobs if L is not None]
    scores = [np.mean(r2[L]) for L in steps]
    left.semilogx(steps, scores, "o-", color=PALETTE[0], label="Sandwich layers of constant L")
    left.semilogx([plain], [np.mean(r2[None])], "s", color=PALETTE[1], label="plain network")
    left.axhline(np.mean(r2["ridge"]), color=INK, linestyle=DASHES[1], label="ridge regression")
    left.set(xlabel="proven Lipschitz constant", ylabel="R2 of the test folds", ylim=(-0.1, 0.6))
    left.set_xticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"])
    left.minorticks_off()
    left.legend(loc="lower left")
    left.grid()
    order = np.argsort(answer.prediction[:, 0])[::3]
    x, width = np.arange(len(order)), unit * answer.interval(0.5)[order]
    right.errorbar(
        x, unit * answer.prediction[order, 0], width, fmt="o", color=PALETTE[0], markersize=3, capsize=2,
        label="prediction, proven interval",
    )  # fmt: skip
    right.plot(x, unit * answer.target[order, 0], "x", color=INK, markersize=4, label="target")
    right.set(xlabel="patients of a test fold", ylabel="progression, less its mean")
    right.set_title("all rows within 0.5 deviations")
    right.legend(loc="upper left")
    save(figure, out, __file__, right)


if __name__ == "__main__":
    show(main, TOLERANCE)
