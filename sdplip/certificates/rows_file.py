r"""Certificates of l2 to l-infinity bounds as JSON files: a proof for every output, and their check.

$\lVert f(x) - f(y) \rVert_\infty \le L \lVert x - y \rVert_2$ says of each output that it is $L$-Lipschitz. An output has
multipliers of its own, or none where the product of proven norms shows that it is no larger.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sdplip.certificates import document
from sdplip.certificates.file import Verification
from sdplip.certificates.system import Map
from sdplip.certificates.system_file import (
    OTHER_WEIGHTS,
    Claim,
    claim_of,
    described,
    digest,
    digests_of,
    maps,
    same_weights,
)
from sdplip.certificates.system_proof import SystemCertificate, certify_rows, system_holds
from sdplip.errors import SdplipError

SCHEMA = "sdplip-rows-certificate/1"


@dataclass(frozen=True, eq=False)
class RowsRecord:
    """A bound of every output alone.

    Attributes:
        name: of the file.
        digests: SHA-256 of matrices and biases (None: no bias).
        claim: the network and the region, without pair or row.
        bound: no output exceeds it.
        proofs: one an output; None where the product of norms is the proof.
        reading: how the file is read as a network, as options of `sdplip bound`.
    """

    name: str
    digests: tuple[tuple[str, str | None], ...]
    claim: Claim
    bound: float
    proofs: tuple[SystemCertificate | None, ...]
    reading: dict[str, Any] = field(default_factory=dict)


def rows_record(
    name: str,
    claim: Claim,
    bound: float,
    proofs: Sequence[SystemCertificate | None],
    reading: dict[str, Any] | None = None,
) -> RowsRecord:
    """The record of `proofs`, one an output of `claim`."""
    return RowsRecord(
        name, tuple(map(digest, maps(claim.layers))), claim, bound, tuple(proofs), reading or {}
    )


def verify_rows(entry: RowsRecord, found: Sequence[Map]) -> Verification:
    """Proves the bound of every output again, with the matrices and biases `found`, by the kernel alone."""
    if not same_weights(entry.digests, entry.claim, found):
        return Verification(entry.name, False, OTHER_WEIGHTS)
    try:
        reason = _missing(replace(entry, claim=entry.claim.with_maps(found)))
    except SdplipError as error:
        reason = str(error)
    if reason:
        return Verification(entry.name, False, reason)
    outputs = f"{len(entry.proofs)} outputs" if len(entry.proofs) > 1 else "1 output"
    return Verification(
        entry.name, True, f"proven again: l2 to l-infinity, L <= {entry.bound:.12g} ({outputs})"
    )


def _missing(entry: RowsRecord) -> str:
    """Which output is not proven; empty where all are."""
    products = certify_rows(entry.claim.on_region())
    if len(products) != len(entry.proofs):
        return f"the network has {len(products)} outputs, but the certificate speaks of {len(entry.proofs)}: certify it anew"
    for i, (product, proof) in enumerate(zip(products, entry.proofs, strict=True)):
        if product <= entry.bound:
            continue
        if proof is None or not proof.bound <= entry.bound:
            return f"L <= {entry.bound!r} of output {i} has no proof in the certificate: certify it anew"
        if not system_holds(replace(entry.claim, row=i).system(), proof.multipliers, proof.bound):
            return f"L <= {proof.bound!r} of output {i} could not be proven with the stored multipliers"
    return ""


def save_rows(path: str | os.PathLike[str], entry: RowsRecord) -> None:
    """Writes a certificate file; it appears whole or not at all."""
    body = {
        "name": entry.name,
        "sha256": [list(pair) for pair in entry.digests],
        "bound": entry.bound,
        "output_norm": "linf",
        **described(entry.claim),
        "rows": [
            {"product": True}
            if proof is None
            else {"bound": proof.bound, "method": proof.method, "multipliers": proof.multipliers.tolist()}
            for proof in entry.proofs
        ],
    }
    if entry.reading:
        body["reading"] = entry.reading
    document.write(path, SCHEMA, body)


def load_rows(path: str | os.PathLike[str]) -> RowsRecord:
    """The record of a file; its layers have no matrices yet.

    Raises:
        InvalidCertificate: not JSON, another schema, or a missing or malformed field.
    """
    return document.read(path, SCHEMA, _record, "save_rows")


def _record(found: dict[str, Any]) -> RowsRecord:
    proofs = tuple(
        None
        if "product" in row
        else SystemCertificate(
            float(row["bound"]), np.array(row["multipliers"], np.float64), str(row["method"])
        )
        for row in found["rows"]
    )
    return RowsRecord(
        str(found["name"]),
        digests_of(found),
        claim_of(found),
        float(found["bound"]),
        proofs,
        dict(found.get("reading", {})),
    )
