r"""Certified accuracy of a network graph by the kernel alone: the route whose result can leave the house as a certificate.

`propose_margins` finds a proof of the constants of all margins, `certify_graph` evaluates images with proven errors and concludes
class and radius of each; the same functions of the kernel prove them again in `sdplip verify`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped

from sdplip import __version__
from sdplip.arithmetic.decimals import above
from sdplip.bounds.choose import bound
from sdplip.bounds.classes import head_cut
from sdplip.bounds.methods.product import product_proof
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.accuracy import Arithmetic, margin_constants, radii, remembering, with_classes
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.network import Network
from sdplip.network.file import write_network
from sdplip.network.read.understood import Understood
from sdplip.nn.bounds.tree import Bound
from sdplip.robustness.certification import Certification
from sdplip.verifier.claim import AccuracyClaim
from sdplip.verifier.document import Document, Entry, digest, write
from sdplip.verifier.images import Images, image_digest
from sdplip.verifier.verify import BATCH
from sdplip.writing import write_bytes

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Certified:
    """Certified accuracy with its proof.

    Attributes:
        certification: as `certify_accuracy` gives it.
        claim, proof: what `sdplip verify` proves again.
    """

    certification: Certification
    claim: AccuracyClaim
    proof: Proof


def propose_margins(network: Network, *, method: str = "auto", seconds: float = 60.0) -> Proof:
    """A proof of the constants of all margins: the product of the layers in front of the head, and a better bound where it is.

    Raises:
        NotProvable: no finite bound.
    """
    network = with_classes(network)
    cut = head_cut(network)
    if cut == 0:
        return Proof("margins", {"cut": 0}, (Proof("layers"),))
    front = network if cut == network.output else network.between(0, cut)
    product = product_proof(front)
    plain = Proof("margins", {"cut": cut}, (product,))
    if method == "product":
        return plain
    better = bound(front, method, seconds=seconds)
    if not better.bound < conclude(Goal(front), product):
        return plain
    return Proof("least", {}, (plain, Proof("margins", {"cut": cut}, (better.proof,))))


def certify_graph(
    network: Network,
    images: Shaped[np.ndarray, "n *pixels"],
    labels: Int[np.ndarray, " n"],
    *,
    arithmetic: Arithmetic = "float64",
    proof: Proof | None = None,
    method: str = "auto",
    seconds: float = 60.0,
    progress: Progress | None = None,
) -> Certified:
    """Class and radius of every image, proven.

    Args:
        images: bytes, which are divided by 255, or floating point as they enter the network.
        labels: whole numbers; of a network of one output 1 where it should be positive, 0 else.
        arithmetic: whose prediction: "exact", or any pass in "float32" or "float64", with its rounding.
        proof: of the margins; None proposes one by `method` of `sdplip.bounds.bound` within `seconds`.
        progress: called with the images done and their number.

    Raises:
        InvalidProblem: images or labels that do not fit the network.
        NotProvable: no finite bound; a layer whose rounding is not known.
    """
    begin = time.perf_counter()
    if len(images) != len(labels) or not len(images) or images[0].size != network.inputs:
        raise InvalidProblem(
            f"{len(images)} images of {images[0].size if len(images) else 0} numbers and {len(labels)} labels do not fit a"
            f" network of {network.inputs} inputs."
        )
    network = with_classes(network)
    if not 0 <= int(labels.min()) <= int(labels.max()) < network.outputs:
        raise InvalidProblem(
            f"`labels` lie between {int(labels.min())} and {int(labels.max())}, but the network has {network.outputs} classes."
        )
    proof = propose_margins(network, method=method, seconds=seconds) if proof is None else proof
    prove = remembering(proof)
    constants = margin_constants(network, proof, prove)
    store, index = Images(images, labels), np.arange(len(images))
    parts, digests = [], list[str]()
    for start in range(0, len(images), BATCH):
        x = store.entering(index[start : start + BATCH], arithmetic)
        digests += [image_digest(row) for row in x]
        parts.append(radii(network, x, proof, arithmetic, prove))
        if progress:
            progress(min(start + BATCH, len(images)), len(images))
    prediction, margin, radius = (
        np.concatenate([np.asarray(vars(part)[name]) for part in parts])
        for name in ("prediction", "margin", "radius")
    )
    labels = labels.astype(np.int64)
    claim = AccuracyClaim(arithmetic, index, tuple(digests), labels, prediction, radius)
    found = Certification(
        labels,
        prediction,
        margin,
        radius,
        _tree(network, constants, proof),
        np.where(np.eye(len(constants), dtype=bool), 0.0, constants),
        "float32" if arithmetic == "float32" else "float64",
        "proven",
        "exact" if arithmetic == "exact" else "computed",
        time.perf_counter() - begin,
    )
    return Certified(found, claim, proof)


def save_certificate(
    path: Path,
    found: Certified,
    understood: Understood,
    file: Path | None,
    images: Shaped[np.ndarray, "n *pixels"],
    labels: Int[np.ndarray, " n"],
) -> None:
    """Writes the certificate, the images beside it (`images_file`), and, where the network has no file, its graph (`network_file`).

    Args:
        path: of the certificate, which appears last.
        understood: the network, and how its file was read.
        file: that holds the network; None writes one.
    """
    entry = Entry(found.claim.to_json(), found.proof)
    save_entries(path, (entry,), understood, file, {"images": images, "labels": labels})


def save_entries(
    path: Path,
    entries: tuple[Entry, ...],
    understood: Understood,
    file: Path | None,
    arrays: Mapping[str, np.ndarray],
) -> None:
    """The same of any claims about images: writes the certificate, the `arrays` that they are about, and the graph if need be."""
    packed = BytesIO()
    np.savez_compressed(packed, **arrays)  # pyright: ignore[reportArgumentType]
    reading, written = understood.reading, [images_file(path)]
    try:
        write_bytes(images_file(path), packed.getvalue())
        if file is None:
            file, reading = network_file(path), {"kind": "network"}
            written.append(file)
            write_network(file, understood.network)
        write(path, Document(digest(file), reading, entries), __version__)
    except BaseException:
        for part in written:
            part.unlink(missing_ok=True)
        raise


def images_file(certificate: Path) -> Path:
    """Where the images of a certificate stand."""
    return certificate.with_suffix(".images.npz")


def network_file(certificate: Path) -> Path:
    """Where the network of a certificate stands that has no file of its own."""
    return certificate.with_suffix(".network.safetensors")


def _tree(network: Network, constants: Float[np.ndarray, "classes classes"], proof: Proof) -> Bound:
    """The bound as a line for people."""
    rules = sorted({part.rule for part in _every(proof)} - {"margins", "least"})
    try:
        whole = conclude(Goal(network), product_proof(network))
    except NotProvable:
        whole = float(constants.max())
    most = above(float(constants.max()), 8)
    reason = (
        f"{len(network.nodes)} nodes; largest constant of a margin {most}, by the rules {', '.join(rules)}"
    )
    return Bound(whole, reason, "network")


def _every(proof: Proof) -> list[Proof]:
    return [proof, *(deep for part in proof.parts for deep in _every(part))]
