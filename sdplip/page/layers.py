"""Layers of a network beside the best scaling of each: what a run or a file holds, as far as time allows."""

import time
from collections.abc import Sequence
from typing import Any

from sdplip.errors import SdplipError
from sdplip.html.elements import Node, fold, joined, paragraph
from sdplip.html.results import comparison
from sdplip.network.read.anything import is_module
from sdplip.reports import Layer, Method, compare, weights_of
from sdplip.reports.compare import CompareReport
from sdplip.reports.methods import CLOSED_FORMS
from sdplip.shapes import array
from sdplip.weights import Weight

DENSE, CHANNELS = 1500, 64
"""Columns of a matrix, channels of a kernel: of larger ones the optimum takes minutes."""

Asked = tuple[Layer, Sequence[Method]]


def layers_of(what: Any) -> list[Asked]:
    """Layers of a module or file with the scalings to compare: the closed forms, and of a residual layer its own T."""
    if not is_module(what):
        return [(Layer(weight), CLOSED_FORMS) for weight in weights_of(what)]
    import torch
    from torch import nn

    from sdplip.nn.residual import AbstractResidual

    found = list[Asked]()
    with torch.no_grad():
        for name, part in what.named_modules():
            if isinstance(part, AbstractResidual):
                t = array(part.t.double())
                own = Method("as trained", lambda _, t=t: t)
                weight = Weight(f"{name}: {type(part).__name__}", array(part.weight), part.scaling.geometry)
                found.append((Layer(weight, "residual"), (*CLOSED_FORMS, own)))
            elif isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and not name.endswith(
                "activation"
            ):
                (weight,) = weights_of(part)
                weight = Weight(f"{name}: {type(part).__name__}", weight.array, weight.geometry)
                found.append((Layer(weight), CLOSED_FORMS))
    return found


def layers_body(asked: Sequence[Asked], seconds: float, command: str) -> Node:
    """Every layer compared with its optimum within the time; which were left out, and how to see them.

    Args:
        command: what compares a layer of this subject, for people.
    """
    end, cards, left_out = time.monotonic() + seconds, list[Node](), list[str]()
    for layer, methods in asked:
        why = _too_large(layer) or ("the time is over" if time.monotonic() >= end else "")
        if not why:
            try:
                cards += [_card(compare_one(layer, methods), opened=not cards)]
                continue
            except SdplipError as error:
                why = str(error)
        left_out.append(f"{layer.name}: {why}")
    words = (
        "What each scaling T costs beside the proven optimum, and the singular values that it leaves (floating point): the nearer"
        " to 1, the more gradient passes."
    )
    rest = None
    if left_out:
        rest = fold(f"{len(left_out)} layers left out: {command}", *(paragraph(line) for line in left_out))
    return joined("", paragraph(words), *cards, rest)


def compare_one(layer: Layer, methods: Sequence[Method]) -> CompareReport:
    """The comparison of one layer."""
    return compare([layer.weight], methods, form=layer.form)


def _card(report: CompareReport, *, opened: bool) -> Node:
    (layer,) = report.layers
    shape = " × ".join(map(str, layer.layer.weight.array.shape))
    return fold(f"{layer.layer.name}, {shape}", comparison(layer, report.objective.value), opened=opened)


def _too_large(layer: Layer) -> str:
    if layer.is_convolution:
        return f"more than {CHANNELS} channels" if max(layer.weight.array.shape[:2]) > CHANNELS else ""
    return f"more than {DENSE} columns" if max(layer.weight.array.shape) > DENSE else ""
