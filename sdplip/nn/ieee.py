"""Products of float32 numbers in float32, whatever the process has set: no TF32, no bfloat16 passes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sdplip.errors import RefusedArithmetic

# Settings of torch, one a backend and an operation. An operation that has none follows its backend, a backend follows the one of
# all, and what stands nearest counts. Names that this version of torch lacks are left out.
SETTINGS = (
    "cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn",
)  # fmt: skip

FORCED = ("CUBLAS_EMULATE_SINGLE_PRECISION", "CUBLAS_EMULATE_DOUBLE_PRECISION", "NVIDIA_TF32_OVERRIDE")
"""Environment variables by which the libraries of a GPU multiply in another arithmetic, whatever torch has set."""


@contextmanager
def ieee() -> Iterator[None]:
    """A block in which torch multiplies matrices and convolves float32 numbers in float32. The settings come back after it."""
    with ExitStack() as stack:
        settings = [found for found in map(_setting, SETTINGS) if found is not None]
        if settings:
            for setting in settings:  # never through the older names, which raise once the newer are in use
                stack.callback(_restore, setting, setting.fp32_precision)
                setting.fp32_precision = "ieee"
        else:  # before torch 2.9
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            stack.callback(setattr, torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
            torch.set_float32_matmul_precision("highest")
            torch.backends.cudnn.allow_tf32 = False
        yield


def _setting(name: str) -> Any:
    """What holds `fp32_precision`; None before torch 2.9."""
    backend, operation = name.split(".")
    found = getattr(getattr(torch.backends, backend), operation, None)
    try:
        return None if found is None or found.fp32_precision is None else found
    except (AttributeError, AssertionError):
        return None


def _restore(setting: Any, before: str) -> None:
    """The value of before; nothing set where it follows its backend anyway."""
    setting.fp32_precision = "none"
    if setting.fp32_precision != before:
        setting.fp32_precision = before


@cache
def check_products(device: torch.device, dtype: torch.dtype) -> None:
    """Multiplies and convolves numbers of full length with the identity: every sum of products in `dtype` returns them exactly.

    Once a process: its environment does not change. Libraries can be told by that to round the factors first
    (`ONEDNN_DEFAULT_FPMATH_MODE=BF16` does so to convolutions, and torch does not know). One product of each kind is no proof
    for others, it finds what is set for all.

    Raises:
        RefusedArithmetic: it does not return them.
    """
    x = torch.linspace(1, 2, 4 * 32 * 16 * 16, dtype=dtype, device=device).reshape(4, 32, 16, 16)
    one = torch.eye(32, dtype=dtype, device=device)
    kernel = torch.nn.functional.pad(one[:, :, None, None], (1, 1, 1, 1))
    rows = x.reshape(-1, 32)
    products = {
        "convolves": (torch.nn.functional.conv2d(x, kernel, padding=1), x),
        "multiplies": (rows @ one, rows),
    }
    for verb, (found, right) in products.items():
        if not torch.equal(found, right):
            raise RefusedArithmetic(
                f"This process {verb} {_name(dtype)} numbers on {device.type} in a lower precision, or by a transform, so no bound"
                f" of its rounding holds ({_largest(found - right):.1e} of 1 is lost where nothing should be). Unset what asks for"
                " it, such as `ONEDNN_DEFAULT_FPMATH_MODE`, or pass precision='float64'."
            )


def _largest(x: Tensor) -> float:
    return float(x.abs().max())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
