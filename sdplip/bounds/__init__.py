"""Lipschitz bounds of whole networks: one file a method, and `bound`, which chooses, proves and reports.

Importing this package loads neither torch nor CVXPY; the interior-point method and the reference load them when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sdplip.bounds.auto import Method, bound
from sdplip.bounds.composite import composite
from sdplip.bounds.lower import estimate_lower, jacobian
from sdplip.bounds.pairs import pair_bounds
from sdplip.bounds.product import product
from sdplip.bounds.result import NetworkBound, Proposal, Proposer
from sdplip.bounds.riccati import riccati
from sdplip.bounds.split import split_bound
from sdplip.bounds.systems import system_bound

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


LAZY = {"LipSDP": "sdplip.bounds.lipsdp", "Reference": "sdplip.bounds.reference"}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(LAZY[name]), name)
