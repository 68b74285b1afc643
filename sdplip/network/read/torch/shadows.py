r"""Which numbers of torch's memory come from the input: a shadow behind each storage, one code an element.

Views share their storage, so views, slices, transposes and changes in place need no rules: whoever writes, writes codes, and
whoever reads, reads the codes that stand there now. A code is

    0          the constant zero,
    < 0        another constant, `constants[-code - 1]`,
    > 0        sample * SPAN + the number of an entry of a value of the network; numbers of all values follow each other.

Operations that only move entries run on codes as they run on numbers. The labels of samples say where the batch stands in an
array of codes, and whether samples have been mixed.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from sdplip.network.operators import Concatenate, Gather
from sdplip.network.read.arrays import Array, Batch, Tape, reshape, shift
from sdplip.shapes import Float, Int

SPAN = 1 << 44
"""More entries than all values of a network have together; batches times this stay exact in double precision."""

Codes = Int[np.ndarray, "*shape"]


@dataclass(eq=False)
class Shadow:
    """What stands in one storage.

    Attributes:
        reference: keeps the address of the storage from being used again.
        array: what fills the whole storage, row by row; None where `codes` say more.
        codes: one an element of the storage, in double precision.
    """

    reference: StorageWeakRef
    array: Array | None
    codes: Tensor | None = None


@dataclass(eq=False)
class Shadows:
    """All storages that hold numbers which come from the input.

    Attributes:
        tape: where values are written down.
        cells: by the address of the storage.
        starts: the number of the first entry of each value; `values` are these values.
        constants: numbers that do not come from the input.
    """

    tape: Tape
    cells: dict[int, Shadow] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    constants: list[np.ndarray] = field(default_factory=list)
    _start_of: dict[int, int] = field(default_factory=dict)
    _free: int = 1
    _count: int = 0
    _made: dict[bytes, int] = field(default_factory=dict)

    def knows(self, tensor: Tensor) -> bool:
        """Whether the storage of a tensor has a shadow."""
        return self.cell(tensor) is not None

    def cell(self, tensor: Tensor) -> Shadow | None:
        key = address(tensor)
        return None if key is None else self.cells.get(key)

    def read(self, tensor: Tensor) -> Array | None:
        """The array that a tensor holds; None if nothing in it comes from the input.

        Raises:
            InvalidWeight: samples are mixed.
        """
        cell = self.cell(tensor)
        if cell is None or not tensor.numel():
            return None
        if cell.array is not None and _fills(tensor):
            full = tuple(tensor.shape)
            return cell.array if cell.array.full == full else reshape(cell.array, full)
        return self._array(self.codes(tensor).numpy().astype(np.int64), tensor)

    def codes(self, tensor: Tensor) -> Tensor:
        """The codes of a tensor in its shape, in double precision, on the host. Constants get codes where they have none."""
        cell = self.cell(tensor)
        if cell is None:
            return self.constant_codes(tensor)
        stored = self._stored(cell)
        return torch.as_strided(stored, tensor.shape, tensor.stride(), tensor.storage_offset()).clone()

    def write(self, tensor: Tensor, what: Array | Tensor) -> None:
        """Says what stands in a tensor from now on: an array, or codes."""
        key = address(tensor)
        if key is None:
            return
        cell = self.cells.get(key)
        if isinstance(what, Array):
            self._remember(what)
            if _fills(tensor):
                self.cells[key] = Shadow(StorageWeakRef(tensor.untyped_storage()), what)
                return
        if cell is None:
            cell = Shadow(StorageWeakRef(tensor.untyped_storage()), None, self._whole(tensor))
            self.cells[key] = cell
        codes = self.codes_of(what) if isinstance(what, Array) else what
        place = torch.as_strided(self._stored(cell), tensor.shape, tensor.stride(), tensor.storage_offset())
        place.copy_(codes.reshape(codes.shape).expand(tensor.shape))

    def codes_of(self, x: Array) -> Tensor:
        """The codes of an array, in the shape that it has in the graph."""
        entries = self._entries(x.value).astype(np.float64)
        if x.batch is None:
            return torch.from_numpy(entries.reshape(x.full))
        before = prod(x.shape[: x.batch.axis]) * x.batch.lead
        labels = SPAN * np.arange(x.tape.batch, dtype=np.float64)
        entries = entries.reshape(before, 1, -1)
        every = np.where(entries > 0, entries + labels[:, None], 0.0)  # zero is zero in every sample
        return torch.from_numpy(every.reshape(x.full))

    def code(self, number: float) -> float:
        """The code of a constant."""
        return 0.0 if number == 0 else float(self._new_constants(np.array([number], np.float64))[0])

    def _entries(self, value: int) -> Int[np.ndarray, " n"]:
        """The numbers of the entries of a value; those of the value that it reads, if an index map makes it."""
        source, index = self.tape.read_through(value)
        if index is None:
            return self._start(value) + np.arange(self.tape.length(value))
        return np.where(index < 0, 0, self._start(source) + index)

    def _remember(self, x: Array) -> None:
        """The entries that an index map reads are found again where the array is."""
        if self.tape.read_through(x.value)[1] is not None:
            self._made.setdefault(_digest(self._entries(x.value)), x.value)

    def _start(self, value: int) -> int:
        if value not in self._start_of:
            self._start_of[value] = self._free
            self.starts.append(self._free)
            self.values.append(value)
            self._free += self.tape.length(value)
        return self._start_of[value]

    def _stored(self, cell: Shadow) -> Tensor:
        """The codes of a storage, from now on in its shadow."""
        if cell.codes is None:
            assert cell.array is not None
            cell.codes = self.codes_of(cell.array).reshape(-1)
        cell.array = None  # whoever asks may write
        return cell.codes

    def _whole(self, tensor: Tensor) -> Tensor:
        """The codes of the numbers that stand in the whole storage of a constant."""
        n = tensor.untyped_storage().nbytes() // tensor.element_size()
        return self.constant_codes(torch.as_strided(tensor.detach(), (n,), (1,), 0))

    def constant_codes(self, tensor: Tensor) -> Tensor:
        """Codes of numbers that do not come from the input."""
        numbers = numbers_of(tensor)
        codes = np.zeros(numbers.shape)
        other = numbers != 0
        codes[other] = self._new_constants(numbers[other])
        return torch.from_numpy(codes)

    def _new_constants(self, numbers: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        first = self._count
        self.constants.append(numbers)
        self._count += len(numbers)
        return -(first + 1.0 + np.arange(len(numbers)))

    def _array(self, codes: Codes, tensor: Tensor) -> Array | None:
        """The array of codes; `tensor` holds the constants among them."""
        if not (codes > 0).any():
            return None
        place = self._batch(codes)
        if place is None:
            raise self.tape.refusal(
                "mixes the samples of a batch, or takes them apart. A bound is about one sample, so each must be treated alike"
                " and alone."
            )
        axis, lead = place.axis, place.lead
        shape = tuple(n // self.tape.batch if k == axis else n for k, n in enumerate(codes.shape))
        before = prod(shape[:axis]) * lead
        first = codes.reshape(before, self.tape.batch, -1)[:, 0].reshape(shape)
        value = self._value(np.where(first > 0, first % SPAN, 0).reshape(-1))
        x = Array(self.tape, value, shape, place)
        if (codes < 0).any():
            numbers = np.where(codes < 0, numbers_of(tensor), 0.0)
            x = shift(x, numbers)
        return x

    def _batch(self, codes: Codes) -> Batch | None:
        """Where the batch stands in an array of codes; None if the samples are not alike."""
        B, n = self.tape.batch, codes.size
        flat = np.where(codes > 0, codes, 0).reshape(-1)
        for axis, lead in _places(codes.shape, B):
            before = prod(codes.shape[:axis]) * lead
            parts = flat.reshape(before, B, n // (before * B))
            labels = SPAN * np.arange(B)[:, None]
            expected = np.where(parts[:, :1] > 0, parts[:, :1] + labels, 0)
            if (parts[:, 0] < SPAN).all() and (parts == expected).all():
                return Batch(axis, lead)
        return None

    def _value(self, entries: Int[np.ndarray, " n"]) -> int:
        """The value made of entries by their numbers, 0 for zero."""
        used = entries[entries > 0]
        low = int(used.min())
        at = bisect_right(self.starts, low) - 1
        value, start = self.values[at], self.starts[at]
        length = self.tape.length(value)
        if low == start and len(entries) == length and (entries == start + np.arange(length)).all():
            return value
        key = _digest(entries)
        if key not in self._made:
            self._made[key] = self._gathered(entries)
        return self._made[key]

    def _gathered(self, entries: Int[np.ndarray, " n"]) -> int:
        starts = np.asarray(self.starts)
        which = np.searchsorted(starts, entries, side="right") - 1
        sources = np.unique(which[entries > 0])
        offsets, total = np.zeros(len(starts), np.int64), 0
        for k in sources:
            offsets[k] = total
            total += self.tape.length(self.values[k])
        index = np.where(entries > 0, entries - starts[which] + offsets[which], -1)
        values = [self.values[k] for k in sources]
        value = values[0]
        if len(values) > 1:
            lengths = tuple(map(self.tape.length, values))
            value = self.tape.add(Concatenate(lengths), *values, shape=(total,))
        return self.tape.add(Gather(index, total), value, shape=(len(index),))


def address(tensor: Tensor) -> int | None:
    """The address of the storage of a tensor; None of tensors without one (sparse ones, those within function transforms)."""
    if tensor.layout is not torch.strided or not tensor.numel():
        return None
    try:
        return tensor.untyped_storage()._cdata
    except RuntimeError:
        return None


def numbers_of(tensor: Tensor) -> Float[np.ndarray, "..."]:
    """A copy of the numbers in double precision on the host."""
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    return tensor.to("cpu", torch.float64, copy=True).resolve_neg().numpy()


def _digest(entries: Int[np.ndarray, " n"]) -> bytes:
    return hashlib.blake2b(entries.astype(np.int64).tobytes(), digest_size=16).digest()


def _fills(tensor: Tensor) -> bool:
    """Whether a tensor is its whole storage, row by row."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return whole and tensor.is_contiguous() and tensor.storage_offset() == 0


def _places(shape: tuple[int, ...], batch: int) -> Iterator[tuple[int, int]]:
    """Where a batch may stand: axes, and how many entries of the axis stand in front of it."""
    for axis, n in enumerate(shape):
        if n % batch == 0:
            rest = n // batch
            yield from ((axis, lead) for lead in range(1, rest + 1) if rest % lead == 0)
