r"""Verified accuracy in l2 on a ball: networks of SDP-CROWN's kinds, certified image by image.

    python benchmarks/local_l2.py train mlp convsmall --weights FOLDER --data DATA  # DATA holds mnist/ and cifar10/ as Parquet files
    python benchmarks/local_l2.py certify mlp --weights FOLDER --limit 200          # goes on where it stopped; --piece SECONDS, then it ends
    python benchmarks/local_l2.py page                                              # writes the table of docs/benchmarks.md from the rows

The shapes and radii are those of Chiu, Chen et al. (ICML 2025, arXiv 2506.06665), whose weights and training code are not public; the
published values stand beside ours for the order of magnitude, of other weights. Ours are trained in a few CPU minutes (local_l2_train.py).

Certified are the first images of the test set that are right: by the product of norms; by the lines of alpha-CROWN (the scalars of all layers 0,
the same boxes and steps); by offsets; by everything that `sdplip certify --local` tries. All but PGD is proven by the kernel, in exact
arithmetic of the weights. Seconds are CPU time of one thread, an image that the product does not decide. docs/results/local_l2.jsonl holds a line
a network (the digest of its weights) and a line an image; rows of other weights are refused.
"""

import argparse
import hashlib
import json
import re
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from local_l2_train import KINDS, train

from sdplip.kernel.accuracy import known_margins, remembering, value_constants, with_classes
from sdplip.kernel.around import Surroundings
from sdplip.network import Activation
from sdplip.network.read.torch import read_module
from sdplip.robustness.attacks import pgd_l2
from sdplip.robustness.graph_accuracy import certify_graph
from sdplip.robustness.local_balls import Ladder
from sdplip.robustness.offsets import Offsets, Tried

DOCS = Path(__file__).resolve().parent.parent / "docs"
ROWS = DOCS / "results" / "local_l2.jsonl"
Row = dict[str, Any]
SHARES = ("right", "product", "alpha", "offsets", "all", "pgd")
HEAD = (
    "network | eps | images | clean | product | without scalars | offsets | all | PGD | gap closed | s, offsets | s, all"
    " | by offsets / splits / multipliers | published"
)


class Certifying:
    """One network, and bounds of the balls around its first test images."""

    def __init__(self, name: str, weights: Path, limit: int):
        kind = KINDS[name]
        stored = torch.load(weights / f"{name}.pt")
        self.model = kind.build()
        self.model.load_state_dict(stored["model"])
        self.images = stored["images"][:limit].double().numpy()
        self.labels = stored["labels"][:limit].numpy()
        digest = hashlib.sha256(b"".join(w.numpy().tobytes() for w in stored["model"].values())).hexdigest()
        self.head: Row = {
            "network": name,
            "weights": digest[:16],
            "trained": round(stored["seconds"], 1),
        }
        self.network = read_module(self.model.double(), self.images.shape[1:])
        self.head["neurons"] = sum(n.op.length for n in self.network.nodes if isinstance(n.op, Activation))
        self.certified = certify_graph(
            self.network, self.images, self.labels, arithmetic="exact", method="product"
        )
        self.base = self.certified.proof
        self.prove = remembering(self.base)
        constants = value_constants(self.network, self.base, self.prove)
        of = Surroundings(with_classes(self.network), constants)
        self.offsets, self.plain = Offsets(of), Offsets(of, scalars=False)
        self.eps = float(np.nextafter(float(Fraction(kind.eps)), 2))

    def row(self, k: int, seconds: float) -> Row:
        """What is found of image k."""
        one = self.certified.certification
        product = bool(one.correct[k] and one.radius[k] > self.eps)
        row: Row = {"network": self.head["network"], "image": k, "right": bool(one.correct[k])}
        if product or not row["right"]:
            return row | dict.fromkeys(SHARES[1:], product)
        return row | {"product": product} | self._open(k, seconds)

    def _open(self, k: int, seconds: float) -> Row:
        """Of an image that the product leaves open; it need not have a positive radius."""
        x, begin = self.images[k], time.process_time()
        known = known_margins(self.network, x.reshape(1, -1), self.base, "exact", self.prove)[0]
        ladder = Ladder(self.offsets, x.reshape(-1), known, self.eps)
        ladder.refuted = self.offsets.refuted([ladder.asked])[0]
        alpha = offsets = False
        if not ladder.refuted:
            ladder.tried = self.offsets.prove([ladder.asked])[0]
            offsets = not ladder.tried.open
        first = time.process_time() - begin
        if ladder.tried is not None:
            alpha = not self.plain.prove_on([Tried(ladder.asked, ladder.tried.spread)])[0].open
        begin = time.process_time()
        ball, by = ladder.climbed(begin + seconds - first)
        spent = first + time.process_time() - begin
        z, y = torch.from_numpy(x)[None], torch.tensor([int(self.labels[k])])
        moved = pgd_l2(self.model, z, y, self.eps, steps=50, restarts=3)
        with torch.no_grad():
            left = bool((self.model(moved).argmax(1) == y).all())
        return {
            "alpha": alpha, "offsets": offsets, "all": ball is not None, "pgd": left, "by": by, "refuted": ladder.refuted,
            "offset_seconds": round(first, 3), "seconds": round(spent, 3),
        }  # fmt: skip


def certify(name: str, weights: Path, limit: int, seconds: float, piece: float) -> None:
    """Adds rows of the images that have none, until `piece` seconds of the process are over."""
    end = time.process_time() + piece
    known = [row for row in read(ROWS) if row["network"] == name]
    work = Certifying(name, weights, limit)
    heads = [row for row in known if "weights" in row]
    if heads and heads[0]["weights"] != work.head["weights"]:
        raise SystemExit(
            f"The rows of {name} are of other weights, {heads[0]['weights']}. Remove them to begin anew."
        )
    if not heads:
        add(ROWS, work.head)
    done = {row["image"] for row in known if "image" in row}
    for k in sorted(set(range(limit)) - done):
        if time.process_time() > end:
            break
        add(ROWS, row := work.row(k, seconds))
        print(json.dumps(row), flush=True)


def read(rows: Path) -> list[Row]:
    return [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []


def add(rows: Path, row: Row) -> None:
    with rows.open("a") as file:
        file.write(json.dumps(row) + "\n")


def table(rows: list[Row]) -> str:
    """What was found, in percent of the images."""
    lines = [f"| {HEAD} |", "|---" + "|--:" * (HEAD.count(" | ")) + "|"]
    for name, kind in KINDS.items():
        images = [row for row in rows if row["network"] == name and "image" in row]
        if not images:
            continue
        share = {key: 100 * float(np.mean([row[key] for row in images])) for key in SHARES}
        gap = share["pgd"] - share["product"]
        closed = f"{100 * (share['all'] - share['product']) / gap:.0f} %" if gap else "-"
        tried = [row for row in images if "seconds" in row]
        times = [
            float(np.mean([row[key] for row in tried])) if tried else 0.0
            for key in ("offset_seconds", "seconds")
        ]
        by = [sum(row["by"] == name for row in tried) for name in ("offsets", "splits", "multipliers")]
        lines.append(
            f"| {name} | {kind.eps} | {len(images)} | {' | '.join(f'{value:.1f}' for value in share.values())} | {closed}"
            f" | {times[0]:.1f} | {times[1]:.1f} | {' / '.join(map(str, by))} | {' / '.join(f'{v:g}' for v in kind.published)} |"
        )
    return "\n".join(lines)


def renewed(page: str, rows: list[Row]) -> str:
    """The page with the table of these rows."""
    pattern = r"(<!-- local l2 -->\n).*?(<!-- end local l2 -->)"
    return re.sub(pattern, lambda m: f"{m[1]}\n{table(rows)}\n\n{m[2]}", page, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train", "certify", "page"])
    parser.add_argument("names", nargs="*", help=", ".join(KINDS))
    parser.add_argument("--weights", type=Path, help="folder of the networks")
    parser.add_argument("--data", type=Path, help="folder of mnist/ and cifar10/")
    parser.add_argument("--epochs", type=float, help="other than those of the script")
    parser.add_argument("--limit", type=int, default=200, help="images")
    parser.add_argument("--seconds", type=float, default=10.0, help="CPU time an image")
    parser.add_argument(
        "--piece", type=float, default=float("inf"), help="CPU time, behind which no image begins"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "page":
        page = DOCS / "benchmarks.md"
        page.write_text(renewed(page.read_text(), read(ROWS)))
        return
    if options.weights is None or (options.what == "train" and options.data is None):
        parser.error("`--weights` is needed, and `--data` for training.")
    for name in options.names or KINDS:
        if options.what == "train":
            train(name, options.weights, options.data, options.epochs)
        else:
            certify(name, options.weights, options.limit, options.seconds, options.piece)


if __name__ == "__main__":
    main()
