"""One free scale a layer in the closed-form multipliers: what it gains, on the files of `benchmarks/bounds.py`.

Run: `SDPLIP_DATA=... python benchmarks/riccati.py [--quick] [--threads 1] [--only NAME] [--rows ROWS.jsonl]`; with `--rows` a row is
written as soon as it is done and not computed again. All bounds are the kernel's. "Fast" is ECLipsE-Fast, the scaling
"spectral" with scale 1; "scale 1" the best of the four scalings with it; "free scale" the best of the four with a scale of each layer by
golden section (Syed and Hu 2025: any scale below a known limit is feasible); "greedy" ECLipsE, a semidefinite problem a layer; seconds are CPU
time of the columns in their order. lipsdp-neuron has `LIMIT` seconds of wall time; a star: it was stopped there, and is proven all the same.
"""

import time
from functools import partial

from bounds import cases
from frame import Case, table

from sdplip.bounds import NetworkBound, bound
from sdplip.bounds.methods import METHODS
from sdplip.bounds.methods.multipliers import by_chain
from sdplip.bounds.numerics.riccati import FAMILIES, riccati
from sdplip.bounds.task import Proven, Task
from sdplip.solvers.solution import Status

HEAD = ("network", "published", "Fast", "scale 1", "free scale", "greedy", "lipsdp-neuron", "seconds")
LIMIT = 120.0
MOST = 1000
"""Neurons up to which greedy runs."""


def row(case: Case) -> list[str]:
    cells, times = list[str](), list[str]()

    def put(find) -> None:
        begin = time.process_time()
        found = find()
        times.append("" if found is None else f"{time.process_time() - begin:.2g}")
        star = " *" if found is not None and found.status is Status.STOPPED else ""
        cells.append("" if found is None else f"{found.bound:.7g}{star}")

    put(lambda: _best(case, ["spectral"], free=False))
    put(lambda: _best(case, list(FAMILIES), free=False))
    put(lambda: _best(case, list(FAMILIES), free=True))
    put(lambda: _named(case, "riccati-greedy"))
    put(lambda: _named(case, "lipsdp-neuron"))
    return [*cells, " / ".join(times)]


def _best(case: Case, names: list[str], *, free: bool) -> Proven:
    proposals = {name: partial(riccati, scaling=FAMILIES[name], free=free) for name in names}
    (found,) = by_chain(Task(case.network), proposals)
    return found


def _named(case: Case, name: str) -> NetworkBound | None:
    sizes = [node.op.outputs for node in case.network.nodes]
    if METHODS[name].unfit(case.network) is not None or (name == "riccati-greedy" and sum(sizes) > 2 * MOST):
        return None
    return bound(case.network, name, lower=0.0, seconds=LIMIT, stop=True)


if __name__ == "__main__":
    table(HEAD, cases, row)
