"""Forges certificates of every kind: `python benchmarks/forge.py [MUTANTS [LOG]]`, 100,000 mutants if not said.

Two tables. A row a kind of claim and rule, and a row a kind of change: mutants, refused as malformed (exit 2), refuted or not provable
(1), accepted and true (0), and what must be 0: accepted and false, accepted without saying what takes no part, tracebacks, mutants that
take more than 5 seconds of the processor, and those that need more than 1 GB of memory. The slowest mutant in seconds of the processor
and the memory of the process stand behind.

Every mutant has a number, from which alone it is made. LOG is a file to which each thousand of them is written, and from which a run
goes on that was ended; with more processes each takes the thousands that have the remainder `--part 0/2`, `1/2` of their number. A fifth
of the mutants are weight files (bare arrays, network files, ONNX graphs) that were changed together with their certificate. The address
space may grow by 1 GB.
"""

import argparse
import collections
import json
import os
import resource
import sys
import tempfile
import warnings
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

LIMIT = 5.0
"""Seconds of the processor that one mutant may take."""
ROOM = 1 << 30
"""Bytes by which the address space may grow."""
CHUNK, FILES = 1000, 200
"""Mutants of one line of the log, and how many of them are changed weight files."""
OUTCOMES = ("malformed", "refuted", "accepted", "false", "silent", "traceback", "hang", "memory")
Row = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mutants", type=int, nargs="?", default=100_000)
    parser.add_argument("log", type=Path, nargs="?")
    parser.add_argument("--part", default="0/1", help="which thousands this process takes, such as 0/2")
    given = parser.parse_args()
    part, parts = map(int, given.part.split("/"))
    lines = [] if given.log is None or not given.log.exists() else given.log.read_text().splitlines()
    done = {line["chunk"]: line for line in map(json.loads, lines)}
    wanted = [k for k in range(-(-given.mutants // CHUNK)) if k not in done and k % parts == part]
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        for line in forged(wanted, Path(folder)) if wanted else ():
            done[line["chunk"]] = line
            if given.log is not None:
                with given.log.open("a") as stream:
                    stream.write(json.dumps(line) + "\n")
            print(f"{len(done) * CHUNK} mutants, {line['memory']} MB more", file=sys.stderr)
    for column in ("kind", "change"):
        print("\n".join(table(column, [row for line in done.values() for row in line["rows"]])))
        print()
    print(
        f"memory: at most {max(line['memory'] for line in done.values())} MB above that before the first mutant"
    )
    return any(row[name] for line in done.values() for row in line["rows"] for name in OUTCOMES[3:])


def forged(chunks, folder: Path):
    """What came of each thousand of mutants, as a line of the log."""
    from tests.forge.honest import every_case
    from tests.forge.trial import file_trials, trials

    cases = every_case(folder)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    before = memory()
    for chunk in chunks:
        rows: dict[tuple[str, str], Row] = collections.defaultdict(
            lambda: dict.fromkeys((*OUTCOMES, "slowest"), 0)
        )
        sources = (
            trials(cases, CHUNK - FILES, chunk, folder, limit=LIMIT),
            file_trials(cases, FILES, chunk, folder, limit=LIMIT),
        )
        for case, how, found in (one for source in sources for one in source):
            row = rows[case.kind, how]
            row[found.outcome] += 1
            row["slowest"] = max(row["slowest"], found.seconds)
            if found.bad:
                print(
                    f"{case.kind}, {how}: {found.outcome}: {found.why.strip()[-600:]}\n  {found.text[:600]!r}",
                    file=sys.stderr,
                )
        yield {
            "chunk": chunk, "memory": memory() - before,
            "rows": [{"kind": kind, "change": how, **row} for (kind, how), row in rows.items()],
        }  # fmt: skip


def table(column: str, rows: list[Row]) -> list[str]:
    """A row for each value of a column, and one for all, as Markdown."""
    found = [
        f"| {column} | mutants | " + " | ".join(OUTCOMES) + " | slowest |",
        "|---" * (len(OUTCOMES) + 3) + "|",
    ]
    for name in (*sorted({row[column] for row in rows}), "all"):
        own = [row for row in rows if name in (row[column], "all")]
        counts = [int(sum(row[outcome] for row in own)) for outcome in OUTCOMES]
        slowest = max(row["slowest"] for row in own)
        found.append(f"| {name} | {sum(counts)} | " + " | ".join(map(str, counts)) + f" | {slowest:.2f} s |")
    return found


def memory() -> int:
    """The largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
