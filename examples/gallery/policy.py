"""A pendulum that swings up under a policy whose torque cannot jump: a bound for every step, none for the return.

The policy sees (cos, sin, speed / 8) and answers with a torque. With the proven constant L, an observation that is off by eps moves the
torque of this step by at most L eps, whoever is to blame (after Barbara, Wang and Manchester, arXiv 2405.11432, who bound policies
by Sandwich layers). That is a statement about one step: the return of an attacked episode may still be bad, and this script claims
nothing about it. A policy that exists already, a plain network, gets its bound from LipSDP instead.
"""

import numpy as np
import torch
from exhibit import panels, save, show
from torch import nn

import sdplip
from sdplip.nn import Sandwich, Scale, lipschitz
from sdplip.plot.style import DASHES, INK, PALETTE

TOLERANCE = 1e-3
AIM, EPS = 20.0, 0.05


def step(th, w, u):
    """One step of 0.05 s of the pendulum of Gymnasium (length and mass 1, g = 10; upright is 0), torques within 2."""
    w = np.clip(w + (15 * np.sin(th) + 3 * np.clip(u, -2, 2)) * 0.05, -8, 8)
    return th + 0.05 * w, w


def seen(th, w) -> torch.Tensor:
    return torch.tensor(np.stack([np.cos(th), np.sin(th), w / 8], -1), dtype=torch.float64)


def expert(th, w):
    """Energy up to that of the upright rest, then a linear controller there."""
    th = (th + np.pi) % (2 * np.pi) - np.pi
    pump = -0.5 * w * (w * w / 2 + 15 * (np.cos(th) - 1))
    pump = np.where(abs(w) < 0.05, 2.0, pump)  # hanging at rest: any push
    near = 1 / (1 + np.exp(np.clip(20 * (abs(th) + 0.2 * abs(w) - 0.6), -50, 50)))
    return np.clip(near * -(12 * th + 3 * w) + (1 - near) * pump, -2, 2)


def bounded() -> nn.Module:
    layers = Sandwich(3, 64), Sandwich(64, 64), Sandwich(64, 1, nn.Identity())
    return nn.Sequential(Scale(AIM**0.5), *layers, Scale(AIM**0.5))


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))


def imitate(policy: nn.Module, rounds: int, steps: int) -> nn.Module:
    """DAgger: the policy acts, the expert says what it would have done."""
    rng, optimizer = np.random.default_rng(0), torch.optim.Adam(policy.double().parameters(), 3e-3)
    observed, told = [], []
    for k in range(rounds):
        th, w = rng.uniform(-np.pi, np.pi, 48), rng.uniform(-1, 1, 48)
        for _ in range(100):
            observed.append(seen(th, w))
            told.append(torch.from_numpy(expert(th, w)))
            mine = policy(observed[-1])[:, 0].detach().numpy()
            th, w = step(th, w, np.where((rng.random(48) < 0.3) | (k == 0), told[-1].numpy(), mine))
        X, Y = torch.cat(observed), torch.cat(told)
        for i in (torch.randint(len(X), (256,)) for _ in range(steps)):
            u = policy(X[i])[:, 0]
            loss = (u.clamp(-2, 2) - Y[i]).square().mean() + 0.01 * (u.abs() - 2).relu().square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return policy.eval()


def episode(policy: nn.Module, steps: int) -> np.ndarray:
    """Angle, torque, and the least and largest torque found for observations within EPS, by five steps of the gradient."""
    th, w, rows = np.array([np.pi]), np.array([0.0]), []
    for _ in range(steps):
        o, far = seen(th, w), []
        for sign in (-1, 1):
            z = o
            for _ in range(5):
                z = z.detach().requires_grad_()
                (g,) = torch.autograd.grad(sign * policy(z).sum(), z)
                z = o + (z + EPS * g / g.norm().clamp_min(1e-12) - o).renorm(2, 0, EPS) * (1 - 1e-6)
            far.append(policy(z).item())
        rows.append((float(th[0]), policy(o).item(), *far))
        th, w = step(th, w, np.array([rows[-1][1]]))
    return np.array(rows)


def main(quick=False, out=None):
    runs, bounds, over = {}, {}, 0
    for name, make in (("bounded", bounded), ("plain", plain)):
        torch.manual_seed(0)
        policy = imitate(make(), *(1, 30) if quick else (6, 300))
        layers = bounds[name] = lipschitz(policy, input_shape=(3,)).value
        if name == "plain":
            bounds[name] = min(layers, sdplip.bound(policy, input_shape=(3,)).bound)
        rows = runs[name] = episode(policy, 10 if quick else 200)
        moved, upright = abs(rows[:, 2:] - rows[:, 1:2]).max(), (np.cos(rows[-50:, 0]) > 0.95).mean()
        over += int(moved > EPS * bounds[name])
        print(
            f"{name}: L <= {bounds[name]:.2f} (layer by layer {layers:.2f}); upright in {upright:.0%} of the last steps"
        )
        print(
            f"  observations off by {EPS} move the torque by {moved:.3f}, proven: at most {EPS * bounds[name]:.3f}"
        )
    if out:
        draw(runs, bounds, out)
    computed = {"policies whose torque moved beyond the bound": over, "constant aimed at": bounds["bounded"]}
    return computed, dict(zip(computed, (0, AIM), strict=True))


def draw(runs, bounds, out) -> None:
    figure, axes = panels(2, size=(8.8, 3.7))
    for one, (name, rows) in zip(axes, runs.items(), strict=True):
        t, u, reach = 0.05 * np.arange(len(rows)), rows[:, 1], EPS * bounds[name]
        one.fill_between(t, u - reach, u + reach, color=PALETTE[5], alpha=0.35, linewidth=0, label="proven")
        one.plot(
            t, rows[:, 2:], color=PALETTE[1], linestyle=DASHES[1], linewidth=0.9, label=["worst found", None]
        )
        one.plot(t, u, color=INK, linewidth=1.2, label="torque")
        one.set(xlabel="time, s", title=f"{name} policy: L = {bounds[name]:.1f}")
        one.set_ylim(-2.5 - EPS * max(bounds.values()), 4 + EPS * max(bounds.values()))
        one.legend(ncols=3, loc="upper right")
    axes[0].set_ylabel(f"torque; observations off by {EPS}")
    save(figure, out, __file__, axes[0])


if __name__ == "__main__":
    show(main, TOLERANCE)
