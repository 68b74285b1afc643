"""Bounds and CPU time of this checkout beside those of an older one, in one run, on the cases of the other benchmarks.

Run: `SDPLIP_DATA=... python benchmarks/compare.py OLD_CHECKOUT [--only TEXT] [--longest 20]`. Each checkout works in a process of its own with one
thread, the two by turns; times are CPU seconds, the best of several runs. The cases are those of `check.py`, `bounds.py`,
`bounds_images.py` and `bounds_systems.py` of each checkout, a row a method, and networks around points and cut into pieces. Left
out is what `LEFT_OUT` names, for it takes minutes, and what takes longer than `--longest` in the older one.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

LEFT_OUT = (
    *("L17_W64", "L33_W", "L65_", "lyr30n60", "lyr50n100", "lyr3n400test1.mat: riccati-greedy", "FC-R18"),
    *("cnn3_seed0: lipsdp-neuron", "cnn3_seed0: banded", "C3_CH8 whole: frequency"),
    *("C5_CH8 stack: frequency", "C5_CH8 whole", "C9_CH", "C17_CH", "CH16"),
)
"""Parts of the names of cases that take minutes, or tens of seconds."""
SEEDS = tuple(f"seed{k}" for k in range(1, 10))
"""Networks of one kind that differ by the seed of their training: one of ten is enough here."""
LOOSER, SLOWER = 1e-9, 1.2
RADII = (0.01, 0.1)
ENOUGH, MOST, LEAST = 0.25, 9, 2
"""A case is repeated for so many seconds a side, at most and at least so often."""


class Found(NamedTuple):
    """What a run of a case gives: the proven bound, and what was found from below (0 where nothing was looked for)."""

    bound: float
    lower: float = 0.0


Case = Callable[[], Found]


def own_cases(old: bool) -> Iterator[tuple[str, Case]]:
    """The cases by name, of the package and the benchmarks that are first on the path."""
    yield from layers(old)
    yield from networks()
    yield from around(old)


def layers(old: bool) -> Iterator[tuple[str, Case]]:
    import numpy as np

    from sdplip import scalings

    if old:
        from sdplip.certificates import certify, holds  # pyright: ignore[reportMissingImports]
    else:
        from sdplip.kernel.condition import holds
        from sdplip.proposals import certify
    for n in (16, 64, 256, 512, 1024, 2048):
        W = np.random.default_rng(n).normal(size=(n, n))
        t = scalings.aol(W)

        def found(W: Any = W, t: Any = t) -> Found:
            certificate = certify(W, t)
            return Found(certificate.c, certificate.c_lower)

        yield f"certify n={n}", found
        c = certify(W, t).c
        yield f"holds n={n}", lambda W=W, t=t, c=c: Found(c if holds(W, t, c) else float("inf"))


def networks() -> Iterator[tuple[str, Case]]:
    """Of the benchmarks of whole networks, a case a method."""
    import bounds
    import bounds_images
    import bounds_systems

    from sdplip.bounds import bound, split_bound

    folder = Path(os.environ["SDPLIP_DATA"], "benchmarks")
    methods = {
        bounds: ("lipsdp-neuron", "riccati-greedy", "riccati", "product"),
        bounds_images: ("lipsdp-neuron", "banded", "frequency", "product"),
        bounds_systems: ("lipsdp-neuron", "riccati", "product"),
    }
    for module, names in methods.items():
        for case in module.cases(folder):
            if any(part in case.name for part in SEEDS):
                continue
            for method in names:
                name = f"{case.name}: {method}"
                if not any(part in name for part in LEFT_OUT):
                    yield name, partial(of_bound, bound, case.network, method, region=case.region)
            if case.region is not None:
                yield f"{case.name}: 16 pieces", partial(of_bound, split_bound, case.network, case.region, 16)


def of_bound(function: Callable[..., Any], *arguments: Any, **options: Any) -> Found:
    result = function(*arguments, **options)
    return Found(getattr(result, "bound", None) or result.value, result.lower)


def around(old: bool) -> Iterator[tuple[str, Case]]:
    """Networks on balls: bounds of them, and constants of secants of all outputs."""
    import numpy as np

    from sdplip.bounds import bound
    from sdplip.robustness.local import front_of

    if old:
        from sdplip.certificates.centred import centred_gains  # pyright: ignore[reportMissingImports]
        from sdplip.certificates.region import Ball  # pyright: ignore[reportMissingImports]
        from sdplip.networks.torch import from_module  # pyright: ignore[reportMissingImports]

        def around_point(front: Any, x: Any, rows: Any) -> list[Any]:
            return [centred_gains(front, x, r, rows) for r in RADII]

    else:
        from sdplip.kernel.centred import Around
        from sdplip.kernel.regions import Ball
        from sdplip.network.read.torch import read_module as from_module

        def around_point(front: Any, x: Any, rows: Any) -> list[Any]:
            centre = front.at(x)
            return [Around.of(centre, r).gains(rows) for r in RADII]

    for widths in (
        (4, 8, 8, 3),
        (10, 30, 30, 3),
        (64, 100, 100, 10),
        (784, 300, 100, 10),
        (784, *[1000] * 3, 10),
    ):
        model, points = made(widths), np.random.default_rng(0).uniform(size=(10, widths[0]))
        name = "-".join(map(str, widths))
        front, rows = front_of(model, (widths[0],)), np.eye(widths[-1])
        points = points if widths[1] < 1000 else points[:1]

        def gains(front: Any = front, points: Any = points, rows: Any = rows) -> Found:
            balls = [c for x in points for c in around_point(front, x, rows)]
            return Found(float(np.max(balls)))

        yield f"{name} around {len(points)} points: secants", gains
        if sum(widths) < 1000:
            network = from_module(model, (widths[0],))
            for method in ("lipsdp-neuron", "riccati", "product"):
                region = Ball(points[0], 0.1)
                yield f"{name} on a ball: {method}", partial(of_bound, bound, network, method, region=region)


def made(widths: tuple[int, ...]) -> Any:
    """A ReLU network in double precision."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = list[nn.Module]()
    for n, m in pairwise(widths):
        layers += [nn.Linear(n, m), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def work(side: str) -> None:
    """Answers the names on standard input with bound, lower and CPU seconds, as JSON; first says what names there are."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    np.seterr(all="ignore")
    cases = dict(own_cases(side == "old"))
    print(json.dumps(list(cases)), flush=True)
    for line in sys.stdin:
        begin = time.process_time()
        try:
            found = cases[line.strip()]()
        except Exception as error:  # a refusal is an answer
            print(json.dumps([None, 0.0, time.process_time() - begin, str(error)]), flush=True)
        else:
            print(json.dumps([*found, time.process_time() - begin, ""]), flush=True)


class Side:
    """A process that works on a checkout."""

    def __init__(self, side: str, checkout: Path) -> None:
        threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        path = os.pathsep.join(map(str, (checkout, checkout / "benchmarks")))
        command = [sys.executable, "-P", str(Path(__file__).resolve()), str(checkout), "--work", side]
        self.process = subprocess.Popen(
            command,
            cwd=checkout,
            env=os.environ | threads | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.names: list[str] = self._answer()

    def run(self, name: str) -> tuple[float | None, float, float, str]:
        assert self.process.stdin is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return tuple(self._answer())

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"The process of {self.process.args} has ended.")
        return json.loads(line)


def compare(name: str, old: Side, new: Side, longest: float) -> tuple[str, float, float] | None:
    """A row of the table, by how much the bound is looser, and the ratio of times; None where there is nothing to compare."""
    before, after = old.run(name), new.run(name)  # first calls, not counted where there are others
    if before[0] is None or before[2] > longest:
        return None
    if after[0] is None:
        return f"| {name} | {before[0]:.10g} | {after[3]} | | {before[2]:.3g} | | |", float("inf"), 0.0
    times, taken = ([before[2]], [after[2]]), 0.0
    if before[2] < 2:
        times = ([], [])
        for k in range(2 * MOST):
            slow = k < MOST or min(times[1]) > 1.1 * min(times[0])  # more runs where it matters
            if k >= LEAST and (taken > ENOUGH * (1 if k < MOST else 2) or not slow):
                break
            times[0].append(old.run(name)[2])
            times[1].append(new.run(name)[2])
            taken += times[0][-1]
    s, t = min(times[0]), min(times[1])
    looser, ratio = after[0] / before[0] - 1, t / s
    lower = f"{before[1]:.5g}, {after[1]:.5g}" if before[1] or after[1] else ""
    row = f"| {name} | {before[0]:.10g} | {after[0]:.10g} | {looser:.0e} | {lower} | {s:.3g} | {t:.3g} | {ratio:.2f} |"
    return row, looser, ratio


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path, metavar="OLD_CHECKOUT")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds of a case in the older checkout")
    parser.add_argument("--work", choices=("old", "new"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    if "SDPLIP_DATA" not in os.environ:
        sys.exit("Set SDPLIP_DATA to the folder that holds `benchmarks`.")
    old = Side("old", options.old.resolve())
    new = Side("new", Path(__file__).resolve().parent.parent)
    print("| case | old bound | new bound | looser by | lower: old, new | old, s | new, s | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    looser, slower, count = list[str](), list[str](), 0
    for name in new.names:
        if name not in old.names or options.only not in name:
            continue
        row = compare(name, old, new, options.longest)
        if row is None:
            continue
        print(row[0], flush=True)
        count += 1
        looser += [name] * (row[1] > LOOSER)
        slower += [name] * (row[2] > SLOWER)
    print(
        f"\n{count} cases; {len(looser)} bounds looser by more than {LOOSER:g}: {'; '.join(looser) or 'none'}"
    )
    print(f"{len(slower)} times above {SLOWER:g}: {'; '.join(slower) or 'none'}")


if __name__ == "__main__":
    main()
