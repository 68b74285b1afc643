"""A trained network certified again with constants of the whole network instead of products over its layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from sdplip.bounds.choose import SECONDS
from sdplip.bounds.classes import MarginConstants, MarginMethod, margin_constants
from sdplip.kernel.accuracy import Arithmetic, with_classes
from sdplip.kernel.proof import Proof
from sdplip.network import Network
from sdplip.network.read.torch import read_module
from sdplip.nn.bounds.tree import Bound
from sdplip.robustness.arithmetic import Precision, network_in
from sdplip.robustness.certification import RADII, Certification, Progress, Tighter, certify_accuracy
from sdplip.robustness.graph_accuracy import Certified, certify_graph


@dataclass(frozen=True, eq=False)
class Tightened:
    """The same images certified twice, with nothing but the constants of the margins changed.

    Attributes:
        before: constants layer by layer, those of `certify_accuracy`.
        after: the smaller ones of these and the constants of the whole network, pair by pair.
        constants: those of the whole network, and how they were found.
    """

    before: Certification
    after: Certification
    constants: MarginConstants

    @property
    def gain(self) -> float:
        """Mean over the pairs of classes of the constant before divided by the one after; 1 if none became smaller."""
        i, j = np.triu_indices(len(self.before.constants), 1)
        old, new = self.before.constants[i, j], self.after.constants[i, j]
        return float(np.mean(np.divide(old, new, out=np.ones_like(old), where=new > 0)))

    @property
    def helped(self) -> bool:
        """Whether any constant became smaller."""
        return self.gain > 1.0

    def to_json(self, *, file: str, data: str, radii: tuple[str, ...] = RADII) -> dict[str, Any]:
        """What `sdplip tighten --json` prints."""
        whole, front = self.constants.whole, self.constants.front
        sides = {
            name: {
                "bound": side.bound.value,
                "margin_constant": side.margin_constant,
                "certified": {eps: side.certified(eps) for eps in radii},
                "mean_radius": side.mean_radius,
            }
            for name, side in (("before", self.before), ("after", self.after))
        }
        return {
            "file": file,
            "data": data,
            "n": self.before.n,
            "clean": self.before.clean,
            **sides,
            "whole": None
            if whole is None
            else {"bound": whole.value, "method": whole.method, "lower": whole.lower},
            "front": None if front is None else {"bound": front.value, "method": front.method},
            "pairs": self.constants.pairs,
            "pairs_tried": self.constants.tried,
            "pairs_own": self.constants.own,
            "pairs_hopeless": self.constants.hopeless,
            "gain": self.gain,
            "helped": self.helped,
            "rounding": self.after.rounding,
            "precision": self.after.precision,
            "seconds": self.constants.seconds,
        }


def tighten_graph(
    network: Network,
    images: Shaped[np.ndarray, "n *pixels"],
    labels: Int[np.ndarray, " n"],
    method: MarginMethod = "auto",
    *,
    pairs: bool = True,
    arithmetic: Arithmetic = "float64",
    seconds: float = SECONDS,
    watch: Callable[[int, float, float], None] | None = None,
    progress: Progress | None = None,
) -> tuple[Tightened, Certified]:
    """The same of a graph by the kernel alone, with the proof of what is better.

    Args:
        network, images, labels, arithmetic: as for `certify_graph`.
        method, pairs, seconds, watch, progress: as for `tighten`.

    Raises:
        InvalidProblem, NotProvable: as `certify_graph`; a method that does not take the network.
    """
    network = with_classes(network)
    before = certify_graph(network, images, labels, arithmetic=arithmetic, method="product")
    known = before.certification.constants
    found = margin_constants(
        network, method, pairs=pairs, known=known, watch=watch, progress=progress, seconds=seconds
    )
    after = before
    if found.whole is not None:
        proof = Proof("least", {}, (before.proof, found.proof()))
        after = certify_graph(network, images, labels, arithmetic=arithmetic, proof=proof)
    return Tightened(before.certification, after.certification, found), after


def tighten(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    method: MarginMethod = "auto",
    *,
    pairs: bool = True,
    precision: Precision = "float64",
    batch: int = 256,
    seconds: float = SECONDS,
    watch: Callable[[int, float, float], None] | None = None,
    progress: Progress | None = None,
) -> Tightened:
    """Certify `model` before and after its constants are tightened. One logit f is read as the two 0, f.

    The constants speak of the very numbers that run in that precision; rounding of the forward pass is subtracted on both sides
    as `certify_accuracy` does. Where the network bound is not smaller the old constant stays, so no radius falls.

    Args:
        model: any that `sdplip.network.read.torch.read_module` reads.
        method: of the bound of the whole network.
        pairs: bound every pair of classes too, instead of all at once.
        seconds: budget of each of three: the bound of the whole network, that of its part in front of the head, and solves of
            pairs by themselves, those of the largest constants first.
        watch: of the solves for the whole network and its part: iteration, upper and lower value.
        progress: called with the pairs done and their number.

    Raises:
        RefusedModule: a module has no Lipschitz bound, or none as part of a whole network.
        InvalidProblem: a method that does not take the network; images and labels that do not fit.
    """
    shape = tuple(images.shape[1:])
    read_module(network_in(model, precision), shape)  # refused before anything long
    before = certify_accuracy(model, images, labels, precision=precision, batch=batch)
    kept = list[MarginConstants]()

    def tighter(network: nn.Module, known: np.ndarray) -> Tighter:
        found = margin_constants(
            with_classes(read_module(network, shape)),
            method,
            pairs=pairs,
            known=known,
            watch=watch,
            progress=progress,
            seconds=seconds,
        )
        kept.append(found)
        whole = found.whole
        bound = None if whole is None else Bound(whole.value, f"whole network, {whole.method}", "network")
        return Tighter(bound, found.values)

    after = certify_accuracy(model, images, labels, precision=precision, batch=batch, tighter=tighter)
    (found,) = kept
    return Tightened(before, after, found)
