r"""Claims about one layer, $W^\top W \preceq c^2 T$: the upper side by the prover, the lower side by a witness."""

from dataclasses import fields
from typing import Any

import numpy as np

from sdplip.errors import InvalidCertificate, NotProvable
from sdplip.geometry import Geometry
from sdplip.kernel.condition import (
    Certificate,
    convolution_holds,
    convolution_lower_bound,
    holds,
    lower_bound,
)
from sdplip.kernel.proof import Proof
from sdplip.verifier.claim import ConditionClaim
from sdplip.weights.weight import Weight

RULE = "scaling"
"""The rule of such a proof: data `witness`, and of a convolution `grid` and `frequency` (None where the witness is an image)."""


def condition_proof(certificate: Certificate) -> Proof:
    """The proof that a certificate holds."""
    data: dict[str, Any] = {"witness": certificate.witness}
    if certificate.geometry is not None:
        data |= {"grid": certificate.grid, "frequency": certificate.frequency}
    return Proof(RULE, data)


def condition_claim(name: str, certificate: Certificate) -> ConditionClaim:
    """The claim of a certificate about the layer called `name`."""
    geometry = None
    if certificate.geometry is not None:
        geometry = {key.name: getattr(certificate.geometry, key.name) for key in fields(Geometry)}
    return ConditionClaim(name, certificate.form, certificate.c, certificate.c_lower, certificate.t, geometry)


def check_condition(claim: ConditionClaim, proof: Proof, weight: Weight) -> tuple[bool, str]:
    """Whether both sides are proven again.

    Raises:
        NotProvable, SdplipError: the data prove nothing of this layer.
    """
    if proof.rule != RULE or proof.parts:
        raise NotProvable(f"A claim about a layer is proven by `{RULE}`, not by `{proof.rule}`.")
    if (weight.array.ndim > 2) != (claim.geometry is not None):
        raise NotProvable("The claim and the layer disagree about its being a convolution.")
    witness = _numbers(proof.data.get("witness"))
    if not claim.c_lower <= claim.c:
        raise NotProvable(f"The claimed lower side {claim.c_lower!r} lies above the upper side {claim.c!r}.")
    geometry = None if claim.geometry is None else _geometry(claim, weight)
    try:
        proven, lower = _sides(claim, proof, weight, witness, geometry)
    except (
        InvalidCertificate
    ) as error:  # numbers that do not fit the layer are a claim refuted, not a file malformed
        raise NotProvable(str(error)) from None
    if not proven:
        return False, f"W^T W <= c^2 T could not be proven for c = {claim.c!r}"
    if not lower >= claim.c_lower:
        return False, f"the witness proves only c >= {lower!r}, not the claimed {claim.c_lower!r}"
    return True, "proven again"


def _sides(
    claim: ConditionClaim, proof: Proof, weight: Weight, witness: np.ndarray, geometry: Geometry | None
) -> tuple[bool, float]:
    """Whether the upper side is proven, and the lower side that the witness proves."""
    if geometry is None:
        W = weight.array if claim.form == "linear" else weight.array.T
        return holds(W, claim.t, claim.c), lower_bound(W, claim.t, witness)
    certificate = Certificate(
        t=claim.t, c=claim.c, c_lower=claim.c_lower, witness=witness, form=claim.form,  # type: ignore[arg-type]
        geometry=geometry, grid=_wholes(proof.data.get("grid")),
        frequency=_wholes(proof.data.get("frequency")),
    )  # fmt: skip
    return convolution_holds(weight.array, certificate), convolution_lower_bound(weight.array, certificate)


def _geometry(claim: ConditionClaim, weight: Weight) -> Geometry:
    """The geometry of the claim, which must be that of the file where the file has one.

    Raises:
        NotProvable, UnsupportedConvolution: the file says something else, or numbers contradict the kernel.
    """
    assert claim.geometry is not None
    found = Geometry(**claim.geometry).expand(weight.array.shape)
    if weight.geometry is None:
        return found
    own = weight.geometry.expand(weight.array.shape)
    for name in sorted({key.name for key in fields(Geometry)} - {"image_size"}):
        if getattr(own, name) != getattr(found, name):
            raise NotProvable(
                f"The claim takes `{name}` = {getattr(found, name)} for `{weight.name}`, but the file says {getattr(own, name)}."
            )
    if own.image_size is not None and found.image_size not in (None, own.image_size):
        raise NotProvable(
            f"The claim is about images of {found.image_size} pixels, but the file has {own.image_size}."
        )
    return found


def _numbers(value: Any) -> np.ndarray:
    try:
        found = np.asarray(value)
    except (ValueError, OverflowError):
        raise NotProvable("The witness is no array of numbers.") from None
    if found.dtype.kind not in "fiu" or not found.size:
        raise NotProvable("The witness is no array of numbers.")
    return found.astype(np.float64)


def _wholes(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list | tuple)
        or len(value) > 8
        or any(type(v) is not int or not 0 <= v < 2**31 for v in value)
    ):
        raise NotProvable("`grid` and `frequency` must be a few whole numbers.")
    return tuple(value)
