"""One row a sample: index, label, prediction, radius, whether it is right. As CSV, TSV or Parquet.

Certificates that hold with a probability say so in two columns more, `probability` and `evaluations` (of the network, an image).
"""

import csv
import io
import os
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidProblem, MissingDependency
from sdplip.robustness.certification import Certification
from sdplip.robustness.regression import Regression
from sdplip.robustness.smoothing import Smoothed
from sdplip.writing import write_bytes

COLUMNS = ("idx", "label", "predict", "radius", "correct")
PROBABLE = ("probability", "evaluations")
SUFFIXES = (".csv", ".tsv", ".parquet")


def write_samples(path: str | os.PathLike[str], found: Certification | Smoothed | Regression) -> None:
    """Writes the table in the format that the suffix names; the file appears whole or not at all. Radii keep every digit.

    Raises:
        InvalidProblem: another suffix.
        MissingDependency: Parquet without `pyarrow`.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise InvalidProblem(f"`{path}` must end in {', '.join(SUFFIXES)}.")
    content = (
        _parquet(found) if kind == ".parquet" else _text(found, "\t" if kind == ".tsv" else ",").encode()
    )
    write_bytes(path, content)


def require_parquet() -> None:
    """Raises MissingDependency if Parquet cannot be written, before anything long begins."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise MissingDependency(
            "Parquet needs the package `pyarrow`. `pip install pyarrow`, or write a .csv."
        ) from None


def _columns(found: Certification | Smoothed | Regression) -> dict[str, np.ndarray]:
    if isinstance(found, Regression):
        return _rows(found)
    values = (np.arange(found.n), found.label, found.prediction, found.radius, found.correct)
    columns: dict[str, np.ndarray] = dict(zip(COLUMNS, values, strict=True))
    if isinstance(found, Smoothed):
        same = (np.full(found.n, found.probability), np.full(found.n, found.evaluations))
        columns |= dict(zip(PROBABLE, same, strict=True))
    return columns


def _rows(found: Regression) -> dict[str, np.ndarray]:
    """Of a regression: targets and predictions as the network knows them, one column an output, and the error."""
    several = found.target.shape[1] > 1
    columns = {"idx": np.arange(found.n)}
    for k, (target, prediction) in enumerate(zip(found.target.T, found.prediction.T, strict=True)):
        mark = f"_{k}" if several else ""
        columns |= {f"target{mark}": target, f"predicted{mark}": prediction}
    return columns | {"error": found.error, "radius": found.radius, "correct": found.correct}


def _text(found: Certification | Smoothed | Regression, delimiter: str) -> str:
    file = io.StringIO()
    out = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    columns = _columns(found)
    out.writerow(columns)
    columns["correct"] = columns["correct"].astype(int)
    out.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return file.getvalue()


def _parquet(found: Certification | Smoothed | Regression) -> bytes:
    require_parquet()
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(_columns(found)), sink)
    return sink.getvalue().to_pybytes()
