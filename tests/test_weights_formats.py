"""Formats of weight files beyond the usual: packed, as text, of older programs, and files that lie about their size."""

import argparse
import collections
import contextlib
import gzip
import json
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.io import savemat
from scipy.sparse import csc_array

from sdplip.errors import InvalidWeight, MissingDependency, SdplipError, UnknownLayer, UnreadableFile
from sdplip.network import Activation, Dense, chain
from sdplip.network.file import write_network
from sdplip.network.read.file import read_file
from sdplip.weights import mat, read, safetensors
from sdplip.weights import torch as torch_files
from sdplip.weights.content import ROOM
from sdplip.weights.sniff import sniff

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def arrays_of(path: Path, **options) -> dict[str, np.ndarray]:
    return {weight.name: weight.array for weight in read(path, **options)}


def sparse_mat(path: Path, rows: list[int], starts: list[int], entries: list[float], shape: tuple[int, int]):
    """A file with one sparse matrix `A`, part by part as MATLAB writes it."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    body = (
        element(6, struct.pack("<II", 5, len(rows)))
        + element(5, struct.pack("<ii", *shape))
        + element(1, b"A")
    )
    body += element(5, np.array(rows, "<i4").tobytes()) + element(5, np.array(starts, "<i4").tobytes())
    body += element(9, np.array(entries, "<f8").tobytes())
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    path.write_bytes(header + element(14, body))


# --- packed ---


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".pt", ".safetensors", ".nnet", ".csv"])
def test_packed_files_are_read_like_others(tmp_path, suffix):
    W, plain = normal(3, 4), tmp_path / f"w{suffix}"
    match suffix:
        case ".npy":
            np.save(plain, W)
        case ".npz":
            np.savez(plain, W=W)
        case ".mat":
            savemat(plain, {"W": W})
        case ".pt":
            torch.save({"W": torch.tensor(W)}, plain)
        case ".safetensors":
            save_file({"W": W}, plain)
        case ".nnet":
            rows = [*(",".join(map(repr, map(float, row))) for row in W), *["0"] * 3]
            plain.write_text("\n".join(["1", "4,3", *["0"] * 5, *rows]))
        case ".csv":
            np.savetxt(plain, W, delimiter=",", fmt="%.17g")
    packed = tmp_path / f"w{suffix}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        ((_, array),) = arrays_of(path).items()
        assert np.array_equal(array, W)
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(UnreadableFile, match="truncated"):
        read(packed)


# --- text ---


def test_a_table_of_numbers_is_one_matrix(tmp_path):
    for text in ("1,2,3\n4,5,6\n", "# W\n1;2;3\n\n4; 5 ;6", "1 2\t3\r\n4  5 6\r\n", "\ufeff1,2,3,\n4,5,6,"):
        (tmp_path / "w.csv").write_text(text, encoding="utf-8")
        assert np.array_equal(arrays_of(tmp_path / "w.csv")["w"], [[1, 2, 3], [4, 5, 6]])
    for text, word in (("a,b\n1,2", "'a'"), ("1,2\n3", "different lengths"), ("1,x", "line 1")):
        (tmp_path / "w.csv").write_text(text)
        with pytest.raises(UnreadableFile, match=word):
            read(tmp_path / "w.csv")


def test_nnet_files_need_no_comment(tmp_path):
    (tmp_path / "n.nnet").write_text("2\n2,2,2\n0\n0\n0\n0\n0\n1,1\n-1,1\n-1\n-1\n1,0\n0,1\n0\n0\n")
    assert np.array_equal(arrays_of(tmp_path / "n.nnet")["weights[0]"], [[1, 1], [-1, 1]])
    (tmp_path / "n.nnet").write_text("1\n1,1000000000000\n0\n0\n0\n0\n0\n1\n0\n")
    with pytest.raises(UnreadableFile, match="incomplete"):
        read(tmp_path / "n.nnet")


# --- torch ---


def test_torch_files_of_before_2020_are_read_without_executing_them(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    torch.save(model.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert sniff(tmp_path / "w.pth") == "torch"
    found = arrays_of(tmp_path / "w.pth")
    assert list(found) == ["0.weight", "1.weight"]
    assert np.array_equal(found["0.weight"], model[0].weight.detach().numpy())
    torch.save(model, tmp_path / "m.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(UnreadableFile, match="pickled module"):
        read(tmp_path / "m.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_with_harmless_metadata_are_read(tmp_path, legacy):
    content = {
        "state_dict": collections.OrderedDict({"fc.weight": torch.ones(2, 3)}),
        "accuracy": np.float64(0.97),
        "loss": np.float32(0.5),
        "epoch": np.int64(3),
        "curve": np.arange(3.0),
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "history": collections.defaultdict(list, {"loss": [1.0, 0.5]}),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2, 3)}}, "param_groups": [{"lr": 0.1}]},
    }
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=not legacy)
    assert list(arrays_of(tmp_path / "c.pt")) == ["fc.weight"]
    names = list(torch_files.arrays(tmp_path / "c.pt"))
    assert names == ["fc.weight", "optimizer.state.0.exp_avg", "optimizer.param_groups[0].lr"]
    with np.errstate(all="raise"):
        torch.save({"W": np.asfortranarray(normal(2, 3)), "b": torch.ones(2)}, tmp_path / "a.pt")
    assert arrays_of(tmp_path / "a.pt")["W"].shape == (2, 3)


def test_stand_ins_of_checkpoints_do_nothing(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    for k, content in enumerate((Bomb(), {"W": torch.ones(2, 2), "args": argparse.Namespace(x=Bomb())})):
        torch.save(content, tmp_path / f"{k}.pt")
        with pytest.raises(UnreadableFile):
            read(tmp_path / f"{k}.pt")
    assert not (tmp_path / "executed").exists()


def test_tables_in_tables_without_end_are_refused(tmp_path):
    table: list = [torch.ones(2, 2)]
    for _ in range(40):
        table = [table, table]
    torch.save(table, tmp_path / "t.pt")
    with pytest.raises(UnreadableFile, match="entries"):
        read(tmp_path / "t.pt")


# --- MATLAB ---


def cell(*entries: np.ndarray) -> np.ndarray:
    return np.array(entries, dtype=object)


def test_cells_of_numbers_are_put_together_again(tmp_path):
    """NumPy makes an array of objects, each a number, where all matrices have one shape."""
    W, b = [normal(3, 3), normal(3, 3)], [normal(3), normal(3)]
    savemat(tmp_path / "two.mat", {"weights": cell(*W), "biases": cell(*b)})
    found = mat.arrays(tmp_path / "two.mat")
    assert list(found) == ["weights[0]", "weights[1]", "biases[0]", "biases[1]"]
    assert all(np.array_equal(found[f"weights[{k}]"], W[k]) for k in range(2))
    assert all(np.array_equal(found[f"biases[{k}]"], b[k]) for k in range(2))
    savemat(tmp_path / "one.mat", {"weights": cell(normal(10, 2))})
    assert [w.array.shape for w in read(tmp_path / "one.mat")] == [(10, 2)]
    K = normal(4, 2, 3, 3)
    savemat(tmp_path / "kernel.mat", {"weights": cell(K)})
    assert np.array_equal(read(tmp_path / "kernel.mat")[0].array, K)
    savemat(tmp_path / "row.mat", {"weights": np.array([1.0, 2.0, 3.0], dtype=object)})
    with pytest.raises(InvalidWeight, match="3 single numbers"):
        read(tmp_path / "row.mat")


def test_sparse_entries_that_stand_twice_add_up(tmp_path):
    path = tmp_path / "s.mat"
    sparse_mat(path, [1, 1, 0], [0, 2, 3], [1.0, 2.0, 5.0], (2, 2))
    assert np.array_equal(arrays_of(path)["A"], [[0, 5], [3, 0]])
    for rows, starts in (
        ([-1, 0], [0, 1, 2]),
        ([2, 0], [0, 1, 2]),
        ([0, 1], [0, 2, 1]),
        ([0, 1], [0, 1, 3]),
        ([0], [0, 1]),
    ):
        sparse_mat(path, rows, starts, [1.0] * len(rows), (2, 2))
        with pytest.raises(UnreadableFile):
            read(path)


# --- files that ask for more memory than they may ---


def bomb_sparse(path: Path) -> None:
    sparse_mat(path, [0], [0] * 20000 + [1], [1.0], (100_000, 20_000))


def bomb_zlib(path: Path) -> None:
    savemat(path, {"A": np.ones((2, 2))})
    inner = struct.pack("<II", 6, 8) + struct.pack("<II", 6, 0) + struct.pack("<II", 5, 8)
    inner += (
        struct.pack("<ii", 1, 2 * ROOM) + struct.pack("<HH4s", 1, 1, b"A") + struct.pack("<II", 2, 2 * ROOM)
    )
    packer = zlib.compressobj()
    packed = packer.compress(struct.pack("<II", 14, len(inner) + 2 * ROOM) + inner)
    for _ in range(32):
        packed += packer.compress(bytes(ROOM // 16))
    packed += packer.flush()
    path.write_bytes(path.read_bytes()[:128] + struct.pack("<II", 15, len(packed)) + packed)


def bomb_npz(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("W.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": "<f8", "fortran_order": False, "shape": (ROOM // 4096, 1024)}
        )
        for _ in range(32):
            member.write(bytes(ROOM // 16))


def bomb_gz(path: Path) -> None:
    with gzip.open(path, "wb") as packed:
        for _ in range(40):
            packed.write(bytes(ROOM // 32))


def bomb_pt(path: Path) -> None:
    torch.save({"W": torch.zeros(1).expand(1 << 15, 1 << 14)}, path)


BOMBS = {
    "sparse.mat": bomb_sparse,
    "zlib.mat": bomb_zlib,
    "w.npz": bomb_npz,
    "w.csv.gz": bomb_gz,
    "w.pt": bomb_pt,
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_do_not_take_much_memory(tmp_path, name):
    BOMBS[name](tmp_path / name)
    assert (tmp_path / name).stat().st_size < 2_000_000
    code = (
        "import resource, sys\nfrom sdplip.errors import UnreadableFile\nfrom sdplip.weights import read\n"
        f"{'import torch' if name.endswith('.pt') else ''}\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"try:\n    read({str(tmp_path / name)!r})\nexcept UnreadableFile as error:\n    print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    sentence, megabytes = done.stdout.splitlines()
    assert "without compression" in sentence
    assert int(megabytes) < 800  # the room, and what holds it while it is filled


def test_headers_that_say_more_than_there_is_are_refused_before_memory_is_taken(tmp_path):
    np.save(tmp_path / "w.npy", normal(2, 2))
    whole = (tmp_path / "w.npy").read_bytes()
    (tmp_path / "w.npy").write_bytes(
        whole.replace(b"(2, 2)", b"(2, 1 << 40)"[:6]).replace(b"(2, 1 ", b"(2,9e9")
    )
    with pytest.raises(UnreadableFile):
        read(tmp_path / "w.npy")
    (tmp_path / "w.npy").write_bytes(whole.replace(b"(2, 2), }      ", b"(2, 99999999)}"))
    with pytest.raises(UnreadableFile):
        read(tmp_path / "w.npy")


# --- safetensors with NumPy alone ---


def raw_safetensors(path: Path, header: object, data: bytes = b"") -> Path:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_safetensors_are_what_their_own_package_reads(tmp_path):
    from safetensors.numpy import load_file

    kinds = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
    arrays = {f"a{k}": (100 * normal(2, 3)).astype(kind) for k, kind in enumerate(kinds)}
    arrays |= {"empty": np.zeros((0, 3)), "scalar": np.array(3.0)}
    save_file(arrays, tmp_path / "w.safetensors", metadata={"format": "pt"})
    expected, found = load_file(tmp_path / "w.safetensors"), safetensors.arrays(tmp_path / "w.safetensors")
    assert set(expected) == set(found)
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
    assert all(found[name].dtype == expected[name].dtype for name in expected)


def test_safetensors_that_contradict_themselves_are_refused(tmp_path):
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    cases: list[tuple[object, bytes]] = [
        ({"W": {**entry, "data_offsets": [0, 20]}}, bytes(20)),
        ({"W": {**entry, "shape": [2, -2]}}, bytes(16)),
        ({"W": {**entry, "shape": [2.0, 2]}}, bytes(16)),
        ({"W": {**entry, "shape": [1 << 62, 1 << 62]}}, bytes(16)),
        ({"W": entry}, bytes(15)),
        ({"W": entry}, bytes(17)),
        ({"W": entry, "V": entry}, bytes(16)),
        ({"W": {**entry, "data_offsets": [16, 0]}}, bytes(16)),
        ({"W": {"shape": [2, 2]}}, bytes(16)),
        ({"W": {**entry, "dtype": ["F32"]}}, bytes(16)),
        ([1, 2], b""),
        (b'{"W": 1, "W": 2}', b""),
        (b"{" + b'"a":[' * 5000, b""),
    ]
    for header, data in cases:
        with pytest.raises(UnreadableFile, match="damaged"):
            read(raw_safetensors(tmp_path / "w.safetensors", header, data))


def test_a_verifier_reads_with_numpy_alone(tmp_path):
    W = normal(3, 2)
    save_file({"W": W}, tmp_path / "w.safetensors")
    np.savez(tmp_path / "w.npz", W=W)
    savemat(tmp_path / "w.mat", {"W": csc_array(W)})
    (tmp_path / "w.csv").write_text("1,2")
    code = (
        "import sys\nfor name in ('torch', 'scipy', 'safetensors', 'onnx', 'h5py', 'jaxtyping'): sys.modules[name] = None\n"
        "from sdplip.weights import read\n"
        f"for suffix in ('safetensors', 'npz', 'mat', 'csv'): print(len(read({str(tmp_path / 'w.')!r} + suffix)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1"] * 4, done.stderr


def test_missing_packages_are_named(tmp_path, monkeypatch):
    torch.save({"W": torch.ones(2, 2)}, tmp_path / "w.pt")
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for name, package in (("w.pt", "torch"), ("w.h5", "h5py")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingDependency, match=package):
            read(tmp_path / name)


# --- HDF5 ---


def test_keras_files_of_both_kinds(tmp_path):
    h5py = pytest.importorskip("h5py")
    K, W, b = normal(3, 3, 1, 4), normal(16, 10), normal(10)
    with h5py.File(
        tmp_path / "old.h5", "w"
    ) as file:  # as Keras 2 writes it: layers in the order of an attribute
        file.attrs["layer_names"] = ["z_conv", "a_dense"]
        file.create_dataset("z_conv/z_conv/kernel:0", data=K)
        file.create_dataset("a_dense/a_dense/kernel:0", data=W)
        file.create_dataset("a_dense/a_dense/bias:0", data=b)
        file.create_dataset("optimizer_weights/m:0", data=W)
    with h5py.File(tmp_path / "new.weights.h5", "w") as file:  # as Keras 3 does
        for name, arrays in (("conv2d", [K]), ("dense", [W, b])):
            for k, array in enumerate(arrays):
                file.create_dataset(f"layers/{name}/vars/{k}", data=array)
        file.create_dataset("optimizer/vars/0", data=np.array(3))
    old, new = arrays_of(tmp_path / "old.h5"), arrays_of(tmp_path / "new.weights.h5")
    assert list(old) == ["z_conv/kernel", "a_dense/kernel"]
    assert list(new) == ["conv2d/kernel", "dense/kernel"]
    for found in (old, new):
        first, second = found.values()
        assert np.array_equal(first, np.moveaxis(K, (3, 2), (0, 1)))
        assert np.array_equal(second, W.T)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["W"] = h5py.ExternalLink("old.h5", "a_dense")
    with pytest.raises(UnreadableFile, match="link"):
        read(tmp_path / "link.h5")
    with h5py.File(tmp_path / "big.h5", "w") as file:
        file.create_dataset("W", shape=(1 << 16, 1 << 14), dtype="f8", chunks=(64, 64), compression="gzip")
    with pytest.raises(UnreadableFile, match="memory"):
        read(tmp_path / "big.h5")
    whole = (tmp_path / "old.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFile, match="damaged"):
        read(tmp_path / "cut.h5")


# --- which arrays are layers ---


def test_masks_of_zeros_stop_nothing(tmp_path):
    np.savez(tmp_path / "w.npz", **{"fc1.weight": normal(3, 2), "mask.mask": np.zeros((1, 3, 1, 1))})
    assert list(arrays_of(tmp_path / "w.npz")) == ["fc1.weight"]
    np.savez(tmp_path / "z.npz", **{"fc1.weight": normal(3, 2), "fc2.weight": np.zeros((2, 3))})
    assert list(arrays_of(tmp_path / "z.npz", layers=["fc1.weight"])) == ["fc1.weight"]
    with pytest.raises(InvalidWeight, match="zero everywhere"):
        read(tmp_path / "z.npz")
    with pytest.raises(UnknownLayer, match=r"fc2\.weight"):
        read(tmp_path / "z.npz", layers=["fc2"])


def test_kernels_by_name_are_in_out(tmp_path):
    W, K = normal(2, 3), normal(3, 3, 4, 2)
    np.savez(tmp_path / "w.npz", **{"params/Dense_0/kernel": W, "params/Conv_0/kernel": K, "fc.weight": W})
    found = arrays_of(tmp_path / "w.npz")
    assert np.array_equal(found["params/Dense_0/kernel"], W.T)
    assert found["params/Conv_0/kernel"].shape == (2, 4, 3, 3)
    assert np.array_equal(found["fc.weight"], W)
    assert np.array_equal(arrays_of(tmp_path / "w.npz", transpose=False)["params/Dense_0/kernel"], W)
    np.save(tmp_path / "kernel.npy", K)
    assert arrays_of(tmp_path / "kernel.npy")["kernel"].shape == K.shape  # the name of the file says nothing


@pytest.mark.parametrize("name", ["legacy_torch.pth", "checkpoint_numpy_scalar.pt", "zero_mask_buffer.pt"])
def test_case_files_are_read(benchmark_files, name):
    path = benchmark_files.parent / "cases" / name
    if not path.exists():
        pytest.skip("needs the folder of small cases")
    assert [weight.array.shape for weight in read(path)] == [(10, 2), (3, 10)]


def test_damage_of_pickles_leaves_no_traceback(tmp_path):
    torch.save(
        {"a": np.float64(1), "W": torch.ones(3, 3)}, tmp_path / "w.pt", _use_new_zipfile_serialization=False
    )
    whole = (tmp_path / "w.pt").read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.integers(30, len(whole))] = rng.integers(256)
        (tmp_path / "d.pt").write_bytes(damaged)
        with contextlib.suppress(SdplipError):
            read(tmp_path / "d.pt")


def _npz_twice(path: Path) -> None:
    np.savez(path, W1=np.eye(2), W2=np.eye(2))
    with zipfile.ZipFile(path, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with file.open("W1.npy", "w") as stream:
            np.lib.format.write_array(stream, np.zeros((2, 2)))


def _mat_twice(path: Path) -> None:
    savemat(path, {"W1": np.eye(2)})
    path.write_bytes(path.read_bytes() + path.read_bytes()[128:])


def _header_twice(path: Path) -> None:
    """The first tensor of a network file under its name once more."""
    write_network(path, chain([Dense(np.eye(2)), Activation("relu", 2), Dense(np.zeros((2, 2)))]))
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = raw[8 : 8 + length].rstrip()
    tensors = {name: body for name, body in json.loads(header).items() if name.endswith("weight")}
    name, body = next(iter(tensors)), list(tensors.values())[-1]
    header = header[:-1] + f', "{name}": {json.dumps(body)}}}'.encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])


@pytest.mark.parametrize(
    ("name", "write"), [("a.npz", _npz_twice), ("a.mat", _mat_twice), ("a.safetensors", _header_twice)]
)
def test_a_name_that_stands_twice_is_refused(name, write, tmp_path):
    """Some readers take the first, some the last."""
    write(tmp_path / name)
    with pytest.raises(UnreadableFile):
        read_file(tmp_path / name)
