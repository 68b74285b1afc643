"""Data sets, losses, the training loop, run folders."""
