r"""Certified accuracy over radius, as data: exact steps of per-sample radii, and what attacks found beside it."""

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from sdplip.display import brief, equal, figure, hashed, html
from sdplip.errors import InvalidProblem, UnreadableFile
from sdplip.writing import write_text

if TYPE_CHECKING:
    from sdplip.robustness.certification import Certification
    from sdplip.robustness.published import PublishedRow


@dataclass(frozen=True)
class AttackPoint:
    """Accuracy that is left at distance `eps` after the attack of that name: an upper side of the truth."""

    attack: str
    eps: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Curve:
    r"""Fraction of samples that are correct with a radius strictly larger than r, at every r.

    It is constant on $[\mathrm{radii}_i, \mathrm{radii}_{i+1})$ and after the last one. Law: its integral is the mean certified
    radius, in which wrong predictions count 0.

    Attributes:
        name: what the legend says.
        radii: where it steps, ascending from 0; l2 distances of images in [0, 1].
        count: samples certified from there to the next radius.
        n: number of samples.
        correct: number of right predictions; not fewer than `count[0]`, since a tie is right with radius 0.
        attacks: points of the upper side.
        source: where the radii come from.
        probability: with which the certificate of each sample holds; None where it is proven. No curve has both kinds.
        evaluations: of the network for one sample, which such certificates cost.
    """

    name: str
    radii: Float[np.ndarray, " k"]
    count: Int[np.ndarray, " k"]
    n: int
    correct: int
    attacks: tuple[AttackPoint, ...] = ()
    source: str = ""
    probability: float | None = None
    evaluations: int | None = None

    __repr__ = brief("name", "n", "clean", "mean_radius")
    __eq__ = equal
    __hash__ = hashed
    _repr_html_ = html
    plot = figure

    @property
    def label(self) -> str:
        """What the legend says: the name, and of certificates with a probability that and their cost."""
        if self.probability is None:
            return self.name
        cost = "" if self.evaluations is None else f", {self.evaluations:,} evaluations"
        return f"{self.name} (with {100 * self.probability:.6g} % an image{cost})"

    @property
    def accuracy(self) -> Float[np.ndarray, " k"]:
        """The values of the steps."""
        return self.count / self.n

    @property
    def clean(self) -> float:
        """Fraction of right predictions."""
        return self.correct / self.n

    @property
    def mean_radius(self) -> float:
        """The integral of the curve; infinite if some radius is (a constant network)."""
        if self.count[-1]:
            return math.inf
        return math.fsum((self.count[:-1] * np.diff(self.radii)).tolist()) / self.n

    def at(self, r: float | Fraction | str) -> float:
        """Certified accuracy at r; a `Fraction` or a text such as "36/255" is compared without rounding it first.

        Raises:
            InvalidProblem: r is negative.
        """
        exact = Fraction(r)
        if exact < 0:
            raise InvalidProblem(f"A radius must not be negative, but is {r}.")
        below = float(exact)  # the largest double not above r: radii are doubles
        if Fraction(below) > exact:
            below = math.nextafter(below, 0)
        return float(self.accuracy[np.searchsorted(self.radii, below, side="right") - 1])

    def to_json(self, radii: Sequence[str]) -> dict[str, Any]:
        """What `sdplip curves --json` prints of it."""
        at = {r: self.at(r) for r in radii}
        return {
            "name": self.name,
            "probability": self.probability,
            "evaluations": self.evaluations,
            "n": self.n,
            "clean": self.clean,
            "certified": at if self.probability is None else None,
            "certified_with_probability": None if self.probability is None else at,
            "mean_radius": self.mean_radius if math.isfinite(self.mean_radius) else None,
            "attacks": [{"attack": p.attack, "eps": p.eps, "accuracy": p.accuracy} for p in self.attacks],
            "broken": [{"attack": p.attack, "eps": p.eps, "accuracy": p.accuracy} for p in self.broken],
        }

    @property
    def upper_side(self) -> tuple[tuple[float, float], ...]:
        """Steps (radius, accuracy) that the truth does not exceed from that radius to the next one, and after the last.

        They begin at the clean accuracy and fall where an attack left less: what is broken within a radius is broken within
        every larger one, whichever attack did it, so nothing is interpolated between attacked radii.
        """
        steps = [(0.0, self.clean)]
        for point in sorted(self.attacks, key=lambda p: (p.eps, p.accuracy)):
            if point.accuracy < steps[-1][1]:
                steps += [(point.eps, point.accuracy)]
        return tuple(steps)

    @property
    def broken(self) -> tuple[AttackPoint, ...]:
        """Attack points below the curve. On the same samples there can be none: a certificate would be false."""
        return tuple(point for point in self.attacks if point.accuracy < self.at(point.eps))


def curve_of_radii(
    name: str,
    radius: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    attacks: Iterable[AttackPoint] = (),
    source: str = "",
    probability: float | None = None,
    evaluations: int | None = None,
) -> Curve:
    """The curve of per-sample radii.

    Raises:
        InvalidProblem: no sample, unequal lengths, a radius that is negative or NaN, an attack accuracy outside [0, 1].
    """
    radius, correct = np.asarray(radius, np.float64), np.asarray(correct, bool)
    if radius.ndim != 1 or radius.shape != correct.shape or not len(radius):
        raise InvalidProblem(
            f"`radius` and `correct` must be vectors of one length, at least 1, but are {radius.shape} and {correct.shape}."
        )
    bad = ~(radius >= 0)
    if bad.any():
        i = int(bad.argmax())
        raise InvalidProblem(f"A radius must not be negative or NaN, but that of sample {i} is {radius[i]}.")
    points = tuple(sorted(attacks, key=lambda p: (p.attack, p.eps)))
    for p in points:
        if not (0 <= p.accuracy <= 1 and 0 <= p.eps < math.inf):
            raise InvalidProblem(
                f"An attack point needs a finite radius and an accuracy in [0, 1], but {p.attack} has {p.accuracy} at {p.eps}."
            )
    positive = np.sort(radius[correct & (radius > 0)])
    steps = np.concatenate([[0.0], np.unique(positive[np.isfinite(positive)])])
    count = len(positive) - np.searchsorted(positive, steps, side="right")
    return Curve(
        name, steps, count, len(radius), int(correct.sum()), points, source, probability, evaluations
    )


def curve_of_certification(
    name: str, found: "Certification", *, attacks: Iterable[AttackPoint] = (), source: str = ""
) -> Curve:
    """The curve of what `certify_accuracy` found; `at` equals `Certification.certified` at every radius."""
    return curve_of_radii(name, found.radius, found.correct, attacks=attacks, source=source)


def read_curve(
    path: str | os.PathLike[str], name: str | None = None, *, attacks: Iterable[AttackPoint] = ()
) -> Curve:
    """The curve of a per-sample table: text with commas or tabs, columns `radius` and either `correct` or `label` and `predict`.

    Raises:
        UnreadableFile: no such file, no such columns, no rows, or a row that is damaged.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            rows = list(csv.reader(file, delimiter="\t" if "\t" in head else ","))
    except UnicodeDecodeError:
        raise UnreadableFile(
            f"`{path}` is no text. Give a run folder or a per-sample .csv of `sdplip certify`."
        ) from None
    columns = [part.strip().lower() for part in head.strip().split("\t" if "\t" in head else ",")]
    judged = {"correct"} & set(columns) or {"label", "predict"} & set(columns)
    if "radius" not in columns or judged not in ({"correct"}, {"label", "predict"}):
        raise UnreadableFile(
            f"`{path}` has the columns `{', '.join(columns)[:80]}`, but needs `radius` and either `correct` or `label` and"
            " `predict`. `sdplip certify RUN` writes such a table."
        )
    probability, evaluations = _probable(rows, columns, path)
    radius, correct = np.empty(len(rows)), np.empty(len(rows), bool)
    for i, row in enumerate(rows):
        radius[i], correct[i] = _sample(dict(zip(columns, row, strict=False)), len(row), columns, path, i + 2)
    try:
        return curve_of_radii(
            name or path.stem,
            radius,
            correct,
            attacks=attacks,
            source=str(path),
            probability=probability,
            evaluations=evaluations,
        )
    except InvalidProblem as error:
        raise UnreadableFile(f"`{path}`: {error} Certify again.") from None


def curves_csv(curves: Sequence[Curve], rows: "Sequence[PublishedRow]" = ()) -> str:
    """Every curve as a tidy table `curve,kind,radius,accuracy`.

    The kinds are `clean`, `certified` (or `certified with probability 0.999`), the name of an attack, `published` and `published (not certified)`.
    A certified row holds from its radius to that of the next one; published rows hold at their radius.
    """
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(["curve", "kind", "radius", "accuracy"])
    for curve in curves:
        out.writerow([curve.name, "clean", 0.0, curve.clean])
        kind = (
            "certified"
            if curve.probability is None
            else f"certified with probability {curve.probability:.12g}"
        )
        out.writerows(
            [curve.name, kind, r, a]
            for r, a in zip(curve.radii.tolist(), curve.accuracy.tolist(), strict=True)
        )
        out.writerows([curve.name, p.attack, p.eps, p.accuracy] for p in curve.attacks)
    for row in rows:
        kind = "published" if row.doubt is None else "published (not certified)"
        if row.clean is not None:
            out.writerow([row.model, f"{kind} clean", 0.0, row.clean / 100])
        out.writerows([row.model, kind, float(Fraction(r)), percent / 100] for r, percent in row.certified)
    return file.getvalue()


def write_curves(
    path: str | os.PathLike[str], curves: Sequence[Curve], rows: "Sequence[PublishedRow]" = ()
) -> None:
    """Writes `curves_csv`; the file appears whole or not at all."""
    write_text(path, curves_csv(curves, rows))


def _probable(rows: list[list[str]], columns: list[str], path: Path) -> tuple[float | None, int | None]:
    """Probability and cost of certificates that are no proofs; one of each in a table."""
    if "probability" not in columns:
        return None, None
    found = {
        tuple(
            cell for cell, name in zip(row, columns, strict=False) if name in ("probability", "evaluations")
        )
        for row in rows
    }
    try:
        (cells,) = found
        named = dict(
            zip([name for name in columns if name in ("probability", "evaluations")], cells, strict=True)
        )
        probability = float(named["probability"])
        evaluations = int(named["evaluations"]) if "evaluations" in named else None
        if not 0 < probability < 1:
            raise ValueError
    except ValueError:
        raise UnreadableFile(
            f"`{path}`: `probability` must be one number between 0 and 1, the same in every row. Curves do not mix kinds of"
            " certificates: certify again."
        ) from None
    return probability, evaluations


TRUTH = {"1": True, "true": True, "0": False, "false": False}


def _sample(row: dict[str, str], cells: int, columns: list[str], path: Path, line: int) -> tuple[float, bool]:
    """Radius and correctness of one row."""
    damaged = UnreadableFile(
        f"`{path}`, line {line}, is no row of the columns {', '.join(columns)}. The file is damaged or cut off: certify again."
    )
    if cells != len(columns):
        raise damaged
    try:
        radius = float(row["radius"])
        same = int(row["label"]) == int(row["predict"]) if {"label", "predict"} <= row.keys() else None
        said = TRUTH[row["correct"].strip().lower()] if "correct" in row else None
    except (ValueError, KeyError):
        raise damaged from None
    if same is not None and said is not None and same is not said:
        raise UnreadableFile(
            f"`{path}`, line {line}: `correct` contradicts `label` and `predict`. Certify again."
        )
    return radius, bool(same if said is None else said)
