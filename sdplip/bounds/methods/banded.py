"""Convolutions row by row of the image, with the best multiplier of every neuron: LipSDP-Neuron of the unrolled network."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np

from sdplip.bounds.methods import lipsdp, product, riccati
from sdplip.bounds.methods.frequency import behind_cut
from sdplip.bounds.numerics.band import LARGEST, best_multipliers, cubes, worths
from sdplip.bounds.task import Proven, Task
from sdplip.errors import NotProvable
from sdplip.kernel.linear import head
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.banded import size, with_last
from sdplip.kernel.strip import MOST, Placed, Strip, leading
from sdplip.kernel.surgery import behind
from sdplip.network import Network


def split(network: Network) -> tuple[Strip, int | None]:
    """The strip with what stands behind it, and the value behind its matrix; None where that is a last convolution.

    Raises:
        NotProvable: there is none, or its rows have too many variables.
    """
    with suppress(NotProvable):
        return _checked(with_last(network)), None
    strip, at = leading(network)
    end = behind_cut(network, at)
    if end is None:
        raise NotProvable("behind the convolutions a linear map with few outputs is needed")
    return _checked(replace(strip, head=head(network, at, end))), end


def _checked(strip: Strip) -> Strip:
    if size(strip) > MOST:
        raise NotProvable("the rows of the image have too many variables for a band; use 'frequency'")
    return strip


def unfit(network: Network) -> str | None:
    """Why the method does not take this network."""
    try:
        strip, _ = split(network)
        band = Placed.of(strip)
    except NotProvable as error:
        return str(error)
    if cubes(band) > LARGEST:
        return (
            f"it would take hours: the image is cut into {len(band.sizes)} blocks of rows with up to {max(band.sizes)} variables,"
            f" {cubes(band):.1e} cubed and added up, but {LARGEST:.0e} is the most"
        )
    return None


def work(network: Network) -> float:
    """About how many seconds the search takes."""
    strip, _ = split(network)
    return 200 * 12 * cubes(Placed.of(strip)) / 5e9


def propose(task: Task) -> Iterator[Proven]:
    """One proof."""
    strip, end = split(task.network)
    band = Placed.of(strip)
    lams, tau = best_multipliers(band, task)
    for R in worths(band, lams, tau):
        with suppress(NotProvable, np.linalg.LinAlgError):
            proof = _proof(task, lams, R, end)
            yield Proven(task.conclude(proof), proof, "banded")
            return


def _proof(task: Task, lams: list[np.ndarray], R: np.ndarray, end: int | None) -> Proof:
    multipliers = [lam.tolist() for lam in lams]
    if end is None:
        return Proof("banded", {"multipliers": multipliers, "c": float(R[0, 0])})
    tail = task.about(behind(task.network, end, R))
    options = [*product.propose(tail)]
    for method in (riccati, lipsdp):
        if method.unfit(tail.network) is None:
            with suppress(NotProvable):
                options += list(riccati.propose(tail) if method is riccati else lipsdp.neuron(tail))
    best = min(options, key=lambda proven: proven.bound)
    return Proof("banded", {"multipliers": multipliers, "end": end, "R": R}, (best.proof,))
