"""In which precision a step runs, and how many threads share it."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import nn

from sdplip.errors import InvalidConfig

Precision = Literal["float32", "bfloat16"]


def lowered(device: torch.device, precision: Precision) -> AbstractContextManager:
    """A block whose convolutions and matrix products of the batch run in `precision`.

    The `t` of every layer is computed outside of autocast, so it never loses a digit (`sdplip.nn.scaling`).
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """A block with that many threads of torch; None leaves them."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compiled(model: nn.Module, device: torch.device) -> nn.Module:
    """`torch.compile` of the model.

    Raises:
        InvalidConfig: no C++ compiler for a CPU.
    """
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "c++", "clang++", "cl"))):
        raise InvalidConfig(
            "`train.compile` = true needs a C++ compiler, and none is on the path. Install g++, or set `train.compile=false`."
        )
    result = torch.compile(model)
    assert isinstance(result, nn.Module)
    return result
