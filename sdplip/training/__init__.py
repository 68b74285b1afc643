"""Data sets, losses, the training loop, run folders."""

from sdplip.training.config import RunConfig, override, preset, preset_names, read_config, write_config
from sdplip.training.data import load_arrays
from sdplip.training.loop import train
from sdplip.training.progress import Progress
from sdplip.training.run import RunSummary, load_run
from sdplip.training.trials import Sweep, sweep

__all__ = [
    "Progress",
    "RunConfig",
    "RunSummary",
    "Sweep",
    "load_arrays",
    "load_run",
    "override",
    "preset",
    "preset_names",
    "read_config",
    "sweep",
    "train",
    "write_config",
]
