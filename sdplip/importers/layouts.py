"""The layouts of state dicts that are known: which arrays are a layer, told by their names.

What each layer runs with in eval mode stands in `sll`, `cpl`, `linear` and `orthonormal`.
"""

import re
from collections.abc import Iterable

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.importers.cpl import cpl, is_cpl
from sdplip.importers.layer import CPL, LLC, SLL_1, SLL_2, SPECTRAL, TORCHLIP, Group, Imported, State
from sdplip.importers.linear import ROOT, aol, is_aol, is_spectral, spectral
from sdplip.importers.orthonormal import bcop, bjorck_head, cayley_matrix, is_bcop, is_cayley
from sdplip.importers.refused import reason
from sdplip.importers.sll import is_sll, sll, version_of

Groups = dict[str, dict[str, np.ndarray]]

WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
"""What DataParallel and torch.compile put in front of every name."""
UNKNOWN = "no known layout has it"
FREQUENCIES = "proven in the whole network, frequency by frequency"
TWICE = {"base.1.": "stable_block.", "base.2.": "layers_linear."}
"""Published networks register each block under two names, so their state dicts hold every array twice."""


def grouped(state: State) -> Groups:
    """The arrays of each layer, under the name of the layer without wrappers, in the order of the state dict.

    Raises:
        InvalidWeight: a layer that stands twice in the file, with two different values.
    """
    groups: Groups = {}
    for name, array in state.items():
        name = WRAPPERS.sub("", name)
        before, mark, after = name.rpartition(ROOT)
        if not mark:
            before, _, after = name.rpartition(".")
            if before.endswith("pm") and after == "u":  # the vector of CPL's power iteration
                before, after = before[:-2], "pm.u"
        groups.setdefault(before.rstrip("."), {})[mark + after] = array
    return {prefix: group for prefix, group in groups.items() if not _twice(prefix, groups)}


def is_llc(groups: Iterable[str]) -> bool:
    """Whether these are the names of 1LLC's networks."""
    return any(prefix == "FirstConv" or re.match(r"Block\d+\.\d+$", prefix) for prefix in groups)


def imported(state: State) -> tuple[list[Imported], list[str]]:
    """The layers of known layouts in the order of the state dict, and the names of matrices and kernels that belong to none.

    Raises:
        InvalidWeight: no layer of a known layout; arrays that do not fit together or are not finite.
    """
    layers, rest = layers_of(grouped(state))
    known = [why for why in rest.values() if why != UNKNOWN]
    if not layers and known:
        raise InvalidWeight(known[0])
    if not layers:
        raise InvalidWeight(
            f"No layer of a known layout ({SLL_1}; {SLL_2}; {CPL}; {LLC}; {TORCHLIP}; {SPECTRAL}) is among"
            f" {', '.join(list(state)[:4])}, ..."
            " Load the checkpoint into the library that made it, and ask `sdplip.lipschitz(module)`."
        )
    return layers, list(rest)


def layers_of(groups: Groups) -> tuple[list[Imported], dict[str, str]]:
    """The layers of known layouts, and for each other matrix and kernel by name why it is in none of them.

    Raises:
        InvalidWeight: arrays that do not fit together or are not finite.
    """
    llc, version = is_llc(groups), version_of(list(groups.values()))
    bjorck = llc and any(map(is_bcop, groups.values()))
    layers, rest = list[Imported](), dict[str, str]()
    for prefix, group in groups.items():
        layer = _layer(prefix, group, version, llc) or (_orthonormal(prefix, group, bjorck) if llc else None)
        if layer is not None:
            layers.append(layer)
            continue
        names = [f"{prefix}.{leaf}".lstrip(".") for leaf, array in group.items() if array.ndim > 1]
        whole = FREQUENCIES if llc and is_cayley(group) else None
        rest |= dict.fromkeys(names, whole or reason(prefix, group) or UNKNOWN)
    return layers, rest


def _layer(prefix: str, group: Group, version: int | None, llc: bool) -> Imported | None:
    if is_sll(group):
        return sll(prefix, group, version, llc=llc)
    if is_cpl(group, llc=llc):
        return cpl(prefix, group, llc=llc)
    if is_spectral(group):
        return spectral(prefix, group)
    return aol(prefix, group) if is_aol(group, llc=llc) else None


def _orthonormal(prefix: str, group: Group, bjorck: bool) -> Imported | None:
    """Cayley matrices and BCOP of 1LLC. `bjorck`: whether there is BCOP, and the last matrix thus one of Björck's."""
    if is_bcop(group):
        return bcop(prefix, group)
    if is_cayley(group):
        return cayley_matrix(prefix, group) if group["weight"].ndim == 2 else None
    head = prefix.startswith("ClassificationHead") and set(group) == {"weight", "bias"}
    return bjorck_head(prefix, group) if bjorck and head and group["weight"].ndim == 2 else None


def _twice(prefix: str, groups: Groups) -> bool:
    """Whether the layer stands in the file under its other name too."""
    for second, first in TWICE.items():
        at = prefix.rfind(second)
        if at < 0 or (at and prefix[at - 1] != "."):
            continue
        other = groups.get(prefix[:at] + first + prefix[at + len(second) :])
        if other is None:
            return False
        if set(other) != set(groups[prefix]) or any(
            not np.array_equal(array, groups[prefix][leaf]) for leaf, array in other.items()
        ):
            raise InvalidWeight(
                f"`{prefix}` and `{prefix[:at] + first + prefix[at + len(second) :]}` are one layer under two names, but their"
                " arrays differ: the checkpoint is mixed from two. Save it again from one network."
            )
        return True
    return False
