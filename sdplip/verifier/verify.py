"""`verify(certificate, file)`: the network is rebuilt from the weight file, and the kernel proves each claim again."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.display import brief, html
from sdplip.errors import InvalidCertificate, NotProvable, SdplipError
from sdplip.kernel.accuracy import radii, remembering
from sdplip.kernel.check import conclude
from sdplip.kernel.expansion import conclude_expansion
from sdplip.kernel.pixels import IGNORED, layout, pixels_left
from sdplip.kernel.proof import Proof
from sdplip.network import Network
from sdplip.shapes import Float, Int
from sdplip.verifier.claim import AccuracyClaim, Claim, ConditionClaim, LipschitzClaim, claim_of
from sdplip.verifier.condition import check_condition
from sdplip.verifier.document import digest, plain, read
from sdplip.verifier.expansion import ExpansionClaim
from sdplip.verifier.images import Images, image_digest, mask_digest, read_images, read_masks
from sdplip.verifier.pixels import PixelClaim
from sdplip.verifier.subject import Subject, subject_of

BATCH = 512
"""Images that are evaluated together, at most."""
ROOM = 1 << 24
"""Numbers of all values of a network at the images that are evaluated together: 256 MB with their errors."""
Progress = Callable[[int, int], None]
"""Called with the claims, or images of a claim, that are done, and their number."""


@dataclass(frozen=True, eq=False)
class Checked:
    """One claim: in data and in words, whether it was proven again, and why not."""

    claim: Claim
    proven: bool
    reason: str

    __repr__ = brief("words", "proven", "reason")

    @property
    def words(self) -> str:
        return self.claim.words()

    def to_json(self) -> dict[str, Any]:
        return {
            "claim": plain(self.claim.to_json()),
            "words": self.words,
            "proven": self.proven,
            "reason": self.reason,
        }


@dataclass(frozen=True, eq=False)
class Verification:
    """What became of a certificate.

    Attributes:
        claims: all of them, in order; empty where the file is not the one that was certified.
        assumed: what the weight file does not say itself, in words: every proof rests on it.
        left_out: arrays of the file that no claim is about, each with the reason.
        reason: why nothing could be checked, "" otherwise.
    """

    certificate: Path
    file: Path
    claims: tuple[Checked, ...]
    assumed: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    reason: str = ""

    __repr__ = brief("proven", "file", "claims")
    _repr_html_ = html

    @property
    def proven(self) -> bool:
        """Whether there are claims and every one was proven again."""
        return bool(self.claims) and all(claim.proven for claim in self.claims)

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "certificate": str(self.certificate),
            "file": str(self.file),
            "proven": self.proven,
            "reason": self.reason,
            "assumed": list(self.assumed),
            "left_out": [{"array": name, "why": why} for name, why in self.left_out],
            "claims": [claim.to_json() for claim in self.claims],
        }


def verify(
    certificate: str | os.PathLike[str],
    file: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
) -> Verification:
    """Prove every claim of `certificate` again for the weights in `file`, trusting neither a solver nor the certificate.

    Args:
        images: the images that a claim of accuracy or about pixels is about (.npz or .npy).
        progress: called as claims and images are done.

    Raises:
        InvalidCertificate: the certificate is none, or of another schema, or malformed.
        SdplipError: the weight file or the images cannot be read.
    """
    certificate, file = Path(certificate), Path(file)
    document = read(certificate)
    claims = [claim_of(entry.claim) for entry in document.entries]
    if digest(file) != document.sha256:
        reason = f"`{file}` is not the file that was certified (its SHA-256 differs): certify it anew"
        return Verification(
            certificate, file, tuple(Checked(c, False, reason) for c in claims), reason=reason
        )
    subject = subject_of(file, document.reading, claims, [entry.proof for entry in document.entries])
    found = list[Checked]()
    for claim, entry in zip(claims, document.entries, strict=True):
        try:
            proven, reason = _check(claim, entry.proof, subject, images, progress)
        except InvalidCertificate:
            raise
        except SdplipError as error:
            proven, reason = False, str(error)
        except (MemoryError, RecursionError):
            proven, reason = False, "the proof asks for more memory than there is"
        found.append(Checked(claim, proven, reason))
        if progress:
            progress(len(found), len(claims))
    return Verification(certificate, file, tuple(found), subject.sentences, subject.left_out_of(claims))


def _check(
    claim: Claim,
    proof: Proof,
    subject: Subject,
    images: str | os.PathLike[str] | None,
    progress: Progress | None,
) -> tuple[bool, str]:
    if isinstance(claim, ConditionClaim):
        return check_condition(claim, proof, subject.layer(claim.layer))
    network = subject.network
    if isinstance(claim, LipschitzClaim):
        found = conclude(claim.goal(network), proof)
        if found <= claim.bound:
            return True, "proven again"
        return False, f"the proof proves only {found!r}, not the claimed {claim.bound!r}"
    if isinstance(claim, ExpansionClaim):
        found = conclude_expansion(network, proof)
        if found >= claim.lower:
            return True, "proven again"
        return False, f"the proof proves only {found!r}, not the claimed {claim.lower!r}"
    if images is None:
        raise NotProvable(
            "This claim is about images: name their file too (.npz with `images` and `labels`, or `masks`)."
        )
    if isinstance(claim, PixelClaim):
        return check_pixels(claim, proof, network, read_images(images), read_masks(images), progress)
    return check_accuracy(claim, proof, network, read_images(images), progress)


def check_accuracy(
    claim: AccuracyClaim, proof: Proof, network: Network, images: Images, progress: Progress | None
) -> tuple[bool, str]:
    """Whether every image of the claim has at least the radius that it claims."""
    if other := _other_images(claim, network, images):
        return False, other
    prove = remembering(proof)
    batch = together(network)
    for start in range(0, len(claim.index), batch):
        part = slice(start, start + batch)
        where = claim.index[part]
        x = images.entering(where, claim.arithmetic)
        if other := _changed(claim, start, x):
            return False, other
        if images.labels is None or (images.labels[where] != claim.label[part]).any():
            return False, "the labels of the images are not those of the claim"
        found = radii(network, x, proof, claim.arithmetic, prove)
        certified = claim.radius[part] > 0
        wrong = (found.prediction != claim.prediction[part]) & (certified | (claim.prediction[part] >= 0))
        short = found.radius < claim.radius[part]
        if (wrong | short).any():
            k = int(np.flatnonzero(wrong | short)[0])
            return False, (
                f"image {int(where[k])}: proven are class {int(found.prediction[k])} and radius {float(found.radius[k])!r},"
                f" claimed are class {int(claim.prediction[part][k])} and radius {float(claim.radius[part][k])!r}"
            )
        if progress:
            progress(min(start + batch, len(claim.index)), len(claim.index))
    return True, "proven again"


def check_pixels(
    claim: PixelClaim,
    proof: Proof,
    network: Network,
    images: Images,
    masks: Int[np.ndarray, "n *pixels"],
    progress: Progress | None,
) -> tuple[bool, str]:
    """Whether every image of the claim keeps as many right pixels as it claims."""
    if other := _other_images(claim, network, images):
        return False, other
    _, size = layout(network)
    if masks.shape != (len(images.x), *size):
        return (
            False,
            f"masks of shape {masks.shape} do not fit {len(images.x)} images with outputs of {size} pixels",
        )
    flat, prove, batch = masks.reshape(len(masks), -1), remembering(proof), together(network)
    for start in range(0, len(claim.index), batch):
        part = slice(start, start + batch)
        where = claim.index[part]
        x, labels = images.entering(where, "exact"), flat[where]
        if other := _changed(claim, start, x):
            return False, other
        if tuple(map(mask_digest, labels)) != claim.mask[part]:
            return False, "the masks of the images are not those of the claim (a SHA-256 differs)"
        left, counted = pixels_left(network, x, labels, claim.eps, proof, prove), (labels != IGNORED).sum(1)
        wrong = (left < claim.right[part]) | (counted != claim.pixels[part])
        if wrong.any():
            k = int(np.flatnonzero(wrong)[0])
            return False, (
                f"image {int(where[k])}: proven are {int(left[k])} right pixels of {int(counted[k])}, claimed are"
                f" {int(claim.right[part][k])} of {int(claim.pixels[part][k])}"
            )
        if progress:
            progress(min(start + batch, len(claim.index)), len(claim.index))
    return True, "proven again"


def together(network: Network) -> int:
    """Images that are evaluated together."""
    return max(1, min(BATCH, ROOM // sum(map(network.length, range(network.output + 1)))))


def _other_images(claim: AccuracyClaim | PixelClaim, network: Network, images: Images) -> str:
    """Why these are not the images of the claim; "" where they may be."""
    if int(claim.index.max()) >= len(images.x):
        return f"the claim names image {int(claim.index.max())}, but there are {len(images.x)}"
    if images.x[0].size != network.inputs:
        return f"the images have {images.x[0].size} numbers, but the network takes {network.inputs}"
    return ""


def _changed(claim: AccuracyClaim | PixelClaim, start: int, x: Float[np.ndarray, "batch inputs"]) -> str:
    """Which image from place `start` on is not the one of the claim; "" where all are."""
    for at, row in enumerate(x, start):
        if image_digest(row) != claim.sha256[at]:
            return f"image {int(claim.index[at])} is not the one that was certified (its SHA-256 differs)"
    return ""
