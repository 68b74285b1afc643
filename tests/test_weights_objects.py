"""Lists of arrays in .npy and .npz: the numbers of NumPy's own reader, and nothing of a pickle is ever executed."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from sdplip.errors import UnreadableFile
from sdplip.network.read.weights import Assumptions, read_weights_network
from sdplip.weights import read
from sdplip.weights.npy import arrays
from sdplip.weights.objects import array_list

RNG = np.random.default_rng(0)
ARRAYS = [
    RNG.normal(size=(4, 3)),
    np.asfortranarray(RNG.normal(size=(2, 4))).astype(np.float32),
    RNG.normal(size=(3, 2)).astype(">f8"),
    np.arange(6, dtype=np.int8).reshape(1, 2, 3),
    np.array(2.5),
    np.zeros((0, 3)),
]


def listed(entries) -> np.ndarray:
    found = np.empty(len(entries), dtype=object)
    found[:] = entries
    return found


def written(path: Path, content: object, protocol: int) -> Path:
    """As `numpy.save` writes an object array, in any protocol, of anything."""
    with path.open("wb") as stream:
        npy.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (3,)})
        stream.write(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_lists_are_those_of_numpy(tmp_path, protocol):
    path = written(tmp_path / "my_weights.npy", listed(ARRAYS), protocol)
    found = arrays(path)
    assert list(found) == [f"weights[{k}]" for k in range(len(ARRAYS))]
    for mine, theirs in zip(found.values(), ARRAYS, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_files_as_numpy_writes_them(tmp_path):
    np.save(tmp_path / "w.npy", listed(ARRAYS[:2]), allow_pickle=True)
    assert [w.name for w in read(tmp_path / "w.npy")] == ["w[0]", "w[1]"]
    np.savez(tmp_path / "w.npz", weights=listed(ARRAYS[:2]))
    found = read_weights_network(tmp_path / "w.npz").network
    x = RNG.normal(size=3)
    np.testing.assert_allclose(found(x), ARRAYS[1] @ np.maximum(ARRAYS[0] @ x, 0), rtol=1e-12)


class Trap:
    """What a hostile file does where it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_nothing_is_executed(tmp_path, protocol):
    trap = Trap(tmp_path / "executed")
    for k, content in enumerate([trap, listed([ARRAYS[0], trap]), [trap], {"w": trap}, (ARRAYS[0], trap)]):
        path = written(tmp_path / f"w{k}.npy", content, protocol)
        with pytest.raises(UnreadableFile, match="pickle"):
            arrays(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content",
    [
        np.array([np.eye(2), np.eye(2)], dtype=object),  # NumPy makes single numbers of it
        listed([np.array(["a"]), np.eye(2)]),
        listed([listed([np.eye(2)])]),
        listed([np.array([1 + 2j])]),
        [np.eye(2)],
        np.eye(2),
        3.0,
        "weights",
    ],
)
def test_what_is_no_list_of_arrays_is_refused(tmp_path, content):
    with pytest.raises(UnreadableFile, match="object array"):
        arrays(written(tmp_path / "w.npy", content, 4))


def test_damaged_pickles_never_end_otherwise():
    whole = pickle.dumps(listed(ARRAYS[:3]), protocol=4)
    rng = np.random.default_rng(1)
    for end in range(len(whole)):
        with pytest.raises(Exception):  # noqa: B017, PT011  a parser of foreign bytes: what it raises is caught by its caller
            array_list(io.BytesIO(whole[:end]))
    for _ in range(2000):
        bytes_ = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            bytes_[at] = rng.integers(0, 256)
        try:
            found = array_list(io.BytesIO(bytes(bytes_)))
        except Exception:
            continue
        assert all(isinstance(array, np.ndarray) for array in found)


def test_published_lists(benchmark_files):
    """LipBaB's and ExLipBaB's files, (in, out) as Keras stores them."""
    path = benchmark_files / "exlipbab_iris_net__4x6x6x3__ReLU_weights.npy"
    Ws = np.load(path, allow_pickle=True)
    x = RNG.normal(size=(5, 4))
    found = read_weights_network(path, Assumptions(transpose=True)).network
    wanted = np.maximum(np.maximum(x @ Ws[0], 0) @ Ws[1], 0) @ Ws[2]
    np.testing.assert_allclose(found(x), wanted, rtol=1e-5)
