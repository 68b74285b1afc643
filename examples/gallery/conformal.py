"""Conformal sets that keep their promise under attack, on scikit-learn's digits.

One number is calibrated on images that training has not seen. The right class then is in the set with probability 95 %: for ordinary
sets at clean images, for robust ones at every image within eps, because the score of a class is 1-Lipschitz.
"""

import numpy as np
import torch
from brittle import digits, train
from exhibit import panels, save, show
from torch import nn

from sdplip.nn import LastLayerNormalised, MaxMin, orthogonal
from sdplip.nn.losses import CrossEntropy
from sdplip.plot.style import INK, PALETTE
from sdplip.robustness import calibrate, class_scores, minimise, robust_sets, worst_coverage

TOLERANCE = 1e-9
ALPHA = 0.05


def attacked(model: nn.Module, x: torch.Tensor, y: torch.Tensor, eps: float, steps: int) -> torch.Tensor:
    """The images within `eps` where the right class leads least."""
    own = nn.functional.one_hot(y, 10).bool()

    def lead(z: torch.Tensor) -> torch.Tensor:
        s = model(z)
        return s[own] - s.masked_fill(own, -torch.inf).amax(1)

    return minimise(lead, x, eps, steps=steps, restarts=1, box=(0, 1)).x


def main(quick=False, out=None):
    x, y = digits()
    torch.manual_seed(0)
    blocks = [m for _ in range(2) for m in (orthogonal(nn.Linear(64, 64), "cayley"), MaxMin())]
    model = nn.Sequential(*blocks, LastLayerNormalised(64, 10))
    train(model, CrossEntropy(), x[:1000], y[:1000], 30 if quick else 600).double()
    x = x.double()
    (x0, y0), (x1, y1) = (x[1000:1400], y[1000:1400]), (x[1400:], y[1400:])
    q = calibrate(class_scores(model, x0), y0, alpha=ALPHA)
    clean, rows, table, lost = class_scores(model, x1), np.arange(len(x1)), [], 0
    covered = clean.below[rows, y1] >= q
    for eps in (0.0, 0.4) if quick else (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8):
        moved = clean if eps == 0 else class_scores(model, attacked(model, x1, y1, eps, 5 if quick else 25))
        robust, ordinary = robust_sets(moved, q, eps)[rows, y1], robust_sets(moved, q)[rows, y1]
        worst = worst_coverage(clean, y1, q, eps)
        lost += int((covered & ~robust).sum()) + (worst > ordinary.mean())
        table.append((eps, robust.mean(), ordinary.mean(), worst, robust_sets(clean, q, eps).sum(1).mean()))
        print(
            "eps {:.1f}: robust sets cover {:.3f} under attack; ordinary {:.3f}, at least {:.3f}; mean size of robust sets {:.3f}".format(
                *table[-1]
            )
        )
    if out:
        draw(np.array(table).T, out)
    return {"covered before an attack and not after": float(lost)}, {
        "covered before an attack and not after": 0.0
    }


def draw(table: np.ndarray, out) -> None:
    eps, robust, ordinary, worst, size = table
    figure, (left, right) = panels(2, size=(8.4, 3.5))
    left.axhline(100 * (1 - ALPHA), color=INK, linewidth=1, linestyle=":")
    left.text(eps[-1], 100 * (1 - ALPHA) - 1.5, "promised: 95 %", color=INK, va="top", ha="right")
    left.plot(eps, 100 * robust, "o-", color=PALETTE[0], label="robust sets under attack")
    left.plot(eps, 100 * ordinary, "v--", color=PALETTE[1], label="ordinary sets under attack")
    left.fill_between(
        eps,
        100 * worst,
        100 * ordinary,
        color=PALETTE[1],
        alpha=0.2,
        linewidth=0,
        label="down to what is proven",
    )
    left.set(xlabel="length of the attack", ylabel="right class in the set (%)", ylim=(0, 102))
    left.legend(loc="lower left")
    right.plot(eps, size, "o-", color=PALETTE[0])
    right.set(xlabel="length of the attack", ylabel="mean size of robust sets", ylim=(0, None))
    for axes in (left, right):
        axes.grid(visible=True)
    save(figure, out, __file__, left)


if __name__ == "__main__":
    show(main, TOLERANCE)
