"""One call for all bounds of a network."""

import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from sdplip.bounds.composite import composite
from sdplip.bounds.frequency import bound_images, is_dense
from sdplip.bounds.images import better, jointly, outward, through_maxima
from sdplip.bounds.living import living
from sdplip.bounds.lower import estimate_lower
from sdplip.bounds.product import product
from sdplip.bounds.result import NetworkBound, Proposal, Proposer, proof_of
from sdplip.bounds.riccati import FAMILIES, riccati
from sdplip.bounds.samples import OutputNorm
from sdplip.bounds.systems import Watch, system_bound
from sdplip.certificates.network import NetworkCertificate, certify_network
from sdplip.certificates.region import Region
from sdplip.certificates.rounding import up
from sdplip.errors import InvalidProblem, InvalidScaling, NotProvable
from sdplip.networks import Activation, Chain, MaxPool, Network, chain_of, is_chain
from sdplip.networks.chain import runs_of
from sdplip.networks.difference import difference
from sdplip.networks.network import LINEAR
from sdplip.networks.trunk import split_strip, split_trunk
from sdplip.solvers.solution import Status

Method = Literal[
    "auto",
    "product",
    "composite",
    "riccati",
    "riccati-greedy",
    "lipsdp-layer",
    "lipsdp-neuron",
    "lipsdp-network",
    "reference",
    "reference-layer",
    "frequency",
    "state-space",
    "banded",
]
FORMS: Mapping[str, Literal["neuron", "layer", "network"]] = {
    "lipsdp-neuron": "neuron",
    "lipsdp-layer": "layer",
    "lipsdp-network": "network",
}
REFERENCES: Mapping[str, Literal["neuron", "layer"]] = {"reference": "neuron", "reference-layer": "layer"}
AUTO_ORDER = 2600
"""Above this order of the LMI "auto" leaves LipSDP out: its matrices would take gigabytes and minutes."""
AUTO_GROUPS = 24
"""Above this number of layers "auto" leaves the composite bound out, which forms all products of neighbours."""


def bound(
    network: Network,
    method: Method | Proposer = "auto",
    *,
    output_pair: tuple[int, int] | None = None,
    output_norm: OutputNorm = "l2",
    region: Region | None = None,
    progress: Watch = None,
    device: str = "cpu",
) -> NetworkBound:
    r"""A proven Lipschitz bound of the network in Euclidean norms, with its certificate and what is known from below.

    - "product": product of the layers' norms (seconds at any size)
    - "composite": sum over all groupings of layers (CPLip, LipLT; one product and norm for each pair of layers)
    - "riccati": best of the closed-form multipliers (a Cholesky factorization a layer)
    - "riccati-greedy": ECLipsE: the multipliers of one layer after the other (a cube of the widest layer)
    - "lipsdp-layer", "lipsdp-neuron": optimal multipliers, by interior point (a cube of the number of neurons)
    - "reference", "reference-layer": the two by CVXPY and a general solver, for small networks (minutes at 100 neurons)
    - "frequency": convolutions of stride 1 at every frequency, one multiplier a channel (seconds to minutes)
    - "banded": the best multiplier of every neuron of convolutions, on a band instead of dense matrices (seconds to minutes)
    - "state-space": "frequency" with the multipliers of GLipSDP, by CVXPY and Clarabel (minutes at 16 channels)
    - "auto": the least of product, composite, riccati and, up to order 2600, lipsdp-neuron

    With maxima over windows "riccati", "lipsdp-neuron" and "auto" prove one inequality of the whole network where it fits
    (`system_bound`); the other methods, and networks too large for it, multiply the bounds of the parts between the maxima.
    Of images too large for dense matrices "auto" is the least of product and frequency.

    Args:
        network: from `from_weights`, `from_module`, `from_onnx` or by hand.
        method: as above; or an object that proposes multipliers, such as `Reference(solver=CVXPY("SCS"))`, for chains on all
            inputs.
        output_pair: bound output `i` minus output `j` instead of all outputs.
        output_norm: "linf" bounds the largest output, $\lVert f(x) - f(y) \rVert_\infty \le L \lVert x - y \rVert_2$: the largest
            bound of one output, see `rows.py`. Of a pair, a single number, both norms are the same.
        region: a `Ball` or `Box`: bound the network for inputs in it only.
        progress: called with iteration, upper and lower value by the interior-point method and by "banded".
        device: where torch computes the interior-point method, "cpu" or "cuda"; the proof is NumPy's.

    Raises:
        SolverUnavailable: no such device here.
        InvalidProblem: "lipsdp-network", which is no bound, an unknown method, a pair of outputs that does not exist, or a
            device for a method that has none.
        NotProvable: the bound leaves the range of double precision.
    """
    if device != "cpu":
        from sdplip.bounds.lipsdp import check_device  # loads torch

        name = method if isinstance(method, str) else method.name
        check_device(device, "single outputs" if output_norm == "linf" and output_pair is None else name)
    if not isinstance(method, str):
        return _proposed(network, method, output_pair, output_norm, region)
    if output_norm == "linf" and output_pair is None:
        from sdplip.bounds.rows import rows_bound  # which calls this function for every output

        return rows_bound(network, method, region=region, progress=progress)
    if output_norm not in ("l2", "linf"):
        raise InvalidProblem(f"`output_norm` must be 'l2' or 'linf', not {output_norm!r}.")
    if region is not None or not is_chain(network):
        return system_bound(
            network, method, region=region, output_pair=output_pair, progress=progress, device=device
        )
    begin = time.perf_counter()
    joint = jointly(network, method, output_pair, progress, device)
    if joint is not None and method == "lipsdp-neuron":
        return joint
    network, remainder = _paired(network, output_pair)
    if any(isinstance(layer, MaxPool) for layer in network.layers):
        cut = through_maxima(
            network, lambda part: _part_bound(part, method, progress, device), begin, remainder
        )
        # Proofs of parts speak of the weights in the file, not of the difference of two rows.
        cut = cut if output_pair is None else replace(cut, parts=())
        return cut if joint is None else better(joint, cut)
    if method in ("frequency", "state-space", "banded") or not is_dense(network):
        found = bound_images(network, method, remainder, progress)
        return found if output_pair is None else replace(found, parts=())
    return _of_chain(network, remainder, method, progress, device, begin, pair=output_pair is not None)


def _proposed(
    network: Network,
    method: Proposer,
    output_pair: tuple[int, int] | None,
    output_norm: OutputNorm,
    region: Region | None,
) -> NetworkBound:
    maxima = any(isinstance(layer, MaxPool) for layer in network.layers)
    plain = region is None and not maxima and (output_norm == "l2" or output_pair is not None)
    if not plain or not is_chain(network) or not is_dense(network):
        raise InvalidProblem(
            f"{method.name} proposes multipliers of a chain of matrices, for all inputs and Euclidean norms."
            " Use a method by its name."
        )
    network, remainder = _paired(network, output_pair)
    return _of_chain(
        network, remainder, method, None, "cpu", time.perf_counter(), pair=output_pair is not None
    )


def _paired(network: Network, output_pair: tuple[int, int] | None) -> tuple[Network, float]:
    """The network whose output is the difference of the pair, and what its rounding adds to a bound."""
    if output_pair is None:
        return network, 0.0
    network, remainder = difference(network, *output_pair)
    return network, up(remainder * _before_last(network)) if remainder else 0.0


def _of_chain(
    network: Network,
    remainder: float,
    method: Method | Proposer,
    progress: Watch,
    device: str,
    begin: float,
    *,
    pair: bool,
) -> NetworkBound:
    results = _results(chain_of(network), method, progress, device)
    best = min(results, key=lambda result: result.value)
    if remainder:  # rounding of the difference of two rows
        best = replace(best, value=up(best.value + remainder), certificate=None)
    return replace(
        best,
        lower=min(estimate_lower(network), best.value),
        seconds=time.perf_counter() - begin,
        others={result.method: result.value for result in results},
        parts=() if pair or best.certificate else (proof_of(best),),
    )


def _part_bound(part: Network, method: Method | Proposer, progress: Watch, device: str) -> NetworkBound:
    """The bound of a part between maxima; "frequency" and "banded" where it has such convolutions, else "auto"."""
    splits = {"frequency": split_trunk, "banded": split_strip}
    if isinstance(method, str) and method in splits and splits[method](*runs_of(part)) is None:
        method = "auto"
    return bound(part, method, progress=progress, device=device)


def bound_chain(chain: Chain) -> NetworkBound:
    """The least bound of a chain of matrices by the methods of "auto"."""
    return min(_results(chain, "auto", None, "cpu"), key=lambda result: result.value)


def _results(chain: Chain, method: Method | Proposer, progress: Watch, device: str) -> list[NetworkBound]:
    results, names = list[NetworkBound](), _methods(chain, method)
    for name in names:
        with suppress(NotProvable) if name != names[0] else nullcontext():
            results.append(_run(chain, name, progress, device))
    return results


def _methods(chain: Chain, method: Method | Proposer) -> "list[Method | Proposer]":
    if method != "auto":
        return [method]
    names: list[Method | Proposer] = ["product"]
    if chain.slopes:
        names.append("riccati")
        if len(chain.weights) <= AUTO_GROUPS:
            names.append("composite")
        inputs = min(chain.weights[0].shape)
        if chain.order + inputs <= AUTO_ORDER:
            names.append("lipsdp-neuron")
    return names


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is not proven
def _run(chain: Chain, method: Method | Proposer, progress: Watch, device: str) -> NetworkBound:
    begin = time.perf_counter()
    certificate, proposal = None, Proposal((), ())
    if method in ("product", "composite"):
        value = (product if method == "product" else composite)(chain)
    else:
        certificate, proposal = _certified(chain, method, progress, device)
        value = certificate.bound
    return NetworkBound(
        value=outward(chain, value),
        lower=0.0,
        sdp_lower=proposal.sdp_lower,
        method=str(method) if certificate is None else certificate.method,
        status=proposal.status,
        multipliers=None if certificate is None else certificate.multipliers,
        certificate=certificate,
        order=chain.order,
        seconds=time.perf_counter() - begin,
        iterations=proposal.iterations,
        others={},
        chain=chain,
    )


def _certified(
    chain: Chain, method: Method | Proposer, progress: Watch, device: str
) -> tuple[NetworkCertificate, Proposal]:
    """The best certificate among the proposals of a method; where all break down, what equal multipliers prove."""
    part = living(chain)
    equal = Proposal(tuple(rows.astype(float) for rows in part.alive), chain.slopes, Status.FAILED)
    if part.constant:
        name = method if isinstance(method, str) else method.name
        return _prove(chain, equal, name), replace(equal, status=Status.OPTIMAL)
    whole, chain = chain, part.chain
    if not isinstance(method, str):
        proposals = {method.name: partial(method, chain)}
    elif method == "riccati":
        proposals = {
            f"riccati-{name}": partial(riccati, chain, scaling) for name, scaling in FAMILIES.items()
        }
    elif method == "riccati-greedy":
        from sdplip.bounds.greedy import greedy  # loads torch

        proposals = {method: partial(greedy, chain)}
    elif method in REFERENCES:
        from sdplip.bounds.reference import Reference

        proposals = {method: partial(Reference(REFERENCES[method]), chain)}
    elif method in FORMS:
        from sdplip.bounds.lipsdp import LipSDP

        proposals = {method: partial(LipSDP(FORMS[method], device=device), chain, progress)}
    else:
        raise InvalidProblem(
            f"The method {method!r} is not known. Use 'auto', and see `sdplip.bounds.bound` for the others."
        )
    found = []
    for name, propose in proposals.items():
        with suppress(NotProvable, InvalidScaling, np.linalg.LinAlgError):
            proposal = part.expand(propose())
            found.append((_prove(whole, proposal, name), proposal))
    if not found:
        return _prove(whole, equal, "equal"), equal
    return min(found, key=lambda pair: pair[0].bound)


def _prove(chain: Chain, proposal: Proposal, name: str) -> NetworkCertificate:
    return certify_network(chain.weights, proposal.multipliers, proposal.slopes, method=name)


def _before_last(network: Network) -> float:
    """A proven bound of the network without its last layer."""
    rest = network.layers[:-1]
    if any(isinstance(layer, LINEAR) for layer in rest):
        return bound(Network(rest), "product").value
    return max(
        (float(np.maximum(abs(a.alpha), abs(a.beta)).max()) for a in rest if isinstance(a, Activation)),
        default=1.0,
    )
