r"""Constants of all margins $f_i - f_j$ of a network at once, as certified radii need them, small and large networks.

Up to `PAIR_ORDER` every pair has multipliers of its own. Above, all pairs share those of the whole network up to a factor
(`shared.py`): one factorization for all of them, one proof a pair.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Float

from sdplip.bounds.attained import attained
from sdplip.bounds.auto import bound
from sdplip.bounds.result import NetworkBound
from sdplip.bounds.riccati import FAMILIES
from sdplip.bounds.shared import SharedMultipliers
from sdplip.bounds.system import backward, compressed
from sdplip.bounds.systems import SYSTEM_ORDER
from sdplip.certificates.rounding import up
from sdplip.certificates.system import Layers, System, variables
from sdplip.certificates.system_file import Claim
from sdplip.certificates.system_proof import SystemCertificate, certify_system, system_holds
from sdplip.errors import InvalidProblem, InvalidScaling, NotProvable
from sdplip.networks import Network, is_chain, system_layers

PAIR_ORDER = 400
"""Up to this number of nonlinear variables every pair gets a solve of its own: a second each at 200."""
PAIR_GAP = 1e-5
"""Relative gap of the squared constant at which such a solve stops."""
LEAST_GAIN = 1e-3
"""Pairs whose constant can become smaller by less than this share are left as they are."""
MarginMethod = Literal["auto", "product", "riccati", "lipsdp-neuron"]


@dataclass(frozen=True, eq=False)
class MarginConstants:
    r"""Proven constants of all margins.

    Attributes:
        whole: bound of all outputs together, None if nothing could be gained by one; no entry exceeds $\sqrt 2$ times it.
        values: `(outputs, outputs)`, symmetric, 0 on the diagonal; not above those that were known.
        tried: pairs that were bounded by themselves.
        hopeless: pairs of which the known constant is attained by slopes that the inequalities allow, up to `LEAST_GAIN`.
        pairs: which multipliers the pairs had.
        seconds: wall time.
    """

    whole: NetworkBound | None
    values: Float[np.ndarray, "outputs outputs"]
    tried: int
    hopeless: int
    pairs: Literal["none", "own multipliers", "shared multipliers"]
    seconds: float


def margin_constants(
    network: Network,
    method: MarginMethod = "auto",
    *,
    pairs: bool = True,
    known: Float[np.ndarray, "outputs outputs"] | None = None,
    watch: Callable[[int, float, float], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MarginConstants:
    """The constants, by `method` for the whole network and, with `pairs`, for every pair of outputs.

    Args:
        network: any that `bound` takes, of at least two outputs.
        known: constants that are proven already. Pairs that cannot come below them by a thousandth are left out.
        watch: of the solve for the whole network, as for `bound`.
        progress: called with the number of pairs done and of all.

    Raises:
        InvalidProblem: sorting or residual sums on too many inputs and neurons; a layer that is not covered.
        NotProvable: nothing finite could be proven.
    """
    begin, n = time.perf_counter(), network.outputs
    refuse_large(network)
    dense = _dense(network)
    limits = np.full((n, n), np.inf) if known is None else known
    floor = attained(network)[1] if dense and known is not None else np.zeros((n, n))
    open_ = [(i, j) for i, j in combinations(range(n), 2) if floor[i, j] < (1 - LEAST_GAIN) * limits[i, j]]
    hopeless = n * (n - 1) // 2 - len(open_)
    if not open_:
        return MarginConstants(None, limits, 0, hopeless, "none", time.perf_counter() - begin)
    whole = bound(network, method, progress=watch)
    values = np.minimum(limits, up(whole.value * up(2**0.5)))
    np.fill_diagonal(values, 0.0)
    order = variables(system_layers(network)) if dense else 0
    own = order <= PAIR_ORDER
    shared = _of_whole(whole) if pairs and dense and not own else None
    if not (pairs and method != "product" and dense and (own or shared is not None)):
        return MarginConstants(whole, values, 0, hopeless, "none", time.perf_counter() - begin)
    base = system_layers(network)
    common = None
    if shared is not None:
        try:
            common = SharedMultipliers.of(compressed(Claim(base).system()), shared)
        except np.linalg.LinAlgError:
            return MarginConstants(whole, values, 0, hopeless, "none", time.perf_counter() - begin)
    for done, (i, j) in enumerate(open_, 1):
        if common is None or shared is None:
            found = own_constant(Claim(base, None, (i, j)).system(), method)
        else:
            found = _shared(common, shared, base, (i, j), values[i, j])
        values[i, j] = values[j, i] = min(found, values[i, j])
        if progress is not None:
            progress(done, len(open_))
    kind = "own multipliers" if own else "shared multipliers"
    return MarginConstants(whole, values, len(open_), hopeless, kind, time.perf_counter() - begin)


def refuse_large(network: Network) -> None:
    """Raises InvalidProblem for sorting or residual sums on more inputs and neurons than one dense inequality takes."""
    if is_chain(network):
        return
    size = network.inputs + variables(system_layers(network))
    if size > SYSTEM_ORDER:
        raise InvalidProblem(
            f"{size} inputs and nonlinear neurons are more than the {SYSTEM_ORDER} that a dense inequality takes with sorting"
            " or residual sums. The bound layer by layer, `sdplip certify`, has no such limit."
        )


def _dense(network: Network) -> bool:
    """Whether one dense inequality takes the network."""
    try:
        return network.inputs + variables(system_layers(network)) <= SYSTEM_ORDER
    except InvalidProblem:
        return False


def own_constant(system: System, method: MarginMethod) -> float:
    """What closed forms prove of a system or, unless they alone are wanted, multipliers by interior point; or infinity."""
    found = own_certificate(system, method)
    return np.inf if found is None else found.bound


def own_certificate(system: System, method: MarginMethod) -> SystemCertificate | None:
    """The proof of `own_constant`; None where there is none."""
    small, proposals = compressed(system), list[Float[np.ndarray, " m"]]()
    if method != "lipsdp-neuron":
        closed = list[tuple[float, Float[np.ndarray, " m"]]]()
        for scaling in FAMILIES.values() if method == "riccati" else ():
            with suppress(np.linalg.LinAlgError):
                closed.append(backward(small, scaling))
        proposals += [min(closed, key=lambda entry: entry[0])[1]] if closed else []
    if method != "riccati":
        from sdplip.bounds.system_lipsdp import lipsdp  # loads torch

        with suppress(np.linalg.LinAlgError):
            proposals.append(lipsdp(small, gap=PAIR_GAP).multipliers[0])
    found = list[SystemCertificate]()
    for multipliers in proposals:
        with suppress(NotProvable, InvalidScaling):
            found.append(certify_system(system, multipliers))
    return min(found, key=lambda proof: proof.bound, default=None)


def _of_whole(whole: NetworkBound) -> Float[np.ndarray, " m"] | None:
    """Multipliers of the whole network in the normalisation of systems; None where it has none."""
    if whole.system_certificate is not None:
        return whole.system_certificate.multipliers
    if whole.certificate is None:
        return None
    slopes = whole.certificate.slopes
    chosen = [
        lam[alpha != beta] for lam, (alpha, beta) in zip(whole.certificate.multipliers, slopes, strict=True)
    ]
    lam = np.concatenate(chosen) * whole.value**2  # chains divide by kappa
    return np.maximum(lam, 1e-9 * lam.max(initial=1e-300))


def _shared(
    whole: SharedMultipliers,
    multipliers: Float[np.ndarray, " m"],
    layers: Layers,
    pair: tuple[int, int],
    most: float,
) -> float:
    """The constant below `most` that the best multiple of `multipliers` proves; infinity where it proves none."""
    kappa, theta = whole.best(*pair)
    if not kappa < most * most:
        return np.inf
    system = Claim(layers, None, pair).system()
    for room in (1e-8, 1e-6, 1e-4):
        value = up(float(np.sqrt(kappa)) * (1 + room))
        if value < most and system_holds(system, theta * multipliers, value):
            return value
    return np.inf
