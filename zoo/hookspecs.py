"""What a plugin may offer: the whole contract between the zoo and a package that extends it.

A hook returns names, not classes, so that listing what there is imports nobody's torch:

    from zoo import hookimpl

    @hookimpl
    def zoo_stages():
        return {"dct": "my_package.dct:BlockDCT"}

and the package's pyproject.toml says where the hook is found:

    [project.entry-points.zoo]
    my_package = "my_package"
"""

from __future__ import annotations

import pluggy

PROJECT = "zoo"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def zoo_stages() -> dict[str, str]:  # type: ignore[empty-body]
    """Names of stages, each with a reference ``"module:Class"`` to a ``zoo.Stage``."""


@hookspec
def zoo_regularizers() -> dict[str, str]:  # type: ignore[empty-body]
    """Names of regularizers, each with a reference ``"module:Class"`` to a ``zoo.Regularizer``."""


@hookspec
def zoo_reconstructions() -> dict[str, str]:  # type: ignore[empty-body]
    """Names of reconstructions, each with a reference ``"module:Class"`` to a ``zoo.Reconstruction``."""


@hookspec
def zoo_heads() -> dict[str, str]:  # type: ignore[empty-body]
    """Names of heads, each with a reference ``"module:Class"`` to a ``zoo.Head``."""


@hookspec
def zoo_commands() -> dict[str, str]:  # type: ignore[empty-body]
    """Names of commands of the ``zoo`` program, each with a reference ``"module:command"`` to a ``click.Command``."""


@hookspec
def zoo_registries() -> list[str]:  # type: ignore[empty-body]
    """Files of published stages, each a reference ``"package:path/registry.json"``; docs/pretrained.md has the form."""
