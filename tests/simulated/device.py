"""A second device without a GPU, `torch.device("sim")`: its tensors hold their numbers in memory of the CPU, and

- refuse every operation that mixes them with tensors of the CPU, as CUDA does (numbers of 0 dimensions and indices pass),
- refuse `numpy()` and random generators of another device,
- are logged where they make the host wait for a GPU, and where they launch a kernel, with the function of sdplip that did so.

Values, views and gradients are real, so code that looks at its data runs. Importing this module registers the device for the whole
process; some errors in a backward pass abort, so tests run it in a process of their own.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from tests.simulated.log import launched, multiplied_wide, wait

aten = torch.ops.aten


class _Backend(_DummyBackendModule):
    """What torch asks of `torch.sim`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = None) -> torch.Tensor:  # noqa: ARG002
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:  # noqa: ARG002
        torch.set_rng_state(state)

    def set_device(self, device: Any) -> None: ...

    def synchronize(self, device: Any = None) -> None: ...

    def _lazy_init(self) -> None: ...


_setup_privateuseone_for_python_backend("sim", backend_module=_Backend())
SIM = torch.device("sim", 0)
CPU = torch.device("cpu")


class SimTensor(torch.Tensor):
    """A tensor that says it lives on `sim`.

    Attributes:
        raw: the numbers.
    """

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> "SimTensor":
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, raw.size(), strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype, layout=raw.layout,
            device=SIM, requires_grad=False,
        )  # fmt: skip
        made.raw = raw
        return made

    def __init__(self, raw: torch.Tensor) -> None: ...

    def data_ptr(self) -> int:
        return self.raw.data_ptr()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert sim:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        wait("number read")
        return self.raw.detach().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"Sim({self.raw!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "torch.Tensor":
        if id(self) not in memo:
            copied: torch.Tensor = SimTensor(self.raw.detach().clone())
            parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = (
                torch.nn.Parameter(copied, self.requires_grad)
                if parameter
                else copied.requires_grad_(self.requires_grad)
            )
        return memo[id(self)]

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


READS = {
    getattr(getattr(aten, name), overload)
    for name, overload in (
        ("_local_scalar_dense", "default"), ("item", "default"), ("is_nonzero", "default"), ("equal", "default"),
        ("nonzero", "default"), ("masked_select", "default"), ("_unique2", "default"), ("unique_consecutive", "default"),
        ("repeat_interleave", "Tensor"), ("bincount", "default"), ("linalg_eigh", "default"), ("_linalg_eigh", "default"),
        ("_linalg_check_errors", "default"),
    )
}  # fmt: skip
"""Operations whose result, or its shape, the host must know."""

COPIES = {aten.copy_.default, aten._to_copy.default, aten._copy_from.default}
INDEXED = {
    aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}  # fmt: skip
FREE = {
    aten._unsafe_view.default, aten.detach.default, aten.empty.memory_format, aten.empty_like.default,
    aten.empty_strided.default, aten.new_empty.default, aten.lift_fresh.default, aten._local_scalar_dense.default,
}  # fmt: skip
"""Operations that launch nothing, besides views."""

PRODUCTS = {
    aten.mm.default, aten.bmm.default, aten.addmm.default, aten.mv.default, aten.baddbmm.default, aten.convolution.default,
    aten.convolution_backward.default,
}  # fmt: skip


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """One operation with its rules."""
    if func.namespace not in ("aten", "prims", "prim"):  # an operation written in Python: look into it
        from torch._library.custom_ops import OPDEFS

        return OPDEFS[func._schema.name]._init_fn(*args, **kwargs)
    flat, spec = pytree.tree_flatten((args, kwargs))
    ours = [x for x in flat if isinstance(x, SimTensor)]
    others = [
        x
        for x in flat
        if isinstance(x, torch.Tensor) and not isinstance(x, SimTensor) and x.device.type == "cpu"
    ]
    asked = [x for x in flat if isinstance(x, torch.device)]
    to = asked[0] if asked else None
    here = bool(ours) if to is None else to.type == "sim"
    _check(func, flat, ours, others, here)
    if func in COPIES:
        _copies(func, args, kwargs, to, bool(ours), bool(others))
    elif ours and others and func in INDEXED:
        wait("index from the host")
    if func in READS and ours:
        wait("number read")
    if func in INDEXED and any(_is_mask(i) for i in pytree.tree_leaves(args[1])):
        wait("mask as an index")
    _count(func, flat, here)
    a, k = pytree.tree_unflatten([_unwrapped(x) for x in flat], spec)
    out = func(*a, **k)
    same = {id(x.raw): x for x in ours}  # operations in place give back the very wrapper
    out = pytree.tree_map(lambda x: _wrapped(x, same, here), out)
    if ours and (ours[0].raw.shape != ours[0].shape or ours[0].raw.stride() != ours[0].stride()):
        with torch._C._DisableTorchDispatch():  # squeeze_, t_, resize_: the wrapper follows
            torch.Tensor.data.__set__(ours[0], SimTensor(ours[0].raw))  # type: ignore[attr-defined]
    return out


def _check(func: Any, flat: list[Any], ours: list[Any], others: list[torch.Tensor], here: bool) -> None:
    """Raises what CUDA raises."""
    for x in flat:
        if isinstance(x, torch.Generator) and here and x.device.type == "cpu":
            raise RuntimeError(f"Expected a 'sim' device type for generator but found 'cpu' in {func}")
        if isinstance(x, torch.device) and x.type == "sim" and x.index not in (None, 0):
            raise RuntimeError("sim error: invalid device ordinal")
    mixed = ours and others and func not in COPIES
    indices = func in INDEXED and isinstance(flat[0], SimTensor)
    if mixed and not indices and any(x.ndim for x in others):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found sim:0 and cpu in {func}"
        )


def _copies(func: Any, args: Any, kwargs: Any, to: Any, ours: bool, others: bool) -> None:
    """Copies between the devices wait, unless they are asked to happen later."""
    later = kwargs.get("non_blocking", len(args) > 2 and args[2] is True)
    out = to is not None and to.type == "cpu"
    if func is not aten._to_copy.default:
        out = others and not isinstance(args[0], SimTensor)
    if ours and out:
        wait("copy to the host")
    elif ours and others and not later:
        wait("copy from the host")


def _is_mask(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype in (torch.bool, torch.uint8)


def _count(func: Any, flat: list[Any], here: bool) -> None:
    if not here:
        return
    view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
    if not view and func not in FREE:
        launched()
    if func in PRODUCTS and any(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in flat):
        multiplied_wide()


def _unwrapped(x: Any) -> Any:
    if isinstance(x, SimTensor):
        return x.raw
    return CPU if isinstance(x, torch.device) and x.type == "sim" else x


def _wrapped(x: Any, same: dict[int, SimTensor], here: bool) -> Any:
    if not isinstance(x, torch.Tensor) or isinstance(x, SimTensor):
        return x
    if id(x) in same:
        return same[id(x)]
    if not here:
        return x
    if x._is_zerotensor():
        x = torch.zeros(x.shape, dtype=x.dtype)
    return SimTensor(x.resolve_conj().resolve_neg())


# Registration. Factories made of other factories would resize a wrapper: they are made on the CPU as a whole.
FACTORIES = (
    "arange", "arange.start", "arange.start_step", "eye", "eye.m", "linspace", "logspace", "full", "ones", "zeros", "rand",
    "rand.generator", "randn", "randn.generator", "randint", "randint.low", "randint.generator", "randint.low_generator",
    "randperm", "randperm.generator", "scalar_tensor", "tril_indices", "triu_indices",
)  # fmt: skip
LOWERED = (
    "linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "mv", "conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d",
    "conv_transpose2d.input", "conv_transpose3d.input", "addmv", "addbmm",
)  # fmt: skip
"""What autocast runs in the lower precision, as on a GPU."""

_all = torch.library.Library("_", "IMPL")
_aten = torch.library.Library("aten", "IMPL")


def _operation(name: str) -> Any:
    base, _, overload = name.partition(".")
    return getattr(getattr(aten, base), overload or "default")


def _whole(op: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: run(op, args, kwargs)


def _lower(op: Any) -> Callable[..., Any]:
    key = torch._C.DispatchKeySet(
        torch._C.DispatchKey.AutocastPrivateUse1  # pyright: ignore[reportAttributeAccessIssue]
    )

    def kernel(*args: Any, **kwargs: Any) -> Any:
        dtype = torch.get_autocast_dtype("sim")

        def cast(x: Any) -> Any:
            return x.to(dtype) if isinstance(x, torch.Tensor) and x.dtype == torch.float32 else x

        with torch._C._ExcludeDispatchKeyGuard(key):
            return op(*pytree.tree_map(cast, args), **pytree.tree_map(cast, kwargs))

    return kernel


_all.fallback(lambda func, *args, **kwargs: run(func, args, kwargs), "PrivateUse1")
_all.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
for _name in FACTORIES:
    _aten.impl(_name, _whole(_operation(_name)), "PrivateUse1")
for _name in LOWERED:
    _aten.impl(_name, _lower(_operation(_name)), "AutocastPrivateUse1")

_tensor, _new_tensor = torch.tensor, torch.Tensor.new_tensor


def _make(data: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
    if device is not None and torch.device(device).type == "sim":
        return _tensor(data, **kwargs).to(SIM)
    return _tensor(data, device=device, **kwargs)


def _make_like(
    self: torch.Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Any:
    if isinstance(self, SimTensor) and device is None:
        return _make(data, dtype=dtype or self.dtype, device=SIM)
    return _new_tensor(self, data, dtype=dtype, device=device, requires_grad=requires_grad)


def _set_data(self: SimTensor, value: SimTensor) -> None:
    torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
    self.raw = value.raw


torch.tensor = _make
SimTensor.new_tensor = _make_like  # type: ignore[method-assign]
SimTensor.data = property(lambda self: torch.Tensor.data.__get__(self), _set_data)  # type: ignore[attr-defined]
torch.autograd.set_multithreading_enabled(
    False
)  # the backward pass in the calling thread, where Python's frames are
