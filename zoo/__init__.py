"""A plugin-based zoo of stackable autoencoders.

>>> import zoo
>>> stack = zoo.build("28x28x1/conv7x7x10/fc8+wae_mmd")
>>> stack.code_shape
(8,)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.builder import build, load
    from zoo.errors import ZooError
    from zoo.evaluation import evaluate
    from zoo.hookspecs import hookimpl
    from zoo.interfaces import Head, HeadBatch, Place, Reconstruction, Regularizer, RoundTrip, Stage
    from zoo.posterior import Posterior
    from zoo.registry import names as list
    from zoo.spec import parse
    from zoo.stack import Stack
    from zoo.training import find_lr, fit, fit_together

# Where each public name lives. They are imported when first asked for, so that `import zoo` costs nothing.
_HOMES = {
    "Head": "interfaces",
    "HeadBatch": "interfaces",
    "Place": "interfaces",
    "Posterior": "posterior",
    "Reconstruction": "interfaces",
    "Regularizer": "interfaces",
    "RoundTrip": "interfaces",
    "Stack": "stack",
    "Stage": "interfaces",
    "ZooError": "errors",
    "build": "builder",
    "evaluate": "evaluation",
    "find_lr": "training",
    "fit": "training",
    "fit_together": "training",
    "hookimpl": "hookspecs",
    "list": "registry",
    "load": "builder",
    "parse": "spec",
}
_OTHER_NAMES = {"list": "names"}  # a module of the zoo does not shadow the built-in

__all__ = [
    "Head",
    "HeadBatch",
    "Place",
    "Posterior",
    "Reconstruction",
    "Regularizer",
    "RoundTrip",
    "Stack",
    "Stage",
    "ZooError",
    "build",
    "evaluate",
    "find_lr",
    "fit",
    "fit_together",
    "hookimpl",
    "list",
    "load",
    "parse",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("zoo.release").zoo_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(import_module(f"zoo.{_HOMES[name]}"), _OTHER_NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> Any:
    return sorted(__all__)
