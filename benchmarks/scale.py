"""Optimal scalings at scale: how large a matrix, how long, how far from the best, proven, as a Markdown table.

    python benchmarks/scale.py --quick                          up to 1,000 columns, half a minute
    python benchmarks/scale.py --case "trace 10000 x 10000"     one case; repeat the option for more
    python benchmarks/scale.py                                  everything, a quarter of an hour

Gaussian weights with a fixed seed. Every row is a process of its own, so that peak memory is that of the row. Seconds are CPU
time, all threads together ("wall" is what the clock said, on a machine that may be busy): of the solver, then of `prove`, which
trusts nothing of it. "proven gap" is that of the proven interval: no scaling is better by more. For log det it is that of the
mean log. OMP_NUM_THREADS and OPENBLAS_NUM_THREADS say how many threads there are.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle workers sleep: spinning would count as CPU time

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

from sdplip.geometry import Geometry
from sdplip.kernel.condition import convolution_trace_lower_bound
from sdplip.proposals import certify_convolution
from sdplip.solvers import (
    CVXPY,
    AbstractSolver,
    ConvolutionMinTrace,
    InteriorPoint,
    MaxVolume,
    MinTrace,
    Mixing,
    Nearest,
    Problem,
    Solution,
    prove,
)

SOLVERS: dict[str, AbstractSolver] = {
    "Mixing": Mixing(),
    "Mixing 1e-4": Mixing(tolerance=1e-4),
    "InteriorPoint": InteriorPoint(),
    "SCS": CVXPY(eps=1e-8),
}
CASES = {
    "trace 1000 x 1000": ("Mixing", "InteriorPoint"),
    "log det 1000 x 1000": ("Mixing", "InteriorPoint"),
    "nearest 300 x 300": ("Mixing", "SCS"),
    "nearest 1000 x 1000": ("Mixing",),
    "trace 2000 x 2000": ("Mixing", "InteriorPoint"),
    "trace 4000 x 4000": ("Mixing",),
    "log det 4000 x 4000": ("Mixing",),
    "nearest 4000 x 4000": ("Mixing",),
    "convolution 64 channels": ("Mixing", "InteriorPoint"),
    "convolution 128 channels": ("Mixing",),
    "convolution 256 channels": ("Mixing",),
    "convolution 512 channels": ("Mixing",),
    "trace 2000 x 30000": ("Mixing 1e-4",),
    "trace 10000 x 10000": ("Mixing",),
}
QUICK = [case for case in CASES if "1000" in case or "300 x" in case]
GEOMETRY = Geometry(padding=1, padding_mode="circular", image_size=(32, 32))

HEAD = (
    "| case | solver | status | steps | rank | solve, CPU s | prove, CPU s | wall s | proven gap | peak MB |"
)


def kernel(channels: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((channels, channels, 3, 3)) / channels


def problem_of(case: str) -> Problem:
    """The problem that the name says."""
    if case.startswith("convolution"):
        return ConvolutionMinTrace.from_kernel(kernel(int(case.split()[1])), GEOMETRY)
    kind, m, n = case.replace(" x ", " ").rsplit(" ", 2)
    W = np.random.default_rng(0).standard_normal((int(m), int(n))) / np.sqrt(int(n))
    if kind == "nearest":
        return Nearest(W, np.linspace(1, 3.5, int(n)))
    return MinTrace(W) if kind == "trace" else MaxVolume(W)


def gap_of(case: str, problem: Problem, solution: Solution) -> float:
    """Proven."""
    if not isinstance(problem, ConvolutionMinTrace):
        interval = prove(problem, solution)
        kept = int((interval.t > 0).sum()) if interval.t is not None else 1
        return (interval.upper - interval.lower) / kept if isinstance(problem, MaxVolume) else interval.gap
    K = kernel(int(case.split()[1]))
    proof = certify_convolution(K, solution.t, GEOMETRY)
    assert solution.dual is not None
    lower = convolution_trace_lower_bound(K, solution.dual, GEOMETRY)
    return 1 - lower / float(proof.proven_t.sum())


def row(case: str, name: str) -> str:
    """One line of the table, computed here and now."""
    import torch  # loaded before anything is timed

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    problem = problem_of(case)
    begin, wall = time.process_time(), time.perf_counter()
    solution = SOLVERS[name].run(problem)
    solved = time.process_time()
    gap = gap_of(case, problem, solution)
    proven, wall = time.process_time(), time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rank = "" if solution.dual is None else str(solution.dual.shape[-1])
    cells = (
        case,
        name,
        solution.status.name,
        str(solution.iterations),
        rank,
        f"{solved - begin:.2f}",
        f"{proven - solved:.2f}",
        f"{wall:.1f}",
        f"{gap:.1e}",
        f"{peak:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only the small cases")
    parser.add_argument("--case", action="append", help="KIND M x N, or `convolution C channels`")
    parser.add_argument("--solver", choices=list(SOLVERS), help="only this solver, in this process")
    arguments = parser.parse_args()
    cases = arguments.case or (QUICK if arguments.quick else list(CASES))
    if arguments.solver:
        for case in cases:
            print(row(case, arguments.solver), flush=True)
        return
    print(HEAD + "\n" + "|---" * HEAD.count(" |") + "|", flush=True)
    for case in cases:
        for solver in CASES.get(case, ("Mixing",)):
            command = [sys.executable, __file__, "--case", case, "--solver", solver]
            if subprocess.run(command, check=False).returncode:
                print(f"| {case} | {solver} | no answer, see above |", flush=True)


if __name__ == "__main__":
    main()
