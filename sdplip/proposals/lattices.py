"""Proposes the finest lattice on which all frequencies are covered: as tight as is affordable."""

import numpy as np
from jaxtyping import Float

from sdplip.kernel.condition.cells import FINEST, levels
from sdplip.kernel.condition.spectrum import Spectrum
from sdplip.kernel.condition.symbol import Lattice

AFFORDABLE = {
    1e-7: 4e9, 1e-6: 1e10, 1e-5: 1.2e10, 1e-4: 2e10, 3e-4: 4e10, 6e-4: 5e10, 0.0012: 1e11, 0.0024: 2e11, 0.005: 2.5e11, 0.01: 4e11,
    0.02: 4e11, 0.04: 4e11, 0.08: 4e11, 0.15: np.inf,
}  # fmt: skip
"""By how much c may exceed the truth, and the operations, as `Spectrum.work` counts, that this may cost: the first that fits is
chosen. 2.5e11 are a few seconds."""
ROOM = 0.8
"""Share of the looseness that the finest cells take; the rest is for peaks that were missed."""
CHOICES = 9
"""Finest lattices that are weighed against each other."""


def affordable(
    spectrum: Spectrum, peak: float, values: Float[np.ndarray, " f"], groups: int
) -> tuple[Lattice, float]:
    r"""A finest lattice, from the largest $\lambda_{\max}$ and samples of it over all frequencies, and the looseness of c on it."""
    degrees = spectrum.symbol.degrees
    if not any(degrees):
        return (1,) * len(degrees), 0.0
    best, chosen = None, 0.0
    for looseness, most in AFFORDABLE.items():
        found = [
            (_cost(spectrum, lattice, values / (peak * (1 + looseness) ** 2)), lattice)
            for lattice in _lattices(degrees, looseness)
        ]
        if not found:
            continue
        best, chosen = min(found), looseness
        if best[0] <= most / min(groups, 4):
            break
    assert best is not None, "the coarsest lattices are never too fine"
    return best[1], chosen


def _lattices(degrees: Lattice, looseness: float) -> list[Lattice]:
    """Finest lattices of this looseness and somewhat less, whose coarser levels differ."""
    active = [k for k, degree in enumerate(degrees) if degree]
    outer, inner = active[:-2], active[-2:]
    r = float(np.arccos(2 / (1 + ROOM * looseness) ** (2 / (1 + len(outer))) - 1))
    D = max(degrees[k] for k in inner)
    least = 2 * np.pi * D / r
    found = set[Lattice]()
    for factor in np.geomspace(1.0, 2.0, CHOICES):
        unit = max(2, 2 ** int(np.log2(least / 12))) if factor > 1 else 2
        size = unit * int(np.ceil(least * factor / unit))
        for own in (size, 2 * int(np.ceil(least * factor / 2)))[: 2 if least < 1000 else 1]:
            sizes = [1] * len(degrees)
            for k in inner:
                sizes[k] = own
                while sizes[k] % 4 == 0 and 2 * degrees[k] * own <= D * sizes[k]:
                    sizes[k] //= 2
            for k in outer:
                sizes[k] = 2 * int(np.ceil(np.pi * degrees[k] / r / 2))
            found.add(tuple(max(n, 2 * d + 2) if d else 1 for n, d in zip(sizes, degrees, strict=True)))
    return [lattice for lattice in sorted(found) if max(lattice) <= FINEST]


def _cost(spectrum: Spectrum, lattice: Lattice, ratios: Float[np.ndarray, " f"]) -> float:
    """Expected operations of the proof, from samples relative to kappa."""
    degrees = spectrum.symbol.degrees
    lattices, outer, inner = levels(degrees, lattice)
    fixed = np.prod([(1 + np.cos(np.pi * degrees[k] / lattice[k])) / 2 for k in outer])
    total, share = 0.0, 1.0
    for sizes in lattices:
        total += share * float(np.prod(np.array(sizes, float))) / 4
        r = 2 * np.pi * max(degrees[k] / sizes[k] for k in inner)
        share = float((ratios > fixed * (1 + np.cos(r)) / 2).mean() + 1 / (2 * len(ratios)))
    return total * spectrum.work
