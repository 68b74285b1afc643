"""In which arithmetic a network is certified: sums of products in one precision, no kernels that round otherwise."""

import copy
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from sdplip.errors import RefusedArithmetic, RefusedModule
from sdplip.nn.given import module, one_of
from sdplip.nn.ieee import FORCED, check_products, ieee
from sdplip.nn.products import by_products

Precision = Literal["float32", "float64"]
DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}


def network_in(model: nn.Module, precision: Precision) -> nn.Module:
    """A copy of `model` in eval mode that runs in that precision; what is certified and attacked.

    float64 takes the stored weights as they are. What layers compute from them (rescaled weights, steps) is computed anew in
    double, so this is a network of its own, a few units of float32 away from the other; its bound is proven for it. To certify
    the numbers that float32 runs, pass `export_plain(model).model`, whose weights are stored. `CayleyConv2d` runs by products of
    matrices, whose rounding can be bounded, in place of fast Fourier transforms.

    Raises:
        RefusedModule: weights in half precision.
        InvalidProblem: no module, an unknown precision.
    """
    module("model", model)
    one_of("precision", precision, tuple(DTYPES))
    half = [n for n, p in model.named_parameters() if p.dtype in (torch.float16, torch.bfloat16)]
    if half:
        raise RefusedModule(
            f"`{half[0]}` is stored in half precision. Convert the model with `.float()` and certify that."
        )
    return by_products(copy.deepcopy(model).to(DTYPES[precision]).eval())


def device_of(model: nn.Module) -> torch.device:
    """Where the model lives; the CPU if it has no tensors.

    Raises:
        InvalidProblem: no module.
    """
    module("model", model)
    first = next(iter([*model.parameters(), *model.buffers()]), None)
    return torch.device("cpu") if first is None else first.device


def pixels(images: Tensor, precision: Precision) -> Tensor:
    """Images in [0, 1] of integer or floating ones, in that precision: the point that a certificate is about."""
    if images.dtype == torch.uint8:
        return images.to(DTYPES[precision]) / 255
    return images.to(DTYPES[precision])


COVERED = ("cpu", "cuda")
"""Kinds of devices whose sums of products are bounded by the standard model of rounding."""


@contextmanager
def plain_arithmetic(device: torch.device | None = None) -> Iterator[None]:
    """A block in which torch multiplies matrices and convolves by sums of products in the dtype of the numbers.

    No TF32, no bfloat16 passes, no NNPACK and no cuDNN, which may transform convolutions (Winograd, FFT). What the environment
    forces upon the libraries is found by trying, and refused.

    Args:
        device: where the network runs; the CPU if None.

    Raises:
        RefusedArithmetic: a device or a process whose rounding is not covered.
    """
    device = device or torch.device("cpu")
    _check_device(device)
    with ExitStack() as stack:
        stack.enter_context(ieee())
        stack.enter_context(torch.backends.nnpack.flags(enabled=False))
        stack.callback(setattr, torch.backends.cudnn, "enabled", torch.backends.cudnn.enabled)
        torch.backends.cudnn.enabled = False
        for dtype in DTYPES.values():
            check_products(device, dtype)
        yield


def _check_device(device: torch.device) -> None:
    if device.type not in COVERED:
        raise RefusedArithmetic(
            f"No bound of the rounding on {device.type} is known. Move the model with `.to('cpu')` and certify it there."
        )
    forced = [name for name in FORCED if os.environ.get(name, "0") not in ("", "0")]
    if device.type == "cuda" and forced:
        raise RefusedArithmetic(
            f"`{forced[0]}` is set, so this GPU multiplies in another arithmetic. Unset it, or certify on the CPU."
        )
