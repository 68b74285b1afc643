"""A plain network out of any of ours: ordinary layers with the numbers that ran, and their certificate."""

import copy
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize

from sdplip.errors import RefusedModule
from sdplip.nn.bound import Bound, lipschitz
from sdplip.nn.bounds.dispatch import Shape
from sdplip.nn.circular import plain_fourier
from sdplip.nn.deep_residual import DeepResidualLinear, plain_deep
from sdplip.nn.equilibrium import EquilibriumLinear
from sdplip.nn.heads import LastLayerNormalised
from sdplip.nn.lipkernel import LipKernel, plain_lipkernel
from sdplip.nn.orthogonal import AbstractFourierConv2d
from sdplip.nn.plain import plain_linear, plain_residual, plain_sandwich, plain_sandwich_conv
from sdplip.nn.residual import AbstractResidual
from sdplip.nn.sandwich import Sandwich
from sdplip.nn.sandwich_conv import AbstractSandwichConv2d


@dataclass(frozen=True)
class Export:
    """A plain model in eval mode, and the bound that was proven for it (not for the model that it came from)."""

    model: nn.Module
    bound: Bound


def export_plain(model: nn.Module, *, input_shape: Shape | None = None) -> Export:
    """A copy of `model` made of torch's own layers, with the proven bound of that copy.

    Parametrizations are replaced by the weight that they gave, so state dicts have the keys of a plain network. Residual and
    sandwich layers become `PlainResidual` and `PlainSandwich`: two ordinary linear layers or convolutions around the activation
    (`up`, `down`); orthogonal convolutions become `CircularConv2d`, torch's convolution with a kernel as large as the image.
    Activations, pooling and containers stay. The new weights are rounded once to the dtype of the model, which is why the bound
    is proven anew.

    Args:
        model: known to `lipschitz`; it is not changed. Load weights and call `eval()` before.
        input_shape: one sample, `(channels, *pixels)`; needed by `save_onnx`, and makes the bound tighter.

    Raises:
        RefusedModule: `lipschitz` refuses the model, or a layer has no plain form (some residual convolutions, equilibrium layers).
    """
    lipschitz(model, input_shape=input_shape)  # a model without bound is not exported
    plain = _plain(copy.deepcopy(model)).eval()
    return Export(plain, lipschitz(plain, input_shape=input_shape))


def vanilla_export(model: nn.Module) -> nn.Module:
    """`export_plain(model).model`, under the name that users of deel-torchlip know."""
    return export_plain(model).model


def save_plain(model: nn.Module, path: str | PathLike[str]) -> Bound:
    """Export `model`, write its weights as safetensors, and return the bound of what was written.

    `sdplip check` reads the file; `load_state_dict` of the plain model takes its tensors.
    """
    from safetensors.torch import save

    export = export_plain(model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in export.model.state_dict().items()}
    Path(path).write_bytes(save(tensors))
    return export.bound


def save_onnx(model: nn.Module, path: str | PathLike[str], *, input_shape: Shape) -> Bound:
    """Export `model`, write it as one ONNX file with the weights inside and a free batch size, and return the bound.

    Raises:
        RefusedModule: as `export_plain`.
    """
    export = export_plain(model, input_shape=input_shape)
    like = next(export.model.parameters(), torch.empty(0))
    x = torch.zeros(1, *input_shape, dtype=like.dtype, device=like.device)
    batch = {"input": {0: "batch"}, "output": {0: "batch"}}
    with warnings.catch_warnings():
        # The older exporter: it needs nothing but `onnx`, and writes one file. The newer one moves weights to a second file.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]  # shapes of one sample are constants
        torch.onnx.export(
            export.model,
            (x,),
            str(path),
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=batch,
            dynamo=False,
        )
    return export.bound


@torch.no_grad()
def from_plain(model: nn.Module, plain: nn.Module) -> nn.Module:
    """`model` itself, with the weights of the plain network `plain` assigned to its layers, projected where they do not fit.

    The keys of `plain.state_dict()` must be those of `model` without parametrizations. A rescaled layer runs with the weight
    if it can (`Rescaled.right_inverse`), else with a rescaled one.

    Raises:
        KeyError: a weight is missing in `plain`, or there is one too many.
    """
    given = plain.state_dict()
    wanted = plain_keys(model)
    if set(given) != set(wanted):
        missing, extra = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
        raise KeyError(
            f"The networks do not match: `plain` lacks {missing}, and {extra} have no place in `model`."
        )
    for key, (module, name) in wanted.items():
        value = given[key].to(getattr(module, name))
        if parametrize.is_parametrized(module, name):
            setattr(module, name, value)
        else:
            getattr(module, name).copy_(value)
    return model.train(model.training)  # drops what was computed from the weights before


def plain_keys(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """The keys that a state dict has once parametrizations are removed, each with its module and the name in it."""
    keys: dict[str, tuple[nn.Module, str]] = {}
    for path, module in model.named_modules():
        if ".parametrizations" in f".{path}":
            continue
        tensors = [name for name, _ in module.named_parameters(recurse=False)]
        tensors += [name for name, _ in module.named_buffers(recurse=False)]
        tensors += _parametrized(module)
        keys |= {f"{path}.{name}" if path else name: (module, name) for name in tensors}
    return keys


def _plain(module: nn.Module) -> nn.Module:
    """The plain form of a module, of which every part is a copy that may be changed."""
    if isinstance(module, AbstractResidual):
        return plain_residual(module)
    if isinstance(module, EquilibriumLinear):
        raise RefusedModule(
            "`EquilibriumLinear` has no plain form: its outputs solve an equation, which torch's layers and ONNX do not. Write the network"
            " file instead: `sdplip.network.file.write_network(path, sdplip.network.read.torch.read_module(model))`."
        )
    if isinstance(module, DeepResidualLinear):
        return plain_deep(module)
    if isinstance(module, LipKernel):
        return plain_lipkernel(module)
    if isinstance(module, Sandwich):
        return plain_sandwich(module)
    if isinstance(module, AbstractSandwichConv2d):
        return plain_sandwich_conv(module)
    if isinstance(module, LastLayerNormalised):
        return plain_linear(module.rows(), module.bias)
    if isinstance(module, AbstractFourierConv2d):
        return plain_fourier(module)
    for name, child in module._modules.items():
        if child is not None and name != "parametrizations":
            module._modules[name] = _plain(child)
    return _frozen(module) if parametrize.is_parametrized(module) else module


def _frozen(module: nn.Module) -> nn.Module:
    """The module with the tensors that its parametrizations gave. `remove_parametrizations` would also take them from the module
    that it was copied from, whose class it shares."""
    cls = type(module).__mro__[1]
    plain: nn.Module = object.__new__(cls)
    plain.__dict__.update(module.__dict__)
    computed = {name: nn.Parameter(getattr(module, name).detach().clone()) for name in _parametrized(module)}
    plain._parameters = {**computed, **module._parameters}
    plain._modules = {name: child for name, child in module._modules.items() if name != "parametrizations"}
    return plain


def _parametrized(module: nn.Module) -> list[str]:
    """Names of the tensors that are computed by parametrizations."""
    if not parametrize.is_parametrized(module):
        return []
    return list(module.get_submodule("parametrizations")._modules)
