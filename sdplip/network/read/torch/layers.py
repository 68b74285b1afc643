"""Modules that are read whole: what their forward computes, told by a rule, because that says more than its operations do.

Everything else is followed operation by operation. Rules stand beside the layers that they are about, and assert the `forward`
that the very class has; `register` is for layers of your own too:

    >>> @register(MyLayer)
    ... def _(module, x, follow):                        # x: sdplip.network.read.arrays.Array
    ...     y = on_axis(x, numbers_of(module.weight), -1)
    ...     return follow(module.activation, y)              # whatever the forward of a part does
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from sdplip.network.read.arrays import Array

Follow = Callable[[nn.Module, Array], Array]
"""What a part of the module makes of an array, followed operation by operation."""
Rule = Callable[[Any, Array, Follow], Array]
R = TypeVar("R", bound=Rule)
RULES: dict[type[nn.Module], tuple[Rule, Any]] = {}
"""By the very class: the rule, and the forward that it speaks about."""


def register(*classes: type[nn.Module]) -> Callable[[R], R]:
    """Decorator that registers a rule `(module, array, follow) -> array` for `classes`, and for no subclass of them."""

    def decorate(rule: R) -> R:
        for cls in classes:
            RULES[cls] = (rule, cls.forward)
        return rule

    return decorate


def rule_of(module: nn.Module) -> Rule | None:
    """The rule of a module of a registered class with the forward that was registered; parametrized or not."""
    cls = type(module)
    if torch.nn.utils.parametrize.is_parametrized(module):
        cls = cls.__mro__[1]
    rule, forward = RULES.get(cls, (None, None))
    patched = any(callable(getattr(cls, name, None)) for name in vars(module) if name != "forward")
    return None if patched or cls.forward is not forward else rule
