"""Forges certificates of every kind: `python benchmarks/forge.py [MUTANTS]`, 100,000 if not said.

One table, a row a kind of claim and rule: mutants, refused as malformed (exit 2), refuted or not provable (1), accepted and true (0), and
what must be 0: accepted and false, accepted without saying what takes no part, tracebacks, mutants that take more than 5 seconds of the
processor, and those that need more than 1 GB of memory. The slowest mutant in seconds and the memory of the process in MB stand behind.

Everything runs in a process whose address space may grow by 1 GB. A tenth of the mutants are network files that were changed together
with their certificate.
"""

import collections
import os
import resource
import sys
import tempfile
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

LIMIT = 5.0
"""Seconds of the processor that one mutant may take."""
ROOM = 1 << 30
"""Bytes by which the address space may grow."""
SHOWN = 20
"""Mutants that should not be, as files."""


def main() -> int:
    import warnings

    warnings.simplefilter("error")
    from tests.forge.honest import every_case
    from tests.forge.trial import OUTCOMES, graph_trials, trials

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    rows: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    slowest: dict[str, float] = collections.defaultdict(float)
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = every_case(folder)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
        before = memory()
        graphs = count // 10
        for source in (
            trials(cases, count - graphs, 0, folder, limit=LIMIT),
            graph_trials(cases, graphs, 1, folder, limit=LIMIT),
        ):
            for k, (case, how, found) in enumerate(source, 1):
                kind = f"{case.kind}, file too" if how == "graph" else case.kind
                rows[kind][found.outcome] += 1
                rows[kind][how] += 1
                slowest[kind] = max(slowest[kind], found.seconds)
                if found.bad:
                    bad += 1
                    print(f"{kind}: {found.outcome}: {found.why.strip()[-300:]}", file=sys.stderr)
                    if bad <= SHOWN:
                        Path(f"forged-{bad}.json").write_bytes(found.text)
                if k % 5000 == 0:
                    print(f"{k} mutants, {memory() - before} MB more", file=sys.stderr)
        peak = memory() - before
    total = sum(rows.values(), collections.Counter())
    width = max(map(len, rows))
    print(
        f"{'kind':{width}} {'mutants':>8} {'bytes':>7} "
        + " ".join(f"{name:>9}" for name in OUTCOMES)
        + f" {'slowest':>8}"
    )
    for kind in (*sorted(rows), "all"):
        row = total if kind == "all" else rows[kind]
        mutants, slow = (
            sum(row[name] for name in OUTCOMES),
            max(slowest.values()) if kind == "all" else slowest[kind],
        )
        print(
            f"{kind:{width}} {mutants:8d} {row['bytes']:7d} "
            + " ".join(f"{row[name]:9d}" for name in OUTCOMES)
            + f" {slow:8.2f}"
        )
    print(f"memory: {peak} MB above that of the process before the first mutant")
    return bad > 0


def memory() -> int:
    """The largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
