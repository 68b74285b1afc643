"""`lipschitz(module)`: find the rule for a module, or refuse it. A rule speaks about one forward pass and no other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, TypeVar

import torch
from torch import nn

from sdplip.errors import RefusedModule, SdplipError, UnknownModule
from sdplip.nn.bounds.tree import Bound

Shape = tuple[int, ...]
"""Shape of one sample, without the batch axis: `(features,)` or `(channels, *pixels)`."""


@dataclass(frozen=True)
class Context:
    """Where in the model a rule runs.

    Attributes:
        path: dotted name of the module, "" for the model itself.
        input_shape: shape of one sample as it enters the module, or None for "every size".
    """

    path: str = ""
    input_shape: Shape | None = None

    def bound(self, module: nn.Module, name: str, input_shape: Shape | None = None) -> Bound:
        """The bound of a submodule; its `input_shape` must be given if it is known."""
        return _bound(module, Context(f"{self.path}.{name}" if self.path else name, input_shape))

    def own(self, module: nn.Module) -> Bound:
        """The bound of the module itself, for what asks more of it than its constant."""
        return _bound(module, self)

    def check(self, module: nn.Module, name: str, *classes: type[nn.Module]) -> None:
        """Refuse a submodule that is not one of `classes` as registered; for rules that read its weights themselves."""
        below = Context(f"{self.path}.{name}" if self.path else name)
        _check(module, below)
        if lipschitz.registered(module) not in classes:
            raise below.refuse(
                module, f"here only {', '.join(cls.__name__ for cls in classes)} is known. Export again."
            )

    def require(self, module: nn.Module) -> None:
        """Refuse a module of a registered class that is not what its rule speaks about: a forward of its own, hooks, no numbers."""
        _check(module, self)

    def output_shape(self, module: nn.Module) -> Shape | None:
        """Shape of one sample as it leaves `module`, None if the input shape is not known. Runs the module on zeros."""
        if self.input_shape is None:
            return None
        tensors = [p for p in (*module.parameters(), *module.buffers()) if p.is_floating_point()]
        like = tensors[0] if tensors else torch.empty(0)
        with torch.no_grad():
            try:
                y = module(torch.zeros(1, *self.input_shape, dtype=like.dtype, device=like.device))
            except (RuntimeError, ValueError, IndexError) as error:
                raise self.refuse(
                    module, f"it cannot run on an input of shape {self.input_shape}: {error}"
                ) from None
        return tuple(y.shape[1:])

    def refuse(self, module: nn.Module, why: str) -> RefusedModule:
        """The error to raise: `why` says what is wrong and what to do."""
        return RefusedModule(f"{self.title(module)} is refused: {why}")

    def title(self, module: nn.Module) -> str:
        kind = _written_class(module).__name__
        return f"`{self.path}` ({kind})" if self.path else f"`{kind}`"


Rule = Callable[[Any, Context], Bound]
R = TypeVar("R", bound=Rule)


@singledispatch
def _rule(module: object, context: Context) -> Bound:
    if isinstance(module, nn.Module):
        raise UnknownModule(
            f"{context.title(module)} has no rule, so its forward has to be followed, and that needs the shape of its input. Pass"
            " `input_shape=(channels, height, width)`, of one sample without the batch; or register a proven bound with"
            " `lipschitz.register`."
        )
    raise UnknownModule(
        f"`lipschitz` takes a `torch.nn.Module`, but got {type(module).__name__}. Wrap functions in modules."
    )


class Lipschitz:
    r"""`lipschitz(module, input_shape=None) -> Bound`: an upper bound of the Lipschitz constant that is proven, or an error.

    The bound is about the numbers that the forward pass runs: effective weights in their own precision, taken as exact. It
    holds on every image size, or on `input_shape` (one sample, `(channels, *pixels)`) alone, which is often a little tighter.
    Modules of other classes are followed through their forward on that shape (`sdplip.nn.bounds.followed`).

    Raises:
        UnknownModule: no rule for this class, and no `input_shape` with which its forward could be followed.
        RefusedModule: forward hooks, train-mode dropout or batch norm, reflect or replicate padding, partial pooling windows,
            weights that are not finite, an operation in a forward of its own that is not understood, ...
    """

    def __init__(self) -> None:
        self._forwards: dict[type, Any] = {}
        self._otherwise: Rule | None = None

    def __call__(self, module: nn.Module, *, input_shape: Shape | None = None) -> Bound:
        return _bound(module, Context(input_shape=None if input_shape is None else tuple(input_shape)))

    def register(self, *classes: type[nn.Module]) -> Callable[[R], R]:
        """Decorator that registers a rule `(module, context) -> Bound` for `classes`.

        Whoever registers a rule asserts that the `Bound` is proven for the `forward` that the class has now; a subclass that
        changes anything of it is refused. `context.bound(child, "name", shape)` gives the bounds of submodules.
        """

        def decorate(rule: R) -> R:
            for cls in classes:
                self._forwards[cls] = cls.forward
                _rule.register(cls, rule)
            return rule

        return decorate

    def otherwise(self, rule: R) -> R:
        """Decorator of the rule for modules of all other classes, and of classes whose `forward` was changed."""
        self._otherwise = rule
        return rule

    def registered(self, module: nn.Module) -> type | None:
        """The class whose rule speaks about `module`, if any."""
        return next((cls for cls in type(module).__mro__ if cls in self._forwards), None)

    def known(self, module: nn.Module) -> bool:
        """Whether a rule speaks about `module`: a class that is registered, with the forward that it had then."""
        cls = self.registered(module)
        return cls is not None and changed(module, cls) is None

    def forward_of(self, cls: type) -> Any:
        """The `forward` that `cls` had when its rule was registered."""
        return self._forwards[cls]


lipschitz = Lipschitz()


def _bound(module: nn.Module, context: Context) -> Bound:
    rule = _rule
    if context.input_shape is not None and isinstance(module, nn.Module) and not lipschitz.known(module):
        assert lipschitz._otherwise is not None
        rule = lipschitz._otherwise
    try:
        if rule is _rule:
            _check(module, context)
        bound = rule(module, context)
    except (RefusedModule, torch.OutOfMemoryError):
        raise
    except SdplipError as error:
        raise context.refuse(module, str(error)) from error
    except RuntimeError as error:  # a kernel that torch lacks for this type, a matrix that it cannot invert
        raise context.refuse(module, f"torch cannot compute its numbers: {error}") from error
    if not bound.value >= 0:
        raise context.refuse(module, f"its rule returned {bound.value}, which is no bound. Repair the rule.")
    name = _written_class(module).__name__
    return bound if bound.name else replace(bound, name=f"{context.path}: {name}" if context.path else name)


def _check(module: nn.Module, context: Context) -> None:
    """Everything that must hold of a module of a registered class, whatever its rule says."""
    cls = lipschitz.registered(module) if isinstance(module, nn.Module) else None
    if cls is not None:
        _check_shapes(module, context)
        _check_forward(module, cls, context)
        _check_hooks(module, context)
        _check_numbers(module, context)


HARMLESS = {
    "__init__", "__module__", "__doc__", "__annotations__", "__dict__", "__weakref__", "__qualname__", "__parameters__",
    "__orig_bases__", "__static_attributes__", "__firstlineno__", "__annotate__", "__annotate_func__", "__annotations_cache__",
    "__repr__", "extra_repr", "reset_parameters", "__slots__", "_version", "__constants__",
}  # fmt: skip
"""What a subclass may define without changing what `forward` computes."""

PARAMETRIZED = {"__deepcopy__", "__getstate__", "__reduce_ex__"}


def _written_class(module: nn.Module) -> type:
    """The class as the user wrote it: torch's parametrizations insert a subclass of their own."""
    cls = type(module)
    return cls.__mro__[1] if torch.nn.utils.parametrize.is_parametrized(module) else cls


def _check_forward(module: nn.Module, cls: type, context: Context) -> None:
    if (why := changed(module, cls)) is not None:
        raise context.refuse(module, why)


def changed(module: nn.Module, cls: type) -> str | None:
    """How the forward pass of `module` differs from the one that the rule of `cls` speaks about; None if it does not."""
    if cls.forward is not lipschitz.forward_of(cls):
        return f"`{cls.__name__}.forward` was replaced after its rule was registered. Restore it."
    for between in type(module).__mro__[: type(module).__mro__.index(cls)]:
        allowed = HARMLESS
        if between is not _written_class(module) and torch.nn.utils.parametrize.is_parametrized(module):
            allowed = HARMLESS | PARAMETRIZED
        found = sorted(name for name in set(vars(between)) - allowed if hasattr(cls, name))
        if found:
            return (
                f"it changes `{found[0]}` of `{cls.__name__}`, so the rule of `{cls.__name__}` need not hold for it. Pass"
                " `input_shape`, so that its forward can be followed, or register a rule for it with `lipschitz.register`."
            )
    patched = sorted(name for name in vars(module) if callable(getattr(type(module), name, None)))
    if patched:
        return f"`{patched[0]}` was replaced on this one object. Delete the attribute, or write a class with a rule."
    return None


def _check_hooks(module: nn.Module, context: Context) -> None:
    everywhere = torch.nn.modules.module
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        everywhere._global_forward_hooks,
        everywhere._global_forward_pre_hooks,
    )
    if any(hooks):
        raise context.refuse(
            module,
            "it has a forward hook or forward pre-hook, which may change what it computes. Remove the hook (of"
            " `nn.utils.weight_norm` and `nn.utils.spectral_norm`: use `nn.utils.parametrizations` instead).",
        )
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise context.refuse(
            module,
            "autocast is enabled, so the forward pass rounds the weights once more. Leave the autocast context; for"
            " a bound in bfloat16 convert the module with `module.bfloat16()`.",
        )


def _check_shapes(module: nn.Module, context: Context) -> None:
    for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        if torch.nn.parameter.is_lazy(tensor):
            raise context.refuse(module, f"`{name}` has no shape yet. Run the module once on an input.")


def _check_numbers(module: nn.Module, context: Context) -> None:
    """Own tensors must hold finite numbers: a bound of a layer that returns NaN says nothing."""
    for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        if tensor.is_meta:
            raise context.refuse(
                module, f"`{name}` is on the meta device and holds no numbers. Load the weights."
            )
        numbers = tensor.detach() if tensor.layout is torch.strided else tensor.detach().to_dense()
        if tensor.is_floating_point() and not bool(torch.isfinite(numbers).all()):
            raise context.refuse(module, f"`{name}` holds NaN or infinity. Repair or retrain the layer.")
