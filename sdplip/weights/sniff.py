"""The format of a file, from its first bytes; the suffix must agree."""

import gzip
import re
import zipfile
import zlib
from pathlib import Path

from sdplip.errors import SdplipError, UnreadableFile
from sdplip.weights.content import opened

SUFFIXES = {
    ".npy": "npy",
    ".npz": "npz",
    ".mat": "mat",
    ".pt": "torch",
    ".pth": "torch",
    ".safetensors": "safetensors",
    ".onnx": "onnx",
    ".nnet": "nnet",
    ".csv": "csv",
    ".tsv": "csv",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".keras": "keras",
}
FORMS = {
    "npy": ".npy (one NumPy array)",
    "npz": ".npz (NumPy arrays)",
    "mat": ".mat (MATLAB 5 to 7.3)",
    "torch": ".pt (a torch state dict)",
    "safetensors": ".safetensors",
    "onnx": ".onnx",
    "nnet": ".nnet (text)",
    "csv": ".csv (one matrix as text)",
    "hdf5": ".h5 (HDF5 of Keras)",
    "keras": ".keras (a model of Keras)",
}
TEXT = ("nnet", "csv")
"""Formats whose first bytes say little: the suffix and the parser decide."""
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The first pickle of a torch file of before 2020."""
UNHELPFUL = (  # contents that are recognised and not read: first bytes, what it is, what to do
    (b"# Created by Octave", "Octave's text format", "Save it in Octave with `save -v7 file ...`"),
    (
        b"\x80",
        "a Python pickle, and reading it could execute code",
        "Load it where you trust it and save the arrays with `numpy.savez`",
    ),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file", "Run `git lfs pull`"),
)


def sniff(path: Path) -> str:
    """The key in `FORMS` of the file's format, of what is packed where it is `.gz`.

    Raises:
        UnreadableFile: not there, a directory, not permitted, empty, mislabelled, or in a format that is not read here.
    """
    head = _head(path)
    claimed = SUFFIXES.get(_suffix(path))
    found = _content(head, claimed)
    for start, what, remedy in UNHELPFUL:
        if not found and head.startswith(start):
            raise UnreadableFile(f"`{path}` is {what}. {remedy}.")
    if not found and head[257:262] == b"ustar" and claimed == "torch":
        raise UnreadableFile(
            f"`{path}` is a torch file of before 2017 (a tar archive). Load it where you trust it and save"
            " `model.state_dict()` again with `torch.save`."
        )
    found = _zip(path) if not found and head.startswith(b"PK") else found
    if found and claimed and found != claimed:
        right = next(suffix for suffix, form in SUFFIXES.items() if form == found)
        stem = path.name.removesuffix(_packed(path))
        raise UnreadableFile(
            f"`{path}` is named {_suffix(path)}, but its content looks like {FORMS[found]}."
            f" Rename it to `{Path(stem).with_suffix(right)}{_packed(path)}`."
        )
    if found or claimed in ("onnx", *TEXT):  # protobuf and text have no magic bytes: the parser decides
        return found or claimed or "onnx"
    if claimed:
        raise UnreadableFile(
            f"`{path}` is truncated or damaged: it does not start like {FORMS[claimed]}. Copy or save the file again."
        )
    raise UnreadableFile(
        f"`{path}` has no format that is known here. Save the weights as {', '.join(FORMS.values())}."
    )


def _packed(path: Path) -> str:
    """`.gz`, if the name ends so."""
    return path.suffix if path.suffix.lower() == ".gz" else ""


def _suffix(path: Path) -> str:
    """What the name says, in front of `.gz`."""
    return (path.with_suffix("") if _packed(path) else path).suffix.lower()


def _head(path: Path) -> bytes:
    try:
        with opened(path) as stream:
            head = stream.read(512)
    except FileNotFoundError:
        raise UnreadableFile(f"There is no file `{path}`. Check the path.") from None
    except IsADirectoryError:
        raise UnreadableFile(f"`{path}` is a directory. Name one file in it.") from None
    except SdplipError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UnreadableFile(
            f"`{path}` is truncated or damaged: it cannot be unpacked. Copy or pack the file again."
        ) from None
    except OSError as error:
        raise UnreadableFile(f"`{path}` cannot be opened: {error.strerror}. Check its permissions.") from None
    if not head:
        raise UnreadableFile(f"`{path}` is empty: 0 bytes. Copy or save the file again.")
    return head


def _content(head: bytes, claimed: str | None) -> str | None:
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return "safetensors"  # first: its length bytes may look like any magic
    for start, form in (
        (b"\x93NUMPY", "npy"),
        (b"MATLAB 5.0", "mat"),
        (b"MATLAB 7.3", "mat"),
        (b"\x89HDF\r\n\x1a\n", "hdf5"),
        (LEGACY, "torch"),
    ):
        if head.startswith(start):
            return form
    if claimed not in TEXT and re.match(rb"//|\s*\d+\s*,\s*\d+\s*,", head):
        return "nnet"
    if re.match(
        rb"\x08[\x01-\x1f][\x12\x1a\x22\x2a\x32\x3a\x42\x72]", head
    ):  # ir_version, then any later field
        return "onnx"
    return None


def _zip(path: Path) -> str:
    try:
        with opened(path) as stream, zipfile.ZipFile(stream) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise UnreadableFile(
            f"`{path}` is truncated or damaged: it starts like a zip archive (.npz, .pt), but its end is missing."
            " Copy or save the file again."
        ) from None
    if any(member.endswith("/constants.pkl") for member in members):
        raise UnreadableFile(
            f"`{path}` is a TorchScript program, not weights. Save its `state_dict()` with `torch.save`."
        )
    if any(member.endswith("/data.pkl") for member in members):
        return "torch"
    if {"config.json", "model.weights.h5"} <= set(members):
        return "keras"
    if all(member.endswith(".npy") for member in members):
        return "npz"
    raise UnreadableFile(
        f"`{path}` is a zip archive of neither NumPy arrays nor a torch state dict (it holds `{members[0]}`)."
        " Save the weights with `numpy.savez` or `torch.save(model.state_dict(), ...)`."
    )
