"""Data sets from every source, what is refused, validation splits, and the order of batches."""

import io
import itertools
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sdplip.errors import InvalidData, MissingDependency, UnreadableFile
from sdplip.training.config import DataConfig
from sdplip.training.data import Batches, Split, fingerprint, hold_out, load, load_arrays, mean
from sdplip.training.data.order import permutation, seed_of

N = 20


@pytest.fixture
def local_data() -> Path:
    root = os.environ.get("SDPLIP_DATA")
    if not root or not Path(root, "data").is_dir():
        pytest.skip("needs the folder of local data: set SDPLIP_DATA")
    return Path(root, "data")


def encode(pixels: np.ndarray, form: str = "PNG") -> dict:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return {"bytes": buffer.getvalue(), "path": None}


def pictures(n: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def save(
    path: Path, pixels, labels, *, image: str = "image", label: str = "label", names=None, form: str = "PNG"
) -> None:
    """A Parquet file as the hub has it; `pixels` are arrays, or cells of the image column as they are."""
    cells = [encode(p, form) if isinstance(p, np.ndarray) else p for p in pixels]
    table = pa.table({image: cells, label: labels, "extra": list(range(len(cells)))})
    if names is not None:
        note = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(note)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def mnist_folder(folder: Path, **test) -> Path:
    """A small MNIST; `test` replaces arguments of the test file."""
    labels = [i % 10 for i in range(N)]
    save(folder / "train-00000-of-00001.parquet", pictures(N, (28, 28)), labels)
    values = {"pixels": pictures(10, (28, 28), 1), "labels": list(range(10))} | test
    save(folder / "test-00000-of-00001.parquet", **values)
    return folder


def config(name: str, path: Path | None = None, validation: float = 0) -> DataConfig:
    return DataConfig(name, None if path is None else str(path), validation)


def test_digits() -> None:
    data = load(config("digits"))
    values = torch.arange(17, dtype=torch.float64) * 255 / 16
    assert data.train.images.unique().tolist() == values.round().to(torch.uint8).tolist()  # one to one
    assert (
        len(data.train) + len(data.test) == 1797 and data.train.shape == (1, 8, 8) and data.validation is None
    )
    assert data.classes == tuple("0123456789")
    assert fingerprint(data.train) == fingerprint(load(config("digits")).train) != fingerprint(data.test)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    again = torch.cat((data.train.images, data.test.images)).flatten(1).to(torch.float64) * 16 / 255
    assert sorted(again.round().tolist()) == sorted(images.tolist())
    assert (
        torch.cat((data.train.labels, data.test.labels)).bincount().tolist() == np.bincount(labels).tolist()
    )


@pytest.mark.parametrize("place", ["", "data", "mnist", "mnist/data", "mnist/mnist"])
def test_parquet_is_found_in_every_layout(tmp_path: Path, place: str) -> None:
    mnist_folder(tmp_path / place)
    data = load(config("mnist", tmp_path))
    assert torch.equal(data.train.images[:, 0], torch.from_numpy(pictures(N, (28, 28))))
    assert data.train.labels.tolist() == [i % 10 for i in range(N)] and data.train.labels.dtype == torch.int64
    assert len(data.test) == 10


def test_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist_folder(tmp_path / "data" / "mnist")
    monkeypatch.setenv("SDPLIP_DATA", str(tmp_path))
    assert len(load(config("mnist")).train) == N


def test_cifar100_has_fine_labels_and_names(tmp_path: Path) -> None:
    pixels = pictures(N, (32, 32, 3))
    names = [f"c{i}" for i in range(100)]
    for part in ("train", "test"):
        save(
            tmp_path / f"{part}-0.parquet",
            pixels,
            list(range(N)),
            image="img",
            label="fine_label",
            names=names,
        )
    data = load(config("cifar100", tmp_path))
    assert torch.equal(data.test.images, torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert data.classes == tuple(names)


def test_tiny_imagenet_tests_on_valid_and_takes_grey_jpegs(tmp_path: Path) -> None:
    grey, colour = np.full((64, 64), 77, np.uint8), np.full((64, 64, 3), (200, 10, 90), np.uint8)
    for part in ("train", "valid"):
        save(tmp_path / "data" / f"{part}-00000-of-00001-ab.parquet", [grey, colour], [199, 0], form="JPEG")
    data = load(config("tiny_imagenet", tmp_path))
    assert data.test.shape == (3, 64, 64) and len(data.classes) == 200
    assert (data.test.images[0].int() - 77).abs().max() <= 1  # JPEG of one colour is exact up to its rounding
    # luma and two chroma values are rounded: at most 1/2 each, times at most 1.772 going back
    assert (data.test.images[1, :, 0, 0].int() - torch.tensor([200, 10, 90])).abs().max() <= 2


def test_several_files_are_one_split(tmp_path: Path) -> None:
    mnist_folder(tmp_path)
    (tmp_path / "train-00000-of-00001.parquet").unlink()
    for i in range(2):
        save(tmp_path / f"train-0000{i}-of-00002.parquet", pictures(3, (28, 28), i), [i] * 3)
    assert load(config("mnist", tmp_path)).train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    (tmp_path / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(InvalidData, match="has 1 of the 2 files"):
        load(config("mnist", tmp_path))


def test_any_data_set_in_the_layout(tmp_path: Path) -> None:
    for part in ("train", "test"):
        save(tmp_path / f"{part}.parquet", pictures(4, (5, 7)), [0, 2, 1, 0])
    data = load(config("parquet", tmp_path))
    assert data.train.shape == (1, 5, 7) and data.classes == ("0", "1", "2")


RGB = pictures(10, (28, 28, 3))
ODD = [*pictures(9, (28, 28)), pictures(1, (28, 27))[0]]
BROKEN = [*pictures(9, (28, 28)), {"bytes": encode(ODD[0])["bytes"][:60], "path": None}]
PATHS = [{"bytes": None, "path": "a.png"}] * 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "picture"}, "columns `picture`, `label`, `extra`, but one of `image`, `img`"),
        ({"label": "target"}, "and one of `label`, `fine_label`"),
        ({"labels": [*range(9), 10]}, "label 10 at image 9, but its 10 classes are 0 to 9"),
        ({"labels": [-1] * 10}, "unlabelled"),
        ({"labels": [*range(9), None]}, "1 missing labels in `label`"),
        ({"labels": [0.5] * 10}, "labels of type float64"),
        ({"labels": [float("nan")] * 10}, r"missing \(NaN\)"),
        ({"pixels": RGB}, "mode RGB, but 8-bit grey is needed"),
        ({"pixels": ODD}, "28 x 28 first, but image 9 is 27 x 28"),
        ({"pixels": BROKEN}, "Image 9 of .* cannot be decoded"),
        ({"pixels": PATHS}, "holds no bytes for image 0"),
        ({"pixels": pictures(10, (8, 8))}, "images of 1 x 8 x 8, but mnist has 1 x 28 x 28"),
        ({"pixels": [[1, 2]] * 10}, r"type list<.*>, but encoded images"),
        ({"pixels": [], "labels": []}, "type null, but encoded images"),
    ],
)
def test_bad_parquet_is_refused_in_one_sentence(tmp_path: Path, change: dict, message: str) -> None:
    mnist_folder(tmp_path, **change)
    with pytest.raises(InvalidData, match=message):
        load(config("mnist", tmp_path))


def test_truncated_parquet(tmp_path: Path) -> None:
    file = mnist_folder(tmp_path) / "test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UnreadableFile, match=r"truncated or damaged: it cannot be read as a Parquet file"):
        load(config("mnist", tmp_path))


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidData, match=r"does not exist. Pass the folder"):
        load(config("mnist", tmp_path / "nowhere"))
    with pytest.raises(InvalidData, match=r"No `train-\*.parquet`"):
        load(config("mnist", tmp_path))
    (mnist_folder(tmp_path) / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(InvalidData, match="Download the test split too"):
        load(config("mnist", tmp_path))
    with pytest.raises(InvalidData, match="is a file"):
        load(config("mnist", tmp_path / "train-00000-of-00001.parquet"))
    with pytest.raises(InvalidData, match=r"No data set is called `imagenet`. Use one of digits, mnist"):
        load(config("imagenet"))
    monkeypatch.delenv("SDPLIP_DATA", raising=False)
    with pytest.raises(InvalidData, match=r"`--data DIR`.*hub:ylecun/mnist"):
        load(config("mnist"))


@pytest.mark.parametrize("package", ["pyarrow", "sklearn.datasets", "datasets"])
def test_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    mnist_folder(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    name = {"pyarrow": "mnist", "sklearn.datasets": "digits", "datasets": "hub:owner/name"}[package]
    with pytest.raises(MissingDependency, match="pip install"):
        load(config(name, None if name == "digits" else tmp_path))


NPZ = {
    "train_images": pictures(6, (9, 8, 3)),
    "train_labels": np.arange(6) % 3,
    "test_images": pictures(3, (9, 8, 3), 1),
    "test_labels": np.arange(3)[:, None],
}


@pytest.mark.parametrize("first", [False, True])
def test_npz(tmp_path: Path, first: bool) -> None:
    arrays = dict(NPZ)
    if first:
        arrays |= {key: arrays[key].transpose(0, 3, 1, 2) for key in ("train_images", "test_images")}
    np.savez(tmp_path / "mine.npz", **arrays)
    for where in (config("mine.npz", tmp_path), config(str(tmp_path / "mine.npz"))):
        data = load(where)
        assert data.name == "mine" and data.classes == ("0", "1", "2")
        assert torch.equal(data.train.images.permute(0, 2, 3, 1), torch.from_numpy(NPZ["train_images"]))
        assert data.test.labels.tolist() == [0, 1, 2]


def test_npz_as_the_path_of_a_known_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **NPZ)
    with pytest.raises(InvalidData, match="images of 3 x 9 x 8, but mnist has 1 x 28 x 28"):
        load(config("mnist", tmp_path / "mine.npz"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train_images": None}, InvalidData, "`train_images` is missing"),
        ({"train_images": np.full((6, 9, 8), np.nan)}, InvalidData, "float64 and NaN in it, but bytes"),
        ({"train_images": np.zeros((6, 3, 8, 3), np.uint8)}, InvalidData, r"shape \(6, 3, 8, 3\)"),
        ({"train_images": np.zeros((6, 0), np.uint8)}, InvalidData, r"shape \(6, 0\)"),
        ({"test_images": pictures(3, (9, 7, 3))}, InvalidData, "3 x 9 x 7"),
        ({"train_labels": np.arange(5)}, InvalidData, "6 images but 5 labels"),
        ({"test_labels": np.arange(3) + 1}, InvalidData, "label 3 at image 2, but its 3 classes"),
        ({"train_labels": np.full(6, np.nan)}, InvalidData, r"missing \(NaN\)"),
        ({"train_labels": np.zeros((6, 2), int)}, InvalidData, r"labels of shape \(6, 2\)"),
        ({"train_images": np.array([{}] * 6)}, UnreadableFile, "could execute code"),
    ],
)
def test_bad_npz(tmp_path: Path, change: dict, error: type[Exception], message: str) -> None:
    arrays = {key: value for key, value in (NPZ | change).items() if value is not None}
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(error, match=message):
        load(config("mine.npz", tmp_path))


def test_truncated_and_missing_npz(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="does not exist"):
        load(config("mine.npz", tmp_path))
    np.savez(tmp_path / "mine.npz", **NPZ)
    (tmp_path / "mine.npz").write_bytes((tmp_path / "mine.npz").read_bytes()[:300])
    with pytest.raises(UnreadableFile, match="truncated or damaged"):
        load(config("mine.npz", tmp_path))


class HubSplit:
    """What `sdplip` uses of a split of the library `datasets`."""

    def __init__(self, table) -> None:
        self.table = table
        self.column_names = table.column_names

    def select_columns(self, names):
        return HubSplit(self.table.select(names))

    def cast_column(self, name, feature):
        assert feature == "raw" and name in self.column_names
        return self

    def with_format(self, form):
        assert form == "arrow"
        return self.table


def hub(monkeypatch: pytest.MonkeyPatch, load_dataset) -> None:
    fake = types.SimpleNamespace(load_dataset=load_dataset, Image=lambda *, decode: decode or "raw")
    monkeypatch.setitem(sys.modules, "datasets", fake)


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist_folder(tmp_path)
    splits = {
        part: HubSplit(pq.read_table(tmp_path / f"{part}-00000-of-00001.parquet"))
        for part in ("train", "test")
    }
    hub(monkeypatch, {"owner/name": splits}.__getitem__)
    assert fingerprint(load(config("hub:owner/name")).train) == fingerprint(
        load(config("mnist", tmp_path)).train
    )
    splits["unsupervised"] = splits.pop("test")
    with pytest.raises(InvalidData, match="splits `train`, `unsupervised`, but `test` or `valid`"):
        load(config("hub:owner/name"))


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str):
        raise ConnectionError(f"Couldn't reach '{name}' on the Hub.\nTraceback ...")

    hub(monkeypatch, fails)
    with pytest.raises(
        InvalidData, match=r"cache \(Couldn't reach 'owner/name' on the Hub\). Check the name"
    ):
        load(config("hub:owner/name"))


def test_validation_is_stratified_and_the_same_in_every_run() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)[torch.from_numpy(permutation(100, 7))]
    split = Split(torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1), labels)
    rest, held = hold_out(split, 0.1)
    assert held.labels.bincount().tolist() == [5, 3, 2]
    both = torch.cat((rest.images, held.images)).flatten()
    assert both.sort().values.tolist() == list(range(100))
    assert (rest.images.flatten().int().diff() > 0).all()  # in the order of the split
    assert torch.equal(hold_out(split, 0.1)[1].images, held.images)
    assert not torch.equal(hold_out(split, 0.1, seed=1)[1].images, held.images)


def test_validation_comes_from_the_training_images(tmp_path: Path) -> None:
    whole, data = (load(config("mnist", mnist_folder(tmp_path), share)) for share in (0, 0.5))
    assert data.validation is not None
    assert len(data.validation) == N // 2 == len(data.train)
    assert fingerprint(data.test) == fingerprint(whole.test)


@pytest.mark.parametrize(
    ("share", "message"), [(0.01, "no validation image"), (0.99, "no image to train on"), (1, "share")]
)
def test_empty_parts_are_refused(share: float, message: str) -> None:
    split = Split(torch.zeros(4, 1, 1, 1, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(InvalidData, match=message):
        hold_out(split, share)


def test_mean_by_hand() -> None:
    images = torch.tensor([[[[0, 255]], [[51, 51]]], [[[255, 255]], [[0, 102]]]], dtype=torch.uint8)
    assert mean(Split(images, torch.zeros(2, dtype=torch.int64))) == (0.75, 0.2)


def test_orders_never_change() -> None:
    """Known answers: a later version that changed them would resume runs with other batches."""
    assert sorted(permutation(1000, 1, 2)) == list(range(1000))
    assert permutation(8, 0, 0).tolist() == [0, 3, 7, 5, 1, 2, 6, 4]
    assert seed_of(1, 2, 3) == 12997252459554536576


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_the_batch_of_one_process(world: int) -> None:
    alone = list(Batches(50, 8, seed=3).epoch(5))
    shares = [list(Batches(50, 8, seed=3, rank=rank, world=world).epoch(5)) for rank in range(world)]
    for step, batch in enumerate(alone):
        parts = [share[step] for share in shares]
        assert torch.equal(torch.cat([part.indices for part in parts]), batch.indices)
        assert torch.equal(torch.cat([batch.indices[part.rows] for part in parts]), batch.indices)
        assert all(part.seed == batch.seed and part.size == 8 for part in parts)


def test_an_epoch_sees_every_image_once_and_starts_anywhere() -> None:
    batches = Batches(50, 8, seed=3)
    seen = torch.cat([batch.indices for batch in batches.epoch(0)])
    assert len(seen) == 48 == len(seen.unique()) and batches.steps == 6
    later = list(batches.epoch(0, start=4))
    assert [batch.step for batch in later] == [4, 5] and torch.equal(later[0].indices, seen[32:40])
    keys = [(batch.seed, *batch.indices.tolist()) for epoch in range(3) for batch in batches.epoch(epoch)]
    assert all(a[0] != b[0] and a[1:] != b[1:] for a, b in itertools.combinations(keys, 2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((10, 11), "between 1 and the 10 training images"),
        ((10, 0), "between 1"),
        ((10, 4, -1), "negative"),
        ((10, 5, 0, 0, 2), r"2 processes cannot share 5 images equally. Use 6"),
        ((10, 4, 0, 2, 2), "Rank 2"),
    ],
)
def test_bad_batches(values: tuple[int, ...], message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        Batches(*values)


@pytest.mark.parametrize(
    ("name", "shape", "first"),
    [
        ("mnist", (1, 28, 28), "7"),
        ("fashion_mnist", (1, 28, 28), "Ankle boot"),
        ("cifar10", (3, 32, 32), "cat"),
    ],
)
def test_real_data(
    tmp_path: Path, local_data: Path, name: str, shape: tuple[int, int, int], first: str
) -> None:
    """The test splits; as training files too, since decoding the real ones takes seconds."""
    file = local_data / name / "test-00000-of-00001.parquet"
    if not file.exists():
        pytest.skip(f"needs {name} in the folder of local data")
    few = pq.read_table(file).slice(0, 500)
    for part in ("train", "test"):
        pq.write_table(few, tmp_path / f"{part}.parquet")
    data = load(config(name, tmp_path, 0.1))
    assert data.test.shape == shape and len(data.test) == 500
    assert data.classes[int(data.test.labels[0])] == first  # the first test image, as everyone knows it
    assert all(0 < value < 1 for value in mean(data.train))


def test_arrays_are_the_whole_data_set_in_the_unit_interval(tmp_path):
    arrays = load_arrays("mnist", mnist_folder(tmp_path / "mnist"))
    whole = load(DataConfig(name="mnist", path=str(tmp_path / "mnist"), validation=0.0))
    for images, labels, split in (
        (arrays.train_images, arrays.train_labels, whole.train),
        (arrays.test_images, arrays.test_labels, whole.test),
    ):
        assert images.dtype == np.float32 and labels.dtype == np.int64 and len(images) == len(labels)
        np.testing.assert_array_equal(images, split.images.numpy().astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(labels, split.labels.numpy())
    assert len(arrays.train_labels) == N and arrays.classes == whole.classes
    digits = load_arrays()
    assert len(digits.train_labels) + len(digits.test_labels) == 1797 and digits.train_images.shape[1:] == (
        1,
        8,
        8,
    )
    table = load_arrays("diabetes")
    assert table.train_images.dtype == table.train_labels.dtype == np.float32 and table.test_images.shape[
        1:
    ] == (10,)
    for name in ("digits", "diabetes"):
        with pytest.raises(InvalidData, match="Drop it"):
            load_arrays(name, tmp_path)
    with pytest.raises(InvalidData, match="is called"):
        load_arrays("mnits", tmp_path)
