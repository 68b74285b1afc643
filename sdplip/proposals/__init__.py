"""Proposals for one layer or a few: scales, witnesses, proofs. Nothing here is trusted; what it returns the kernel has proven."""
