"""The operations of torch that are understood, by the names that torch's dispatcher has for them, and how.

Views need no entry: they look at the same storage. `MOVES` move entries and run on codes of entries as they run on numbers. What
computes has a rule: it takes a `Call` and returns what the call returns, arrays for tensors. Whatever is not here is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from sdplip.network.read.arrays import Array, Tape

POSITIONS = object()
"""In place of an array: numbers that depend on the input but jump, such as positions of maxima. Nobody may use them."""


@dataclass(frozen=True, eq=False)
class Call:
    """An operation at work.

    Attributes:
        name: of the operation.
        given: arguments by their name in torch's schema (`self` is `x`): arrays, constants as NumPy arrays, anything else.
        out: what torch returned.
    """

    tape: Tape
    name: str
    given: dict[str, Any]
    out: Any

    def __getitem__(self, key: str) -> Any:
        return self.given[key]

    def get(self, key: str, default: Any = None) -> Any:
        """An argument that not every variant has."""
        return self.given.get(key, default)

    def array(self, key: str) -> Array:
        """An argument that comes from the input.

        Raises:
            InvalidWeight: it is a constant, and something else comes from the input.
        """
        x = self.given[key]
        if not isinstance(x, Array):
            raise self.tape.refusal(
                f"takes a constant as `{key}`, and something that comes from the input where constants belong."
            )
        return x

    def constant(self, key: str) -> np.ndarray | None:
        """An argument that must not come from the input.

        Raises:
            InvalidWeight: it does.
        """
        c = self.given.get(key)
        if isinstance(c, Array):
            raise self.tape.refusal(f"takes `{key}` from the input: {PRODUCT}")
        return None if c is None else np.asarray(c, np.float64)

    def numbers(self, c: Any) -> np.ndarray:
        """Numbers and constants as torch computes with them: in the precision of the result, but at least single."""
        out = self.out[0] if isinstance(self.out, tuple | list) else self.out
        array = np.asarray(c, np.float64)
        with np.errstate(over="ignore"):
            return array if out.dtype == torch.float64 else array.astype(np.float32).astype(np.float64)

    def number(self, key: str, default: float | None = None) -> float:
        """One number among the arguments, as torch computes with it."""
        return float(self.numbers(self.given.get(key, default)))

    def least(self, key: str) -> float:
        """The smaller one of a number and of what it is rounded to: the `eps` of a normalisation, whichever is used."""
        return min(float(self.given[key]), self.number(key))


Rule = Callable[[Call], Any]
RULES: dict[str, Rule] = {}
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
"""Functions of torch that say more than their operations do: `(tape, *args, **kwargs) -> array`."""
REFUSED: dict[Any, str] = {}
"""Functions of torch that are refused by their name, and why."""

PRODUCT = "a product or quotient of two functions of the input has no finite constant. Use affine maps and activations."
UNKNOWN = (
    "it is not in the table of operations that sdplip understands. Write it with operations that are (docs/bring-your-own.md), or"
    " register a bound of the module that does it with `lipschitz.register`."
)
DATA = "it lets the program look at the numbers, so that another input may take another way. Use operations on tensors."
JUMPS = "it jumps, so no finite constant holds. Use continuous operations."

REASONS: dict[str, str] = {
    **dict.fromkeys(("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "item", "numpy"), DATA),
    **dict.fromkeys(
        ("gt", "ge", "lt", "le", "eq", "ne", "sign", "sgn", "floor", "ceil", "round", "trunc", "heaviside", "argmax", "argmin",
         "argsort", "searchsorted", "bucketize", "hardshrink", "isnan", "isinf", "signbit", "frac", "fmod", "remainder"), JUMPS,
    ),
    **dict.fromkeys(
        ("square", "pow", "exp", "log", "sqrt", "rsqrt", "reciprocal", "prod", "var", "std", "var_mean", "log2", "log10", "exp2",
         "cumprod", "cdist", "_cdist_forward"), "its slopes have no finite bound. Use affine maps and activations.",
    ),
    **dict.fromkeys(
        ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math", "_native_multi_head_attention",
         "_transformer_encoder_layer_fwd", "lstm", "gru", "mkldnn_rnn_layer", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell"),
        f"it multiplies functions of the input: {PRODUCT}",
    ),
}  # fmt: skip
"""Why some operations are refused."""

REFUSED.update(
    dict.fromkeys(
        (
            torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__, torch.Tensor.data_ptr, torch.Tensor.__dlpack__,
            torch.Tensor.storage, torch.Tensor.untyped_storage, torch.Tensor.item, torch.Tensor.__bool__, torch.Tensor.__float__,
            torch.Tensor.__int__, torch.Tensor.__index__,
        ),
        DATA,
    )
)  # fmt: skip
REFUSED.update(
    dict.fromkeys(
        (F.scaled_dot_product_attention, F.multi_head_attention_forward, F.bilinear, F.glu),
        f"it multiplies functions of the input: {PRODUCT}",
    )
)

FORGET = frozenset(
    [
        "empty_like",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_empty",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty_strided",
        "_assert_tensor_metadata",
        "sym_size",
        "sym_numel",
        "sym_stride",
        "size",
        "stride",
        "storage_offset",
        "is_same_size",
        "_shape_as_tensor",
    ]
)
"""Operations that look at the kind of a tensor, not at its numbers."""

PLACES = frozenset(
    [
        "set",
        "requires_grad",
        "detach",
        "squeeze",
        "unsqueeze",
        "transpose",
        "t",
        "swapaxes",
        "swapdims",
        "as_strided",
        "resize",
        "rename",
        "squeeze_",
        "unsqueeze_",
        "transpose_",
        "t_",
        "swapaxes_",
        "swapdims_",
        "as_strided_",
        "detach_",
        "requires_grad_",
    ]
) - {"set", "resize"}
"""Operations in place that change what a tensor looks at."""

MOVES = frozenset(
    [
        "clone",
        "_to_copy",
        "contiguous",
        "copy",
        "copy_",
        "lift_fresh_copy",
        "_unsafe_view",
        "cat",
        "stack",
        "hstack",
        "vstack",
        "repeat",
        "tile",
        "expand_copy",
        "roll",
        "flip",
        "rot90",
        "index",
        "_unsafe_index",
        "index_select",
        "gather",
        "take",
        "take_along_dim",
        "index_put",
        "_unsafe_index_put",
        "index_copy",
        "index_fill",
        "scatter",
        "slice_scatter",
        "select_scatter",
        "diagonal_scatter",
        "as_strided_scatter",
        "constant_pad_nd",
        "pad",
        "reflection_pad1d",
        "reflection_pad2d",
        "reflection_pad3d",
        "replication_pad1d",
        "replication_pad2d",
        "replication_pad3d",
        "pixel_shuffle",
        "pixel_unshuffle",
        "channel_shuffle",
        "native_channel_shuffle",
        "tril",
        "triu",
        "diag_embed",
        "masked_fill",
        "where",
        "fill",
        "zero",
        "im2col",
        "unfold_copy",
        "view_copy",
        "permute_copy",
        "slice_copy",
        "select_copy",
        "transpose_copy",
        "t_copy",
        "split_copy",
        "split_with_sizes_copy",
        "unbind_copy",
        "squeeze_copy",
        "unsqueeze_copy",
        "detach_copy",
        "alias_copy",
        "as_strided_copy",
        "diagonal_copy",
        "_reshape_copy",
        "_reshape_alias_copy",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_nearest3d",
        "_upsample_nearest_exact1d",
        "_upsample_nearest_exact2d",
        "_upsample_nearest_exact3d",
        "repeat_interleave",
        "block_diag",
        "masked_scatter",
    ]
)
"""Operations that move, copy, repeat or overwrite entries, whatever stands there."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Decorator that enters a rule into the table, under the names that its operation has."""

    def enter(function: Rule) -> Rule:
        for name in names:
            assert name not in RULES and name not in MOVES, name
            RULES[name] = function
        return function

    return enter


def function(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator that enters a rule for functions of torch known by name."""

    def enter(found: Callable[..., Any]) -> Callable[..., Any]:
        for known in functions:
            FUNCTIONS[known] = found
        return found

    return enter
