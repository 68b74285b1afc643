"""A diode clipper with a learned element, and iterations that are guaranteed to suffice.

In wave variables a = v + R i, b = v - R i a two-terminal element is incrementally passive exactly if its map b = f(a) is 1-Lipschitz
(da^2 - db^2 = 4 R dv di), so a 1-Lipschitz network is a passive element whatever it has learned. Two diode pairs between resistors
give a = S f(a) + e with |S| < 1 by the resistances: a contraction, with one solution, and

    |a_k - a*| <= q^k / (1 - q) |a_1 - a_0|,   q = |S| L.

A plain network that learns the same element has no such q (Massi et al., DAFx 2025, learn multi-ports in such circuits).
"""

import numpy as np
import torch
from exhibit import panels, save, show
from scipy.optimize import brentq
from torch import nn

import sdplip
from sdplip.nn import LastLayerNormalised, PadChannels, ResidualLinear, lipschitz
from sdplip.nn.bounds.tree import product_above
from sdplip.plot.style import DASHES, INK, PALETTE
from sdplip.robustness.fixed_point import fixed_point

TOLERANCE = 0.0
R, SATURATION, THERMAL = 1000.0, 2.52e-9, 45.3e-3


def element(a: np.ndarray) -> np.ndarray:
    """Reflected wave of a pair of antiparallel diodes: i = 2 Is sinh(v / Vt), a = v + R i."""
    v = [brentq(lambda v, a=a: v + R * 2 * SATURATION * np.sinh(v / THERMAL) - a, -1.5, 1.5) for a in a]
    return 2 * np.array(v) - a


def circuit():
    """S and the source of unit voltage of two elements behind resistors, in wave variables."""
    thevenin = np.array([[2200.0, 2200.0], [2200.0, 4400.0]])
    inverse = np.linalg.inv(thevenin + R * np.eye(2))
    return (thevenin - R * np.eye(2)) @ inverse, 2 * R * inverse @ np.ones(2)


def train(network: nn.Module, a: np.ndarray, b: np.ndarray, lr: float, steps: int) -> nn.Module:
    x, y = (torch.tensor(v, dtype=torch.float32)[:, None] for v in (a, b))
    optimizer = torch.optim.Adam(network.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    for i in (torch.randint(len(x), (256,)) for _ in range(steps)):
        loss = (network(x[i]) - y[i]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.double().eval()


def passive() -> nn.Module:
    blocks = (ResidualLinear(32, 32) for _ in range(4))
    return nn.Sequential(PadChannels(31), *blocks, LastLayerNormalised(32, 1))


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))


def main(quick=False, out=None):
    a = np.concatenate([np.linspace(-12, 12, 1200), np.linspace(-1.5, 1.5, 800)])
    b = element(a)
    S, source = circuit()
    norm = sdplip.certify(S, np.ones(2)).bound
    times = np.linspace(0, 2, 60 if quick else 400)
    drive = torch.from_numpy(4 * np.sin(2 * np.pi * times)[:, None] * source)
    solved, networks = [], {}
    for name, make, lr in (("passive", passive, 1e-2), ("plain", plain, 3e-3)):
        torch.manual_seed(0)
        f = networks[name] = train(make(), a, b, lr, 150 if quick else 2500)
        L = lipschitz(f, input_shape=(1,)).value
        q, fit = product_above((norm, L)), abs(wave(f, a) - b).max()
        print(f"{name}: proven L {L:.7f}, so q = {q:.4f}; largest error of the fit {fit:.3f} V")

        def step(x, f=f):
            return torch.stack([f(x[:, :1]), f(x[:, 1:])], 2)[:, 0] @ torch.from_numpy(S).T + drive

        if q < 1:  # else `fixed_point` refuses
            solved.append(fixed_point(step, torch.zeros_like(drive), q))
    found = solved[0]
    print(f"{found.iterations} iterations to {found.error.max():.1e}, guaranteed: {found.guaranteed}")
    k = np.arange(len(found.history))
    slower = np.array(found.history) > found.history[0] * found.rate**k * (1 + 1e-9) + 1e-12
    if out:
        draw(a, b, networks, times, found, out)
    computed = {
        "iterations slower than proven": float(slower.sum()),
        "iterations beyond the guaranteed": float(max(0, found.iterations - found.guaranteed)),
        "networks with a proven contraction": float(len(solved)),
    }
    return computed, dict(zip(computed, (0.0, 0.0, 1.0), strict=True))


def wave(f: nn.Module, a: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return f(torch.from_numpy(a)[:, None])[:, 0].numpy()


def draw(a, b, networks, times, found, out) -> None:
    figure, (left, middle, right) = panels(3, size=(9.6, 3.4))
    order, x = np.argsort(a), found.point.numpy()
    left.plot(a[order], b[order], color=INK, label="element")
    for (name, f), colour, dash in zip(networks.items(), PALETTE, DASHES, strict=False):
        left.plot(a[order], wave(f, a)[order], color=colour, linestyle=dash, label=f"{name} network")
    left.set(xlim=(-4, 4), ylim=(-4, 4), xlabel="incident wave a, V", ylabel="reflected wave b, V")
    left.set_title("learned element")
    for k, dash in enumerate(("-", DASHES[1])):
        voltage = (x[:, k] + wave(networks["passive"], x[:, k])) / 2
        middle.plot(times, voltage, color=PALETTE[k], linestyle=dash, label=f"node {k + 1}")
    middle.set(xlabel="period", ylabel="voltage, V", title="clipped sine of 4 V", ylim=(-0.9, 1.25))
    errors, steps = np.array(found.history) / (1 - found.rate), np.arange(found.guaranteed + 1)
    right.semilogy(errors, color=PALETTE[0], label="proven error")
    right.semilogy(steps, errors[0] * found.rate**steps, color=INK, linestyle=DASHES[1], label="proven rate")
    right.set(
        xlabel="iteration",
        ylim=(1e-10, 300),
        title=f"{found.iterations} needed, {found.guaranteed} guaranteed",
    )
    for axes in (left, middle, right):
        axes.legend(loc="upper right", ncols=2 if axes is middle else 1)
    save(figure, out, __file__, right)


if __name__ == "__main__":
    show(main, TOLERANCE)
