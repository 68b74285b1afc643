"""Proposals for one layer or a few: scales, witnesses, proofs. Nothing here is trusted; what it returns the kernel has proven."""

from sdplip.proposals.convolution import certify_convolution
from sdplip.proposals.dense import certify
from sdplip.proposals.residual import certify_residual

__all__ = ["certify", "certify_convolution", "certify_residual"]
