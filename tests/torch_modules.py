"""Modules with a forward of their own, each read into a network by the tests: `(name, module, shape of a sample)`."""

import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdplip.geometry import Geometry

Shape = tuple[int, ...]


class Forward(nn.Module):
    """Any function of a tensor and of submodules as a module."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class BasicBlock(nn.Module):
    """As in torchvision's ResNet."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """torchvision's ResNet, small."""

    def __init__(self, width: int = 4, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(width, width, 1), BasicBlock(width, 2 * width, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = torch.flatten(self.avgpool(self.layer1(x)), 1)
        return self.fc(x)


class Mixer(nn.Module):
    """A block of an MLP-mixer: a perceptron over tokens, one over channels, both with a skip."""

    def __init__(self, tokens: int, channels: int, norm: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels) if norm else nn.Identity()
        self.norm2 = nn.LayerNorm(channels) if norm else nn.Identity()
        self.token = nn.Sequential(nn.Linear(tokens, 6), nn.ReLU(), nn.Linear(6, tokens))
        self.channel = nn.Sequential(nn.Linear(channels, 7), nn.ReLU(), nn.Linear(7, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channel(self.norm2(x))


class UNet(nn.Module):
    """Down, up, and the skip between them."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 6, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.down(x))
        b = F.relu(self.inner(F.max_pool2d(a, 2)))
        return self.out(torch.cat([a, self.up(b)], dim=1))


class Siamese(nn.Module):
    """One module for both halves of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x[:, :3], x[:, 3:]
        return self.body(a) - self.body(b)


class Counter(nn.Module):
    """Another function at every third call."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self._calls = nn.Linear(3, 3), [0]

    def forward(self, x: Tensor) -> Tensor:
        self._calls[0] += 1
        return self.linear(x) * (1000.0 if self._calls[0] % 3 == 0 else 1.0)


class Graded(nn.Module):
    """A parametrization that depends on whether gradients are on."""

    def forward(self, W: Tensor) -> Tensor:
        return 5 * W if torch.is_grad_enabled() else W


def settled(module: nn.Module) -> nn.Module:
    """Statistics, factors and biases away from where they start; evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_var is not None:
            assert part.running_mean is not None
            part.running_mean.normal_(0, 0.3, generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.endswith("bias"):
                p.normal_(0, 0.3, generator=generator)
    return module.eval()


def _set(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, ::2] = 3 * x[:, ::2]
    y[:, 1] = 0.25
    return y


def _into_zeros(x: Tensor) -> Tensor:
    y = torch.zeros(x.shape[0], 6, dtype=x.dtype)
    y[:, 1:5] = x
    y[:, 0] += x[:, 0]
    return y


def _through_views(x: Tensor) -> Tensor:
    rows = x.view(x.size(0), 2, 3).transpose(1, 2)
    rows += 1
    return F.relu_(rows.reshape(x.size(0), -1))


def _zeroed(x: Tensor) -> Tensor:
    y = 2 * x
    y[:, :1].zero_()
    y[:, 2:].copy_(x[:, :1])
    return y


def _expanded(x: Tensor) -> Tensor:
    y = torch.zeros(len(x), 1, 3, dtype=x.dtype)
    z = y.expand(-1, 2, -1)
    y[:, 0] += x
    return z


def _beside(m: Forward, x: Tensor) -> Tensor:
    return torch.cat(m.a(torch.cat([x, 2 * x], 0)).chunk(2, 0), 1)


def _loop(m: Forward, x: Tensor) -> Tensor:
    for _ in range(3):
        x = x + torch.tanh(m.a(x))
    return x


def _maxmin(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1)


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Shape]] = {
    "add constant": (lambda x: 1.5 + x, (4,)),
    "subtract": (lambda x: 2 - 3 * x, (4,)),
    "divide": (lambda x: x / 3 - x / 4, (4,)),
    "alpha": (lambda x: torch.add(x, x.flip(1), alpha=3), (4,)),
    "double": (lambda x: x + x, (4,)),
    "nothing": (lambda x: x, (4,)),
    "constant": (lambda x: torch.ones_like(x), (4,)),
    "broadcast": (lambda x: x.unsqueeze(2) - x.unsqueeze(1), (4,)),
    "broadcast constant": (lambda x: x.unsqueeze(2) + torch.arange(3.0, dtype=x.dtype), (4,)),
    "cat": (lambda x: torch.cat([x, 2 * x, torch.ones_like(x)], 1), (4,)),
    "stack": (lambda x: torch.stack([x, -x], -1), (4,)),
    "view": (lambda x: x.view(x.size(0), -1)[:, 1:7], (2, 4)),
    "permute": (lambda x: x.permute(0, 2, 1).contiguous().flatten(1), (2, 4)),
    "tokens": (lambda x: x.reshape(-1, 4).relu().reshape(x.shape), (2, 4)),
    "batch in the middle": (lambda x: x.transpose(0, 1).relu().transpose(0, 1), (2, 4)),
    "squeeze": (lambda x: x[:, None].squeeze(1).unsqueeze(-1), (3,)),
    "expand": (lambda x: x[:, None].expand(-1, 3, -1), (3,)),
    "repeat": (lambda x: x.repeat(1, 2).repeat_interleave(2, 1), (3,)),
    "split": (lambda x: torch.split(x, [1, 3], 1)[1].narrow(1, 1, 2), (4,)),
    "unbind": (lambda x: sum(x.unbind(1)), (3, 2)),
    "index": (lambda x: x[:, [2, 0, 0]] + x.index_select(1, torch.tensor([1, 1, 3])), (4,)),
    "gather": (lambda x: x.gather(1, torch.tensor([[0, 2]]).expand(len(x), -1)), (3,)),
    "roll and flip": (lambda x: torch.roll(x, 1, -1) + x.flip(-1), (4,)),
    "tril": (lambda x: x.tril(), (3, 3)),
    "where": (lambda x: torch.where(torch.tensor([True, False, True]), x, torch.tensor(2.0, dtype=x.dtype)), (3,)),
    "masked fill": (lambda x: x.masked_fill(torch.tensor([True, False, True]), 7.0), (3,)),
    "set": (_set, (5,)),
    "into zeros": (_into_zeros, (4,)),
    "through views": (_through_views, (6,)),
    "pad": (lambda x: F.pad(x, (1, 2), value=0.5), (4,)),
    "reflect": (lambda x: F.pad(x, (1, 2), mode="reflect"), (2, 4)),
    "shuffle": (lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 4), (16, 4, 4)),
    "unfold": (lambda x: F.unfold(x, 2, padding=1), (2, 3, 3)),
    "fold": (lambda x: F.fold(x, (3, 3), 2, padding=1), (8, 16)),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), (2, 3, 2)),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (2, 3, 2)),
    "mean": (lambda x: x.mean(1) + x.mean((-1, 1), keepdim=True)[:, 0], (3, 4)),
    "sum": (lambda x: x.sum((1, 2)).unsqueeze(-1), (3, 4)),
    "logsumexp": (lambda x: x.logsumexp(1) + torch.logsumexp(x, (1, -1), keepdim=True)[:, 0], (3, 4)),
    "index_add": (lambda x: x.index_add(1, torch.tensor([0, 2, 2]), x[:, 1:], alpha=-2), (4, 2)),
    "index_add to zeros": (lambda x: x.new_zeros(len(x), 3).index_add_(1, torch.tensor([0, 2, 2, 0]), x), (4,)),
    "index_add to a constant": (lambda x: torch.ones(len(x), 3, dtype=x.dtype).index_add(1, torch.tensor([0, 2, 2, 0]), x), (4,)),
    "scatter_add": (lambda x: x.scatter_add(2, torch.tensor([[0, 2, 2], [1, 1, 1]]).expand(len(x), 2, 3), x.flip(2)), (2, 3)),
    "cumsum": (lambda x: x.cumsum(1), (4,)),
    "amax": (lambda x: x.amax(2) - x.amin(2), (3, 4)),
    "max": (lambda x: x.max(-1).values + x.min(-1)[0], (3, 4)),
    "maximum": (lambda x: torch.maximum(x[:, :2], x[:, 2:]), (4,)),
    "maximum with constant": (lambda x: torch.maximum(x, torch.tensor(0.5, dtype=x.dtype)).clamp_max(1.5), (4,)),
    "maxmin": (_maxmin, (6,)),
    "sort": (lambda x: x.sort(1, descending=True).values, (5,)),
    "topk": (lambda x: x.topk(2, 1).values, (5,)),
    "median": (lambda x: x.median(1).values.unsqueeze(1), (5,)),
    "length": (lambda x: x.norm(dim=1), (3, 2)),
    "einsum": (lambda x: torch.einsum("bij,jk->bki", x, torch.ones(3, 5, dtype=x.dtype)), (2, 3)),
    "from the left": (lambda x: torch.arange(8.0, dtype=x.dtype).reshape(4, 2) @ x, (2, 3)),
    "stack of matrices": (lambda x: x @ torch.arange(24.0, dtype=x.dtype).reshape(2, 3, 4).sin(), (2, 5, 3)),
    "addcmul": (lambda x: torch.addcmul(x, x.flip(1), torch.arange(4.0, dtype=x.dtype), value=0.5), (4,)),
    "addcdiv": (lambda x: torch.addcdiv(x, x.flip(1), torch.arange(1.0, 5.0, dtype=x.dtype), value=2), (4,)),
    "baddbmm": (lambda x: torch.baddbmm(x, x, torch.eye(3, dtype=x.dtype).expand(len(x), 3, 3), beta=2, alpha=3), (2, 3)),
    "addmm": (lambda x: torch.addmm(torch.ones(3, dtype=x.dtype), x, torch.eye(4, 3, dtype=x.dtype), beta=2, alpha=3), (4,)),
    "mv": (lambda x: x @ torch.arange(4.0, dtype=x.dtype), (4,)),
    "clamp_min": (lambda x: x.clamp_min(0.25).clamp(max=0.5), (4,)),
    "kthvalue": (lambda x: x.kthvalue(2, 1, keepdim=True).values, (4,)),
    "fmax": (lambda x: torch.fmax(x, x.flip(1)) + torch.fmin(x, 2 * x), (4,)),
    "erf and atan": (lambda x: torch.erf(x) + torch.atan(x), (4,)),
    "sine and cosine": (lambda x: torch.sin(x) + 2 * torch.cos(x), (4,)),
    "norms": (lambda x: torch.norm(x, 1, 2) + torch.linalg.vector_norm(x, float("inf"), 2), (3, 2)),
    "frobenius": (lambda x: torch.linalg.matrix_norm(x).unsqueeze(1), (3, 2)),
    "aligned": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True), (1, 3, 5)),
    "by a factor": (lambda x: F.interpolate(x, scale_factor=(2.0, 1.6), mode="bilinear"), (1, 3, 5)),
    "antialiased": (lambda x: F.interpolate(x, size=(2, 2), mode="bilinear", antialias=True), (1, 4, 4)),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), (1, 3, 4)),
    "linear": (lambda x: F.interpolate(x, scale_factor=2, mode="linear"), (1, 3)),
    "trilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), (1, 2, 2, 2)),
    "nearest 1d": (lambda x: F.interpolate(x, scale_factor=2), (1, 3)),
    "nearest exact": (lambda x: F.interpolate(x, size=(5, 2), mode="nearest-exact"), (1, 3, 2)),
    "average 1d": (lambda x: F.avg_pool1d(x, 2, 1, 1), (1, 4)),
    "average 3d": (lambda x: F.avg_pool3d(x, 2, 1), (1, 2, 3, 3)),
    "maxima 3d": (lambda x: F.max_pool3d(x, 2, 1), (1, 2, 3, 3)),
    "adaptive 1d": (lambda x: F.adaptive_avg_pool1d(x, 3) + F.adaptive_max_pool1d(x, 3), (1, 5)),
    "adaptive 3d": (lambda x: F.adaptive_avg_pool3d(x, 2) + F.adaptive_max_pool3d(x, 2), (1, 3, 2, 4)),
    "replicate": (lambda x: F.pad(x, (1, 2, 0, 1), mode="replicate"), (1, 2, 3)),
    "scatter": (lambda x: torch.zeros_like(x).scatter(1, torch.tensor([[2, 0, 1]]).expand(len(x), -1), x), (3,)),
    "slices": (lambda x: torch.slice_scatter(x, 2 * x[:, :2], 1, 1, 3).select_scatter(x[:, 0], 1, 0), (4,)),
    "diagonal": (lambda x: torch.diag_embed(x).triu().diagonal_scatter(-x, 0, 1, 2), (3,)),
    "tiles": (lambda x: torch.tile(x.rot90(1, (1, 2)), (2, 1)), (2, 3)),
    "index_put": (lambda x: x.index_put((torch.arange(len(x))[:, None], torch.tensor([[0, 2]])), 3 * x[:, :2]), (3,)),
    "index_fill": (lambda x: x.index_fill(1, torch.tensor([1]), 4.0), (3,)),
    "take_along": (lambda x: torch.take_along_dim(x, torch.tensor([[1, 1, 0]]).expand(len(x), -1), 1), (3,)),
    "zeroed": (lambda x: _zeroed(x), (3,)),
    "channels shuffled": (lambda x: F.channel_shuffle(x, 2), (4, 2)),
    "vmap": (lambda x: torch.vmap(lambda row: row.flip(0).relu())(x), (4,)),
    "complement": (lambda x: torch.lerp(x, x.flip(1), 0.25), (4,)),
    "double precision inside": (lambda x: x.double().relu().to(x.dtype), (4,)),
}  # fmt: skip
"""Functions of one tensor, and the shape of a sample."""


def modules() -> Iterator[tuple[str, Callable[[], nn.Module], Shape]]:
    """Makers of modules that must be read."""
    for name, (function, shape) in FUNCTIONS.items():
        yield name, (lambda f=function: Forward(lambda _, x: f(x))), shape
    yield "ResNet", ResNet, (3, 8, 8)
    yield "mixer", (lambda: Mixer(3, 4)), (3, 4)
    yield "U-Net", UNet, (1, 4, 4)
    yield "siamese", Siamese, (6,)
    yield "loop", (lambda: Forward(_loop, a=nn.Linear(3, 3))), (3,)
    yield "inplace", (lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(True), nn.Linear(4, 2))), (3,)
    yield "conv1d", (lambda: nn.Conv1d(2, 3, 3, 2, 1, 2)), (2, 9)
    yield "conv3d", (lambda: nn.Conv3d(2, 4, 2, groups=2)), (2, 3, 3, 3)
    yield "circular", (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")), (2, 4, 5)
    yield "reflect conv", (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")), (2, 4, 5)
    yield "same", (lambda: nn.Conv2d(2, 3, 2, padding="same")), (2, 4, 5)
    yield "transposed", (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2)), (4, 3, 3)
    yield "depthwise", (lambda: nn.Conv2d(4, 4, 3, groups=4)), (4, 5, 5)
    yield "average", (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False, ceil_mode=True)), (2, 5, 6)
    yield "divisor", (lambda: nn.AvgPool2d(2, divisor_override=3)), (2, 4, 4)
    yield "maxima", (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True)), (2, 5, 6)
    yield "maxima 1d", (lambda: nn.MaxPool1d(2)), (2, 6)
    yield (
        "adaptive",
        (lambda: nn.Sequential(nn.AdaptiveAvgPool2d((3, 2)), nn.AdaptiveMaxPool2d(2))),
        (2, 5, 4),
    )
    yield "batch norm", (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))), (3,)
    yield "eval dropout", (lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Dropout1d())), (3,)
    yield "weight norm", (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))), (3,)
    yield "spectral norm", (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))), (3,)
    yield "orthogonal", (lambda: nn.utils.parametrizations.orthogonal(nn.Linear(3, 4))), (3,)
    yield "pruned", _pruned, (3,)
    yield "hooked", _hooked, (3,)
    yield "padding changed", _padding_changed, (2, 5, 5)
    yield "made circular", _made_circular, (2, 5, 5)
    yield "mean of heads", (lambda: Forward(_heads, q=nn.Linear(4, 6))), (5, 4)
    yield "weights standardised", (lambda: Forward(_standardised, conv=nn.Conv2d(2, 3, 3))), (2, 4, 4)
    yield "scripted", (lambda: torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))), (3,)
    yield "compiled", (lambda: torch.compile(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))), (3,)  # pyright: ignore
    for activation in ACTIVATIONS:
        yield repr(activation), (lambda a=activation: copy.deepcopy(a)), (4,)
    yield "silu by hand", (lambda: Forward(lambda _, x: x * torch.sigmoid(x) + x * F.hardsigmoid(x))), (4,)
    yield "normalise", (lambda: Forward(lambda _, x: F.normalize(x, dim=1, eps=0.1))), (4,)
    yield "instance norm with statistics", (lambda: nn.InstanceNorm2d(2, track_running_stats=True)), (2, 3, 3)
    yield "lp pool", (lambda: nn.LPPool2d(2, 2)), (1, 4, 5)
    yield "rnn", (lambda: Forward(lambda m, x: m.a(x)[0], a=nn.RNN(3, 2, batch_first=True))), (4, 3)
    yield "vmap of a layer", (lambda: Forward(lambda m, x: torch.vmap(m.a)(x), a=nn.Conv1d(2, 3, 2))), (2, 4)
    yield "channels last", (lambda: nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)), (2, 4, 4)
    yield "out", (lambda: Forward(lambda _, x: torch.clamp(x, 0, out=torch.empty_like(x)))), (3,)
    yield "written while expanded", (lambda: Forward(lambda _, x: _expanded(x))), (3,)
    yield "batches side by side", (lambda: Forward(lambda m, x: _beside(m, x), a=nn.Linear(3, 3))), (3,)
    yield "instance norm", (lambda: nn.InstanceNorm2d(2)), (2, 3, 3)


ACTIVATIONS = (
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.3), nn.LeakyReLU(1.1), nn.PReLU(), nn.RReLU(), nn.Tanh(), nn.Sigmoid(),
    nn.Hardtanh(-0.5, 2),
    nn.Tanhshrink(), nn.Softshrink(0.1), nn.Softsign(), nn.LogSigmoid(), nn.CELU(0.7), nn.SELU(), nn.ELU(0.3), nn.Softplus(2.0),
    nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.Hardsigmoid(), nn.Threshold(0.2, 0.2), nn.Softmax(1),
    nn.Softmin(1), nn.LogSoftmax(1), nn.LayerNorm(4), nn.RMSNorm(4, eps=1e-3), nn.PReLU(4), nn.GroupNorm(2, 4), nn.Identity(),
)  # fmt: skip


def _pruned() -> nn.Module:
    from torch.nn.utils import prune

    return prune.l1_unstructured(nn.Linear(3, 4), "weight", amount=5)


def _hooked() -> nn.Module:
    linear = nn.Linear(3, 4)
    linear.register_forward_hook(lambda _, __, y: 2 * y)
    return linear


def _padding_changed() -> nn.Module:
    conv = nn.Conv2d(2, 3, 3, padding=2, padding_mode="circular")
    conv.padding = (1, 1)
    return conv


def _made_circular() -> nn.Module:
    conv = nn.Conv2d(2, 3, 3, padding=1)
    conv.padding_mode = "circular"
    return conv


def _heads(m: Forward, x: Tensor) -> Tensor:
    batch, tokens, _ = x.shape
    q = m.q(x).view(batch, tokens, 2, 3).transpose(1, 2)
    return q.reshape(batch * 2, tokens, 3).mean(1).view(batch, 2, 3) / math.sqrt(2)


def _standardised(m: Forward, x: Tensor) -> Tensor:
    W = m.conv.weight
    W = (W - W.mean((1, 2, 3), keepdim=True)) / W.std((1, 2, 3), keepdim=True)
    return F.conv2d(x, W, m.conv.bias)


def statistics_left_behind() -> nn.Module:
    norm = nn.InstanceNorm2d(2, track_running_stats=True)
    norm.track_running_stats = False
    return norm


def ours() -> Iterator[tuple[str, Callable[[], nn.Module], Shape]]:
    """Makers of our own layers and networks."""
    from sdplip import nn as S
    from sdplip.nn import models

    yield (
        "maxmin behind a crop",
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.ZeroPad2d(-1), S.MaxMin())),
        (1, 5, 4),
    )
    yield "residual", (lambda: S.ResidualLinear(4, 6)), (4,)
    yield "residual tokens", (lambda: S.ResidualLinear(4, 6, activation=nn.Tanh())), (3, 4)
    yield "residual h", (lambda: S.ResidualLinear(4, 6, h=0.5, L=2.0, bias=False)), (4,)
    yield "residual conv", (lambda: S.ResidualConv2d(2, 3)), (2, 5, 4)
    yield (
        "residual conv strided",
        (lambda: S.ResidualConv2d(2, 4, geometry=Geometry(stride=2, groups=2))),
        (2, 5, 4),
    )
    yield "residual conv even", (lambda: S.ResidualConv2d(2, 3, 2)), (2, 5, 4)
    yield (
        "residual conv circular",
        (lambda: S.ResidualConv1d(2, 3, geometry=Geometry(padding_mode="circular"))),
        (2, 6),
    )
    yield "residual conv 3d", (lambda: S.ResidualConv3d(1, 2)), (1, 3, 3, 3)
    yield "bi-Lipschitz", (lambda: S.BiLipschitz(S.ResidualLinear(4, 6), 0.3, 2.0)), (4,)
    yield "sandwich", (lambda: S.Sandwich(4, 3)), (4,)
    yield "sandwich conv", (lambda: S.SandwichConv2d(2, 3, 3, (6, 8), stride=2)), (2, 6, 8)
    yield "compact sandwich", (lambda: S.CompactSandwichConv2d(2, 3, 3)), (2, 4, 5)
    yield (
        "lipkernel",
        (
            lambda: S.LipKernel(
                [S.LipKernelConv2d(2, 3, 2, 2), nn.Flatten(), S.LipKernelLinear(12, 3)], (2, 4, 4)
            )
        ),
        (2, 4, 4),
    )
    yield "Cayley", (lambda: S.CayleyConv2d(2, 3, 3, (4, 5))), (2, 4, 5)
    yield "Cayley large", (lambda: S.CayleyConv2d(2, 2, 3, (17, 16))), (2, 17, 16)
    yield "Cayley products", (lambda: _products(S)), (2, 4, 5)
    yield "rescaled", (lambda: S.rescaled(nn.Conv2d(2, 3, 3, padding=1), "aol")), (2, 4, 5)
    yield "orthogonal linear", (lambda: S.orthogonal(nn.Linear(4, 6), "cayley")), (4,)
    yield "manifold linear", (lambda: S.orthogonal(nn.Linear(4, 6), "manifold")), (4,)
    yield "manifold pixels", (lambda: S.LipNeXtBlock(4, (3, 4), 1, method="manifold")), (4, 3, 4)
    yield "Householder", (lambda: S.Householder(4)), (4, 3)
    yield "Householder vector", (lambda: S.Householder(4)), (4,)
    yield "N-activation", (lambda: S.NActivation(4)), (4, 3)
    yield "MaxMin", (lambda: S.MaxMin()), (4, 3)
    yield "GroupSort", (lambda: S.GroupSort(2)), (4, 3)
    yield "GroupSort 3", (lambda: S.GroupSort(3)), (6,)
    yield "Abs", (lambda: S.Abs()), (4,)
    yield "L2 pool", (lambda: S.L2Pool2d(2)), (2, 5, 4)
    yield "scaled pool", (lambda: S.ScaledAvgPool2d(2)), (2, 5, 4)
    yield "center", (lambda: S.Center((1, 2))), (2, 3)
    yield (
        "containers",
        (lambda: S.Concatenate([S.Residual(nn.Linear(3, 3)), S.Sum([nn.Identity(), S.Scale(0.5)])])),
        (3,),
    )
    yield (
        "head",
        (
            lambda: nn.Sequential(
                S.Normalise([0.1, 0.2], [0.5, 2.0]), nn.Flatten(), S.LastLayerNormalised(6, 3)
            )
        ),
        (2, 3),
    )
    yield "channels", (lambda: nn.Sequential(S.PadChannels(3), S.FirstChannels(4))), (2, 3)
    yield "strided", (lambda: S.StridedResidualConv2d(2, 3, 4)), (2, 4, 4)
    plan = models.Plan(1, 1, 4, 3, 8, 2, (1, 4, 4))
    for family in ("sll", "cpl", "aol", "multi_step2"):
        yield (
            family,
            (lambda f=family: models.residual_network(plan, models.FAMILIES[f], mean=[0.1])),
            plan.image,
        )
    yield "sandwich network", (lambda: models.sandwich_network(plan)), plan.image
    yield "orthogonal network", (lambda: models.orthogonal_network(plan)), plan.image
    yield "LiResNet", (lambda: models.liresnet(4, 1, image_size=16)), (3, 16, 16)
    yield "plain", (lambda: S.export_plain(models.residual_network(plan)).model), plan.image


def _products(S) -> nn.Module:
    from sdplip.nn.products import products

    return products(S.CayleyConv2d(2, 3, 3, (4, 5)))
