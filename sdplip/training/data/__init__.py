"""Data sets in memory, the order in which a run sees them, and augmentation."""

from sdplip.training.data.adopt import Source, as_data_set
from sdplip.training.data.arrays import Arrays, load_arrays
from sdplip.training.data.augment import KINDS, Augmentation, as_float, augmentation
from sdplip.training.data.batches import Batch, Batches
from sdplip.training.data.dataset import DataSet, Split, Standard, fingerprint, mean
from sdplip.training.data.hold_out import hold_out
from sdplip.training.data.sources import KNOWN, NAMES, load

__all__ = [
    "KINDS",
    "KNOWN",
    "NAMES",
    "Arrays",
    "Augmentation",
    "Batch",
    "Batches",
    "DataSet",
    "Source",
    "Split",
    "Standard",
    "as_data_set",
    "as_float",
    "augmentation",
    "fingerprint",
    "hold_out",
    "load",
    "load_arrays",
    "mean",
]
