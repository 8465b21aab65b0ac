"""The documentation says what is so: its code runs, its commands, links and tables name what exists."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import shlex
import tomllib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import pytest
from pages import check_made

import zoo
from zoo import evaluation, registry, training
from zoo.cli import main
from zoo.cli.targets import outlined
from zoo.data import images

ROOT = Path(__file__).parent.parent
PAGES = {str(page.relative_to(ROOT)): page for page in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]}
SOURCES = {
    str(path.relative_to(ROOT)): path
    for folder in ("zoo", "plugins", "benchmarks", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
}

RUN = "python"
DO_NOT_RUN = "python no-run"  # read by a person, compiled here; say in the text why it is not run
SESSION = "pycon"
SHELL = ("bash", "sh")
OTHERS = {"", "text", "toml", "json", "bibtex"}
FENCED = re.compile(
    r"(?:^`(?P<file>[\w./-]+)`\n\n)?^(?P<indent> *)(?P<ticks>```+)(?P<info>[^`\n]*)\n(?P<text>.*?)^ *(?P=ticks)`*$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        info: what stands behind the fence.
        line: the line its text begins on.
        text: without the fences and their indent.
        file: the name that stands alone above the block, as in `zoo_patches/stage.py`: the block is then this file.
    """

    info: str
    line: int
    text: str
    file: str | None


def blocks(page):
    """The fenced blocks of a page, indented ones too; a fence of more backticks holds shorter ones."""
    text = page.read_text("utf-8")
    for found in FENCED.finditer(text):
        lines = (line.removeprefix(found["indent"]) for line in found["text"].splitlines())
        line = text.count("\n", 0, found.start("text")) + 1
        yield Block(found["info"].strip(), line, "\n".join(lines) + "\n", found["file"])


def prose(page):
    """The text of a page without its fenced blocks."""
    return FENCED.sub("", page.read_text("utf-8"))


def pages_with(info):
    """The names of the pages that have such blocks."""
    return [name for name, page in PAGES.items() if any(block.info == info for block in blocks(page))]


def has_examples(name, path):
    """Whether a file of the package holds doctests."""
    return name.startswith(("zoo/", "plugins/")) and ">>>" in path.read_text("utf-8")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder for what a page's code writes; nothing that the user has set reaches it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOO_DATA", raising=False)
    return tmp_path


@pytest.fixture
def in_a_hurry(monkeypatch):
    """What is shown with a real budget runs for two steps, on 200 images, and is measured on 200."""

    def few(data, stack, split):
        return images(data, stack.input_shape, split=split).subset(slice(0, 200))

    def fit(stack, data, *, epochs=None, steps=None, minutes=None, **options):
        return training.fit(stack, few(data, stack, "train"), steps=2, **options)

    def evaluate(stack, data, **options):
        return evaluation.evaluate(stack, few(data, stack, "test"), train=few(data, stack, "train"), **options)

    monkeypatch.setattr(zoo, "fit", fit)
    monkeypatch.setattr(zoo, "evaluate", evaluate)


# -- code ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_blocks_say_what_they_are(name):
    known = {RUN, DO_NOT_RUN, SESSION, *SHELL} | OTHERS
    assert not [f"{name}:{block.line}: {block.info!r}" for block in blocks(PAGES[name]) if block.info not in known]


@pytest.mark.parametrize("name", pages_with(RUN))
def test_python_blocks_run(name, elsewhere, in_a_hurry, monkeypatch):
    """In order and in one namespace, as somebody who types them would; those that are files are put where they say."""
    monkeypatch.syspath_prepend(elsewhere)
    namespace = {"__name__": "__main__"}
    for block in blocks(PAGES[name]):
        if block.info != RUN:
            continue
        code = compile("\n" * (block.line - 1) + block.text, name, "exec")  # a traceback names the line of the page
        if block.file is None:
            exec(code, namespace)  # noqa: S102 - our own documentation
        else:
            (elsewhere / block.file).parent.mkdir(parents=True, exist_ok=True)
            (elsewhere / block.file).write_text(block.text, "utf-8")


@pytest.mark.parametrize("name", pages_with(SESSION))
def test_python_sessions_run(name, elsewhere):
    text = "\n".join(block.text for block in blocks(PAGES[name]) if block.info == SESSION)
    test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    results = doctest.DocTestRunner().run(test)
    assert results.attempted
    assert not results.failed


def test_blocks_that_are_not_run_are_python():
    for name, page in PAGES.items():
        for block in blocks(page):
            if block.info == DO_NOT_RUN:
                compile("\n" * (block.line - 1) + block.text, name, "exec")


@pytest.mark.parametrize("name", [name for name, path in SOURCES.items() if has_examples(name, path)])
def test_examples_of_the_code(name, elsewhere):
    module = name.removeprefix("plugins/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    results = doctest.testmod(importlib.import_module(module))
    assert not results.failed


# -- commands --------------------------------------------------------------------------------------------------------


def commands(name):
    """The commands of the zoo and of make in a page's shell blocks: the line they begin on, and their words."""
    for block in blocks(PAGES[name]):
        if block.info in SHELL:
            for number, line in enumerate(block.text.replace("\\\n", " ").splitlines(), block.line):
                if line.startswith(("zoo ", "make ")):
                    yield number, shlex.split(line, comments=True)


def parsed(words):
    """The context that click would run these words of ``zoo`` in, not run; None for its own options alone."""
    context = click.Context(main, info_name="zoo")
    _, rest, _ = main.make_parser(context).parse_args(list(words))
    if not rest:
        return None
    name, command, arguments = main.resolve_command(context, rest)
    try:
        return command.make_context(name, arguments, parent=context)
    except click.exceptions.Exit:  # --help
        return None


@pytest.mark.parametrize("name", PAGES)
def test_commands_exist(name, elsewhere):
    """Every ``zoo`` command is one that click accepts, and what is to be built can be built."""
    made = set()
    for line, words in commands(name):
        if words[0] == "zoo":
            try:
                context = parsed(words[1:])
            except click.UsageError as error:
                pytest.fail(f"{name}:{line}: {shlex.join(words)}: {error.format_message()}")
            given = {} if context is None else context.params
            target = given.get("target")
            brought = re.match(r"folder\(([^,)]+)", target or "")
            if brought is not None:
                target = brought[1]
            if target is not None and target not in made and target not in registry.names():
                outlined(target)
            made.add(str(given.get("out")))


@pytest.mark.parametrize("name", PAGES)
def test_commands_named_in_the_text_exist(name, elsewhere):
    code = "".join(block.text for block in blocks(PAGES[name]))
    shown_how_to_make = re.findall(r"@click.command.*?\ndef (\w+)", code, re.S)
    for text in re.findall(r"`zoo ([^`]+)`", prose(PAGES[name])):
        words = shlex.split(text)
        command = next((word for word in words if not word.startswith("-")), "")
        if command.isupper() or command in shown_how_to_make:  # `zoo COMMAND ...`
            continue
        try:
            parsed(words)
        except click.MissingParameter:
            pass  # `zoo train` alone is a name
        except click.UsageError as error:
            if not (isinstance(error, click.BadOptionUsage) and words[-1] == error.option_name):  # `zoo train --data`
                pytest.fail(f"{name}: `zoo {text}`: {error.format_message()}")


@pytest.mark.parametrize("name", PAGES)
def test_targets_of_make_exist(name):
    there = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.M))
    shown = [words for _, words in commands(name)]
    shown += [text.split() for text in re.findall(r"`(make [^`]+)`", prose(PAGES[name]))]
    assert {word for command, *words in shown if command == "make" for word in words if "=" not in word} <= there


# -- links and tables ------------------------------------------------------------------------------------------------


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(PAGES[name])):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        page = (PAGES[name].parent / file) if file else PAGES[name]
        assert page.exists(), f"{name}: {target}"
        assert not anchor or anchor in anchors(page), f"{name}: {target}: no such heading"


def test_pages_named_in_the_code_exist():
    named = {(name, page) for name, path in SOURCES.items()
             for page in re.findall(r"\bdocs/[\w/.-]+\.md", path.read_text("utf-8"))}  # fmt: skip
    assert not sorted(f"{name}: {page}" for name, page in named if not (ROOT / page).is_file())


def test_every_page_is_linked_from_the_index():
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", prose(index))}
    assert not sorted(name for name, page in PAGES.items() if page.parent != ROOT and page not in {*linked, index})


def test_the_index_calls_decisions_by_their_titles():
    docs = ROOT / "docs"
    listed = re.findall(r"^(\d+)\. \[(.+)\]\((decisions/.+)\)$", (docs / "index.md").read_text("utf-8"), flags=re.M)
    assert listed
    for number, title, page in listed:
        assert (docs / page).read_text("utf-8").startswith(f"# {number}. {title}\n"), page


def test_the_table_of_the_zoo_is_the_registry():
    """Every name that the zoo itself offers has its row; an arXiv number in it is one of the class's source."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|(.*)$", (ROOT / "README.md").read_text("utf-8"), flags=re.M)
    own = {entry.name: entry for plugin in registry.plugins() if plugin.distribution == "stackzoo"
           for entry in plugin.offers if entry.kind != "command"}  # fmt: skip
    assert sorted((name, kind) for name, kind, _ in rows) == sorted((name, own[name].kind) for name in own)
    for name, _, rest in rows:
        for number in re.findall(r"arXiv:(\d+\.\d+)", rest):
            assert number in own[name].load().source, name


def test_the_picture_of_the_layers_is_the_contract():
    """The rows of architecture.md are the layers that import-linter enforces."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    contract = next(contract for contract in linter["contracts"] if contract["id"] == "layers")
    wanted = [set(re.findall(r"[\w.]+", layer)) for layer in contract["layers"]]
    page = ROOT / "docs" / "architecture.md"
    picture = next(block.text for block in blocks(page) if block.text.startswith("zoo.__main__"))
    assert [set(re.findall(r"\bzoo[\w.]+", line)) for line in picture.splitlines()] == wanted


def test_the_first_two_commands_of_the_readme():
    shown = [words for _, words in commands("README.md")]
    assert shown[:2] == [["make", "demo"], ["make", "test"]]


def test_the_changelog_is_in_order():
    versions = re.findall(r"^## (\d+)\.(\d+)\.(\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.M)
    numbers = [tuple(map(int, version)) for version in versions]
    assert numbers
    assert all(newer > older for newer, older in pairwise(numbers))


FUNCTIONS = ("build", "load", "fit", "fit_together", "find_lr", "evaluate", "parse", "list")
METHODS = ("encode", "decode", "posterior", "sample", "similar", "save", "push_to_hub")


def told():
    """The public functions, the options of a training and a stack's methods, as docs/python.md lists them."""
    things = [(f"zoo.{name}", getattr(zoo, name)) for name in FUNCTIONS]
    things += [("zoo.training.Options", training.Options)]
    things += [(f"zoo.Stack.{name}", getattr(zoo.Stack, name)) for name in METHODS]
    lines = []
    for name, thing in things:
        text, _, _ = inspect.getdoc(thing).partition("\n>>> ")
        lines += [f"## {name}", "", "```text", name + untyped(thing), "", text.rstrip(), "```", ""]
    return "\n".join(lines)


def untyped(thing):
    """How it is called, without types; nothing for a class, whose text has all that it takes."""
    if isinstance(thing, type):
        return ""
    signature = inspect.signature(thing)
    parameters = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def test_the_page_lists_the_functions():
    """After a change: ZOO_WRITE_DOCS=1 pytest tests/test_docs.py -k functions, and read the difference."""
    page, how = ROOT / "docs" / "python.md", "pytest tests/test_docs.py -k functions"
    check_made(page, "names: made by tests/test_docs.py", "end of names", told(), how)
