"""One row a sample: index, label, prediction, radius, whether it is right. As CSV, TSV or Parquet."""

import csv
import io
import os
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidProblem, MissingDependency
from sdplip.robustness.certification import Certification
from sdplip.writing import write_bytes

COLUMNS = ("idx", "label", "predict", "radius", "correct")
SUFFIXES = (".csv", ".tsv", ".parquet")


def write_samples(path: str | os.PathLike[str], found: Certification) -> None:
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


def _columns(found: Certification) -> dict[str, np.ndarray]:
    values = (np.arange(found.n), found.label, found.prediction, found.radius, found.correct)
    return dict(zip(COLUMNS, values, strict=True))


def _text(found: Certification, delimiter: str) -> str:
    file = io.StringIO()
    out = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    out.writerow(COLUMNS)
    columns = _columns(found)
    columns["correct"] = columns["correct"].astype(int)
    out.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return file.getvalue()


def _parquet(found: Certification) -> bytes:
    require_parquet()
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(_columns(found)), sink)
    return sink.getvalue().to_pybytes()
