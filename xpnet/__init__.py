"""xpnet: train fully connected networks with hand-written kernels that run unchanged on NumPy and CuPy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpnet import data, gradcheck, kernels, schedules
    from xpnet.callbacks import Callback, History, Row
    from xpnet.config import Config
    from xpnet.devices import Device, device
    from xpnet.errors import DataError, DeviceError, DivergenceError, OutOfMemoryError, XpnetError
    from xpnet.estimators import MLPClassifier, MLPRegressor, from_sklearn
    from xpnet.modelfile import load, save
    from xpnet.network import MLP
    from xpnet.optimizers import SGD, AdaGrad, Adam, AdamW, RMSProp
    from xpnet.trainer import Trainer

__version__ = "0.1.0"

# Loaded when first used, so that `import xpnet` costs next to nothing.
_HOMES = {
    "callbacks": ("Callback", "History", "Row"),
    "config": ("Config",),
    "devices": ("Device", "device"),
    "estimators": ("MLPClassifier", "MLPRegressor", "from_sklearn"),
    "errors": ("DataError", "DeviceError", "DivergenceError", "OutOfMemoryError", "XpnetError"),
    "modelfile": ("load", "save"),
    "network": ("MLP",),
    "optimizers": ("SGD", "AdaGrad", "Adam", "AdamW", "RMSProp"),
    "trainer": ("Trainer",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = ("data", "gradcheck", "kernels", "schedules")

__all__ = [
    "MLP",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Callback",
    "Config",
    "DataError",
    "Device",
    "DeviceError",
    "DivergenceError",
    "History",
    "MLPClassifier",
    "MLPRegressor",
    "OutOfMemoryError",
    "RMSProp",
    "Row",
    "Trainer",
    "XpnetError",
    "__version__",
    "data",
    "device",
    "from_sklearn",
    "gradcheck",
    "kernels",
    "load",
    "save",
    "schedules",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"xpnet.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"xpnet.{_HOME[name]}"), name)
    raise AttributeError(f"module 'xpnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
