"""Recipes: what an experiment trains, on what, for how long, and what its source found."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import RecipeError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUIRED: dict[str, type] = {
    "experiment": str,
    "title": str,
    "about": str,
    "source": str,
    "data": str,
    "training": dict,
}
TABLES: dict[str, type] = {"settings": dict, "stacks": dict, "reference": dict, "files": dict}
WORDS = "stacks", "files"
"""Tables of texts."""
QUICK = "quick"
ALWAYS: dict[str, type] = {"images": int, "held_out": int, "tested": int, "quick_counts": bool}
"""Settings that every experiment takes."""
OPTIONAL = "again", "sweep", "code", "options", "classes"
"""Settings that an experiment does without."""
KINDS = {str: "a text", int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "a table"}


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
        file: what ``zoo reproduce`` is given to find it: its name, or the path of a file of one's own.
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
    file: str = ""

    def told(self, *keys: str | int) -> Any:
        """A number of the source's, by the keys that lead to it; None where the recipe has none."""
        found: Any = self.reference
        for key in keys:
            try:
                found = found[key]
            except (KeyError, IndexError):
                return None
        return found


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
    changes = tree.pop(QUICK, {})
    if quick and not changes:
        raise RecipeError(f"{path} has no table [{QUICK}], which says what a quick run is cut down to")
    empty: dict[str, Any] = {table: {} for table in TABLES}
    return Recipe(name=path.stem, quick=quick, file=str(name), **empty | (_changed(tree, changes) if quick else tree))


def lasting(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with so many epochs for every run, but for those that have a budget of their own.

    Raises:
        RecipeError: there is none, or the recipe's budget is another: its claims and times are about that.
    """
    if epochs < 1:
        raise RecipeError(f"{recipe.name}: a run takes at least one epoch, not {epochs}")
    if "epochs" not in recipe.training:
        form, own = " --quick" * recipe.quick, [key for key in ("steps", "minutes") if key in recipe.training]
        raise RecipeError(
            f"{recipe.name}{form} trains for {' and '.join(own) or 'what its settings say'}, not for epochs: leave "
            f"epochs={epochs} (--epochs) out, or change a copy of the recipe"
        )
    return replace(recipe, training=recipe.training | {"epochs": epochs})


def check_form(recipe: Recipe) -> None:
    """See, before anything is trained, that a recipe has the settings that its experiment asks for, and no others.

    What it asks for is what all recipes of that experiment have that come with the zoo.

    Raises:
        RecipeError: one is missing, unknown or of another kind.
    """
    recipes = [read(name, quick=quick) for name in names() for quick in (False, True)]
    models = [found.settings for found in recipes if found.experiment == recipe.experiment]
    known: dict[str, type] = ALWAYS | {key: type(value) for model in models for key, value in model.items()}
    for key in sorted(set.intersection(*map(set, models)) - {*ALWAYS, *OPTIONAL}):
        if key not in recipe.settings:
            raise RecipeError(
                f"{recipe.name}: the experiment {recipe.experiment!r} asks for the setting {key!r}, which is missing "
                "from [settings]; the zoo's own recipe of that experiment has all of them"
            )
    for key, value in recipe.settings.items():
        if key not in known:
            raise RecipeError(f"{recipe.name}: there is no setting {key!r}; {nearest(key, known)}")
        if not _alike(value, known[key]):
            raise RecipeError(f"{recipe.name}: the setting {key} is {value!r:.80}, not {KINDS[known[key]]}")


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
    fields = REQUIRED | TABLES
    _check_fields(tree, fields | {QUICK: dict}, str(path))
    for field in REQUIRED:
        if field not in tree:
            raise RecipeError(f"{path}: the field {field!r} is missing")
    _check_fields(tree.get(QUICK, {}), fields, f"{path}, [{QUICK}]")


def _check_fields(tree: dict[str, Any], known: dict[str, type], where: str) -> None:
    for field, value in tree.items():
        if field not in known:
            raise RecipeError(f"{where}: there is no field {field!r}; {nearest(field, known)}")
        if not isinstance(value, known[field]):
            raise RecipeError(f"{where}: {field} is {value!r:.80}, not {KINDS[known[field]]}")
        for name, words in value.items() if isinstance(value, dict) and field in WORDS else ():
            if not isinstance(words, str):
                raise RecipeError(f"{where}: {field}: {name} is {words!r:.80}, not {KINDS[str]}")


def _alike(value: Any, kind: type) -> bool:
    if kind in (int, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


def _changed(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The recipe with other values: of the settings those that are named, of everything else the whole."""
    settings = {**tree.get("settings", {}), **changes.get("settings", {})}
    return tree | changes | {"settings": settings}
