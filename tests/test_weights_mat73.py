"""MATLAB's .mat of version 7.3, HDF5: the arrays that MATLAB stored, and damaged or strange files are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from sdplip.errors import InvalidWeight, SdplipError, UnreadableFile
from sdplip.network.read.weights import read_weights_network
from sdplip.weights.mat import arrays

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)
CLASSES = {"float64": "double", "float32": "single", "int8": "int8", "bool": "logical"}


class Writer:
    """As MATLAB writes: arrays with their axes in reverse, cells as references into `#refs#`."""

    def __init__(self, path: Path):
        self.path, self.file, self.count = path, h5py.File(path, "w", userblock_size=512), 0

    def add(self, group: Any, name: str, value: Any) -> None:
        if isinstance(value, dict):
            inner = group.create_group(name)
            inner.attrs["MATLAB_class"] = np.bytes_("struct")
            for key, entry in value.items():
                self.add(inner, key, entry)
            return
        if isinstance(value, list):
            dataset = group.create_dataset(name, data=self.references(value), dtype=h5py.ref_dtype)
            kind = "cell"
        elif isinstance(value, str):
            dataset = group.create_dataset(name, data=np.array([[ord(c) for c in value]], np.uint16).T)
            kind = "char"
        else:
            kind, stored = CLASSES[value.dtype.name], value.astype(np.uint8) if value.dtype == bool else value
            dataset = group.create_dataset(name, data=stored.T)
        dataset.attrs["MATLAB_class"] = np.bytes_(kind)

    def references(self, values: list[Any]) -> np.ndarray:
        found = np.empty((len(values), 1), dtype=h5py.ref_dtype)
        for k, value in enumerate(values):
            self.count += 1
            self.add(self.file.require_group("#refs#"), f"r{self.count}", value)
            found[k, 0] = self.file[f"#refs#/r{self.count}"].ref
        return found

    def done(self) -> Path:
        self.file.close()
        with self.path.open("r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
        return self.path


def written(path: Path, content: dict[str, Any]) -> Path:
    writer = Writer(path)
    for name, value in content.items():
        writer.add(writer.file, name, value)
    return writer.done()


CONTENT = {
    "weights": [RNG.normal(size=(4, 3)), RNG.normal(size=(2, 4))],
    "params": {"fc1_weight": RNG.normal(size=(2, 5)), "inner": {"b": np.ones((1, 3), np.float32)}},
    "kernel": RNG.normal(size=(3, 2, 4, 5)),
    "small": np.array([[1, -2]], np.int8),
    "mask": np.array([[True, False], [False, True]]),
    "note": "relu",
}


def test_both_versions_hold_the_same(tmp_path):
    """The same content by SciPy's writer of version 5 and as version 7.3."""
    cell = np.empty((1, 2), object)
    cell[0, 0], cell[0, 1] = CONTENT["weights"]
    savemat(tmp_path / "five.mat", {**CONTENT, "weights": cell})
    five, seven = arrays(tmp_path / "five.mat"), arrays(written(tmp_path / "seven.mat", CONTENT))
    assert set(five) == set(seven) and len(seven) == 7
    for name, array in five.items():
        np.testing.assert_array_equal(seven[name], array)
        assert seven[name].shape == array.shape


def test_a_network_of_cells(tmp_path):
    found = read_weights_network(written(tmp_path / "w.mat", {"weights": CONTENT["weights"]})).network
    W1, W2 = CONTENT["weights"]
    x = RNG.normal(size=3)
    np.testing.assert_allclose(found(x), W2 @ np.maximum(W1 @ x, 0), rtol=1e-12)


def test_names_have_no_order_without_numbers(tmp_path):
    square = {"first": np.eye(3), "last": np.eye(3), "middle": np.eye(3)}
    with pytest.raises(InvalidWeight, match="several orders fit"):
        read_weights_network(written(tmp_path / "w.mat", square))


def test_sparse_and_complex(tmp_path):
    writer = Writer(tmp_path / "s.mat")
    group = writer.file.create_group("S")
    group.attrs["MATLAB_class"], group.attrs["MATLAB_sparse"] = np.bytes_("double"), np.uint64(3)
    for key, value in {"data": [5.0, 7.0], "ir": [2, 0], "jc": [0, 1, 1, 2]}.items():
        group.create_dataset(key, data=np.array(value))
    values = np.array([[(1.0, 2.0)]], dtype=[("real", "f8"), ("imag", "f8")])
    writer.file.create_dataset("z", data=values).attrs["MATLAB_class"] = np.bytes_("double")
    found = arrays(writer.done())
    np.testing.assert_array_equal(found["S"], [[0, 0, 7], [0, 0, 0], [5, 0, 0]])
    assert found["z"].ravel() == [1 + 2j]


def _object(writer: Writer) -> None:
    writer.file.create_dataset("net", data=np.ones(3)).attrs["MATLAB_class"] = np.bytes_("SeriesNetwork")


def _unlabelled(writer: Writer) -> None:
    writer.file.create_dataset("W", data=np.ones((3, 3)))


def _link(writer: Writer) -> None:
    writer.file["W"] = h5py.SoftLink("/#refs#")


def _elsewhere(writer: Writer) -> None:
    writer.file["W"] = h5py.ExternalLink("other.mat", "/W")


def _circle(writer: Writer) -> None:
    cell = writer.file.create_dataset("W", (2, 1), dtype=h5py.ref_dtype)
    cell.attrs["MATLAB_class"] = np.bytes_("cell")
    cell[:, 0] = [cell.ref, cell.ref]


def _out_of_order(writer: Writer) -> None:
    group = writer.file.create_group("S")
    group.attrs["MATLAB_class"], group.attrs["MATLAB_sparse"] = np.bytes_("double"), np.uint64(3)
    for key, value in {"data": [5.0], "ir": [9], "jc": [0, 1]}.items():
        group.create_dataset(key, data=np.array(value))


@pytest.mark.parametrize("strange", [_object, _unlabelled, _link, _elsewhere, _circle, _out_of_order])
def test_strange_files_are_refused(tmp_path, strange):
    writer = Writer(tmp_path / "w.mat")
    strange(writer)
    with pytest.raises(UnreadableFile) as caught:
        arrays(writer.done())
    assert "\n" not in str(caught.value)


def test_cells_of_single_numbers_are_refused(tmp_path):
    with pytest.raises(InvalidWeight, match="single numbers"):
        arrays(written(tmp_path / "w.mat", {"weights": [np.ones((1, 1)), np.ones((1, 1))]}))


def test_damaged_files_leave_no_traceback(tmp_path):
    whole = written(tmp_path / "w.mat", CONTENT).read_bytes()
    for end in (100, 600, len(whole) // 2, len(whole) - 100):
        (tmp_path / "d.mat").write_bytes(whole[:end])
        with pytest.raises(SdplipError):
            arrays(tmp_path / "d.mat")
