"""A bound on what a config can make a plugin build: no more than its weight files hold.

``conv4x4x3(blocks=1000000)`` is a short spec and a lot of modules. They are built on ``meta``, where a weight takes
no memory, but each takes time. How many weights there are is known before: the headers of the files say it.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from torch.nn.modules import module as modules

from zoo.catalogue import is_from_catalogue
from zoo.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn

    from zoo.files.headers import Header

SLACK = 4
"""A plugin may build this many times what it keeps: a network whose head it throws away, say."""

FREE_TENSORS, FREE_NUMBERS, FREE_MODULES = 2**9, 2**24, 2**13
MODULES_PER_TENSOR = 32


@contextmanager
def within_budget(headers: Iterable[Header], where: str) -> Iterator[None]:
    """Modules that this thread builds inside register no more tensors than these files account for.

    Args:
        headers: of all weight files.
        where: what asks for the modules; begins the error.

    Raises:
        FileError: from the constructor that went too far.
    """
    headers = list(headers)
    tensors = SLACK * sum(len(header.slots) for header in headers) + FREE_TENSORS
    numbers = SLACK * sum(header.numbers for header in headers) + FREE_NUMBERS
    parts = MODULES_PER_TENSOR * tensors + FREE_MODULES
    left = {"tensors": tensors, "numbers": numbers, "modules": parts}
    thread = threading.get_ident()

    def spend(**amounts: int) -> None:
        if threading.get_ident() != thread:
            return
        for kind, amount in amounts.items():
            left[kind] -= amount
            if left[kind] < 0:
                raise FileError(
                    f"{where}: far more {kind} are asked for than the weight files hold; they do not belong together"
                )

    def tensor(_: nn.Module, __: str, value: Tensor | None) -> None:
        spend(tensors=1, numbers=0 if value is None or is_from_catalogue() else value.numel())

    def module(_: nn.Module, __: str, ___: nn.Module | None) -> None:
        spend(modules=1)

    with ExitStack() as hooks:
        hooks.callback(modules.register_module_parameter_registration_hook(tensor).remove)
        hooks.callback(modules.register_module_buffer_registration_hook(tensor).remove)
        hooks.callback(modules.register_module_module_registration_hook(module).remove)
        yield
