"""Proofs of local radii that stand alone, for a certificate file: constants of all inputs take no part in them."""

import numpy as np
from torch import Tensor

from sdplip.bounds.margins import own_certificate
from sdplip.certificates.centred import secant_layers
from sdplip.certificates.increments import Front
from sdplip.certificates.radii_file import (
    RadiiRecord,
    Radius,
    margins,
    pair_system,
    point,
    positive,
    radii_record,
)
from sdplip.certificates.system import variables
from sdplip.certificates.system_file import Claim
from sdplip.certificates.system_proof import SystemCertificate
from sdplip.networks import Network, system_layers
from sdplip.robustness.certification import Certification, Progress
from sdplip.robustness.local import BENT

SHRINK = 0.97
"""Where a radius rests on constants of all inputs, a smaller one that does not is looked for in steps of this factor."""
TRIES = 60


def proven_radii(
    name: str,
    network: Network,
    images: Tensor,
    certified: Certification,
    *,
    bent: int = BENT,
    progress: Progress | None = None,
) -> RadiiRecord:
    """Radii up to those of `certified`, each with a proof that needs the weights of `network` alone.

    They are about the network in exact arithmetic, and closed balls. Images of wrong predictions and of radius 0 are left out.

    Args:
        name: of the weight file.
        network: the one that was certified, in double precision.
        images: the certified ones, bytes or doubles.
        certified: their radii, from `local_radii`.
        bent: pairs of classes get multipliers of their own where at most so many neurons bend.
        progress: called with the images done and their number.
    """
    claim = Claim(system_layers(network))
    front = Front.of(claim.layers, network.inputs)
    flat = images.detach().cpu().flatten(1).numpy()
    flat = flat if flat.dtype == np.uint8 else flat.astype(np.float64)
    todo = np.flatnonzero(certified.correct & (certified.radius > 0))
    found = list[Radius]()
    for done, i in enumerate(todo, 1):
        found.append(
            _proven(
                front,
                point(flat[i]),
                Radius(int(i), int(certified.label[i]), float(certified.radius[i])),
                bent,
            )
        )
        if progress is not None:
            progress(done, len(todo))
    kept = [radius for radius in found if radius.radius > 0]
    return radii_record(name, claim, flat[[radius.index for radius in kept]], kept)


def _proven(front: Front, x: np.ndarray, wanted: Radius, bent: int) -> Radius:
    """The radius that is wanted, or the next smaller one that is proven."""
    radius = wanted.radius
    for _ in range(TRIES):
        pairs = _pairs(front, x, wanted.label, radius, bent)
        if pairs is not None:
            return Radius(wanted.index, wanted.label, radius, pairs)
        radius *= SHRINK
    return Radius(wanted.index, wanted.label, 0.0)


def _pairs(
    front: Front, x: np.ndarray, label: int, radius: float, bent: int
) -> dict[int, SystemCertificate] | None:
    """Proofs for the classes that need one; None where some class cannot be proven."""
    constants, least = (v.tolist() for v in margins(front, x, label, radius))
    found = dict[int, SystemCertificate]()
    for j in range(len(least)):
        if j == label or positive(least[j], constants[j], radius):
            continue
        proof = None
        if least[j] > 0 and 0 <= variables(secant_layers(front, x, radius)) <= bent:
            proof = own_certificate(pair_system(front, x, label, j, radius), "auto")
        if proof is None or not positive(least[j], proof.bound, radius):
            return None
        found[j] = proof
    return found
