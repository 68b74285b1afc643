r"""Certified radii of images as JSON files: images, classes, radii and what proves them, checked again with the weights alone.

An image x keeps class y at every x' with $|x' - x| \le r$, in exact arithmetic, where each margin $f_y - f_j$ is above $L_j r$ at
x: `centred` proves $L_j$ and the margins, rounding included, or multipliers of a pair prove an $L_j$ of their own on the layers
of secants from x. `docs/rounding-systems.md`, section 4.
"""

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from sdplip.certificates import document
from sdplip.certificates.centred import centred, secant_layers
from sdplip.certificates.file import Verification
from sdplip.certificates.increments import Front
from sdplip.certificates.narrow import narrowed
from sdplip.certificates.rounding import TINY, up
from sdplip.certificates.system import Map, System, expand
from sdplip.certificates.system_file import (
    OTHER_WEIGHTS,
    Claim,
    claim_of,
    described,
    digest,
    digests_of,
    maps,
)
from sdplip.certificates.system_proof import SystemCertificate, system_holds
from sdplip.errors import SdplipError

SCHEMA = "sdplip-radii-certificate/1"
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Radius:
    """Image number `index` of its data keeps class `label` within `radius`; `pairs` has proofs of their own for margins."""

    index: int
    label: int
    radius: float
    pairs: Mapping[int, SystemCertificate] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RadiiRecord:
    """Radii of images.

    Attributes:
        name: of the weight file.
        digests: SHA-256 of matrices and biases (None: no bias).
        claim: the network.
        images: one a radius, bytes or numbers; bytes are divided by 255.
        radii: in the order of the images.
    """

    name: str
    digests: tuple[tuple[str, str | None], ...]
    claim: Claim
    images: np.ndarray
    radii: tuple[Radius, ...]


def radii_record(name: str, claim: Claim, images: np.ndarray, radii: Sequence[Radius]) -> RadiiRecord:
    """The record of `radii`, of images in bytes or doubles of shape `(n, inputs)`."""
    return RadiiRecord(name, tuple(map(digest, maps(claim.layers))), claim, images, tuple(radii))


def point(image: np.ndarray) -> Vector:
    """The numbers that enter the network."""
    return image / 255 if image.dtype == np.uint8 else image.astype(np.float64)


def margins(front: Front, x: Vector, label: int, radius: float) -> tuple[Vector, Vector]:
    """Constants of $f_y - f_j$ for all j on the ball, y the label, and numbers that the margins at x are not below."""
    return centred(front, x, radius, _rows(front, label))


def positive(least: float, constant: float, radius: float) -> bool:
    """Whether a margin of at least `least` stays positive within `radius`."""
    return constant >= 0 and up(up(constant * radius) + TINY) < least


def pair_system(front: Front, x: Vector, label: int, other: int, radius: float) -> System:
    """The margin of a pair of classes as a system of increments from x."""
    row = _rows(front, label)[other : other + 1]
    layers = narrowed((*secant_layers(front, x, radius), Map(row)))
    return expand(layers, layers[0].W.shape[1] if isinstance(layers[0], Map) else len(x))


def stays(front: Front, x: Vector, entry: Radius) -> bool:
    """Whether the class is proven to stay."""
    if not (0 <= entry.label < _outputs(front) and np.isfinite(entry.radius) and entry.radius >= 0):
        return False
    constants, least = (v.tolist() for v in margins(front, x, entry.label, entry.radius))
    for j in range(len(least)):
        if j == entry.label or positive(least[j], constants[j], entry.radius):
            continue
        proof = entry.pairs.get(j)
        if proof is None or not positive(least[j], proof.bound, entry.radius):
            return False
        system = pair_system(front, x, entry.label, j, entry.radius)
        if not system_holds(system, proof.multipliers, proof.bound):
            return False
    return True


def _rows(front: Front, label: int) -> np.ndarray:
    eye = np.eye(_outputs(front))
    return eye[label] - eye


def _outputs(front: Front) -> int:
    *_, last = maps((*front.maps, *front.rest))
    return len(last.W)


def verify_radii(entry: RadiiRecord, found: Sequence[Map]) -> Verification:
    """Proves every radius again, with the matrices and biases `found`, by the kernel alone."""
    if tuple(map(digest, found)) != entry.digests:
        return Verification(entry.name, False, OTHER_WEIGHTS)
    try:
        claim = entry.claim.with_maps(found)
        front = Front.of(claim.layers, claim.inputs)
        for image, radius in zip(entry.images, entry.radii, strict=True):
            if not stays(front, point(image), radius):
                reason = f"radius {radius.radius!r} of image {radius.index} could not be proven"
                return Verification(entry.name, False, reason)
    except SdplipError as error:
        return Verification(entry.name, False, str(error))
    mean = float(np.mean([radius.radius for radius in entry.radii])) if entry.radii else 0.0
    reason = f"proven again: {len(entry.radii)} radii, {mean:.6g} on average"
    return Verification(entry.name, True, reason)


def save_radii(path: str | os.PathLike[str], entry: RadiiRecord) -> None:
    """Writes a certificate file; it appears whole or not at all."""
    images = np.ascontiguousarray(entry.images)
    body = {
        "name": entry.name,
        "sha256": [list(pair) for pair in entry.digests],
        **described(entry.claim),
        "images": {
            "dtype": "uint8" if images.dtype == np.uint8 else "float64",
            "base64": base64.b64encode(
                images.tobytes() if images.dtype == np.uint8 else images.astype("<f8").tobytes()
            ).decode(),
        },
        "radii": [
            {
                "index": radius.index,
                "label": radius.label,
                "radius": radius.radius,
                "pairs": {
                    str(j): {"bound": proof.bound, "multipliers": proof.multipliers.tolist()}
                    for j, proof in radius.pairs.items()
                },
            }
            for radius in entry.radii
        ],
    }
    document.write(path, SCHEMA, body)


def load_radii(path: str | os.PathLike[str]) -> RadiiRecord:
    """The record of a file; its layers have no matrices yet.

    Raises:
        InvalidCertificate: not JSON, another schema, or a missing or malformed field.
    """
    return document.read(path, SCHEMA, _record, "sdplip tighten --local N --certificate OUT.json")


def _record(found: dict[str, Any]) -> RadiiRecord:
    radii = tuple(
        Radius(int(one["index"]), int(one["label"]), float(one["radius"]), _pairs(one["pairs"]))
        for one in found["radii"]
    )
    claim = claim_of(found)
    dtype = {"uint8": np.uint8, "float64": np.dtype("<f8")}[found["images"]["dtype"]]
    images = np.frombuffer(base64.b64decode(found["images"]["base64"], validate=True), dtype)
    return RadiiRecord(
        str(found["name"]), digests_of(found), claim, images.reshape(len(radii), claim.inputs), radii
    )


def _pairs(found: dict[str, Any]) -> dict[int, SystemCertificate]:
    return {
        int(j): SystemCertificate(
            float(proof["bound"]), np.array(proof["multipliers"], np.float64), "lipsdp-neuron"
        )
        for j, proof in found.items()
    }
