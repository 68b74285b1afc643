"""A local folder of Parquet files, as the hub lays them out."""

import os
import re
from pathlib import Path

from sdplip.errors import InvalidData, MissingDependency
from sdplip.training.data import columns
from sdplip.weights.damaged import refuse_damaged

TRAIN = ("train",)
TEST = ("test", "valid", "validation")


def root(path: str | None, name: str, hub: str | None) -> Path:
    """The folder to search: `path`, or `$SDPLIP_DATA/data` where the environment has it.

    Raises:
        InvalidData: neither, or not a folder.
    """
    home = os.environ.get("SDPLIP_DATA")
    if path is None and not home:
        known = f", or name the data `hub:{hub}` (extra `hub`)" if hub else ""
        raise InvalidData(
            f"`{name}` needs its Parquet files: pass their folder with `--data DIR` (`data.path` in a run file), or set"
            f" SDPLIP_DATA to the parent of `data/{name}`{known}."
        )
    folder = Path(path) if path is not None else Path(home or "", "data")
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InvalidData(
            f"The data folder `{folder}` {what}. Pass the folder that holds `train-*.parquet` (or its parent) with `--data DIR`."
        )
    return folder


def files(folder: Path, name: str) -> tuple[list[Path], list[Path]]:
    """The files `(train, test)` of data set `name` in `folder`, in `folder/name`, or one level of the hub's below.

    The test split is `test`, or `valid` where there is none (Tiny-ImageNet keeps the labels of its test split to itself).

    Raises:
        InvalidData: no such files, or one of a numbered series missing.
    """
    inner = [folder / part for part in ("", "data", "plain_text", "default", name)]
    outer = [folder / name / part for part in ("data", "plain_text", "default", name)]
    for place in inner + outer:
        train = _series(place, TRAIN)
        if train:
            test = _series(place, TEST)
            if not test:
                raise InvalidData(
                    f"`{place}` has training files but neither `test-*.parquet` nor `valid-*.parquet`."
                    " Download the test split too."
                )
            return train, test
    raise InvalidData(
        f"No `train-*.parquet` in `{folder}`, in `{folder / name}`, or in a folder `data` of theirs. Pass the folder of {name}"
        " (or its parent) with `--data DIR`, or a folder of image files with one folder a class."
    )


def read(paths: list[Path]) -> columns.Encoded:
    """The table of these files, in their order.

    Raises:
        InvalidData: wrong columns or types, missing labels.
        UnreadableFile: a truncated or damaged file.
        MissingDependency: without pyarrow.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependency(
            "Parquet files need pyarrow, which is not installed. Run `pip install pyarrow`."
        ) from None
    tables = []
    for path in paths:
        with refuse_damaged(path, "a Parquet file"), pq.ParquetFile(path) as file:
            tables.append(file.read(columns=list(columns.find(file.schema_arrow.names, f"`{path}`"))))
    with refuse_damaged(paths[0].parent, "one table in several Parquet files"):
        return columns.take(pa.concat_tables(tables), describe(paths))


def describe(paths: list[Path]) -> str:
    """What messages call these files."""
    return f"`{paths[0]}`" + (f" (and {len(paths) - 1} more)" if len(paths) > 1 else "")


def _series(place: Path, stems: tuple[str, ...]) -> list[Path]:
    """The files `stem-*.parquet` or `stem.parquet` of the first stem that has any, sorted."""
    for stem in stems:
        found = sorted([*place.glob(f"{stem}-*.parquet"), *place.glob(f"{stem}.parquet")])
        if found:
            count = re.search(r"-of-(\d+)", found[0].name)
            if count and int(count[1]) != len(found):
                raise InvalidData(
                    f"`{place}` has {len(found)} of the {int(count[1])} files `{stem}-*-of-{count[1]}`."
                    " Download the others, and remove those of another version."
                )
            return found
    return []
