"""Modules made at random of what people write in forward."""
# ruff: noqa: ARG001  (makers of steps have one form)

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Step = Callable[[list[Tensor]], Tensor]


class RandomModule(nn.Module):
    """Steps one after another; each sees all values so far, the last one first."""

    def __init__(self, seed: int, length: int = 6) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.input_shape = SHAPES[rng.integers(len(SHAPES))]
        self.parts = nn.ModuleList()
        self.steps, self.words = list[Step](), list[str]()
        values = [torch.randn(2, *self.input_shape, dtype=torch.float64)]
        while len(self.steps) < length:
            name = NAMES[rng.integers(len(NAMES))]
            step = MAKERS[name](self, values, rng)
            if step is None:
                continue
            try:
                y = step([v.clone() for v in values])
            except (RuntimeError, ValueError, IndexError):
                continue
            if not 0 < y[0].numel() <= 200 or len(y) != 2:
                continue
            values.insert(0, y)
            self.steps.append(step)
            self.words.append(name)
        self.double().eval()

    def part(self, module: nn.Module) -> nn.Module:
        for norm in module.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                assert norm.running_var is not None
                norm.running_var.uniform_(0.5, 2)
        self.parts.append(module.double().eval())
        return module

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step in self.steps:
            values.insert(0, step(values))
        return values[0]


SHAPES = [(4,), (6,), (2, 3), (3, 4), (2, 4, 4), (3, 5, 4), (1, 6, 6)]
MAKERS: dict[str, Callable[[RandomModule, list[Tensor], np.random.Generator], Step | None]] = {}


def maker(function):
    MAKERS[function.__name__] = function
    return function


def _axis(x: Tensor, rng: np.random.Generator) -> int:
    return int(rng.integers(1, x.ndim))


@maker
def linear(m, values, rng):
    layer = m.part(nn.Linear(values[0].shape[-1], int(rng.integers(1, 6)), bool(rng.integers(2))))
    return lambda v: layer(v[0])


@maker
def convolution(m, values, rng):
    x = values[0]
    if x.ndim not in (3, 4):
        return None
    kind = nn.Conv1d if x.ndim == 3 else nn.Conv2d
    groups = int(rng.choice([1, x.shape[1]]))
    layer = m.part(
        kind(
            x.shape[1], groups * int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(1, 3)),
            int(rng.integers(0, 3)), int(rng.integers(1, 3)), groups,
            padding_mode=str(rng.choice(["zeros", "circular", "reflect", "replicate"])),
        )
    )  # fmt: skip
    return lambda v: layer(v[0])


@maker
def transposed(m, values, rng):
    x = values[0]
    if x.ndim not in (3, 4):
        return None
    kind = nn.ConvTranspose1d if x.ndim == 3 else nn.ConvTranspose2d
    layer = m.part(
        kind(x.shape[1], 2, int(rng.integers(1, 4)), int(rng.integers(1, 3)), int(rng.integers(0, 2)))
    )
    return lambda v: layer(v[0])


@maker
def norm(m, values, rng):
    x = values[0]
    if x.ndim < 2 or x.ndim > 4:
        return None
    layer = (
        m.part(nn.LayerNorm(x.shape[-1], eps=0.1))
        if rng.integers(2)
        else m.part((nn.BatchNorm1d if x.ndim < 4 else nn.BatchNorm2d)(x.shape[1]))
    )
    return lambda v: layer(v[0])


@maker
def activation(m, values, rng):
    functions = [
        torch.relu, torch.tanh, F.gelu, F.silu, F.softsign, torch.abs, F.leaky_relu, F.hardtanh, F.mish, F.elu, F.softplus,
        lambda x: x.clamp(-0.5, 1.0), lambda x: torch.maximum(x, x.new_tensor(0.2)), F.relu6,
        lambda x: F.relu(1 * x, inplace=True),
    ]  # fmt: skip
    f = functions[rng.integers(len(functions))]
    return lambda v: f(v[0])


@maker
def skip(m, values, rng):
    alike = [k for k, v in enumerate(values) if v.shape == values[0].shape]
    k = alike[rng.integers(len(alike))]
    sign = float(rng.choice([1.0, -1.0, 0.5]))
    return lambda v: torch.add(v[0], v[k], alpha=sign)


@maker
def joined(m, values, rng):
    axis = _axis(values[0], rng)

    def fits(v: Tensor) -> bool:
        return v.ndim == values[0].ndim and all(
            a == b for i, (a, b) in enumerate(zip(v.shape, values[0].shape, strict=True)) if i != axis
        )

    alike = [k for k, v in enumerate(values) if fits(v)]
    k = alike[rng.integers(len(alike))]
    return lambda v: torch.cat([v[0], v[k]], axis)


@maker
def ordered(m, values, rng):
    alike = [k for k, v in enumerate(values) if v.shape == values[0].shape]
    k = alike[rng.integers(len(alike))]
    f = [torch.maximum, torch.minimum][rng.integers(2)]
    return lambda v: f(v[0], v[k])


@maker
def permuted(m, values, rng):
    order = [0, *(1 + rng.permutation(values[0].ndim - 1))]
    return lambda v: v[0].permute([int(k) for k in order])


@maker
def reshaped(m, values, rng):
    n = values[0][0].numel()
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    d = int(divisors[rng.integers(len(divisors))])
    return lambda v: v[0].reshape(len(v[0]), d, -1)


@maker
def image(m, values, rng):
    n = values[0][0].numel()
    return (lambda v: v[0].reshape(len(v[0]), -1, 2, 2)) if n % 4 == 0 else None


@maker
def cut(m, values, rng):
    axis = _axis(values[0], rng)
    start = int(rng.integers(values[0].shape[axis]))
    return lambda v: v[0].narrow(axis, start, v[0].shape[axis] - start)


@maker
def written(m, values, rng):
    axis, step = _axis(values[0], rng), int(rng.integers(1, 3))

    def write(v):
        y = v[0].clone()
        y.transpose(1, axis)[:, ::step] *= 2
        y.transpose(1, axis)[:, 0] = 0.5
        return y

    return write


@maker
def padded(m, values, rng):
    a, b = int(rng.integers(0, 3)), int(rng.integers(0, 3))
    return lambda v: F.pad(v[0], (a, b), value=0.3)


@maker
def pooled(m, values, rng):
    if values[0].ndim != 4:
        return None
    k, s, p = int(rng.integers(1, 4)), int(rng.integers(1, 3)), 0
    ceil = bool(rng.integers(2))
    if rng.integers(2):
        return lambda v: F.max_pool2d(v[0], k, s, p, ceil_mode=ceil)
    count = bool(rng.integers(2))
    return lambda v: F.avg_pool2d(v[0], k, s, k // 2, ceil, count)


@maker
def reduced(m, values, rng):
    axis = _axis(values[0], rng)
    f = [torch.mean, torch.sum, torch.amax, torch.amin][rng.integers(4)]
    return lambda v: f(v[0], axis, keepdim=True)


@maker
def spread(m, values, rng):
    c = torch.from_numpy(rng.standard_normal(values[0].shape[-1]))
    return lambda v: v[0].unsqueeze(1) * c - 0.5


@maker
def left(m, values, rng):
    if values[0].ndim < 3:
        return None
    M = torch.from_numpy(rng.standard_normal((3, values[0].shape[-2])))
    return lambda v: M @ v[0]


@maker
def sorted_(m, values, rng):
    axis = _axis(values[0], rng)
    return lambda v: v[0].sort(axis).values


@maker
def moved(m, values, rng):
    axis, by = _axis(values[0], rng), int(rng.integers(0, 4))
    return lambda v: v[0].roll(by, axis).flip(axis)


@maker
def folded(m, values, rng):
    layer = m.part(nn.Linear(values[0].shape[-1], 3))
    return lambda v: layer(v[0].reshape(-1, v[0].shape[-1])).view(*v[0].shape[:-1], 3).relu()


NAMES = sorted(MAKERS)
