"""The report of a certificate file: its claims in words, whether they hold, the trees of the proofs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.arithmetic.decimals import above, below
from sdplip.html.charts import spark
from sdplip.html.curves import certified_chart
from sdplip.html.elements import Node, facts, fold, joined, paragraph, tag
from sdplip.html.results import interval, radii_table, spread, verdict
from sdplip.html.trees import proof_tree
from sdplip.page.report import Attachment, Report, Section
from sdplip.progress import image_bar
from sdplip.robustness.curve import curve_of_radii
from sdplip.verifier.claim import AccuracyClaim, Claim, ConditionClaim, LipschitzClaim, claim_of
from sdplip.verifier.document import Document, read
from sdplip.verifier.pixels import PixelClaim
from sdplip.verifier.show import reading_words
from sdplip.verifier.verify import Verification, verify

MOST_CLAIMS = 100


def certificate_report(
    certificate: Path, *, network: Path | None = None, images: Path | None = None
) -> Report:
    """What a certificate claims, and, where the files that it is about are given, whether it is proven.

    Args:
        network: the file that it is about.
        images: those of a claim of accuracy.

    Raises:
        InvalidCertificate: it is none.
        SdplipError: the other files cannot be read.
    """
    document = read(certificate)
    claims = [claim_of(entry.claim) for entry in document.entries]
    found = None
    if network is not None:
        with image_bar("proving again") as watch:
            found = verify(certificate, network, images, progress=watch)
    sections = [Section("Claims", _claims(document, claims, found))]
    sections += [
        Section(
            f"Accuracy of claim {k + 1}",
            _accuracy(claim, found is not None and bool(found.claims) and found.claims[k].proven),
        )
        for k, claim in enumerate(claims)
        if isinstance(claim, AccuracyClaim)
    ]
    sections.append(Section("Origin", _origin(document, found)))
    files = [Attachment.of(certificate, "this certificate")]
    files += [Attachment.of(p, "what it is about") for p in (network, images) if p is not None]
    names = (certificate.name, "FILE" if network is None else network.name)
    needs = any(isinstance(claim, AccuracyClaim | PixelClaim) for claim in claims)
    if images is not None or needs:
        names += ("IMAGES" if images is None else images.name,)
    bounds = [
        claim.bound
        for claim in claims
        if isinstance(claim, LipschitzClaim) and not claim.output and claim.region is None
    ]
    proven = min(bounds) if bounds and found is not None and found.proven else None
    return Report(f"Certificate {certificate.name}", _lead(claims, found), sections, files, names, proven)


def _lead(claims: Sequence[Claim], found: Verification | None) -> list[str]:
    many = f"{len(claims)} claim{'s' * (len(claims) > 1)}"
    if found is None:
        return [
            f"{many}, CLAIMED and not checked here: name the file that the certificate is about, or run `sdplip verify`."
        ]
    if found.proven:
        return [f"{many}, all proven again from {found.file.name} when this page was made."]
    wrong = sum(not one.proven for one in found.claims)
    return [f"NOT PROVEN: {found.reason or f'{wrong} of {many} could not be proven again'}."]


def _claims(document: Document, claims: Sequence[Claim], found: Verification | None) -> Node:
    parts = []
    for k, (claim, entry) in enumerate(list(zip(claims, document.entries, strict=True))[:MOST_CLAIMS]):
        word, why = ("claimed, not checked here", "")
        if found is not None:
            one = found.claims[k]
            word, why = ("proven again" if one.proven else "NOT PROVEN"), "" if one.proven else one.reason
        head = tag("span", verdict(word), f": {claim.words()}")
        reason = paragraph(why) if why else None
        tree = fold("Rules of the proof", proof_tree(entry.proof), opened=len(claims) <= 3)
        parts.append(joined("card", paragraph(head), reason, _details(claim), tree))
    if len(claims) > MOST_CLAIMS:
        parts.append(
            paragraph(f"... and {len(claims) - MOST_CLAIMS} more claims, which count in the verdict.")
        )
    return joined("", *parts)


def _details(claim: Claim) -> Node | None:
    if not isinstance(claim, ConditionClaim):
        return None
    t = np.asarray(claim.t)
    rows = [("interval of the least c", interval(claim.c_lower, claim.c)), ("t", spread(t))]
    return joined("", facts(rows), spark(t.tolist(), "entries of t, largest first"))


def _accuracy(claim: AccuracyClaim, proven: bool) -> Node:
    right = (claim.label == claim.prediction) & (claim.prediction >= 0)
    drawn = curve_of_radii("claimed", claim.radius, right)
    rows = [
        ("images", str(drawn.n)),
        (
            "prediction of",
            "exact arithmetic" if claim.arithmetic == "exact" else f"a pass in {claim.arithmetic}",
        ),
        ("mean radius", below(drawn.mean_radius, 6)),
        ("largest radius", above(float(claim.radius.max()), 6)),
    ]
    word, name = ("certified", "certified: proven") if proven else ("claimed", "claimed: not proven here")
    return joined("", facts(rows), radii_table(drawn, word), certified_chart(drawn, name))


def _origin(document: Document, found: Verification | None) -> Node:
    rows: list[tuple[str, Any]] = [("file with SHA-256", document.sha256)]
    rows += [(f"made by {name}", made) for name, made in document.made.items()]
    read_as = [paragraph(f"Read as: {how}") for how in reading_words(document.reading)]
    assumed = [] if found is None else [paragraph(f"Assumed: {sentence}") for sentence in found.assumed]
    return joined("", facts(rows), *read_as, *assumed)
