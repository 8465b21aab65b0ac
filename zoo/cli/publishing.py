"""Stages under a name of their own: `zoo publish` and `zoo verify`."""

from __future__ import annotations

import json
import os
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from zoo import registry
from zoo.cli.columns import columns
from zoo.cli.shelf import as_page
from zoo.cli.targets import FILE, FOLDER
from zoo.errors import FileError, RegistryError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zoo.evaluation import Check

RESULTS = {True: "ok", False: "wrong", None: "-"}


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.argument("repo", metavar="[USER/NAME]", required=False)
@click.option("--as", "name", required=True, metavar="NAME.TAG",
              help="Its name: the top stage with its shape, and a tag, as in fc8.faces.")  # fmt: skip
@click.option("--licence", required=True, metavar="SPDX", help="Of the weights, as in Apache-2.0.")
@click.option("--data-licence", required=True, metavar="SPDX", help="Of the images, as in CC-BY-4.0.")
@click.option("--data", metavar="NAME", help="What it was trained on.", show_default="as its run.json has it")
@click.option("--data-url", metavar="URL", help="Where the images are from.")
@click.option("--attribution", metavar="TEXT", help="Whom to name for the images.")
@click.option("--report", "reports", multiple=True, type=FILE, metavar="FILE",
              help="Another report of it, on other images; may be given again.")  # fmt: skip
@click.option("--recipe", metavar="TEXT", help="The command that trained it.", show_default="as its run.json has it")
@click.option("--registry", "path", type=FILE, default="registry.json", metavar="FILE", show_default=True,
              help="The file for the entry.")  # fmt: skip
@click.option("--replace", is_flag=True, help="Overwrite an entry of this name.")
@click.option("--tag", metavar="TAG", help="Name the commit on the Hub.", show_default="NAME.TAG")
@click.option("--builtin", is_flag=True, help="Copy it to pretrained/NAME.TAG beside the file, instead of pushing.")
@click.option("--revision", metavar="COMMIT", help="With --builtin: the commit of the project that trained it.")
def publish(folder: Path, repo: str | None, name: str, licence: str, path: Path, **options: Any) -> None:
    """Publish a saved stack under a name of its own.

    It is pushed to the Hub, and its entry written into a registry file: the commit, every file with its sha256, the
    licences, and what its reports measured, which `zoo verify` repeats. Log in first: `hf auth login`.
    """
    builtin, revision = options["builtin"], options["revision"]
    if builtin is not (repo is None) or builtin is not (revision is not None):
        raise click.UsageError("USER/NAME on the Hub is wanted, or --builtin with --revision.")
    from zoo import builder, hub

    builder.load(folder)  # as whoever takes it will: what does not load is not published
    run = {} if options["data"] and options["recipe"] else _run(folder)
    trained_on = options["data"] or run["data"]["name"]
    data = registry.Data(trained_on, options["data_licence"], options["data_url"], options["attribution"])
    notice = hub.Notice(name, licence, data, options["recipe"] or _recipe(run, folder, name), options["reports"])
    rest: dict[str, Any] = {"registry_file": path, "replacing": options["replace"]}
    if repo is None:
        entry = hub.bundle(folder, notice, revision=revision, **rest)
    else:
        entry = hub.publish(folder, repo, notice, tag=options["tag"], **rest)
    click.echo(f"{as_page(entry)}\n\nNext: zoo verify {name}, where {path} is in use")


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--data-root", type=FOLDER, metavar="DIR", help="Where images are.", show_default="$ZOO_DATA")
@click.option("--registry", "path", type=FILE, metavar="FILE", help="Check the entries of this file.",
              show_default="all that are in use")  # fmt: skip
@click.option("--strict", is_flag=True, help="What cannot be measured here is wrong, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(names: tuple[str, ...], *, data_root: Path | None, path: Path | None, strict: bool, as_json: bool) -> None:
    """Check published stages: files, hashes and measured numbers.

    All of them, or those of these names. Every number that was recorded is measured again, and may differ by 1e-4 of
    it. The exit code is 1 when anything is wrong; images that are not on this machine are a failure only with --strict.
    """
    from accelerate.state import PartialState

    from zoo import evaluation

    found: list[Check] = []
    with _images_in(data_root):
        for stage in _chosen(names, path):
            checks = [*evaluation.verify(stage, str(PartialState().device))]
            if not as_json:
                rows = [(f"  {check.subject}", RESULTS[check.ok], check.found) for check in checks]
                click.echo(f"{stage.name}\n{columns(rows)}")
            found += checks
    if as_json:
        click.echo(json.dumps([vars(check) for check in found], indent=2))
    wrong, unknown = (sum(check.ok is ok for check in found) for ok in (False, None))
    click.echo(f"{len(found)} checks, {wrong} wrong, {unknown} not measured", err=True)
    if wrong or (strict and unknown):
        raise click.exceptions.Exit(1)


def _chosen(names: tuple[str, ...], path: Path | None) -> list[registry.Published]:
    """The stages of these names, or all; of one file, or of all that are in use."""
    if path is None:
        return [registry.pretrained(name) for name in names or registry.names(pretrained=True)]
    stages = registry.read(path)
    for name in names:
        if name not in stages:
            raise RegistryError(f"{path} has no {name!r}; {nearest(name, stages)}")
    return [stages[name] for name in names or stages]


@contextmanager
def _images_in(folder: Path | None) -> Iterator[None]:
    """Named images are below this folder as long as this lasts."""
    before = os.environ.get("ZOO_DATA")
    if folder is not None:
        os.environ["ZOO_DATA"] = str(folder)
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop("ZOO_DATA")
            os.environ |= {} if before is None else {"ZOO_DATA": before}


def _run(folder: Path) -> dict[str, Any]:
    """What training recorded beside the stack."""
    from zoo import files

    path = folder / files.RUN
    if not path.is_file():
        raise FileError(f"{folder} has no run.json that says how it was trained: say it with --data and --recipe")
    return files.read_json(path)


def _recipe(run: dict[str, Any], folder: Path, name: str) -> str:
    """The command of a run, with every option that was not at its default."""
    from zoo.training import Options

    if run.get("brought"):
        raise FileError(
            f"{folder}: its lower levels were trained elsewhere, so its run.json does not hold the whole command: "
            "give it with --recipe"
        )

    data, usual = run["data"]["name"], Options().describe()
    words = ["zoo", "train", run["spec"], "--data", data]
    if run["val"]["name"] != data:
        words += ["--val", run["val"]["name"]]
    for option, value in run["options"].items():
        if value != usual.get(option):
            told = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words += [f"--{option.replace('_', '-')}", *([] if value is True else [told])]
    return shlex.join([*words, "--out", name])
