"""Files of trained weights, read as layers without executing anything that the file holds."""

from sdplip.weights.layers import select
from sdplip.weights.read import read, read_vectors
from sdplip.weights.weight import Weight

__all__ = ["Weight", "read", "read_vectors", "select"]
