"""The whole state of a run in one file: tensors and, in its header, JSON for the rest. Never unpickled."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sdplip.errors import InvalidRun
from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.training.files import write_atomic

VERSION = 1
"""Of the checkpoint format."""

HEADER = "sdplip"
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Counters:
    """Where a run stands.

    Attributes:
        step: steps of the optimiser done.
        seconds: wall-clock time spent, over all restarts.
        metrics: bytes of `metrics.jsonl` that belong to these steps.
        clean, certified: of the selected weights on the validation split; None before the first validation.
        selected: step of the selected weights.
        data: fingerprint of the training images.
    """

    step: int = 0
    seconds: float = 0.0
    metrics: int = 0
    clean: float | None = None
    certified: float | None = None
    selected: int = 0
    data: str = ""


def pack(tensors: Tensors, header: dict[str, Any]) -> bytes:
    """A safetensors file with JSON in its header."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(plain, {HEADER: json.dumps(header, sort_keys=True)})


def unpack(path: Path, remedy: str) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and header of a file that `pack` made.

    Raises:
        InvalidRun: missing, truncated, or of another version; the message ends with `remedy`.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InvalidRun(f"`{path}` does not exist. {remedy}") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise InvalidRun(f"`{path}` is damaged or truncated ({error}). {remedy}") from None
    if header.get("version") != VERSION:
        raise InvalidRun(
            f"`{path}` has version {header.get('version')!r}, but this release reads version {VERSION}. {remedy}"
        )
    return tensors, header


def save_checkpoint(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, extra: Tensors, counters: Counters
) -> None:
    """Write everything that the steps to come depend on.

    Args:
        extra: further tensors of the loop.

    Raises:
        OutOfResources: the disk is full; the checkpoint before this one is intact.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{name}"] = value
            elif value is not None:
                numbers.setdefault(str(index), {})[name] = value
    ages = {}
    for name, scaling in _lazy(model):
        ages[name], kept = scaling.past()
        tensors |= {f"scaling.{name}.{key}": mark for key, mark in kept.items()}
    tensors |= {f"random.{name}": state for name, state in _random(next(model.parameters()).device).items()}
    tensors |= {f"extra.{name}": tensor for name, tensor in extra.items()}
    header = {"version": VERSION, "counters": asdict(counters), "optimiser": numbers, "ages": ages}
    write_atomic(path, pack(tensors, header))


def load_checkpoint(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[Counters, Tensors]:
    """Put the state at `path` into model, optimiser and torch's random numbers; the rest is returned.

    Raises:
        InvalidRun: truncated, of another version, or of another model.
    """
    remedy = f"Delete `{path.name}` and run the same command again to start anew, or restore a copy of it."
    tensors, header = unpack(path, remedy)
    try:
        counters = replace(Counters(), **header["counters"])
        model.load_state_dict(_under(tensors, "model"))
        optimiser.load_state_dict(
            _optimiser_state(optimiser, _under(tensors, "optimiser"), header["optimiser"])
        )
        device = next(model.parameters()).device
        for name, scaling in _lazy(model):
            kept = _under(tensors, f"scaling.{name}")
            scaling.recall(header["ages"][name], {key: mark.to(device) for key, mark in kept.items()})
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InvalidRun(f"`{path}` does not fit this run ({reason}). {remedy}") from None
    _set_random(_under(tensors, "random"), device)
    return counters, _under(tensors, "extra")


def _optimiser_state(optimiser: torch.optim.Optimizer, tensors: Tensors, numbers: dict) -> dict[str, Any]:
    """torch's own form of the state; moments get the memory layout of their parameter, on which rounding may depend."""
    document = optimiser.state_dict()
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in numbers.items()}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        p = parameters[int(index)]
        if value.shape == p.shape:
            value = torch.empty_like(p, dtype=value.dtype, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": document["param_groups"]}


def _lazy(model: nn.Module) -> list[tuple[str, AbstractScaling]]:
    """Scalings that remember their `t` from earlier steps."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, AbstractScaling) and module.refresh_every > 1
    ]


def _random(device: torch.device) -> Tensors:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random(states: Tensors, device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _under(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors of one part, without its prefix."""
    return {
        name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")
    }
