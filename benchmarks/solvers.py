"""Our solvers against general ones, side by side in one run, as a Markdown table.

    python benchmarks/solvers.py --quick            the small cases, about a minute
    python benchmarks/solvers.py --case n=2048      one case; repeat the option for more
    python benchmarks/solvers.py                    everything, about half an hour

Weights are Gaussian with a fixed seed. Every row is a process of its own, so that peak memory is that of the row. "least
eigenvalue" is that of I - T^{-1/2} W^T W T^{-1/2}: negative means that the point violates the condition. "proven gap" is that of
the interval that `prove` returns, point and dual point repaired and rounded outward. "SCS plain" is CVXPY as users write it,
the other SCS rows use our preset. Convolutions run on one thread: batches of small blocks lose with two. Other work on the
machine can make a row several times slower, most of all when there are more threads than idle cores: the load average is
printed first. Two threads, unless OMP_NUM_THREADS says otherwise.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # idle workers sleep: spinning made loaded machines far slower
os.environ["MKL_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]

import argparse
import resource
import subprocess
import sys
import time
from typing import Any

import cvxpy as cp
import numpy as np
import torch

from sdplip.geometry import Geometry
from sdplip.solvers import (
    CVXPY,
    AbstractSolver,
    ConvolutionMinTrace,
    InteriorPoint,
    MaxVolume,
    MinTrace,
    Mixing,
    Solution,
    Status,
    prove,
)
from sdplip.solvers.problems import Problem

THREADS = int(os.environ["OMP_NUM_THREADS"])
torch.set_num_threads(THREADS)

EIGENVALUE_ORDER = 2100
"""Above this order the least eigenvalue is not computed: it would take longer than the solve."""


def layer(n: int) -> MinTrace:
    return MinTrace(np.random.default_rng(0).standard_normal((n, n)) / np.sqrt(n))


def volume(n: int) -> MaxVolume:
    return MaxVolume(layer(n).W)


def convolution(channels: int, size: int) -> ConvolutionMinTrace:
    kernel = np.random.default_rng(0).standard_normal((channels, channels, 3, 3)) / channels
    geometry = Geometry(padding=1, padding_mode="circular", image_size=(size, size))
    return ConvolutionMinTrace.from_kernel(kernel, geometry)


SCS = CVXPY("SCS", eps=1e-6, time_limit=600)
SDPA = CVXPY("SDPA", eps=1e-7)


class PlainSCS(AbstractSolver):
    """CVXPY and SCS with nothing but a tolerance, the formulation that users write first."""

    def run(self, problem: Problem, *, start: Any = None, progress: Any = None) -> Solution:  # noqa: ARG002
        assert isinstance(problem, MinTrace)
        begin = time.perf_counter()
        t = cp.Variable(problem.W.shape[1])
        constraint = cp.diag(t) - problem.W.T @ problem.W >> 0
        model = cp.Problem(cp.Minimize(cp.sum(t)), [constraint])
        model.solve(solver=cp.SCS, eps=1e-6)
        seconds = time.perf_counter() - begin
        assert t.value is not None
        values, vectors = np.linalg.eigh((constraint.dual_value + constraint.dual_value.T) / 2)
        dual = vectors * np.sqrt(np.maximum(values, 0))
        status = Status.OPTIMAL if model.status == "optimal" else Status.INACCURATE
        lower = problem.lower(dual)
        steps = model.solver_stats.num_iters or 0
        return Solution(t.value, status, float(t.value.sum()), lower, dual, steps, seconds, "SCS plain")


SOLVERS = {
    "InteriorPoint 1e-8": InteriorPoint(),
    "InteriorPoint 1e-6": InteriorPoint(gap=1e-6),
    "Mixing 1e-8": Mixing(tolerance=1e-8),
    "Mixing 1e-3": Mixing(tolerance=1e-3),
    "SCS plain 1e-6": PlainSCS(),
    "SCS 1e-6": SCS,
    "SDPA 1e-7": SDPA,
}
"""By the name that the table shows."""

OURS = ("InteriorPoint 1e-8", "Mixing 1e-8")
CASES = {
    "n=100": (lambda: layer(100), (*OURS, "SCS plain 1e-6", "SCS 1e-6", "SDPA 1e-7")),
    "n=300": (lambda: layer(300), (*OURS, "SCS plain 1e-6", "SCS 1e-6", "SDPA 1e-7")),
    "volume n=100": (lambda: volume(100), ("InteriorPoint 1e-8", "SCS 1e-6")),
    "conv 8x8x3x3, 8x8": (lambda: convolution(8, 8), ("InteriorPoint 1e-6", "SCS 1e-6")),
    "n=500": (lambda: layer(500), (*OURS, "SDPA 1e-7")),
    "volume n=500": (lambda: volume(500), ("InteriorPoint 1e-8",)),
    "n=1024": (lambda: layer(1024), OURS),
    "conv 64x64x3x3, 32x32": (lambda: convolution(64, 32), ("InteriorPoint 1e-6",)),
    "n=2048": (lambda: layer(2048), OURS),
    "n=4096": (lambda: layer(4096), ("Mixing 1e-8",)),
    "n=10000": (lambda: layer(10_000), ("Mixing 1e-3",)),
}
QUICK = ("n=100", "n=300", "volume n=100", "conv 8x8x3x3, 8x8")

HEAD = "| case | solver | status | steps | seconds | objective | relative gap | proven gap | least eigenvalue | peak MB |"


def row(case: str, solver: str) -> str:
    """One line of the table, computed here and now."""
    problem = CASES[case][0]()
    if not isinstance(SOLVERS[solver], CVXPY):  # the first call of torch loads its libraries
        SOLVERS[solver].run(convolution(2, 4) if isinstance(problem, ConvolutionMinTrace) else layer(5))
    solution = SOLVERS[solver].run(problem)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lower = -np.inf if solution.lower is None else solution.lower
    gap = (solution.objective - lower) / abs(solution.objective)
    cells = (
        case,
        solver,
        solution.status.name,
        f"{solution.iterations}",
        f"{solution.seconds:.2f}",
        f"{solution.objective:.9g}",
        f"{gap:.1e}",
        "" if isinstance(problem, ConvolutionMinTrace) else f"{prove(problem, solution).gap:.1e}",
        least_eigenvalue(problem, solution.t),
        f"{peak:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def least_eigenvalue(problem: Problem, t: np.ndarray) -> str:
    symbols = problem.symbols if isinstance(problem, ConvolutionMinTrace) else problem.W[None]
    if len(t) > EIGENVALUE_ORDER:
        return "not computed"
    P = symbols * t**-0.5
    return f"{1 - max(np.linalg.norm(P_w, 2) ** 2 for P_w in P):.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only the small cases")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this case")
    parser.add_argument("--solver", choices=list(SOLVERS), help="only this solver, in this process")
    arguments = parser.parse_args()
    cases = arguments.case or (QUICK if arguments.quick else tuple(CASES))
    if arguments.solver:
        for case in cases:
            print(row(case, arguments.solver), flush=True)
        return
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{THREADS} threads, {os.cpu_count()} processors, load {load} before the start\n\n{HEAD}")
    print("|---" * HEAD.count(" |") + "|", flush=True)
    for case in cases:
        for solver in CASES[case][1]:
            command = [sys.executable, __file__, "--case", case, "--solver", solver]
            threads = {"OMP_NUM_THREADS": "1"} if case.startswith("conv") else {}
            if subprocess.run(command, check=False, env=os.environ | threads).returncode:
                print(f"| {case} | {solver} | no answer, see above |", flush=True)


if __name__ == "__main__":
    main()
