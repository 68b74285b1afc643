"""Forged certificates: honest ones of every kind, mutants of them, and the truth about what mutants claim, found without the kernel."""
