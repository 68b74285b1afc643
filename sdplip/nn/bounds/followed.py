"""Rule of modules of all other classes: their forward is followed, and what is known of its parts is composed along the graph."""

from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor, nn

from sdplip.bounds.methods.product import implicit, layers_proof
from sdplip.errors import RefusedModule
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.rules.closed import node_factor
from sdplip.kernel.rules.layers import needed, together
from sdplip.network import Concatenate, Network, Node, Sum
from sdplip.network.read.arrays import Array, finish
from sdplip.network.read.torch import trace
from sdplip.network.read.torch.agreement import Checks, Whole
from sdplip.network.read.torch.layers import Follow
from sdplip.network.read.torch.steady import compare, floating, inputs, one_by_one
from sdplip.nn.bounds.dispatch import Context, Shape, lipschitz
from sdplip.nn.bounds.tree import Bound, product_above


@dataclass(frozen=True, eq=False)
class _Part:
    """A module that stayed whole: where it stands, the shape of a sample in front of it, and what it held when it ran."""

    module: nn.Module
    path: str
    input_shape: Shape
    held: list[object]


@lipschitz.otherwise
def _(module: nn.Module, context: Context) -> Bound:
    r"""Constants carried from the input to the output: sums add, values side by side add squares, everything else multiplies.

    Modules with a rule stay whole. Between values that everything passes through the factors are listed one after another.
    """
    assert context.input_shape is not None
    network, parts, factors = _composed(module, context)
    sections = list[Bound]()
    cuts = _cuts(factors)
    for start, end in pairwise(cuts):
        section = _section(network, factors, start, end)
        if section is not None:
            sections.append(section)
    shape = " x ".join(map(str, context.input_shape))
    product = "" if len(sections) == 1 else f"product of {len(sections)} parts of "
    reason = f"{product}its forward, followed on inputs of shape {shape}"
    last = network.made(network.output)
    head = parts[last.op].path if isinstance(last.op, Whole) and cuts[-2] == last.inputs[0] else ""
    return Bound(product_above(tuple(s.value for s in sections)), reason, parts=tuple(sections), head=head)


def _composed(module: nn.Module, context: Context) -> "tuple[Network, dict[Whole, _Part], Factors]":
    """The graph of a forward pass, and the factor of each of its values. Modules that their rule refuses are followed too; where
    that does not help, the first refusal is raised."""
    opened, first = set[nn.Module](), None
    while True:
        try:
            network, parts, out, checks = _followed(module, context, opened)
            factors = _factors(network, parts, context)
            assert context.input_shape is not None
            compare(module, one_by_one(module), context.input_shape, out, checks)
            return network, parts, factors
        except _RefusedPart as error:
            opened.add(error.module)
            first = first or error.reason
        except RefusedModule as error:
            raise first or error from None


class _RefusedPart(Exception):
    """The rule of a module that stayed whole refuses it."""

    def __init__(self, module: nn.Module, reason: RefusedModule) -> None:
        super().__init__(str(reason))
        self.module, self.reason = module, reason


def _followed(
    module: nn.Module, context: Context, opened: set[nn.Module]
) -> tuple[Network, dict[Whole, _Part], Shape, Checks]:
    """The graph of a forward pass, whose known modules are nodes, but for those that are to be `opened`."""
    parts, shape = dict[Whole, _Part](), context.input_shape
    assert shape is not None

    def whole(child: nn.Module, path: str, x: Array, y: Tensor, _: Follow) -> Array:
        op = Whole(x.size, y.numel() // trace.BATCH)  # of each of the samples that one sample has become
        parts[op] = _Part(child, path, x.shape[1:], _held(child))
        out = (x.shape[0], *y.shape[1:])
        value = x.tape.builder.add(op, x.value, shape=out, name=path)  # pyright: ignore[reportArgumentType]
        return replace(x, value=value, shape=out)

    def leaf(child: nn.Module) -> object:
        return child if child is not module and child not in opened and lipschitz.known(child) else None

    x = inputs(trace.BATCH, shape, floating(module, shape), 0)
    before = trace.state(module)
    array, y, run = trace.trace(module, x, leaf, whole)
    trace.refuse_state(module, before)
    for part in parts.values():
        if _held(part.module) != part.held:
            raise context.refuse(
                module,
                f"its forward changes what `{part.path}` holds, which is bounded as it is now. Leave it as it is.",
            )
    return finish(array), parts, tuple(y.shape[1:]), run.checks


def _held(module: nn.Module) -> list[object]:
    """What decides what a module computes: its numbers, words and tensors, without what torch wraps around it now."""
    found = list[object]()
    for child in module.modules():
        found += [(key, value) for key, value in vars(child).items() if isinstance(value, PLAIN)]
        tensors = (*child.named_parameters(recurse=False), *child.named_buffers(recurse=False))
        found += [(name, id(t), t._version, t.data_ptr()) for name, t in tensors]
    return found


PLAIN = (bool, int, float, str, tuple, type(None))

Factors = dict[int, tuple[tuple[int, ...], Bound]]
"""Of each value that is needed: the values that it is made of, and the factor between."""


def _factors(network: Network, parts: dict[Whole, _Part], context: Context) -> Factors:
    given = [
        (n.inputs[0], k, Proof("whole")) for k, n in enumerate(network.nodes, 1) if isinstance(n.op, Whole)
    ]
    proof = layers_proof(network, [*given, *implicit(network, given)])
    spans = {end: (start, p) for (start, end), p in zip(proof.data["spans"], proof.parts, strict=True)}
    found, known = Factors(), dict[Whole, Bound]()
    for k in needed(network, {end: start for end, (start, _) in spans.items()}):
        node = network.made(k)
        if isinstance(node.op, Whole):
            part = parts[node.op]
            if node.op not in known:
                try:
                    known[node.op] = context.bound(part.module, part.path, part.input_shape)
                except RefusedModule as error:
                    raise _RefusedPart(part.module, error) from error
            found[k] = node.inputs, known[node.op]
        elif k in spans:
            start, p = spans[k]
            value = conclude(Goal(network.between(start, k)), p)
            found[k] = (start,), Bound(value, "proven norm", _name(node, context))
        else:
            found[k] = node.inputs, _closed(node, context)
    return found


def _cuts(factors: Factors) -> list[int]:
    """The values that everything passes through, from the input to the output."""
    last: dict[int, int] = {}
    for k, (before, _) in sorted(factors.items()):
        last |= dict.fromkeys(before, k)
    found, reach = [0], last.get(0, max(factors))
    for k in sorted(factors):
        if k == reach:
            found.append(k)
        reach = max(reach, last.get(k, 0))
    return found


def _closed(node: Node, context: Context) -> Bound:
    if isinstance(node.op, Sum | Concatenate):
        word = "sum" if isinstance(node.op, Sum) else "root of the sum of squares"
        return Bound(1.0, f"{word} of {len(node.inputs)} branches", _name(node, context))
    factor = node_factor(node.op)
    assert factor is not None, "every other node has a closed form"
    return Bound(factor, "closed form", _name(node, context))


def _name(node: Node, context: Context) -> str:
    kind, alone = (
        node.title.partition(" ")[0],
        ":" in node.name and " (" not in node.name,
    )  # a line, no module
    if context.path and alone:
        return f"{context.path} ({node.name}): {kind}"
    where = ".".join(word for word in (context.path, node.name) if word)
    return f"{where}: {kind}" if where else kind


def _section(network: Network, factors: Factors, start: int, end: int) -> Bound | None:
    """From one value that everything passes through to the next; None where nothing changes."""
    constants, used = {start: 1.0}, list[Bound]()
    for k in range(start + 1, end + 1):
        if k not in factors:
            continue
        before, bound = factors[k]
        node = network.made(k)
        joint = (
            together(node, [constants[i] for i in before]) if before == node.inputs else constants[before[0]]
        )
        constants[k] = product_above((joint, bound.value))
        if bound.value != 1 or bound.parts or isinstance(node.op, Sum | Concatenate | Whole):
            used.append(bound)
    if not used:
        return None
    if len(used) == 1:
        return used[0] if used[0].value == constants[end] else replace(used[0], value=constants[end])
    branches = [b for b in used if "branches" in b.reason]
    inner = tuple(b for b in used if b not in branches)
    if not branches:
        return Bound(constants[end], f"product of {len(used)} parts", parts=tuple(used))
    name = branches[-1].name
    return Bound(constants[end], branches[-1].reason, name, inner)
