"""Pairs of neurons beside the other bounds, over benchmark files of up to 300 hidden neurons, and one of 540.

Run: `SDPLIP_DATA=... python benchmarks/pairs.py ROWS.jsonl [--seconds 600] [--only NAME] [--most 300]`. A row is written as soon as it is
done, and networks that have one are not done again; then the table is printed. `--page` writes the table of `docs/results/pairs.jsonl` into
`docs/benchmarks.md` and runs nothing. `--seconds` is for the method pairs of each network, wall
time, which keeps what it has at its end; `--most` leaves out networks of more neurons. All bounds are the kernel's. "Jacobian" is
the largest norm over slopes at their ends that a local search finds (16 starts): the constant over all biases is not below it, and
neither is any bound that knows no biases. "closed" is how much of the way from lipsdp-neuron to it pairs go. Seconds are CPU time
of the method pairs with its proofs, with a star where time was over before its last round; smallest networks come first.
"""

import argparse
import json
import os
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from bounds import cases as plain
from frame import Case

from sdplip.arithmetic.decimals import above
from sdplip.bounds import bound
from sdplip.bounds.choose import neurons
from sdplip.bounds.methods import METHODS
from sdplip.kernel.stages import stages
from sdplip.network import Network
from sdplip.network.read.weights import weights_network
from sdplip.solvers.solution import Status
from sdplip.weights import read

OTHER = ("product", "composite", "riccati", "lipsdp-neuron")
HEAD = (
    "network",
    "neurons",
    *OTHER,
    "pairs",
    "Jacobian",
    "closed",
    "seconds",
)
DOCS = Path(__file__).parents[1] / "docs"
ROWS, PAGE = DOCS / "results" / "pairs.jsonl", DOCS / "benchmarks.md"
MOST = 300
LARGER = ("eclipse_genlocal_lyr10n60.mat",)
"""Beyond that, where `--most` allows."""
STARTS = 16
OTHERS = ("eclipse_genlocal_lyr10n10.mat", "eclipse_genlocal_lyr5n60.mat")
MAXMIN = ("maxmin_weights_l2_2fc_16.mat", "maxmin_weights_l2_2fc_32.mat")
HAND = {
    "[[-1, 3], [3, -1]], [2, 2]": [np.array([[-1.0, 3], [3, -1]]), np.array([[2.0, 2]])],
    "[[1, -3], [2, -1], [2, 2]], [3, -3, 3]": [
        np.array([[1.0, -3], [2, -1], [2, 2]]),
        np.array([[3.0, -3, 3]]),
    ],
}


def cases(folder: Path) -> Iterator[Case]:
    """Small ones first; the second column is their number of neurons."""
    found = [(name, weights_network(Ws)) for name, Ws in HAND.items()]
    found += [(case.name, case.network) for case in plain(folder)]
    found += [(name, weights_network(read(folder / name))) for name in OTHERS]
    found += [(name, weights_network(read(folder / name), "maxmin")) for name in MAXMIN]
    for name, network in sorted(found, key=lambda entry: neurons(entry[1])):
        count = neurons(network)
        if count <= MOST or name in LARGER:
            yield Case(name, network, str(count))


def row(case: Case, limit: float) -> list[str]:
    """The cells of a network."""
    fit = [name for name in OTHER if METHODS[name].unfit(case.network) is None]
    values = {name: bound(case.network, name, lower=0.0).bound for name in fit}
    alone = values["lipsdp-neuron"]
    begin = time.process_time()
    found = bound(case.network, "pairs", lower=0.0, seconds=limit, stop=True)
    pairs, seconds = found.bound, time.process_time() - begin
    lower = jacobian(case.network)
    closed = ""
    if lower:
        assert lower <= pairs, "a Jacobian above a proven bound"
        closed = f"{max(0.0, alone - pairs) / max(alone - lower, 1e-300):.0%}"
    shown = [above(values[name], 7) if name in values else "" for name in OTHER]
    star = " *" if found.status is Status.STOPPED or found.seconds > 0.8 * limit else ""
    cells = [above(pairs, 7), f"{lower:.7g}" if lower else "", closed, f"{seconds:.1f}{star}"]
    return [case.name, case.published, *shown, *cells]


def jacobian(network: Network) -> float:
    """The largest norm that the search finds over slopes at their ends; 0 where the network is no chain of activations.

    The norm is at least u' J v for unit vectors, which is linear in the slopes of one layer: these are chosen best, layer by layer,
    then u and v anew. No step lowers it.
    """
    if any("Sort" in type(node.op).__name__ for node in network.nodes):
        return 0.0
    chain, rng, best = stages(network), np.random.default_rng(0), 0.0
    Ws = [W.mid for W in chain.weights]
    for _ in range(STARTS):
        d = [alpha + (rng.random(len(alpha)) < 0.6) * (beta - alpha) for alpha, beta in chain.slopes]
        value, before = _norm(Ws, d), 0.0
        while value > before * (1 + 1e-9):
            before = value
            J = _product(Ws, d)
            U, _, V = np.linalg.svd(J)
            for k, (alpha, beta) in enumerate(chain.slopes):
                ahead, behind = V[0], U[:, 0]
                for W, slopes in zip(Ws[:k], d, strict=False):
                    ahead = slopes * (W @ ahead)
                for W, slopes in zip(Ws[: k + 1 : -1], d[:k:-1], strict=True):
                    behind = slopes * (W.T @ behind)
                gain = (Ws[k] @ ahead) * (Ws[k + 1].T @ behind)
                d[k] = np.where(gain > 0, beta, alpha)
            value = _norm(Ws, d)
        best = max(best, value)
    return best


def _product(Ws: list[np.ndarray], d: list[np.ndarray]) -> np.ndarray:
    J = Ws[0]
    for (_, W), slopes in zip(pairwise(Ws), d, strict=True):
        J = W @ (slopes[:, None] * J)
    return J


def _norm(Ws: list[np.ndarray], d: list[np.ndarray]) -> float:
    return float(np.linalg.norm(_product(Ws, d), 2))


def rows_of(path: Path) -> list[list[str]]:
    """The rows that are there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows: list[list[str]]) -> str:
    """Smallest networks first."""
    lines = [HEAD, ["---"] * len(HEAD), *sorted(rows, key=lambda cells: int(cells[1]))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def renewed(page: str, rows: list[list[str]]) -> str:
    """The page with the table of these rows."""
    pattern = r"(<!-- pairs -->\n).*?(<!-- end pairs -->)"
    return re.sub(pattern, lambda m: f"{m[1]}\n{table(rows)}\n\n{m[2]}", page, flags=re.S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path, nargs="?", default=ROWS)
    parser.add_argument("--page", action="store_true", help="only write the table into the documentation")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--most", type=int, default=MOST, help="neurons")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows = rows_of(options.rows)
    if options.page:
        PAGE.write_text(renewed(PAGE.read_text(), rows))
        return
    torch.set_num_threads(options.threads)
    bound(weights_network([np.eye(2), np.eye(2)]), "pairs", lower=0.0)  # imports and first calls
    for case in cases(Path(os.environ["SDPLIP_DATA"], "benchmarks")):
        if (
            options.only in case.name
            and int(case.published) <= options.most
            and case.name not in [r[0] for r in rows]
        ):
            rows.append(row(case, options.seconds))
            with options.rows.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(f"| {' | '.join(rows[-1])} |", flush=True)
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
