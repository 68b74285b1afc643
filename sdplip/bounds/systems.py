"""Bounds of networks that are no chain, or on a region: sorting, residual sums, boxes and balls."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np

from sdplip.bounds.result import NetworkBound, Proposal
from sdplip.bounds.riccati import FAMILIES
from sdplip.bounds.samples import largest_jacobian
from sdplip.bounds.system import backward, compressed
from sdplip.certificates.region import Region
from sdplip.certificates.system import Layers, System, variables
from sdplip.certificates.system_file import Claim, maps
from sdplip.certificates.system_proof import SystemCertificate, certify_composition, certify_system
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.networks import Chain, Network, system_layers
from sdplip.solvers.solution import Status

SYSTEM_ORDER = 3000
"""Above this number of inputs and nonlinear variables only the product is tried: the matrices are dense."""
METHODS = ("auto", "product", "riccati", "lipsdp-neuron")
Watch = Callable[[int, float, float], None] | None


def system_bound(
    network: Network,
    method: str = "auto",
    *,
    region: Region | None = None,
    output_pair: tuple[int, int] | None = None,
    progress: Watch = None,
    device: str = "cpu",
) -> NetworkBound:
    """A proven bound, as `sdplip.bounds.bound`, by the system of increments of the network.

    Raises:
        InvalidProblem: a method, layer or activation that is not available here, a region or pair that does not fit.
        NotProvable: the bound leaves the range of double precision.
    """
    begin = time.perf_counter()
    claim = claim_about(network, region, output_pair)
    found = bound_claim(claim, method, progress, device)
    lower = largest_jacobian(_with_pair(claim), claim.inputs, region)
    return replace(found, lower=min(lower, found.value), seconds=time.perf_counter() - begin)


def bound_claim(
    claim: Claim, method: str = "auto", progress: Watch = None, device: str = "cpu"
) -> NetworkBound:
    """A proven bound of what `claim` says; nothing is looked for from below.

    Raises:
        InvalidProblem, NotProvable: as for `system_bound`.
    """
    begin = time.perf_counter()
    if method not in METHODS:
        raise InvalidProblem(
            f"The method {method!r} is for elementwise activations and all inputs. With sorting, residual sums or a region use"
            f" one of {', '.join(METHODS)}."
        )
    layers = claim.on_region()
    found = list[tuple[str, float, SystemCertificate | None, Proposal]]()
    if method in ("auto", "product"):
        found.append(("product", certify_composition(layers), None, Proposal((), ())))
    if method != "product" and _fits(layers, claim.inputs, method):
        found += _by_system(claim.system(), method, progress, device)
    if not found:
        raise NotProvable(
            "No finite bound could be proven: the numbers leave the range of double precision. Rescale the weights."
        )
    name, value, certificate, proposal = min(found, key=lambda entry: entry[1])
    return NetworkBound(
        value=value,
        lower=0.0,
        sdp_lower=proposal.sdp_lower,
        method=name,
        status=proposal.status,
        multipliers=None if certificate is None else (certificate.multipliers,),
        certificate=None,
        order=variables(layers),
        seconds=time.perf_counter() - begin,
        iterations=proposal.iterations,
        others={entry[0]: entry[1] for entry in found},
        chain=Chain(tuple(layer.W for layer in maps(claim.layers)), ()),
        claim=claim,
        system_certificate=certificate,
    )


def claim_about(network: Network, region: Region | None = None, pair: tuple[int, int] | None = None) -> Claim:
    """What is to be proven of the network.

    Raises:
        InvalidProblem: a layer that is not available here, a region or pair that does not fit.
    """
    layers = system_layers(network)
    if region is not None and region.inputs != network.inputs:
        raise InvalidProblem(
            f"The region has {region.inputs} coordinates, but the network takes {network.inputs} inputs."
        )
    if pair is not None and not (min(pair) >= 0 and max(pair) < network.outputs and pair[0] != pair[1]):
        raise InvalidProblem(
            f"`output_pair` must name two different outputs of 0 to {network.outputs - 1}, not {pair[0]} and {pair[1]}."
        )
    return Claim(layers, region, pair)


def _with_pair(claim: Claim) -> Layers:
    return Claim(claim.layers, None, claim.pair).on_region()


def _fits(layers: Layers, inputs: int, method: str) -> bool:
    order = inputs + variables(layers)
    if order > SYSTEM_ORDER and method != "auto":
        raise InvalidProblem(
            f"{order} inputs and nonlinear neurons are more than the {SYSTEM_ORDER} that a dense inequality takes. Use 'product'."
        )
    return order <= SYSTEM_ORDER


def _by_system(
    system: System, method: str, progress: Watch, device: str
) -> Iterator[tuple[str, float, SystemCertificate | None, Proposal]]:
    small = compressed(system)
    proposals = list[tuple[str, Proposal]]()
    if method in ("auto", "riccati"):
        closed = list[tuple[float, str, Proposal]]()
        for family, scaling in FAMILIES.items():
            with suppress(np.linalg.LinAlgError):
                kappa, lam = backward(small, scaling)
                closed.append((kappa, f"riccati-{family}", Proposal((lam,), ())))
        proposals += [
            (name, proposal) for _, name, proposal in sorted(closed, key=lambda entry: entry[0])[:1]
        ]
    if method in ("auto", "lipsdp-neuron"):
        from sdplip.bounds.system_lipsdp import lipsdp  # loads torch

        with suppress(np.linalg.LinAlgError):
            proposals.append(("lipsdp-neuron", lipsdp(small, progress, device=device)))
    for name, proposal in proposals:
        with suppress(NotProvable):
            certificate = certify_system(system, _positive(proposal.multipliers[0], system), method=name)
            if proposal.status is not Status.FAILED or method != "auto":
                yield name, certificate.bound, certificate, proposal


def _positive(multipliers: np.ndarray, system: System) -> np.ndarray:
    """Where an output does not see some neurons, or none, solvers leave their multipliers at 0, which proves nothing."""
    least = 1e-12 * float(multipliers.max(initial=0.0))
    if least < 1e-60:
        least = 1e-12 * float((system.out**2).sum()) / max(float((system.y**2).sum()), 1e-200)
    return np.maximum(multipliers, max(least, 1e-40))
