"""What the numbers of a run depend on besides its configuration: `environment.json`."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sdplip import __version__
from sdplip.training.config import RunConfig
from sdplip.training.data import DataSet, fingerprint
from sdplip.training.distributed import Team
from sdplip.training.files import write_json

ENVIRONMENT = "environment.json"


def write_environment(out: Path, config: RunConfig, data: DataSet, members: Team) -> None:
    """What the numbers of a run depend on besides its configuration."""
    names = ("torch", "numpy", "safetensors")
    held = data.validation
    document: dict[str, Any] = {
        "versions": {
            "python": platform.python_version(),
            "sdplip": __version__,
            **{name: metadata.version(name) for name in names},
        },
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": _words(members.device),
        "processes": members.world,
        "seed": config.train.seed,
        "data": {
            "name": data.name,
            "train": len(data.train),
            "validation": 0 if held is None else len(held),
            "test": len(data.test),
            "fingerprint": fingerprint(data.train),
        },
    }
    write_json(out / ENVIRONMENT, document)


def _words(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _processor() -> str:
    """The model of the processor, as far as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
