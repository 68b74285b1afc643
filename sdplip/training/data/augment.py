"""Augmentation as batched tensor operations: names become a function of images and a generator."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sdplip.errors import InvalidConfig
from sdplip.training.data import colour, warp, whole_pixels
from sdplip.training.data.draws import Draws
from sdplip.training.data.randaugment import STRONGEST, cutout, randaugment

Images = Shaped[Tensor, "n c h w"]


@dataclass(frozen=True)
class Kind:
    """One kind of augmentation.

    Attributes:
        run: images, draws and the number of the name, to images.
        number: what the number says; "" where the name takes none.
        default: of the number, where it may be left out.
        most: the largest number.
        whole: the number is a whole one, and the images may be bytes.
    """

    run: Callable[[Images, Draws, float], Images]
    number: str = ""
    default: float | None = None
    most: float = float("inf")
    whole: bool = False


def _crop(images: Images, draws: Draws, pad: float, *, reflect: bool = False) -> Images:
    k = int(pad)
    return whole_pixels.crop(images, draws.integers(0, 2 * k), draws.integers(0, 2 * k), k, reflect=reflect)


def _jitter(images: Images, draws: Draws, strength: float) -> Images:
    """The ranges of the SLL authors' code at strength 1; between them and nothing, geometrically, below."""
    images = colour.brightness(images, draws.uniform(0.9, 1.1) ** strength)
    images = colour.contrast(images, draws.uniform(0.5, 2) ** strength)
    images = colour.saturation(images, draws.uniform(0.3, 2) ** strength)
    return colour.hue(images, strength * draws.uniform(-0.02, 0.02))


def _cutout(images: Images, draws: Draws, side: float) -> Images:
    place = torch.stack((draws.uniform(0, 1), draws.uniform(0, 1)), -1)
    return cutout(images, torch.full_like(place[:, 0], side), place)


KINDS = {
    "crop": Kind(_crop, "pixels of black padding", whole=True),
    "reflect": Kind(lambda x, d, k: _crop(x, d, k, reflect=True), "pixels of mirrored padding", whole=True),
    "flip": Kind(lambda x, d, _: whole_pixels.flip(x, d.coin()), whole=True),
    "jitter": Kind(_jitter, "strength", default=1, most=1),
    "randaugment": Kind(randaugment, "magnitude", default=9, most=STRONGEST),
    "rotate": Kind(lambda x, d, k: warp.rotate(x, d.uniform(-k, k)), "degrees", most=180),
    "translate": Kind(
        lambda x, d, k: warp.translate(x, d.uniform(-k, k), d.uniform(-k, k)), "pixels", default=2
    ),
    "cutout": Kind(_cutout, "pixels of the side"),
}
"""What `data.augment` may name, each followed by its number: `crop4`, `rotate15`, `flip`."""


@dataclass(frozen=True)
class Augmentation:
    """A function of images and a generator; made by `augmentation`."""

    steps: tuple[tuple[Kind, float], ...]

    def __call__(
        self,
        images: Images,
        generator: torch.Generator,
        *,
        rows: slice | None = None,
        size: int | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """The images transformed, floating-point numbers in [0, 1], on their device.

        All randomness comes from `generator`, which may be on the CPU (then training on any device sees the same numbers) or on
        the images' device. With `rows` and `size` (of a `Batch`), the images are these rows of a global batch: all processes
        seed their generators alike, and row i is transformed as it would be in one process (Note [augmentation and sharding]).

        Args:
            images: floats in [0, 1], or bytes, which stay bytes (a quarter of the memory to move) up to the first step that
                needs floats. Either way gives the same result.
        """
        rows = slice(0, len(images)) if rows is None else rows
        draws = Draws(generator, len(images) if size is None else size, rows, images.device)
        for kind, number in self.steps:
            images = kind.run(images if kind.whole else as_float(images), draws, number)
        return as_float(images)


def as_float(images: Images) -> Float[Tensor, "n c h w"]:
    """Bytes as float32 in [0, 1]; floats as they are."""
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images


def augmentation(names: Sequence[str]) -> Augmentation:
    """The augmentations of these names, one after the other.

    Raises:
        InvalidConfig: an unknown name, or a number that is missing, superfluous or out of range.
    """
    return Augmentation(tuple(_parsed(name) for name in names))


def _parsed(name: str) -> tuple[Kind, float]:
    match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)?", name)
    kind = KINDS.get(match[1]) if match else None
    if match is None or kind is None:
        known = ", ".join(f"{k}NUMBER" if v.number and v.default is None else k for k, v in KINDS.items())
        raise InvalidConfig(f"`data.augment` knows no `{name}`. Use {known}; `crop4`, for example.")
    if match[2] is None:
        if kind.number and kind.default is None:
            raise InvalidConfig(
                f"`{name}` in `data.augment` needs a number ({kind.number}). Write `{name}4`, for example."
            )
        return kind, kind.default or 0
    number = float(match[2])
    if not kind.number:
        raise InvalidConfig(f"`{match[1]}` in `data.augment` takes no number. Write `{match[1]}`.")
    if number > kind.most or (kind.whole and number != int(number)):
        what = "a whole number" if kind.whole else f"from 0 to {kind.most:g}"
        raise InvalidConfig(
            f"The number of `{name}` in `data.augment` ({kind.number}) must be {what}. Change it."
        )
    return kind, number
