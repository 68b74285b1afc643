"""What `sdplip certify` leaves in a run folder, read back as a curve."""

import json
import math
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from sdplip.display import figure, html
from sdplip.errors import UnreadableFile
from sdplip.robustness.curve import AttackPoint, Curve, read_curve

RESULT, SAMPLES = "certification.json", "radii.csv"
"""The two files in a run folder: what `sdplip certify --json` prints, and one row a sample."""


@dataclass(frozen=True)
class CertifiedRun:
    """The curve of a run, and which data set it is about (None: not said)."""

    curve: Curve
    data: str | None

    _repr_html_ = html
    plot = figure


def read_run(path: str | os.PathLike[str], name: str | None = None) -> CertifiedRun:
    """The curve of a run folder that `sdplip certify` has been in, or of a per-sample table.

    Raises:
        UnreadableFile: nothing there, a run without certification, or damaged files.
    """
    path = Path(path)
    if not path.exists():
        raise UnreadableFile(f"There is no run or file `{path}`. Check the name.")
    if not path.is_dir():
        return CertifiedRun(read_curve(path, name), None)
    missing = [part for part in (RESULT, SAMPLES) if not (path / part).is_file()]
    if missing:
        raise UnreadableFile(
            f"`{path}` holds no `{missing[0]}`: the run has not been certified. Run `sdplip certify {path}`."
        )
    try:
        document = json.loads((path / RESULT).read_text(encoding="utf-8"))
        points = _attacks(document["empirical"])
        data, n = str(document["data"]), int(document["n"])
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        raise UnreadableFile(
            f"`{path / RESULT}` is no certification, or damaged. Run `sdplip certify {path}` again."
        ) from None
    curve = read_curve(path / SAMPLES, name or path.resolve().name, attacks=points)
    if curve.n != n:
        raise UnreadableFile(
            f"`{path / RESULT}` is about {n} samples, `{SAMPLES}` about {curve.n}. Run `sdplip certify {path}` again."
        )
    return CertifiedRun(curve, data)


def _attacks(empirical: dict[str, Any]) -> list[AttackPoint]:
    """Points of `{"pgd": {"36/255": 0.71, ...}}`."""
    points = [
        AttackPoint(attack, float(Fraction(eps)), float(accuracy))
        for attack, found in empirical.items()
        for eps, accuracy in found.items()
    ]
    if not all(math.isfinite(p.accuracy) for p in points):
        raise ValueError
    return points
