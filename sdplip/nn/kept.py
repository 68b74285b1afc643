r"""Parametrizations whose value is computed at every forward in training, and once in eval mode."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from sdplip.nn.memo import Memo


class AbstractKept(nn.Module, ABC):
    """A parametrization that depends on its free tensors alone. `lipschitz` compares what is kept with `now`."""

    def __init__(self) -> None:
        super().__init__()
        self._memo = Memo()

    @abstractmethod
    def now(self, *free: Tensor) -> Tensor:
        """The constrained tensor, in the dtype of the free ones."""

    def forward(self, *free: Tensor) -> Tensor:
        if self.training or torch.compiler.is_compiling():
            return self.now(*free)
        return self._memo(self.now, *free)

    def train(self, mode: bool = True) -> "AbstractKept":
        self._memo.drop()
        return super().train(mode)

    def _apply(self, *args, **kwargs) -> "AbstractKept":
        self._memo.drop()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._memo.drop()
        super()._load_from_state_dict(*args, **kwargs)
