"""Modules without values: for a look at their shapes, made in a fraction of the time that filling them takes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_FILL = {
    Tensor.fill_,
    Tensor.zero_,
    *(function for name, function in vars(nn.init).items() if name.endswith("_") and callable(function)),
}


class Blank(TorchFunctionMode):
    """A context in which the initialisation of weights is left out, and memory of theirs is never touched.

    What is drawn by a tensor's own ``normal_`` and ``uniform_`` is drawn: ``nn.init.trunc_normal_`` draws until all
    values are within bounds, and would never end if they stayed what they happen to be.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FILL:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
