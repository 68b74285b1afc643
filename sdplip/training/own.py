"""Networks of the user's own: where they come from, how a run folder remembers them, and what bounds their margins."""

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdplip.errors import InvalidConfig, InvalidRun, SdplipError
from sdplip.nn.bounds.dispatch import lipschitz
from sdplip.nn.bounds.pairwise import pairwise_lipschitz
from sdplip.training.margins import has_head

OBJECT = "object:"
"""Begins the `model.factory` of a network that was passed as an object, which no file can build again."""


def recorded(model: nn.Module) -> str:
    """What a run file says of a network that was passed as an object."""
    cls = type(model)
    return f"{OBJECT}{cls.__module__}.{cls.__qualname__}"


def from_factory(factory: str) -> nn.Module:
    """The network that `package.module:callable` makes, called without arguments.

    Only a class of `nn.Module`, or a Python function that this very module defines, is called.

    Raises:
        InvalidConfig: no such module or callable, something else, or a callable that fails or makes no module.
    """
    name, colon, attribute = factory.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z_][\w.]*", name) or not attribute.isidentifier():
        raise InvalidConfig(f"`model.factory` must be `package.module:callable`, but is {factory!r}.")
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise InvalidConfig(
            f"`{name}` of `model.factory` cannot be imported ({error}). Run in the folder that holds it, or install it."
        ) from None
    finally:
        if added:
            sys.path.remove(here)
    made = vars(module).get(attribute)
    own = inspect.isfunction(made) and made.__module__ == module.__name__
    if made is None or not (own or (inspect.isclass(made) and issubclass(made, nn.Module))):
        raise InvalidConfig(
            f"`{factory}` is no function of that module and no class of `nn.Module`. Name one that makes the network."
        )
    try:
        network = made()
    except Exception as error:
        raise InvalidConfig(
            f"`{factory}()` fails: {type(error).__name__}: {error}. It is called without arguments."
        ) from error
    if not isinstance(network, nn.Module):
        raise InvalidConfig(f"`{factory}()` returns {type(network).__name__}, not a `torch.nn.Module`.")
    return network


def rebuilt(factory: str, model: nn.Module | None, folder: Path | str) -> nn.Module:
    """The network of a run, before its weights are loaded.

    Raises:
        InvalidRun: it was passed as an object, and is not passed again, or is of another class.
    """
    if not factory.startswith(OBJECT):
        return from_factory(factory) if model is None else model
    if model is None:
        raise InvalidRun(
            f"The network of `{folder}` was passed as an object of {factory.removeprefix(OBJECT)}, which a file cannot build."
            " Pass one again: `load_run(folder, model=...)`, or train with `--model package.module:factory`."
        )
    if recorded(model) != factory:
        raise InvalidRun(
            f"The network of `{folder}` is of {factory.removeprefix(OBJECT)}, but one of"
            f" {recorded(model).removeprefix(OBJECT)} was passed. Pass the right one."
        )
    return model


@torch.no_grad()
def check(model: nn.Module, image: tuple[int, ...], classes: int) -> None:
    """Refuses a network before anything long begins.

    Raises:
        InvalidConfig: it does not turn images into as many logits as there are classes.
        RefusedModule: it has no proven bound, so nothing could be certified in the end.
    """
    training = model.training
    kind, outputs = (
        ("rows", "numbers, one for each target")
        if len(image) == 1
        else ("images", "logits, one for each class")
    )
    model.eval()
    try:
        like = next(iter(model.parameters()), torch.empty(0))
        if not like.is_floating_point() or like.dtype not in (torch.float32, torch.float64):
            raise InvalidConfig(
                f"The network has weights of {like.dtype}. Convert it with `.float()` before training."
            )
        try:
            logits: Any = model(torch.zeros(2, *image, dtype=like.dtype, device=like.device))
        except Exception as error:
            raise InvalidConfig(
                f"The network cannot run on {kind} of shape {image}: {type(error).__name__}: {error}."
            ) from error
        if not isinstance(logits, Tensor) or logits.shape != (2, classes):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InvalidConfig(
                f"The network must turn a batch of {kind} into (batch, {classes}) {outputs}, but 2 {kind} give"
                f" {shape}."
            )
        lipschitz(model, input_shape=image)
    finally:
        model.train(training)


@torch.no_grad()
def monitored_constants(model: nn.Module, image: tuple[int, ...]) -> Tensor:
    r"""Constants of the margins that are proven for the network as it stands: of pairs of rows of a linear head, else
    $\sqrt 2 L$. One number where it has no proof just now: infinity, which certifies nothing."""
    try:
        if isinstance(model, nn.Sequential) and has_head(model):
            found = torch.from_numpy(pairwise_lipschitz(model, input_shape=image).values)
        else:
            found = torch.tensor(2**0.5 * lipschitz(model, input_shape=image).value)
    except SdplipError:
        found = torch.tensor(float("inf"))
    like = next(iter(model.parameters()), torch.empty(0))
    return found.to(like)


@torch.no_grad()
def monitored_constant(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The constant of the network as it stands that is proven; infinity where it has no proof just now."""
    try:
        found = lipschitz(model, input_shape=shape).value
    except SdplipError:
        found = float("inf")
    like = next(iter(model.parameters()), torch.empty(0))
    return torch.tensor(found).to(like)
