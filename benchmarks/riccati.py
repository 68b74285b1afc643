"""One free scale a layer in the closed-form multipliers: what it gains, on the files of `benchmarks/bounds.py`.

Run: `SDPLIP_DATA=... python benchmarks/riccati.py [--quick] [--threads 1] [--only NAME] [--rows ROWS.jsonl]`; with `--rows` a row is
written as soon as it is done and not computed again. All bounds are the kernel's. "Fast" is ECLipsE-Fast, the scaling
"spectral" with scale 1; "scale 1" the best of the four scalings with it; "free scale" the best of the four with a scale of each layer by
golden section (Syed and Hu 2025: any scale below a known limit is feasible); "greedy" ECLipsE, a semidefinite problem a layer; seconds are CPU
time of the columns in their order.
"""

import time
from functools import partial

from bounds import cases
from frame import Case, table

from sdplip.bounds import bound
from sdplip.bounds.methods import METHODS
from sdplip.bounds.methods.multipliers import by_chain
from sdplip.bounds.numerics.riccati import FAMILIES, riccati
from sdplip.bounds.task import Task

HEAD = ("network", "published", "Fast", "scale 1", "free scale", "greedy", "lipsdp-neuron", "seconds")
MOST = 1000
"""Neurons up to which greedy runs."""


def row(case: Case) -> list[str]:
    cells, times = list[str](), list[str]()

    def put(find) -> None:
        begin = time.process_time()
        value = find()
        times.append("" if value is None else f"{time.process_time() - begin:.2g}")
        cells.append("" if value is None else f"{value:.7g}")

    put(lambda: _best(case, ["spectral"], free=False))
    put(lambda: _best(case, list(FAMILIES), free=False))
    put(lambda: _best(case, list(FAMILIES), free=True))
    put(lambda: _named(case, "riccati-greedy"))
    put(lambda: _named(case, "lipsdp-neuron"))
    return [*cells, " / ".join(times)]


def _best(case: Case, names: list[str], *, free: bool) -> float:
    proposals = {name: partial(riccati, scaling=FAMILIES[name], free=free) for name in names}
    (found,) = by_chain(Task(case.network), proposals)
    return found.bound


def _named(case: Case, name: str) -> float | None:
    sizes = [node.op.outputs for node in case.network.nodes]
    if METHODS[name].unfit(case.network) is not None or (name == "riccati-greedy" and sum(sizes) > 2 * MOST):
        return None
    return bound(case.network, name, lower=0.0).bound


if __name__ == "__main__":
    table(HEAD, cases, row)
