"""Augmentation: laws that every kind obeys, then each kind by hand."""

import pytest
import torch
from torch import Tensor

from sdplip.errors import InvalidConfig
from sdplip.training.data import KINDS, Batches, as_float, augmentation, colour, warp, whole_pixels
from sdplip.training.data.draws import Draws
from sdplip.training.data.randaugment import OPERATIONS, cutout, randaugment

NAMES = [
    "crop3",
    "reflect3",
    "flip",
    "jitter",
    "randaugment",
    "randaugment30",
    "rotate30",
    "translate2.5",
    "cutout4",
]
NOTHING = ["crop0", "reflect0", "jitter0", "randaugment0", "rotate0", "translate0", "cutout0"]
SHAPES = [(3, 8, 8), (1, 9, 7)]
WARP = 1e-5
"""A warp computes places in float32: within a few units in the last place of the side, times differences of at most 1."""


def pictures(n: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, *shape), generator=g, dtype=torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_kind_is_here() -> None:
    assert {name.rstrip("0123456789.") for name in NAMES} == set(KINDS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_laws(name: str, shape: tuple[int, ...]) -> None:
    """Range, shape, type and input are kept; the seed decides, and bytes give what floats do."""
    augment, images = augmentation([name]), pictures(60, shape)
    floats = as_float(images)
    before = floats.clone()
    result = augment(floats, generator(1))
    assert result.dtype == torch.float32 and result.shape == floats.shape
    assert result.min() >= 0 and result.max() <= 1
    assert torch.equal(floats, before)
    assert torch.equal(augment(floats, generator(1)), result)
    assert torch.equal(augment(images, generator(1)), result)
    assert not torch.equal(augment(floats, generator(2)), result)
    assert augment(floats.double(), generator(1)).dtype == torch.float64


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NOTHING)
def test_magnitude_zero_is_the_identity(name: str, shape: tuple[int, ...]) -> None:
    images = as_float(pictures(60, shape))
    warped = name.startswith(("rotate", "translate", "randaugment"))
    result = augmentation([name])(images, generator())
    torch.testing.assert_close(result, images, rtol=0, atol=WARP if warped else 0)


@pytest.mark.parametrize("world", [2, 3, 12])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_images_do_not_depend_on_the_number_of_processes(
    name: str, shape: tuple[int, ...], world: int
) -> None:
    """Bit for bit, with what comes before and after in the stream of random numbers."""
    images, augment = pictures(48, shape), augmentation(["crop2", name, "flip"])
    (alone,) = Batches(48, 48, 7).epoch(2)
    whole = augment(images[alone.indices], alone.generator())
    for rank in range(world):
        (share,) = Batches(48, 48, 7, rank, world).epoch(2)
        part = augment(images[share.indices], share.generator(), rows=share.rows, size=share.size)
        assert torch.equal(part, whole[share.rows])


def test_nothing_named_gives_floats() -> None:
    images = pictures(2, (1, 3, 3))
    assert torch.equal(augmentation([])(images, generator()), images.float() / 255)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_by_hand(dtype: torch.dtype) -> None:
    image = torch.tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]]).to(dtype)
    images = image.expand(3, 2, 3, 3)
    down, right = torch.tensor([0, 2, 1]), torch.tensor([1, 2, 1])
    black = whole_pixels.crop(images, down, right, 1)
    assert black[0, 0].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert black[1, 1].tolist() == [[5, 6, 0], [8, 9, 0], [0, 0, 0]]
    assert torch.equal(black[2], images[2])
    mirrored = whole_pixels.crop(images, down, right, 1, reflect=True)
    assert mirrored[0, 0].tolist() == [[4, 5, 6], [1, 2, 3], [4, 5, 6]]
    assert mirrored[1, 1].tolist() == [[5, 6, 5], [8, 9, 8], [5, 6, 5]]


def test_reflect_is_torch_s() -> None:
    images = as_float(pictures(2, (3, 6, 5)))
    k, zero = 3, torch.zeros(2, dtype=torch.int64)
    padded = torch.nn.functional.pad(images, (k, k, k, k), mode="reflect")
    assert torch.equal(whole_pixels.crop(images, zero, zero, k, reflect=True), padded[..., :6, :5])


def test_crop_takes_every_window_and_images_of_their_own() -> None:
    images = torch.zeros(2000, 1, 5, 5)
    images[:, :, 2, 2] = 1
    rows = augmentation(["crop2"])(images, generator()).flatten(1).argmax(1).bincount(minlength=25)
    # 2000 images over 25 windows: 80 each, standard deviation 8.8; 40 is more than four of them away
    assert len(rows) == 25 and rows.min() > 40 and rows.max() < 120


def test_flip_by_hand() -> None:
    images = torch.tensor([[[[1, 2, 3]]], [[[1, 2, 3]]]])
    assert whole_pixels.flip(images, torch.tensor([True, False])).flatten(1).tolist() == [
        [3, 2, 1],
        [1, 2, 3],
    ]


def test_warps_by_whole_pixels_and_right_angles() -> None:
    images = as_float(pictures(2, (3, 6, 6)))
    moved = warp.translate(images, torch.tensor([2.0, 0.0]), torch.tensor([0.0, -1.0]))
    expected = torch.zeros_like(images)
    expected[0, :, :, 2:] = images[0, :, :, :-2]
    expected[1, :, :-1] = images[1, :, 1:]
    torch.testing.assert_close(moved, expected, rtol=0, atol=WARP)
    turned = warp.rotate(images, torch.tensor([90.0, 180.0]))
    expected = torch.stack((images[0].rot90(1, (1, 2)), images[1].rot90(2, (1, 2))))
    torch.testing.assert_close(turned, expected, rtol=0, atol=WARP)


def test_shear_moves_rows_by_their_height() -> None:
    image = torch.zeros(1, 1, 3, 5)
    image[..., 2] = 1
    sheared = warp.shear(image, torch.tensor([1.0]), torch.tensor([0.0]))
    torch.testing.assert_close(sheared[0, 0].argmax(1), torch.tensor([3, 2, 1]))


def test_colours_by_hand() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    half = torch.tensor([0.5])
    assert colour.brightness(red, half).flatten().tolist() == [0.5, 0, 0]
    torch.testing.assert_close(colour.saturation(red, 0 * half).flatten(), torch.full((3,), 0.299))
    pair = torch.cat((red, torch.zeros_like(red)), 3)  # mean luma 0.1495
    torch.testing.assert_close(colour.contrast(pair, half)[0, 0, 0], torch.tensor([0.57475, 0.07475]))
    assert colour.solarise(torch.tensor([[[[0.25, 0.75]]]]), half).flatten().tolist() == [0.25, 0.25]
    grey = torch.full((1, 3, 2, 2), 0.4)
    torch.testing.assert_close(
        colour.hue(grey, half), grey, rtol=0, atol=1e-6
    )  # YIQ's rows of I and Q add up to 0
    dull = torch.tensor([0.5, 0.45, 0.4]).view(1, 3, 1, 1)
    torch.testing.assert_close(colour.luma(colour.hue(dull, half)), colour.luma(dull), rtol=0, atol=1e-6)
    assert not torch.allclose(colour.hue(dull, half), dull)
    tenth = torch.tensor([0.1])
    torch.testing.assert_close(colour.hue(colour.hue(dull, tenth), -tenth), dull, rtol=0, atol=1e-6)


def test_cutout_by_hand() -> None:
    images = torch.ones(2, 1, 4, 4)
    result = cutout(images, torch.tensor([2.0, 2.0]), torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    assert result[0, 0].tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    assert result[1, 0].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize("k", range(1, len(OPERATIONS)))
def test_every_operation_of_randaugment_does_something(k: int) -> None:
    images, place = as_float(pictures(4, (3, 16, 16))), torch.full((4, 2), 0.5)
    assert not torch.allclose(OPERATIONS[k](images, torch.full((4,), 0.3), place), images, atol=1e-3)


def test_randaugment_draws_for_every_image() -> None:
    images = as_float(pictures(1, (3, 16, 16))).expand(200, 3, 16, 16)
    draws = Draws(generator(), 200, slice(0, 200), images.device)
    assert (
        len(randaugment(images, draws).flatten(1).unique(dim=0)) > 60
    )  # some draw the same pair of colour operations


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crp4", "knows no `crp4`. Use cropNUMBER, reflectNUMBER, flip"),
        ("", "knows no ``"),
        ("crop", "needs a number .* Write `crop4`"),
        ("crop1.5", "must be a whole number"),
        ("flip2", "takes no number. Write `flip`"),
        ("rotate181", "must be from 0 to 180"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        augmentation(["flip", name])


def test_mirroring_more_than_there_is() -> None:
    with pytest.raises(
        InvalidConfig, match=r"`reflect8` in `data.augment` mirrors 8 pixels, but the images have 8"
    ):
        augmentation(["reflect8"])(pictures(2, (1, 8, 8)), generator())
