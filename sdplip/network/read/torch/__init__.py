"""torch modules as networks: a forward pass is followed while it runs, operation by operation."""

from sdplip.network.read.torch.layers import register
from sdplip.network.read.torch.reader import read_module, understand_module

__all__ = ["read_module", "register", "understand_module"]
