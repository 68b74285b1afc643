"""Lipschitz bounds of whole networks: methods propose proofs, one file each; `bound` chooses, asks the kernel, reports.

Importing this package loads neither torch nor CVXPY; the interior-point method and the reference load them when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sdplip.bounds.answer import NetworkBound, Tried
from sdplip.bounds.below import estimate_lower, jacobian
from sdplip.bounds.choose import bound, pair_bounds
from sdplip.bounds.exact import exact_bound
from sdplip.bounds.methods import METHODS, Method
from sdplip.bounds.numerics.chain import Proposal
from sdplip.bounds.regional import split_bound

if TYPE_CHECKING:
    from sdplip.bounds.expands import Expansion, expansion
    from sdplip.bounds.methods.reference import Reference
    from sdplip.bounds.numerics.lipsdp import LipSDP

__all__ = [
    "METHODS",
    "Expansion",
    "LipSDP",
    "Method",
    "NetworkBound",
    "Proposal",
    "Reference",
    "Tried",
    "bound",
    "estimate_lower",
    "exact_bound",
    "expansion",
    "jacobian",
    "pair_bounds",
    "split_bound",
]

LAZY = {
    "Expansion": "sdplip.bounds.expands",
    "expansion": "sdplip.bounds.expands",
    "LipSDP": "sdplip.bounds.numerics.lipsdp",
    "Reference": "sdplip.bounds.methods.reference",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(LAZY[name]), name)
