"""Recipes: what an experiment trains, on what, for how long, and what its source found."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import RecipeError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUIRED = {"experiment": str, "title": str, "about": str, "source": str, "data": str, "training": dict}
OPTIONAL = {"quick": dict, "settings": dict, "stacks": dict, "reference": dict, "files": dict}
NOTHING: dict[str, Any] = {"settings": {}, "stacks": {}, "reference": {}, "files": {}}


@dataclass(frozen=True)
class Recipe:
    """A recipe, as its file has it.

    Args:
        name: of the file, without its ending.
        experiment: the module of `zoo.experiments` that carries it out.
        title: what it is about, in a few words.
        about: what the source did and claims.
        source: the source.
        data: images to train and measure on, as ``zoo.fit`` takes them; another set may be given.
        training: options of ``zoo.fit`` for every run.
        stacks: specs by name.
        settings: whatever else the experiment wants to know.
        reference: the source's numbers.
        files: what has to be brought along, in words, by the name that stands for it in braces, as ``{vgg16}``.
        quick: it has been cut down to show that it runs.
    """

    name: str
    experiment: str
    title: str
    about: str
    source: str
    data: str
    training: dict[str, Any]
    stacks: dict[str, str]
    settings: dict[str, Any]
    reference: dict[str, Any]
    files: dict[str, str]
    quick: bool = False


def names() -> list[str]:
    """The recipes that come with the zoo, in alphabetical order."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def read(name: str | Path, *, quick: bool = False) -> Recipe:
    """A recipe by its name, or from a TOML file of one's own.

    Args:
        name: one of ``names()``, or a path that ends in ``.toml``.
        quick: with what the recipe's table ``quick`` changes, so that it is over in a minute or two.

    Raises:
        RecipeError: there is none of that name, or the file is not of this form.
    """
    path = Path(name) if str(name).endswith(".toml") else _folder() / f"{name}.toml"
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"there is no recipe {str(name)!r}; {nearest(str(name), names())}") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read as TOML: {error}") from error
    _check(tree, path)
    changes = tree.pop("quick", {})
    return Recipe(name=path.stem, quick=quick, **NOTHING | (_changed(tree, changes) if quick else tree))


def check_files(recipe: Recipe, given: Mapping[str, Path]) -> None:
    """See that files are those that a recipe asks for, and are there.

    Raises:
        RecipeError: they are not.
    """
    for name, path in given.items():
        if name not in recipe.files:
            raise RecipeError(f"{recipe.name} wants no file called {name!r}; {nearest(name, recipe.files)}")
        if not path.is_file():
            raise RecipeError(f"{recipe.name}: {name} is {recipe.files[name]}, and there is no file {path}")


def _folder() -> Path:
    package = Path(__file__).parents[1]
    beside, above = package / "recipes", package.parent / "recipes"
    return beside if beside.is_dir() else above  # in a wheel, or in a checkout


def _check(tree: dict[str, Any], path: Path) -> None:
    known = REQUIRED | OPTIONAL
    for field, value in tree.items():
        if field not in known:
            raise RecipeError(f"{path}: there is no field {field!r}; {nearest(field, known)}")
        if not isinstance(value, known[field]):
            kind = "a text" if known[field] is str else "a table"
            raise RecipeError(f"{path}: {field} is {value!r:.80}, not {kind}")
    for field in REQUIRED:
        if field not in tree:
            raise RecipeError(f"{path}: the field {field!r} is missing")


def _changed(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The recipe with other values: of the settings those that are named, of everything else the whole."""
    settings = {**tree.get("settings", {}), **changes.get("settings", {})}
    return tree | changes | {"settings": settings}
