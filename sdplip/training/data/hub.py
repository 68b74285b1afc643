"""Data sets by their name on the Hugging Face hub, through its own library and cache."""

from sdplip.errors import InvalidData, MissingDependency
from sdplip.training.data import columns
from sdplip.training.data.folder import TEST, TRAIN


def read(name: str) -> tuple[columns.Encoded, columns.Encoded]:
    """The encoded images `(train, test)` of `owner/name`; downloads and caches as `datasets` does (`HF_HUB_OFFLINE=1` works).

    Raises:
        MissingDependency: without `datasets`.
        InvalidData: not on the hub nor in the cache, no connection, no such split, or wrong columns.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports] (an extra, too large to install for types)
    except ImportError:
        raise MissingDependency(
            f"`hub:{name}` needs the library `datasets`, which is not installed. Run `pip install 'sdplip[hub]'`,"
            " or download the Parquet files and pass their folder with `--data DIR`."
        ) from None
    try:
        found = datasets.load_dataset(name)
    except Exception as error:  # network, cache, hub and parser errors of a foreign library
        reason = next(iter(str(error).splitlines()), "").strip().rstrip(".") or type(error).__name__
        raise InvalidData(
            f"`{name}` cannot be loaded from the Hugging Face hub or its cache ({reason}). Check the name and the connection,"
            " or download the Parquet files and pass their folder with `--data DIR`."
        ) from None
    splits = {}
    for names in (TRAIN, TEST):
        split = next((split for split in names if split in found), None)
        if split is None:
            raise InvalidData(
                f"`{name}` on the hub has the splits {', '.join(f'`{s}`' for s in found)}, but"
                f" {' or '.join(f'`{s}`' for s in names)} is needed. Download its Parquet files, name them `train-*` and"
                " `test-*`, and pass their folder."
            )
        splits[names] = _encoded(found[split], datasets.Image(decode=False), f"`{name}`, split `{split}`")
    return splits[TRAIN], splits[TEST]


def _encoded(split, raw, source: str) -> columns.Encoded:
    image, label = columns.find(split.column_names, source)
    table = split.select_columns([image, label]).cast_column(image, raw).with_format("arrow")[:]
    return columns.take(table, source)
