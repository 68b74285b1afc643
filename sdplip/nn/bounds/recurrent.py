"""Rule of the recurrent layer, see Note [recurrent] of `sdplip.nn.recurrent`."""

from torch import nn

from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound, product_above, root_above, shown
from sdplip.nn.recurrent import Recurrent


@lipschitz.register(Recurrent)
def _(module: Recurrent, context: Context) -> Bound:
    context.check(module.cell, "cell", nn.Linear)
    cell = context.bound(module.cell, "cell", (module.features + module.hidden,))
    activation = context.bound(module.activation, "activation", (module.hidden,))
    step = product_above((cell.value, activation.value))
    if context.input_shape is None:
        if step > 1 or module.all_states:
            raise context.refuse(
                module,
                f"a step has the constant {shown(step)}, and the number of steps is not known. Pass `input_shape` ="
                " (time, features).",
            )
        return Bound(step, "no step stretches the pair of input and state", parts=(cell, activation))
    time = context.input_shape[0]
    value = step if step <= 1 else product_above((step,) * time)
    if module.all_states:
        value = product_above((value, root_above(float(time))))
    reason = f"{time} steps of at most {shown(step)}" + (", all states" if module.all_states else "")
    return Bound(value, reason, parts=(cell, activation))
