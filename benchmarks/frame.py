"""What the benchmarks of whole networks share: a network with its published value, the options, and a Markdown table."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sdplip.bounds import bound
from sdplip.kernel.regions import Region
from sdplip.network import Network
from sdplip.network.read.weights import weights_network


@dataclass(frozen=True, eq=False)
class Case:
    """One network, where, what was published for it, and whether it belongs to the quick ones."""

    name: str
    network: Network
    published: str
    region: Region | None = None
    quick: bool = True


class Rows:
    """Rows that are written to a file as they come, and not computed again; without a file all are computed."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.known: dict[str, list[str]] = dict(json.loads(line) for line in lines)

    def of(self, name: str, compute: Callable[[], Sequence[str]]) -> list[str]:
        """The cells of this name."""
        if name not in self.known:
            self.known[name] = list(compute())
            if self.path is not None:
                with self.path.open("a") as file:
                    file.write(json.dumps([name, self.known[name]]) + "\n")
        return self.known[name]


def table(
    head: Sequence[str], cases: Callable[[Path], Iterable[Case]], row: Callable[[Case], Sequence[str]]
) -> None:
    """Prints `row` of every case that the command line asks for, below `head`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="only what takes seconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument(
        "--rows", type=Path, help="where rows are kept: those that are there are not computed again"
    )
    options = parser.parse_args()
    if "SDPLIP_DATA" not in os.environ:
        sys.exit("Set SDPLIP_DATA to the folder that holds `benchmarks`.")
    torch.set_num_threads(options.threads)
    blas = os.environ.get("OPENBLAS_NUM_THREADS", "unset")
    print(f"torch threads: {options.threads}, OPENBLAS_NUM_THREADS={blas}\n")
    print(f"| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    bound(weights_network([np.eye(2), np.eye(2)], "maxmin"), "lipsdp-neuron")  # imports and first calls
    bound(weights_network([np.eye(2), np.eye(2)]), "lipsdp-neuron")
    rows = Rows(options.rows)
    for case in cases(Path(os.environ["SDPLIP_DATA"], "benchmarks")):
        if options.only in case.name and (case.quick or not options.quick):
            cells = rows.of(case.name, lambda case=case: row(case))
            print(f"| {' | '.join([case.name, case.published, *cells])} |", flush=True)
