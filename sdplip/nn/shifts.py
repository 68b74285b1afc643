r"""A convolution $C x + b$ and its exact adjoint $C^\top y$, for every padding, stride, dilation and group count."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sdplip.errors import UnsupportedConvolution
from sdplip.geometry import ExpandedGeometry

_FORWARD = (F.conv1d, F.conv2d, F.conv3d)
_BACKWARD = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


@dataclass(frozen=True)
class Shifts:
    """An expanded geometry with its padding resolved: pixels before and after each axis."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    reach: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    circular: bool

    @classmethod
    def of(cls, geometry: ExpandedGeometry, taps: tuple[int, ...]) -> "Shifts":
        """The shifts of a kernel with these taps; an odd pixel of "same" goes last, as in torch."""
        reach = tuple(d * (k - 1) for d, k in zip(geometry.dilation, taps, strict=True))
        before = geometry.padding if geometry.padding is not None else tuple(r // 2 for r in reach)
        after = before if geometry.padding is not None else tuple(r - r // 2 for r in reach)
        circular = geometry.padding_mode == "circular"
        return cls(geometry.stride, geometry.dilation, geometry.groups, reach, before, after, circular)

    @property
    def plain(self) -> bool:
        """Whether torch's own `padding` argument covers it."""
        return not self.circular and self.before == self.after

    def padded(self, image_size: tuple[int, ...]) -> list[int]:
        """Size of the padded image."""
        return [a + h + b for a, h, b in zip(self.before, image_size, self.after, strict=True)]


def analysis(
    x: Float[Tensor, "batch channels *image"],
    K: Float[Tensor, "hidden channels_in_group *taps"],
    b: Float[Tensor, " hidden"] | None,
    shifts: Shifts,
) -> Float[Tensor, "batch hidden *image2"]:
    r"""$C x + b$."""
    conv = _FORWARD[len(shifts.reach) - 1]
    if shifts.plain:
        return conv(x, K, b, shifts.stride, shifts.before, shifts.dilation, shifts.groups)
    sides = [p for pair in zip(reversed(shifts.before), reversed(shifts.after), strict=True) for p in pair]
    x = F.pad(x, sides, mode="circular") if shifts.circular else F.pad(x, sides)
    return conv(x, K, b, shifts.stride, 0, shifts.dilation, shifts.groups)


def adjoint(
    y: Float[Tensor, "batch hidden *image2"],
    K: Float[Tensor, "hidden channels_in_group *taps"],
    image_size: tuple[int, ...],
    shifts: Shifts,
) -> Float[Tensor, "batch channels *image"]:
    r"""$C^\top y$ on images of that size: $\langle C x, y \rangle = \langle x, C^\top y \rangle$ for all $x, y$."""
    conv = _BACKWARD[len(shifts.reach) - 1]
    padded = shifts.padded(image_size)
    rest = [(h - r - 1) % s for h, r, s in zip(padded, shifts.reach, shifts.stride, strict=True)]
    if min(h - r for h, r in zip(padded, shifts.reach, strict=True)) < 1:
        raise UnsupportedConvolution(
            f"A kernel that reaches {shifts.reach} pixels does not fit into an image of {image_size} pixels with its padding."
        )
    if shifts.plain:
        return conv(y, K, None, shifts.stride, shifts.before, rest, shifts.groups, shifts.dilation)
    x = conv(y, K, None, shifts.stride, 0, rest, shifts.groups, shifts.dilation)
    for axis, (before, h) in enumerate(zip(shifts.before, image_size, strict=True), -len(shifts.reach)):
        x = _fold(x, axis, before, h) if shifts.circular else x.narrow(axis, before, h)
    return x


def _fold(x: Tensor, axis: int, before: int, h: int) -> Tensor:
    """Adjoint of circular padding along one axis: what was repeated is added where it came from."""
    after = x.shape[axis] - before - h
    core = x.narrow(axis, before, h)
    if before:
        zeros = torch.zeros_like(core.narrow(axis, 0, h - before))
        core = core + torch.cat([zeros, x.narrow(axis, 0, before)], axis)
    if after:
        zeros = torch.zeros_like(core.narrow(axis, 0, h - after))
        core = core + torch.cat([x.narrow(axis, before + h, after), zeros], axis)
    return core
