"""Arrow tables in the layout of the Hugging Face hub: a column of encoded images, a column of labels."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from sdplip.errors import InvalidData

if TYPE_CHECKING:
    import pyarrow

IMAGE = ("image", "img")
LABEL = ("label", "fine_label")


@dataclass(frozen=True)
class Encoded:
    """The contents of image files and their labels; `names` of the classes where the table says them."""

    images: list[bytes | None]
    labels: Shaped[np.ndarray, " n"]
    names: tuple[str, ...] | None


def find(names: list[str], source: str) -> tuple[str, str]:
    """The columns of images and of labels among these columns.

    Raises:
        InvalidData: one of them is not there.
    """
    image = next((name for name in IMAGE if name in names), None)
    label = next((name for name in LABEL if name in names), None)
    if image is None or label is None:
        raise InvalidData(
            f"{source} has the columns {_quoted(names)}, but one of {_quoted(IMAGE)} with the images and one of {_quoted(LABEL)}"
            " with the labels are needed. Rename the columns."
        )
    return image, label


def take(table: "pyarrow.Table", source: str) -> Encoded:
    """Images and labels of a table.

    Raises:
        InvalidData: columns of other names or types, or a missing label.
    """
    image, label = find(table.column_names, source)
    labels = table[label]
    if labels.null_count:
        raise InvalidData(
            f"{source} has {labels.null_count} missing labels in `{label}`. Choose a labelled split."
        )
    return Encoded(_blobs(table, image, source), labels.to_numpy(), _names(table, label))


def _blobs(table: "pyarrow.Table", image: str, source: str) -> list[bytes | None]:
    import pyarrow as pa

    kind = table.schema.field(image).type
    is_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not (is_struct or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InvalidData(
            f"{source} has `{image}` of type {kind}, but encoded images (PNG or JPEG), `struct<bytes, path>`, are needed."
            " Save them with `datasets.Image`."
        )
    chunks = table[image].chunks
    return [blob for chunk in chunks for blob in (chunk.field("bytes") if is_struct else chunk).to_pylist()]


def _names(table: "pyarrow.Table", label: str) -> tuple[str, ...] | None:
    """The class names in the hub's note on the table; None without a legible note, since they only label the output."""
    try:
        note = json.loads((table.schema.metadata or {})[b"huggingface"])
        return tuple(str(name) for name in note["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def _quoted(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "(none)"
