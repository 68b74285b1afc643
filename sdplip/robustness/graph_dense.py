"""`certify_dense_graph`: right pixels that any one change of an image leaves, proven by the kernel alone, as a certificate file.

>>> found = certify_dense_graph(model, images, masks, (0.1, 0.5), input_shape=(3, 32, 32))
>>> found.accuracy(0.5)             # share of right pixels that is left, all pixels of an image together
>>> found.save("pixels.json")       # sdplip verify pixels.json pixels.network.safetensors pixels.images.npz
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from sdplip.bounds.choose import bound
from sdplip.bounds.methods.product import product_proof
from sdplip.display import brief
from sdplip.errors import InvalidProblem
from sdplip.kernel.accuracy import remembering
from sdplip.kernel.check import conclude
from sdplip.kernel.pixels import IGNORED, layout, most_flips, pixel_matrix, right_radii
from sdplip.kernel.proof import Goal, Proof
from sdplip.network import Network
from sdplip.network.graph import Shape
from sdplip.network.read.anything import Anything, understand
from sdplip.network.read.understood import Understood
from sdplip.robustness.dense_samples import at_least
from sdplip.robustness.graph_accuracy import save_entries
from sdplip.verifier.document import Entry
from sdplip.verifier.images import Images, image_digest, mask_digest
from sdplip.verifier.pixels import PixelClaim
from sdplip.verifier.verify import together

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class CertifiedPixels:
    """What is proven of the pixels of some images, in exact arithmetic.

    Attributes:
        claims: one for each length of a change.
        proof: what `sdplip verify` proves all of them with again.
        understood: the network, and how its file was read.
        images, masks: as they are saved; -1 in a mask does not count.
        file: that holds the network; None where it has none.
    """

    claims: tuple[PixelClaim, ...]
    proof: Proof
    understood: Understood
    images: Shaped[np.ndarray, "n *pixels"]
    masks: Int[np.ndarray, "n *pixels"]
    file: Path | None

    __repr__ = brief("claims")

    def accuracy(self, eps: float | Fraction | str) -> float:
        """Share of right pixels that is left after any change of length `eps` of each image, all its pixels together.

        Raises:
            InvalidProblem: no claim is about that length.
        """
        r = at_least(eps)
        for claim in self.claims:
            if claim.eps == r:
                return claim.accuracy()
        raise InvalidProblem(
            f"No claim is about eps = {eps}, only about {[c.eps for c in self.claims]}. Certify it as well."
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the certificate, images and masks beside it (`images_file`), and the graph of a network that has no file."""
        entries = tuple(Entry(claim.to_json(), self.proof) for claim in self.claims)
        save_entries(
            Path(path), entries, self.understood, self.file, {"images": self.images, "masks": self.masks}
        )


def propose_pixels(network: Network, *, method: str = "auto", seconds: float = 60.0) -> Proof:
    """A proof of the constants of pixels: of the network in front of a 1 x 1 convolution to several classes, else of all of it.

    Raises:
        NotProvable: no finite bound; outputs without pixels.
    """
    last, cut = network.nodes[-1], network.output
    if layout(network)[0] > 1 and pixel_matrix(last.op) is not None and last.inputs[0] in network.cuts:
        cut = last.inputs[0]
    if cut == 0:
        return Proof("pixels", {"cut": 0}, (Proof("layers"),))
    front = network if cut == network.output else network.between(0, cut)
    found = product_proof(front)
    if method != "product":
        better = bound(front, method, seconds=seconds)
        found = better.proof if better.bound < conclude(Goal(front), found) else found
    return Proof("pixels", {"cut": cut}, (found,))


def certify_dense_graph(
    network: Anything,
    images: Shaped[np.ndarray, "n channels *pixels"],
    masks: Int[np.ndarray, "n *pixels"],
    eps: Sequence[float | Fraction | str],
    *,
    ignore: int | None = None,
    input_shape: Shape | None = None,
    proof: Proof | None = None,
    progress: Progress | None = None,
) -> CertifiedPixels:
    """How many right pixels any change of each image leaves, proven and ready to be saved.

    The arithmetic is exact: no pass of a processor is claimed to predict the same (`certify_dense` counts rounding).

    Args:
        network: a module (with `input_shape`), a path, or a graph, whose output is `(classes, *pixels)`; one logit decides by its sign.
        images: bytes, which are divided by 255, or floating point as they enter the network.
        masks: the class of each pixel.
        eps: lengths of a change, one claim for each.
        ignore: a label of pixels that do not count, such as 255.
        proof: of rule "pixels"; None proposes one.
        progress: called with the images done and their number.

    Raises:
        InvalidProblem: images or masks that do not fit the network, no pixel that counts.
        NotProvable: no finite bound, no proven values, outputs without pixels.
    """
    understood = understand(network, input_shape=input_shape)
    graph, images, masks = understood.network, np.asarray(images), np.asarray(masks)
    lengths, masks = tuple(dict.fromkeys(map(at_least, eps))), _checked(graph, images, masks, ignore)
    if not lengths or max(lengths) == np.inf:
        raise InvalidProblem("`eps` needs at least one length, and only finite ones.")
    proof = propose_pixels(graph) if proof is None else proof
    prove, store, flat = remembering(proof), Images(images, None), masks.reshape(len(masks), -1)
    digests, costs, batch = list[str](), list[np.ndarray](), together(graph)
    for start in range(0, len(images), batch):
        where = np.arange(start, min(start + batch, len(images)))
        x = store.entering(where, "exact")
        digests += map(image_digest, x)
        costs += [cost[cost > 0] for cost in right_radii(graph, x, flat[where], proof, prove)]
        if progress:
            progress(int(where[-1]) + 1, len(images))
    index, counted = np.arange(len(images)), (flat != IGNORED).sum(1)
    mask = tuple(map(mask_digest, flat))
    claims = tuple(
        PixelClaim(
            r,
            index,
            tuple(digests),
            mask,
            counted,
            np.array([len(c) - most_flips(c, r) for c in costs], np.int64),
        )
        for r in lengths
    )
    file = Path(network) if isinstance(network, str | os.PathLike) else None
    return CertifiedPixels(claims, proof, understood, images, masks, file)


def _checked(
    network: Network, images: np.ndarray, masks: np.ndarray, ignore: int | None
) -> Int[np.ndarray, "n *pixels"]:
    """The masks, -1 where a pixel does not count."""
    classes, size = layout(network)
    numbers = images.dtype == np.uint8 or (images.dtype.kind == "f" and bool(np.isfinite(images).all()))
    if not len(images) or not numbers or images[0].size != network.inputs:
        raise InvalidProblem(
            f"Images of shape {images.shape} and type {images.dtype} do not fit a network of {network.inputs} inputs: pass uint8 or"
            " finite floating point, (n, channels, *pixels)."
        )
    if masks.shape != (len(images), *size) or masks.dtype.kind not in "iu":
        raise InvalidProblem(
            f"Masks must be whole numbers of shape {(len(images), *size)}, but are {masks.dtype} {masks.shape}."
        )
    counts = np.ones(masks.shape, bool) if ignore is None else masks != ignore
    labels = masks[counts]
    if not labels.size:
        raise InvalidProblem("No pixel counts: `ignore` leaves none. Pass masks with classes.")
    if not 0 <= int(labels.min()) <= int(labels.max()) < max(classes, 2):
        raise InvalidProblem(
            f"Masks hold classes between {int(labels.min())} and {int(labels.max())}, but the network has {max(classes, 2)}. Say"
            " `ignore=255`, or whatever label does not count."
        )
    return np.where(counts, masks.astype(np.int64), IGNORED)
