"""A normalising flow on two moons with proven constants: it folds nothing, stretches no pair more than said, and its inverse comes with an error.

Layers (mu + nu) / 2 x + (nu - mu) / 2 f(x) with f proven 1-Lipschitz, and rotations between them, are trained by exact likelihood: in the plane the
determinant of the Jacobian takes two gradients. With the product m of the lower constants every sample x = F^-1(z) is within
|F(x) - z| / m of the true one, up to the rounding of tanh, and M / m bounds the distortion: no ratio |F(x) - F(y)| / |x - y| lies outside of
[m, M].
"""

import numpy as np
import torch
from exhibit import panels, save, show
from torch import nn

from sdplip.nn import BiLipschitz, ResidualLinear, lipschitz, lower_lipschitz, orthogonal
from sdplip.plot.style import INK, PALETTE
from sdplip.robustness import inverse

TOLERANCE = 0.0
MU, NU = 0.2, 1.8


def moons(n: int, rng: np.random.Generator) -> torch.Tensor:
    """Two half circles, with noise."""
    angle, upper = rng.uniform(0, np.pi, n), rng.random(n) < 0.5
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle)) - 0.5
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle)) - 0.25
    return torch.from_numpy(np.stack([x, y], 1) + 0.08 * rng.normal(size=(n, 2)))


def flow(depth: int, hidden: int) -> nn.Sequential:
    blocks = [
        m
        for _ in range(depth)
        for m in (
            BiLipschitz(ResidualLinear(2, hidden, "spectral", nn.Tanh()), MU, NU),
            orthogonal(nn.Linear(2, 2), "cayley"),
        )
    ]
    return nn.Sequential(*blocks).double()


def log_likelihood(F: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """log of the standard normal density at F(x), plus log |det J|."""
    x = x.detach().requires_grad_()
    z = F(x)
    rows = [torch.autograd.grad(z[:, k].sum(), x, create_graph=True)[0] for k in range(2)]
    det = rows[0][:, 0] * rows[1][:, 1] - rows[0][:, 1] * rows[1][:, 0]
    return -(z * z).sum(1) / 2 - np.log(2 * np.pi) + det.abs().log()


def train(F: nn.Module, steps: int) -> nn.Module:
    rng, optimizer = np.random.default_rng(0), torch.optim.Adam(F.parameters(), 2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, steps)
    for _ in range(steps):
        loss = -log_likelihood(F, moons(256, rng)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return F.eval()


def main(quick=False, out=None):
    torch.manual_seed(0)
    F = train(flow(2, 8), 5) if quick else train(flow(7, 32), 400)
    m, M = lower_lipschitz(F).value, lipschitz(F).value
    rng = np.random.default_rng(1)
    x, noise = (
        moons(50 if quick else 2000, rng),
        torch.from_numpy(rng.normal(size=(50 if quick else 1000, 2))),
    )
    found = inverse(F, noise)
    with torch.no_grad():
        z = F(x)
        back, k = inverse(F, z), rng.permutation(len(x))
        ratios = ((z - z[k]).norm(dim=1) / (x - x[k]).norm(dim=1))[(x - x[k]).norm(dim=1) > 0].numpy()
    off = (back.point - x).norm(dim=1).numpy() - 1e-15 * float(z.norm(dim=1).max()) / m  # F(x) is rounded
    side = 20 if quick else 240
    a, b = np.meshgrid(np.linspace(-2.2, 2.2, side), np.linspace(-1.6, 1.6, side))
    density = log_likelihood(F, torch.from_numpy(np.stack([a, b], -1).reshape(-1, 2))).detach().exp().numpy()
    print(f"log-likelihood of new points: {log_likelihood(F, x).mean().item():.3f}")
    print(f"mass on the picture: {density.sum() * 4.4 * 3.2 / (side - 1) ** 2:.4f}")
    print(
        f"proven: {m:.3g} <= stretch <= {M:.4g}, distortion at most {M / m:.4g}; seen {ratios.min():.3f} to {ratios.max():.2f}"
    )
    print(
        f"{len(noise)} samples by the inverse, proven error at most {found.error.max():.1e} ({found.rounding}), {found.evaluations} evaluations"
    )
    if out:
        draw((a, b, density.reshape(side, side)), found.point, F, ratios, (m, M), out)
    computed = {
        "pairs outside of the proven stretch": float(((ratios < m) | (ratios > M)).sum()),
        "inverses farther than proven": float((off > back.error).sum()),
    }
    return computed, dict.fromkeys(computed, 0.0)


def draw(field, samples, F, ratios, proven, out) -> None:
    figure, axes = panels(3, size=(10.6, 3.3), width_ratios=(1.25, 1.25, 1))
    axes[0].pcolormesh(*field, shading="auto", rasterized=True)
    axes[0].set_title("density, and samples of the inverse")
    axes[0].plot(*samples[:300].numpy().T, ".", color="white", markersize=2.2)
    t = torch.linspace(-2.5, 2.5, 201, dtype=torch.float64)
    for level in np.linspace(-2.5, 2.5, 21):
        for column in (0, 1):
            line = torch.full((len(t), 2), float(level), dtype=torch.float64)
            line[:, column] = t
            bent = inverse(F, line).point.numpy()
            axes[1].plot(*bent.T, color=PALETTE[column], linewidth=0.7)
    axes[1].set_title("a square grid of the noise, pulled back")
    for one in axes[:2]:
        one.set(xlim=(-2.2, 2.2), ylim=(-1.6, 1.6), aspect="equal")
    axes[2].hist(ratios, np.geomspace(*proven, 60), color=PALETTE[0])
    for end in proven:
        axes[2].axvline(end, color=INK, linestyle="--")
    axes[2].set(
        xscale="log", xlabel="|F(x) - F(y)| / |x - y|", ylabel="pairs", title="stretch, and its proven ends"
    )
    save(figure, out, __file__, axes[0])


if __name__ == "__main__":
    show(main, TOLERANCE)
