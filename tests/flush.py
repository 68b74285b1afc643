"""Arithmetic that flushes subnormal results to zero and reads subnormal inputs as zero, for a moment."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def denormals(flush: bool) -> Iterator[None]:
    """Processor flags of this thread; exact oracles are computed outside, where numbers mean what they are."""
    import torch

    torch.set_flush_denormal(flush)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
