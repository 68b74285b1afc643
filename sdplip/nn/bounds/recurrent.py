"""Rule of the recurrent layer, see Note [recurrent] of `sdplip.nn.recurrent`."""

from math import inf

from torch import nn

from sdplip.arithmetic.rounding import down
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, product_above, quotient_above, root_above, shown, sum_above
from sdplip.nn.recurrent import Recurrent


@lipschitz.register(Recurrent)
def _(module: Recurrent, context: Context) -> Bound:
    context.check(module.cell, "cell", nn.Linear)
    cell = context.bound(module.cell, "cell", (module.features + module.hidden,))
    activation = context.bound(module.activation, "activation", (module.hidden,))
    step = product_above((cell.value, activation.value))
    again = product_above((step, module.decay))
    if context.input_shape is not None:
        time = context.input_shape[0]
        if not module.all_states:
            value = step if again <= 1 else product_above((step, *(again,) * (time - 1)))
            return Bound(value, f"{time} steps of at most {shown(step)}", parts=(cell, activation))
        value = product_above((step, root_above(_powers(again, time))))
        return Bound(value, f"{time} steps of at most {shown(step)}, all states", parts=(cell, activation))
    if again > 1 or (module.all_states and again == 1):
        raise context.refuse(
            module,
            f"a step has the constant {shown(again)} from state to state, and the number of steps is not known. Pass `input_shape` ="
            " (time, features), or use a `decay` below 1.",
        )
    if not module.all_states:
        return Bound(step, "no step stretches the pair of input and state", parts=(cell, activation))
    rest = down(1 - product_above((again, again)))
    value = product_above((step, root_above(quotient_above(1.0, rest)))) if rest > 0 else inf
    return Bound(
        value, "states contract, so all of them have one constant for every length", parts=(cell, activation)
    )


def _powers(again: float, time: int) -> float:
    r"""$1 + a^2 + \dots + a^{2 (T - 1)}$, rounded up."""
    total, square = 0.0, product_above((again, again))
    for _ in range(time):
        total = sum_above((product_above((total, square)), 1.0))
    return total
