"""In which precision a step runs, and how many threads share it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from sdplip.errors import InvalidConfig
from sdplip.training.config import RunConfig
from sdplip.training.distributed import device_named

Precision = Literal["float32", "bfloat16"]


def resolved(
    config: RunConfig, *, there: str | None = None, everywhere: Callable[[bool], bool] = bool
) -> RunConfig:
    """The run file with the precision that `auto` stands for on its device.

    bfloat16 where a product in it is fast: processors with AMX or AVX512-BF16, GPUs with units for it. Rows of a table stay in float32.

    Args:
        there: the precision of the run that goes on, which stays whatever this processor has.
        everywhere: whether something is so in all processes of the run, so that the least capable decides.

    Raises:
        InvalidConfig: a clock of the processor for a run on another device.
    """
    if config.train.clock == "cpu" and device_named(config.train.device).type != "cpu":
        raise InvalidConfig(
            "`train.clock` = cpu counts the processor's time, which says nothing of a GPU's. Use wall, or `train.device` = cpu."
        )
    if config.train.precision != "auto":
        return config
    table = config.loss.name in ("mse", "mae")
    here = fast(device_named(config.train.device)) if there is None else there == "bfloat16"
    low = everywhere(here) and not table
    return replace(config, train=replace(config.train, precision="bfloat16" if low else "float32"))


def fast(device: torch.device) -> bool:
    """Whether products in bfloat16 have units of their own there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )


def channels_last(config: RunConfig) -> bool:
    """Whether images lie in memory with their channels beside each other: as asked, else with bfloat16."""
    asked = config.train.channels_last
    return config.train.precision == "bfloat16" if asked is None else asked


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
