r"""Certificates of regions that were cut into pieces, as JSON files: a tree of cuts, a proof for each piece, and their check.

A segment between two points of a convex region runs through the pieces one after another, so no difference quotient exceeds the
largest bound of a piece. That the pieces cover the region is plain from the tree: each cut leaves the points on one side of a
stored coordinate value in one half, the others in the other.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sdplip.certificates import document
from sdplip.certificates.file import Verification
from sdplip.certificates.parts import ROOM
from sdplip.certificates.regions import Box, Region, halves, hull, part
from sdplip.certificates.rounding import up
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
from sdplip.certificates.system_proof import SystemCertificate, certify_composition, system_holds
from sdplip.errors import InvalidProblem, SdplipError

SCHEMA = "sdplip-pieces-certificate/1"


@dataclass(frozen=True)
class Fork:
    """A cut where coordinate `axis` is `at`; `below` and `above` are the numbers of the two nodes."""

    axis: int
    at: float
    below: int
    above: int


Node = Fork | SystemCertificate | None
"""A cut; the proof of a piece; None where the product of proven norms is the proof, or nothing of the region is left."""


@dataclass(frozen=True, eq=False)
class PiecesRecord:
    """A bound on a region by those of its pieces.

    Attributes:
        name: of the file.
        digests: SHA-256 of matrices and biases (None: no bias).
        claim: the network and the whole region.
        bound: no piece exceeds it.
        tree: the nodes; the first is the whole region, and forks point to later ones.
        reading: how the file is read as a network, as options of `sdplip bound`.
    """

    name: str
    digests: tuple[tuple[str, str | None], ...]
    claim: Claim
    bound: float
    tree: tuple[Node, ...]
    reading: dict[str, Any] = field(default_factory=dict)


def pieces_record(
    name: str, claim: Claim, bound: float, tree: Sequence[Node], reading: dict[str, Any] | None = None
) -> PiecesRecord:
    """The record of the proofs in `tree`; product bounds are computed anew by a check, so with them it claims 1e-9 more."""
    bound = up(bound * (1 + ROOM)) if None in tree else bound
    return PiecesRecord(
        name, tuple(map(digest, maps(claim.layers))), claim, bound, tuple(tree), reading or {}
    )


def verify_pieces(entry: PiecesRecord, found: Sequence[Map]) -> Verification:
    """Proves the bound of every piece again, with the matrices and biases `found`, by the kernel alone."""
    if not same_weights(entry.digests, entry.claim, found):
        return Verification(entry.name, False, OTHER_WEIGHTS)
    whole = entry.claim.with_maps(found)
    try:
        assert whole.region is not None  # `_record` has checked
        proofs = list(leaves(entry.tree, hull(whole.region)))
        reason = next(filter(None, (_missing(entry, whole, box, proof) for box, proof in proofs)), "")
    except SdplipError as error:
        return Verification(entry.name, False, str(error))
    if reason:
        return Verification(entry.name, False, reason)
    return Verification(
        entry.name,
        True,
        f"proven again: L <= {entry.bound:.12g} on {len(proofs)} pieces that cover the region",
    )


def leaves(tree: Sequence[Node], box: Box) -> Iterator[tuple[Box, SystemCertificate | None]]:
    """The pieces of `box`, each with its proof.

    Raises:
        InvalidProblem: a cut outside of its piece, or a tree that does not hang together.
    """
    todo, seen = [(0, box)], 0
    while todo:
        number, piece = todo.pop()
        seen += 1
        if not 0 <= number < len(tree) or seen > len(tree):
            raise InvalidProblem("The tree of the pieces does not hang together. Make the certificate anew.")
        node = tree[number]
        if not isinstance(node, Fork):
            yield piece, node
            continue
        if not 0 <= node.axis < piece.inputs:
            raise InvalidProblem(f"A piece is cut along coordinate {node.axis}, but has {piece.inputs}.")
        todo += zip((node.below, node.above), halves(piece, node.axis, node.at), strict=True)


def _missing(entry: PiecesRecord, whole: Claim, box: Box, proof: SystemCertificate | None) -> str:
    """Why the bound is not proven on this piece; empty where it is."""
    region = _left(whole.region, box)
    if region is None:
        return ""
    claim = replace(whole, region=region)
    if proof is None:
        if certify_composition(claim.on_region()) <= entry.bound:
            return ""
        return f"L <= {entry.bound!r} of a piece has no proof in the certificate: certify it anew"
    if not proof.bound <= entry.bound:
        return f"a piece has the bound {proof.bound!r}, above {entry.bound!r}: certify it anew"
    if not system_holds(claim.system(), proof.multipliers, proof.bound):
        return f"L <= {proof.bound!r} of a piece could not be proven with the stored multipliers"
    return ""


def _left(region: Region | None, box: Box) -> Region | None:
    """What of the region lies in the box; None where that is nothing."""
    assert region is not None
    try:
        return part(region, box)
    except InvalidProblem:
        return None


def save_pieces(path: str | os.PathLike[str], entry: PiecesRecord) -> None:
    """Writes a certificate file; it appears whole or not at all."""
    body = {
        "name": entry.name,
        "sha256": [list(pair) for pair in entry.digests],
        "bound": entry.bound,
        **described(entry.claim),
        "output_pair": entry.claim.pair,
        "pieces": [_written(node) for node in entry.tree],
    }
    if entry.reading:
        body["reading"] = entry.reading
    document.write(path, SCHEMA, body)


def load_pieces(path: str | os.PathLike[str]) -> PiecesRecord:
    """The record of a file; its layers have no matrices yet.

    Raises:
        InvalidCertificate: not JSON, another schema, or a missing or malformed field.
    """
    return document.read(path, SCHEMA, _record, "save_pieces")


def _written(node: Node) -> dict[str, Any]:
    if node is None:
        return {"product": True}
    if isinstance(node, Fork):
        return {"axis": node.axis, "at": node.at, "below": node.below, "above": node.above}
    return {"bound": node.bound, "method": node.method, "multipliers": node.multipliers.tolist()}


def _node(found: dict[str, Any]) -> Node:
    if "axis" in found:
        return Fork(int(found["axis"]), float(found["at"]), int(found["below"]), int(found["above"]))
    if "product" in found:
        return None
    multipliers = np.array(found["multipliers"], np.float64)
    return SystemCertificate(float(found["bound"]), multipliers, str(found["method"]))


def _record(found: dict[str, Any]) -> PiecesRecord:
    pair, claim = found["output_pair"], claim_of(found)
    if claim.region is None:
        raise ValueError("pieces of no region")
    return PiecesRecord(
        str(found["name"]),
        digests_of(found),
        replace(claim, pair=None if pair is None else (int(pair[0]), int(pair[1]))),
        float(found["bound"]),
        tuple(map(_node, found["pieces"])),
        dict(found.get("reading", {})),
    )
