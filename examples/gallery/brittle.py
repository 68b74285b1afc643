"""Which decisions are brittle? Certified radius beside the smallest change that an attack finds, for two networks on digits.

A 1-Lipschitz network and a plain ReLU network see the same images of scikit-learn. No change below the certified radius turns a
decision: every point lies on or above the diagonal. How near it lies says whether the radius tells brittle decisions from others.
"""

import numpy as np
import torch
from exhibit import panels, save, show
from sklearn.datasets import load_digits
from torch import nn

from sdplip.nn import LastLayerNormalised, MaxMin, orthogonal
from sdplip.nn.losses import CrossEntropy
from sdplip.plot.style import INK, PALETTE
from sdplip.robustness import brittleness, class_scores, margin_consistency

TOLERANCE = 1e-9
EPS = 0.5


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """1,797 images of 8 x 8 in [0, 1], shuffled, and their labels."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return torch.from_numpy(x[order] / 16).float(), torch.from_numpy(y[order])


def train(model: nn.Module, loss, x, y, steps: int) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, max(steps, 2))
    g = torch.Generator().manual_seed(0)
    for _ in range(steps):
        at = torch.randint(len(x), (128,), generator=g)
        optimizer.zero_grad()
        loss(model(x[at]), y[at]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def networks(x, y, steps: int) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    lip = [m for _ in range(2) for m in (orthogonal(nn.Linear(64, 64), "cayley"), MaxMin())]
    plain = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return {
        "1-Lipschitz": train(nn.Sequential(*lip, LastLayerNormalised(64, 10)), CrossEntropy(), x, y, steps),
        "plain ReLU": train(plain, nn.CrossEntropyLoss(), x, y, steps),
    }


def main(quick=False, out=None):
    x, y = digits()
    models = networks(x[:1400], y[:1400], 30 if quick else 600)
    some = slice(1400, 1430 if quick else 1797)
    found = {}
    for name, model in models.items():
        found[name] = margin_consistency(model, x[some], steps=6 if quick else 15, halvings=4 if quick else 9)
        area, alarms = found[name].detection(EPS)
        print(f"{name}: Kendall tau {found[name].order():.3f}; brittle below {EPS}: area under ROC {area:.3f}, {100 * alarms:.1f} % false"
              f" alarms; certified over attacked, median {np.median(found[name].tightness):.3f}")  # fmt: skip
        print("   ", brittleness(class_scores(model, x[some]), EPS, y[some]))
    if out:
        draw(found, out)
    broken = sum(int((r.radius > r.attacked).sum()) for r in found.values())
    return {"decisions turned below their radius": float(broken)}, {
        "decisions turned below their radius": 0.0
    }


def draw(found, out) -> None:
    figure, axes = panels(2, size=(8.4, 3.9), sharey=True)
    for ax, (name, r), colour in zip(axes, found.items(), (PALETTE[0], PALETTE[1]), strict=True):
        ax.fill_between([0, 2.4], [0, 2.4], color=INK, alpha=0.12, linewidth=0)
        ax.plot([0, 2.4], [0, 2.4], color=INK, linewidth=1)
        ax.text(1.02, 0.35, "excluded by proof", color=INK)
        ax.plot(r.radius, r.attacked, "o", color=colour, markersize=3.5, alpha=0.6)
        ax.set(
            xlim=(0, 1.7),
            ylim=(0, 1.6),
            xlabel="certified radius",
            title=f"{name}: Kendall's tau {r.order():.2f}",
        )
        ax.grid(visible=True)
    axes[0].set_ylabel("smallest change found that turns it")
    save(figure, out, __file__, axes[0])


if __name__ == "__main__":
    show(main, TOLERANCE)
