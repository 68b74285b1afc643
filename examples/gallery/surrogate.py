"""A surrogate of a function that can have no false minimum: its minimiser, how far from it any point is, and the gap, all proven.

p(x) = |F(x)|^2 / 2 with F bi-Lipschitz of the proven constants m and M (PLNet, Wang, Dvijotham and Manchester 2024) is fitted to Rosenbrock's function in
coordinates of its own size. F takes every value once, so p has one minimiser F^-1(0), which `inverse` finds with an error
that is proven up to the rounding of tanh; |grad p|^2 / 2 >= m^2 p
leaves no other flat place, and |F(x)| / M <= |x - x*| <= |F(x)| / m. A plain network fits better and promises nothing.
"""

import numpy as np
import torch
from exhibit import panels, save, show
from torch import nn

from sdplip.nn import BiLipschitz, ResidualLinear, lipschitz, lower_lipschitz, orthogonal
from sdplip.plot.style import PALETTE
from sdplip.robustness import inverse

TOLERANCE = 0.0


def target(x: torch.Tensor) -> torch.Tensor:
    """Rosenbrock's function with its minimum 0 at (1/2, 1/4), in coordinates of the size 1."""
    a, b = 2 * x[:, 0], 4 * x[:, 1]
    return ((1 - a) ** 2 + 5 * (b - a * a) ** 2) / 20


def fitted(f, parameters, steps: int, seed: int = 0) -> float:
    """Trains f on points of the square, and returns the root mean square error on others."""
    rng, optimizer = np.random.default_rng(seed), torch.optim.Adam(parameters, 2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, max(steps, 2))
    for step in range(steps + 1):
        x = torch.from_numpy(rng.uniform(-1, 1, (256 if step < steps else 4000, 2)))
        loss = (f(x) - target(x)).square().mean()
        if step < steps:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return float(loss.detach()) ** 0.5


def main(quick=False, out=None):
    steps, depth, hidden = (5, 2, 8) if quick else (700, 6, 32)
    torch.manual_seed(0)
    blocks = [
        m
        for _ in range(depth)
        for m in (
            BiLipschitz(ResidualLinear(2, hidden, "spectral", nn.Tanh()), 0.2, 1.8),
            orthogonal(nn.Linear(2, 2), "cayley"),
        )
    ]
    F = nn.Sequential(*blocks).double()
    p = lambda x: F(x).square().sum(1) / 2  # noqa: E731
    error = fitted(p, F.parameters(), steps)
    plain = nn.Sequential(
        nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
    ).double()
    other = fitted(lambda x: plain(x)[:, 0], plain.parameters(), steps)
    F.eval()
    m, M = lower_lipschitz(F).value, lipschitz(F).value
    found = inverse(F, torch.zeros(1, 2, dtype=torch.float64))
    best, gap = found.point[0].numpy(), float((M * found.error[0]) ** 2 / 2)
    x = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (2000, 2))).requires_grad_()
    value = p(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    away, length = (x.detach() - found.point).norm(dim=1), F(x).norm(dim=1).detach()
    flat = slope.square().sum(1) / 2 < m * m * value.detach() * (1 - 1e-9)
    apart = (away > length / m * (1 + 1e-9)) | (away < length / M * (1 - 1e-9))
    print(
        f"error of the fit: {error:.4f}, of a plain network {other:.4f}; mean of the function {target(x).mean():.3f}"
    )
    print(f"proven: {m:.4g} |x - y| <= |F(x) - F(y)| <= {M:.4g} |x - y|")
    print(
        f"minimiser ({best[0]:.6f}, {best[1]:.6f}), proven error {found.error[0]:.1e}, gap at most {gap:.1e}; the true one is (0.5, 0.25)"
    )
    if out:
        draw(p, plain, best, out)
    computed = {
        "points flatter than proven": float(flat.sum()),
        "points nearer or farther than proven": float(apart.sum()),
    }
    return computed, dict.fromkeys(computed, 0.0)


def draw(p, plain, best, out) -> None:
    figure, axes = panels(3, size=(10.2, 3.4))
    a, b = np.meshgrid(*[np.linspace(-1, 1, 121)] * 2)
    x = torch.from_numpy(np.stack([a, b], -1).reshape(-1, 2))
    with torch.no_grad():
        pictures = {
            "Rosenbrock's function": target(x),
            "surrogate without false minima": p(x),
            "plain network": plain(x)[:, 0],
        }
    for axis, (name, values) in zip(axes, pictures.items(), strict=True):
        axis.contourf(
            a, b, values.clamp(min=0).sqrt().reshape(a.shape), np.linspace(0, 3.2, 17), extend="max"
        )
        axis.plot(0.5, 0.25, "+", color="white", markersize=11, markeredgewidth=1.6)
        axis.set(title=name, aspect="equal")
    axes[1].plot(
        *best, "o", markerfacecolor="none", markeredgecolor=PALETTE[1], markersize=9, markeredgewidth=1.8
    )
    save(figure, out, __file__, axes[1])


if __name__ == "__main__":
    show(main, TOLERANCE)
