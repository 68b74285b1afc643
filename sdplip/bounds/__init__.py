"""Lipschitz bounds of whole networks: one file a method, and `bound`, which chooses, proves and reports.

Importing this package loads neither torch nor CVXPY; the interior-point method and the reference load them when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sdplip.bounds import auto, choose
from sdplip.bounds.auto import Method
from sdplip.bounds.composite import composite
from sdplip.bounds.lower import estimate_lower, jacobian
from sdplip.bounds.pairs import pair_bounds
from sdplip.bounds.product import product
from sdplip.bounds.result import NetworkBound, Proposal, Proposer
from sdplip.bounds.riccati import riccati
from sdplip.bounds.split import split_bound
from sdplip.bounds.systems import system_bound
from sdplip.network import Network as Graph

if TYPE_CHECKING:
    from sdplip.bounds.lipsdp import LipSDP
    from sdplip.bounds.reference import Reference

__all__ = [
    "LipSDP",
    "Method",
    "NetworkBound",
    "Proposal",
    "Proposer",
    "Reference",
    "bound",
    "composite",
    "estimate_lower",
    "jacobian",
    "pair_bounds",
    "product",
    "riccati",
    "split_bound",
    "system_bound",
]


def bound(network: Any, method: Any = "auto", **options: Any) -> Any:
    """The bound of a network: of a graph by `choose`, of layers as before."""
    own = isinstance(network, Graph)
    return (choose.bound if own else auto.bound)(network, method, **options)


LAZY = {"LipSDP": "sdplip.bounds.lipsdp", "Reference": "sdplip.bounds.reference"}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(LAZY[name]), name)
