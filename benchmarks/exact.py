"""Exact constants of the networks that LipBaB and ExLipBaB publish, each beside the published value.

Run: `SDPLIP_DATA=... python benchmarks/exact.py ROWS.jsonl [--seconds 3600] [--only NAME]`. Every network is searched until both sides are
proven within 1e-6 of each other, or for so many seconds; its row is written at once, and networks that have a row are not done again. Then
the table is printed. LipBaB's networks on the boxes of their comparison script, ExLipBaB's for all inputs, with their biases. Seconds are
CPU time of the search and of its proof. "any biases": every pattern counts; the upper side after 100 seconds at most.

Published: the final values of the histories that ExLipBaB's repository stores (tsplittg/ExLipBaB_Code), for LipBaB's networks those that it
compares with (pyrobits/LipBaB); "-": its upper history is empty, that is unsolved.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from sdplip.arithmetic.decimals import above, below
from sdplip.bounds import exact_bound
from sdplip.kernel.regions import Box
from sdplip.network import Activation, Dense, Network, Sort, chain

PUBLISHED = {
    "lipbab_iris_net__4_5_5_3_": ("6.77145", 1.0),
    "lipbab_SDnet__10_15_10_3_": ("9.5307", 0.1),
    "lipbab_SDnet__10_20_15_10_3_": ("40.0565", 0.1),
    "exlipbab_iris_net__4x6x6x3__ReLU": ("11.63436", None),
    "exlipbab_iris_net__4x6x6x3__GroupSort_numGroups3": ("-", None),
    "exlipbab_wine_net__11x12x12x1__ReLU": ("1.743370", None),
    "exlipbab_wine_net__11x12x12x1__GroupSort_numGroups6": ("2.788306", None),
    "exlipbab_abalone_net__9x16x16x1__ReLU": ("11.121602", None),
    "exlipbab_abalone_net__9x16x16x1__GroupSort_numGroups8": ("4.486583", None),
    "exlipbab_wine_net__11x24x24x1__GroupSort_numGroups12": ("4.225401", None),
    "exlipbab_bike_net__13x20x16x8x3__GroupSort_numGroups10": ("9095.125", None),
    "exlipbab_bike_net__13x20x16x8x3__ReLU": ("- (at least 10802.404)", None),
    "exlipbab_wine_net__11x24x24x1__ReLU": ("- (at least 1.736868)", None),
    "lipbab_SDnet__10_30_30_30_3_": ("19.4628", 0.1),
}
"""By file: the published value, and the upper end of the box [0, b]; None is all inputs. Those that take longest come last."""
ANY = 100.0
"""Seconds for all biases, at most."""
HEAD = ("network", "inputs", "published", "proven lower", "proven upper", "patterns", "seconds", "any biases")


def network_of(folder: Path, name: str) -> Network:
    """Stored as (in, out); pairs are sorted where the name says so."""
    Ws = np.load(folder / f"{name}_weights.npy", allow_pickle=True)
    shifts = np.load(folder / f"{name}_biases.npy", allow_pickle=True)
    ops: list[Dense | Sort | Activation] = []
    for k, (W, b) in enumerate(zip(Ws, shifts, strict=True)):
        ops.append(Dense(W.T.astype(np.float64), b.astype(np.float64)))
        if k < len(Ws) - 1:
            m = len(b)
            ops.append(Sort(np.arange(m).reshape(-1, 2), m) if "GroupSort" in name else Activation("relu", m))
    return chain(ops)


def row(folder: Path, name: str, seconds: float) -> dict[str, object]:
    """What the search finds."""
    published, end = PUBLISHED[name]
    network = network_of(folder, name)
    region = None if end is None else Box(np.zeros(network.inputs), np.full(network.inputs, end))
    begin = time.process_time()
    found = exact_bound(network, region=region, seconds=seconds)
    spent = time.process_time() - begin
    free = exact_bound(network, any_biases=True, seconds=min(seconds, ANY))
    return {
        "network": name,
        "inputs": "all" if end is None else f"[0, {end:g}]",
        "published": published,
        "lower": found.lower,
        "upper": found.bound,
        "patterns": found.iterations,
        "cpu": spent,
        "any": free.bound,
        "note": found.note,
    }


def shown(one: dict) -> str:
    """A line of the table: sides rounded outward."""
    sides = below(one["lower"], 9), above(one["upper"], 9)
    cells = (one["network"], one["inputs"], one["published"], *sides, str(one["patterns"]))
    return f"| {' | '.join(cells)} | {one['cpu']:.1f} | {above(one['any'], 7)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    folder = Path(os.environ["SDPLIP_DATA"]) / "benchmarks"
    done = (
        [json.loads(line) for line in options.rows.read_text().splitlines()] if options.rows.exists() else []
    )
    for name in PUBLISHED:
        if options.only in name and name not in [one["network"] for one in done]:
            done.append(row(folder, name, options.seconds))
            with options.rows.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            print(shown(done[-1]), done[-1]["note"], flush=True)
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    for one in sorted(done, key=lambda one: list(PUBLISHED).index(one["network"])):
        print(shown(one))


if __name__ == "__main__":
    main()
