r"""BRONet and LiResNet (Lai et al., ICML 2025; Hu et al. 2023): stem, backbone, neck, dense layers, last layer with rows of length 1.

- `stem.0`: a convolution with stride whose norm is estimated by power iteration (10 steps from `init_x`); the library claims that number.
- `conv`, `conv_1`: as many convolutions as `weights` has entries along its first axis, $V = I + d^{-1/2} \gamma W$ with d of them. With
  `I_low` each is a block reflector $I - 2 V (V^* V)^{-1} V^*$ at each frequency of images padded by a pixel; with `init_x` it is V itself (LiResNet).
- `neck.kernel`, `neck.weight`: whitened by Cholesky, $L^{-1} X$ with $L L^\top = X X^\top + 10^{-3} \mathrm{mean}\, I$, or a block reflector cut to
  size; the shape tells.
- `linear`: as many matrices, whitened by Cholesky, or block reflectors where `identity_half` stands beside them.

MinMax (maxima of two halves, then minima) follows on each of them.
"""

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.importers.layer import Imported, finite
from sdplip.importers.layouts import Groups
from sdplip.importers.modules import tensor_of
from sdplip.importers.parts import COLOURS, ImportedNetwork, head_of
from sdplip.nn.activations import MaxMin
from sdplip.nn.heads import Normalise
from sdplip.nn.orthogonal import BROConv2d
from sdplip.nn.plain import plain_linear
from sdplip.weights.weight import Weight

NEEDED = ("stem.0", "conv", "neck", "head")
ITERATIONS, TINY = 10, 1e-12
CHOLESKY_GUARD, REFLECTOR_GUARD, NECK_GUARD = 1e-3, 1e-7, 1e-5
"""Times the mean of the diagonal of the Gram matrix, added to it: by Cholesky, of reflectors, of those of the neck."""


def bronet_groups(groups: Groups) -> Groups | None:
    """The groups of the network alone, without what stands beside it in a checkpoint; None if it is no BRONet."""
    for start in ("backbone.", ""):
        if all(f"{start}{name}" in groups for name in NEEDED):
            inner = {
                name.removeprefix(start): group for name, group in groups.items() if name.startswith(start)
            }
            return inner if "kernel" in inner["neck"] else None
    return None


@torch.no_grad()
def bronet(groups: Groups, classes: int | None) -> ImportedNetwork:
    """The network as it runs in eval mode.

    Raises:
        InvalidWeight: another backbone or neck than those above, or arrays that do not fit together.
    """
    layers = list[Imported]()
    stem, shape = _stem(groups, layers)
    modules: list[nn.Module] = [Normalise((0.5,) * COLOURS), stem, MaxMin()]
    size = shape[1] // stem.stride[0]
    for name in ("conv_1", "conv"):
        if name in groups:
            modules += _backbone(name, groups, size, stem.out_channels, layers)
    modules += _neck(groups, stem.out_channels, size, layers)
    modules += _dense(groups, layers)
    features = layers[-1].weight.array.shape[0]
    last, said = head_of("head", groups, features, classes)
    said += (
        "MinMax follows on each layer, images of the backbone are padded by a pixel, and weights are added to the identity: the defaults of the library.",
        "Reflectors are computed without the guard of 1e-7, and all weights in double precision.",
    )
    return ImportedNetwork(nn.Sequential(*modules, *last), shape, tuple(layers), True, said)


def _stem(groups: Groups, layers: list[Imported]) -> tuple[nn.Conv2d, tuple[int, int, int]]:
    """The first convolution and the shape of an image."""
    group = groups["stem.0"]
    K, x = _array("stem.0", "weight", groups, 4), _array("stem.0", "init_x", groups, 4)
    if x.shape[:2] != (1, COLOURS) or K.shape[1] != COLOURS or x.shape[2] != x.shape[3] or x.shape[2] % 2:
        raise InvalidWeight(
            f"`stem.0` has a kernel of the shape {tuple(K.shape)} for images of {tuple(x.shape)}: not the stem of a BRONet. Save it again."
        )
    taps = K.shape[-1]
    stride, padding = (2, taps // 2) if x.shape[2] in (32, 64) or taps % 2 else (taps, 0)
    layer = nn.Conv2d(COLOURS, len(K), taps, stride, padding, bias="bias" in group)
    back = (x.shape[2] + 2 * padding - taps) // stride * stride - 2 * padding + taps
    for _ in range(ITERATIONS):
        y = F.conv2d(x, K, stride=stride, padding=padding)
        x = F.conv_transpose2d(y, K, stride=stride, padding=padding, output_padding=x.shape[2] - back)
        x = x / x.norm().clamp_min(TINY)
    claimed = float(F.conv2d(x, K, stride=stride, padding=padding).norm())
    geometry = Geometry(stride=stride, padding=padding, image_size=tuple(x.shape[2:]))
    layers.append(_layer("stem.0.weight", K, claimed, "LiResNet's stem", geometry))
    return _filled(layer, K, _bias("stem.0", groups)), (COLOURS, x.shape[2], x.shape[3])


def _backbone(name: str, groups: Groups, size: int, width: int, layers: list[Imported]) -> list[nn.Module]:
    group = groups[name]
    W, gamma, b = (_array(name, leaf, groups, n) for leaf, n in (("weights", 5), ("gamma", 5), ("bias", 2)))
    rank = W.shape[2]
    if (
        W.shape[1] != width
        or W.shape[3:] != (3, 3)
        or gamma.shape[:2] != W.shape[:2]
        or b.shape != W.shape[:2]
    ):
        raise InvalidWeight(
            f"`{name}.weights` has the shape {tuple(W.shape)}, not that of {width} channels with 3 x 3 taps. Save it again."
        )
    if "running_mean" in group:
        b = b - _array(name, "running_mean", groups, 2)
    V = W * gamma * len(W) ** -0.5
    i = torch.arange(rank)
    V[:, i, i, 1, 1] += 1
    if "I_low" not in group and "init_x" in group:
        return _liresnet(name, V, b, _array(name, "init_x", groups, 4), layers)
    if "I_low" not in group or rank >= width:
        raise InvalidWeight(
            f"`{name}` is no block reflector and no LiResNet: Cholesky, Cayley and LOT have the same arrays. Build the network with its"
            " library, load the checkpoint, call `.eval()`, and ask `sdplip.lipschitz(module)`."
        )
    modules: list[nn.Module] = []
    for kernel, bias in zip(V, b, strict=True):
        layer = BROConv2d(width, width, 3, (size + 2, size + 2))
        layer.weight, layer.bias = nn.Parameter(kernel.float()), nn.Parameter(bias.float())
        modules += [nn.ZeroPad2d(1), layer, nn.ZeroPad2d(-1), MaxMin()]
    return modules


def _liresnet(name: str, V: Tensor, b: Tensor, x: Tensor, layers: list[Imported]) -> list[nn.Module]:
    """Ordinary convolutions; the library claims the product of their estimated norms."""
    size = tuple(x.shape[2:])
    if x.shape[:2] != (1, len(V) * V.shape[1]):
        raise InvalidWeight(
            f"`{name}.init_x` has the shape {tuple(x.shape)}: not one image a layer. Save the checkpoint again."
        )
    modules: list[nn.Module] = []
    for k, (K, bias, start) in enumerate(zip(V, b, x[0].reshape(len(V), 1, V.shape[1], *size), strict=True)):
        for _ in range(ITERATIONS):
            start = F.conv_transpose2d(F.conv2d(start, K, padding=1), K, padding=1)
            start = start / start.norm().clamp_min(TINY)
        claimed = float(F.conv2d(start, K, padding=1).norm())
        layers.append(_layer(f"{name}.weights[{k}]", K, claimed, "LiResNet", Geometry(image_size=size)))
        modules += [_filled(nn.Conv2d(K.shape[1], len(K), 3, padding=1), K, bias), MaxMin()]
    return modules


def _neck(groups: Groups, width: int, size: int, layers: list[Imported]) -> list[nn.Module]:
    """A convolution of patches, and a matrix."""
    kernel, W = _array("neck", "kernel", groups, 2), _array("neck", "weight", groups, 2)
    out = len(_array("neck", "bias", groups, 1))
    if "kernel_2" in groups["neck"] or width not in kernel.shape or out not in W.shape:
        raise InvalidWeight(
            f"`neck` has a kernel of {tuple(kernel.shape)} and a matrix of {tuple(W.shape)}, not those of a neck with {width} channels and one"
            " step. Load it into its library, and ask `sdplip.lipschitz(module)`."
        )
    patch = round((max(kernel.shape) / width) ** 0.5)
    inputs = width * (size // patch) ** 2
    if patch * patch * width != max(kernel.shape) or sorted(W.shape) != sorted((out, inputs)):
        raise InvalidWeight(
            f"`neck.weight` has the shape {tuple(W.shape)}, but {inputs} features come to it. The checkpoint is mixed; save it again."
        )
    K = _whitened(kernel) if kernel.shape[0] == width else _reflected(kernel, NECK_GUARD)[:width]
    K = K.reshape(width, width, patch, patch)
    W = _whitened(W) if W.shape[0] == out else _reflected(W, NECK_GUARD)[:out, :inputs]
    layers.append(_layer("neck.kernel", K, 1.0, "BRONet's neck", Geometry(stride=patch, padding=0)))
    layers.append(_layer("neck.weight", W, 1.0, "BRONet's neck", None))
    convolution = _filled(nn.Conv2d(width, width, patch, patch, bias=False), K, None)
    return [convolution, nn.Flatten(), plain_linear(W.float(), _bias("neck", groups)), MaxMin()]


def _dense(groups: Groups, layers: list[Imported]) -> list[nn.Module]:
    if "linear" not in groups:
        return []
    W, gamma, b = (
        _array("linear", leaf, groups, n) for leaf, n in (("weights", 3), ("gamma", 3), ("bias", 2))
    )
    features = layers[-1].weight.array.shape[0]
    if W.shape[1] != features or b.shape != W.shape[:2] or gamma.shape[:2] != W.shape[:2]:
        raise InvalidWeight(
            f"`linear.weights` has the shape {tuple(W.shape)}, but {features} features come to it. Save the checkpoint again."
        )
    V = W * gamma * len(W) ** -0.5
    i = torch.arange(V.shape[2])
    V[:, i, i] += 1
    reflected = "identity_half" in groups["linear"]
    modules: list[nn.Module] = []
    for k, (X, bias) in enumerate(zip(V, b, strict=True)):
        Q = _reflected(X, REFLECTOR_GUARD) if reflected else _whitened(X)
        layers.append(_layer(f"linear.weights[{k}]", Q, 1.0, "BRONet's dense layers", None))
        modules += [plain_linear(Q.float(), bias.float()), MaxMin()]
    return modules


def _whitened(X: Tensor) -> Tensor:
    S = X @ X.mT
    L = torch.linalg.cholesky(S + CHOLESKY_GUARD * S.diagonal().mean() * torch.eye(len(S), dtype=S.dtype))
    return torch.linalg.solve_triangular(L, X, upper=False)


def _reflected(V: Tensor, guard: float) -> Tensor:
    S = V.mT @ V
    S = S + guard * S.diagonal().mean() * torch.eye(len(S), dtype=S.dtype)
    return torch.eye(len(V), dtype=V.dtype) - 2 * V @ torch.linalg.solve(S, V.mT)


def _array(name: str, leaf: str, groups: Groups, axes: int) -> Tensor:
    """In double precision.

    Raises:
        InvalidWeight: absent, or with another number of axes.
    """
    array = groups[name].get(leaf)
    if array is None or array.ndim != axes:
        raise InvalidWeight(
            f"`{name}.{leaf}` is missing, or has not {axes} axes: the checkpoint is cut or no BRONet's. Save it again."
        )
    return tensor_of(finite(name, leaf, array)).double()


def _bias(name: str, groups: Groups) -> Tensor | None:
    return _array(name, "bias", groups, 1).float() if "bias" in groups[name] else None


def _layer(name: str, W: Tensor, claimed: float, layout: str, geometry: Geometry | None) -> Imported:
    """The array in single precision, as it runs."""
    prefix = re.sub(r"\.\w+(\[\d+\])?$", "", name)
    return Imported(Weight(name, W.float().numpy(), geometry), "linear", None, claimed, layout, (), prefix)


def _filled(layer: nn.Conv2d, K: Tensor, bias: Tensor | None) -> nn.Conv2d:
    layer.weight.copy_(K)
    if bias is not None:
        assert layer.bias is not None
        layer.bias.copy_(bias)
    return layer
