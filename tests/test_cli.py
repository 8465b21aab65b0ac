"""The program: what it lists without torch, what it shows, and what its help and its page promise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import get_args, get_type_hints

import click
import pytest
from click.testing import CliRunner
from pages import check_made

from zoo import registry
from zoo.cli import COMMANDS, main
from zoo.cli.coding import distinct
from zoo.cli.targets import complete_target
from zoo.training import Options
from zoo.training.options import DEFAULT_EPOCHS

SPEC = "8x8x1/conv2x2x4(width=4, blocks=0)/fc2+wae_mmd"
PAGE = Path(__file__).parent.parent / "docs" / "cli.md"


def zoo(*words, code=0):
    """Run the program in this process; its result, which must have this exit code."""
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="zoo")
    assert result.exit_code == code, f"{result.exit_code}\n{result.output}\n{result.exception!r}"
    return result


def python(code, **environment):
    """What a fresh interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lay out a distribution as an installer does, and put it on the path."""

    def lay_out(module, code):
        info = tmp_path / f"{module}_dist-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}-dist\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[zoo]\n{module} = {module}\n")
        (tmp_path / f"{module}.py").write_text(f"from zoo import hookimpl\n{dedent(code)}")
        monkeypatch.syspath_prepend(tmp_path)
        registry.refresh()

    yield lay_out
    for name in [name for name in sys.modules if name.startswith("fake")]:
        del sys.modules[name]
    monkeypatch.undo()
    registry.refresh()


def offering(hook, answer):
    return f"@hookimpl\ndef {hook}():\n    return {answer!r}\n"


# -- start -----------------------------------------------------------------------------------------------------------

QUICK = ["list", "list conv* --json", "plugins", "--help", "--version", "train --help", "decode -h"]


@pytest.mark.parametrize("words", QUICK)
def test_what_needs_no_torch_imports_none(words):
    run = f"import sys\nfrom zoo.cli import main\nmain({words.split()!r}, standalone_mode=False)\n"
    heavy = "{'torch', 'numpy', 'matplotlib', 'PIL', 'sklearn'} & set(sys.modules)"
    assert python(f"{run}print(sorted({heavy}))").splitlines()[-1] == "[]"


def test_a_command_imports_no_other():
    run = "import sys\nfrom zoo.cli import main\nmain(['list'], standalone_mode=False)\n"
    there = python(f"{run}print('zoo.cli.listing' in sys.modules, 'zoo.cli.training' in sys.modules)")
    assert there.splitlines()[-1] == "True False"


def test_the_quick_commands_are_quick():
    """In seconds of the processor, interpreter and all, beside importing numpy; the best of three."""
    numpy = min(float(python("import time, numpy; print(time.process_time())")) for _ in range(3))
    for words in QUICK:
        run = f"import time\nfrom zoo.cli import main\nmain({words.split()!r}, standalone_mode=False)\n"
        seconds = [float(python(f"{run}print(time.process_time())").splitlines()[-1]) for _ in range(3)]
        assert min(seconds) < 5 * numpy, words


def test_python_m_zoo_is_the_same_program():
    result = subprocess.run([sys.executable, "-m", "zoo", "--help"], capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: zoo [OPTIONS] COMMAND")


def test_the_version():
    assert re.fullmatch(r"zoo, version \d+\.\d+\.\d+\n", zoo("--version").stdout)


# -- list, plugins ---------------------------------------------------------------------------------------------------


def test_list():
    lines = zoo("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        name for kind in registry.USES if kind != "command" for name in registry.names(kind=kind)
    ]
    assert re.fullmatch(r"kl +regularizer +zoo_latent +stackzoo \S+", zoo("list", "k*").stdout.strip())
    assert json.loads(zoo("list", "--kind", "head", "--json").stdout)[0].keys() == {"name", "kind", "plugin", "origin"}
    nothing = zoo("list", "nothing*")
    assert (nothing.stdout, nothing.stderr) == ("", "Nothing of that name.\n")
    assert json.loads(zoo("list", "nothing*", "--json").stdout) == []
    assert [stage["name"] for stage in json.loads(zoo("list", "--pretrained", "--json").stdout)] == registry.names(
        pretrained=True
    )


def test_plugins(install, monkeypatch):
    offers = offering("zoo_stages", {"fc": "a:B", "haar": "a:C"}) + offering("zoo_commands", {"list": "a:d"})
    install("fakegood", offers)
    install("fakebad", "raise ImportError('no such luck')")
    monkeypatch.setenv(registry.BLOCKED, "zoo_heads")
    registry.refresh()
    text = zoo("plugins").stdout
    assert "fakegood  (fakegood-dist 1.0)\n  stage: fc, haar\n  command: list\n" in text
    assert "fakebad  (fakebad-dist 1.0)\n  not in use: ImportError: no such luck" in text
    assert "not in use: blocked by ZOO_DISABLE_PLUGINS" in text
    assert "clash: 'fc' is offered by fakegood (fakegood-dist 1.0) and zoo_conv" in text
    assert "clash: the command 'list' of fakegood (fakegood-dist 1.0) is not reached" in text
    found = json.loads(zoo("plugins", "--json").stdout)
    assert len(found["clashes"]) == 2
    assert {plugin["name"]: plugin["error"] for plugin in found["plugins"]}["fakebad"] == "ImportError: no such luck"


# -- commands of plugins ---------------------------------------------------------------------------------------------


def test_a_plugin_adds_a_command(install):
    code = """
    import click

    @click.command()
    @click.option("--loud", is_flag=True)
    @click.argument("word")
    def shout(word, loud):
        "Say it."
        click.echo(word.upper() if loud else word)
    """
    reference = "fakeshout_command:shout"
    install("fakeshout", offering("zoo_commands", {"shout": reference, "list": reference}))
    Path(sys.path[0], "fakeshout_command.py").write_text(dedent(code))
    assert re.search(r"^  shout +From fakeshout-dist 1.0.$", zoo("--help").stdout, re.M)
    assert "fakeshout_command" not in sys.modules
    assert zoo("shout", "--loud", "hello").stdout == "HELLO\n"
    assert "Say it." in zoo("shout", "--help").stdout
    assert "Missing argument 'WORD'" in zoo("shout", code=2).stderr
    assert "conv" in zoo("list").stdout


def test_a_broken_command_breaks_nothing_else(install):
    install("fakebroken", offering("zoo_commands", {"shout": "fakebroken_missing:shout"}))
    assert "shout" in zoo("--help").stdout
    error = zoo("shout", "hello", code=1).stderr
    assert error.startswith("Error: the command 'shout' of plugin fakebroken (fakebroken-dist 1.0) cannot be loaded")
    assert "Traceback" not in error


# -- show, cite ------------------------------------------------------------------------------------------------------


def test_show_says_what_learns_more_slowly():
    said = zoo("show", "8x8x1/fc3(hidden=[8])/fc2(hidden=[4])").output
    assert re.search(r"1 +1 +0\.01 +encoder\.linear, decoder\.linear", said)
    assert re.search(r"2 +1 +0 +encoder\.linear, decoder\.linear", said)
    assert "linear" not in zoo("show", "8x8x1/fc3(hidden=[8])+kl").output.partition("sources")[0]


def test_show_a_spec():
    text = zoo("show", "28x28x1/conv7x7x10/fc8+wae_mmd(10)").stdout
    assert "784 numbers in (28x28x1), 8 out (8): 98 to 1" in text
    assert re.search(r"1 +conv7x7x10 +28x28x1 +7x7x10 +490 +1\.6", text)
    assert re.search(r"2 +wae_mmd +regularizer +10\b", text)
    assert "arXiv:1711.01558" in text
    told = json.loads(zoo("show", SPEC + "/normal", "--json").stdout)
    assert [level["code_shape"] for level in told["levels"]] == [[4, 2, 2], [2]]
    assert [term["name"] for term in told["levels"][1]["terms"]] == ["gaussian", "wae_mmd"]
    parts = sum(sum(level["parameters"].values()) for level in told["levels"])
    assert told["parameters"] == parts + told["head"]["parameters"]
    assert told["head"]["spec"] == "normal"
    assert told["report"] is None


@pytest.mark.parametrize("name", registry.names())
def test_show_a_name(name):
    part = registry.find(name).load()
    assert part.source in zoo("show", name).stdout
    told = json.loads(zoo("show", name, "--json").stdout)
    assert told["documentation"].splitlines()[0] in part.__doc__
    if part.positional is not None:
        assert part.positional in {option["name"] for option in told["options"]}


def test_show_the_choices_of_an_option():
    assert re.search(r"^  up +shuffle \| .*\| nearest \| transpose .*\| None *$", zoo("show", "conv").stdout, re.M)


def test_cite():
    text = zoo("cite", "28x28x1/conv7x7x10/fc8+kl/normal").stdout
    for source in ("kl: Kingma", "normal: Ghosh", "gaussian: Rybkin", "PyTorch: Paszke", "AdamW: Loshchilov"):
        assert re.search(f"^{source}", text, re.M), source


# -- completion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "wanted"),
    [
        ("conv7x7x10.f", "conv7x7x10.fashion_mnist"),
        ("28x28x1/co", "28x28x1/conv"),
        ("28x28x1/conv7x7x10/fc8+k", "28x28x1/conv7x7x10/fc8+kl"),
        ("conv7x7x10(width=8)+bern", "conv7x7x10(width=8)+bernoulli"),
        ("fc8/nor", "fc8/normal"),
    ],
)
def test_specs_are_completed(begun, wanted):
    found = complete_target(click.Context(main), main.params[0], begun)
    assert [(item.value, item.type) for item in found] == [(wanted, "plain")]


def test_what_is_no_name_is_completed_as_a_folder():
    assert [item.type for item in complete_target(click.Context(main), main.params[0], "runs/my-")] == ["dir"]


def test_the_shell_asks_for_completions():
    run = "from zoo.cli import main\nmain(prog_name='zoo')"
    found = python(run, _ZOO_COMPLETE="bash_complete", COMP_WORDS="zoo show fc8+wae_m", COMP_CWORD="2")
    assert found == "plain,fc8+wae_mmd\n"


# -- help ------------------------------------------------------------------------------------------------------------


def command(name):
    """The program's own command of this name."""
    return main.get_command(click.Context(main), name)


def test_train_tells_the_defaults_of_the_trainer():
    """The help says them without importing the trainer, so here they are compared."""
    told = {option.name: option for option in command("train").params}
    fields = Options.__dataclass_fields__
    assert fields.keys() <= told.keys()
    assert told["epochs"].show_default == str(DEFAULT_EPOCHS)
    for name, field in fields.items():
        option = told[name]
        if option.is_flag:
            assert field.default is False
        elif isinstance(field.default, tuple):
            assert option.show_default == (",".join(map(str, field.default)) or "none"), name
        elif field.default is not None:
            assert option.show_default == str(field.default), name
        assert option.help or isinstance(option.type, click.Choice), name
        choices = [choice for choice in get_args(get_type_hints(Options)[name]) if isinstance(choice, str)]
        assert not choices or list(option.type.choices) == choices


def test_every_command_has_a_line_of_help():
    for name in COMMANDS:
        assert command(name).help, name
        assert not command(name).get_short_help_str(64).endswith("..."), name


def below(group, prefix=""):
    """All commands of a group by the words that call them, each group before what is in it."""
    for word in COMMANDS if group is main else group.commands:
        called = group.get_command(click.Context(group), word)
        yield prefix + word, called
        if isinstance(called, click.Group):
            yield from below(called, f"{prefix}{word} ")


def listing():
    """The commands as docs/cli.md lists them: made from click, so that the page says what the program does."""
    lines = []
    for name, command in below(main):
        context = click.Context(command, info_name=f"zoo {name}")
        usage = " ".join(["zoo", name, *command.collect_usage_pieces(context)])
        lines += [f"### {name}", "", "```text", usage, "```", "", re.sub(r" *\n *", "\n", command.help.strip()), ""]
        rows = [option.get_help_record(context) for option in command.params if isinstance(option, click.Option)]
        if rows:
            cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
            lines += ["| option | |", "|---|---|", *(f"| `{option}` | {said} |" for option, said in cells), ""]
    return "\n".join(lines)


def test_the_page_lists_the_commands():
    """After a change: ZOO_WRITE_DOCS=1 pytest tests/test_cli.py -k page, and read the difference."""
    how = "pytest tests/test_cli.py -k page"
    check_made(PAGE, "commands: made by tests/test_cli.py", "end of commands", listing(), how)


# -- names of files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stems", "names"),
    [
        (["a", "b"], ["a.png", "b.png"]),
        (["a", "a", "A"], ["a.png", "a-2.png", "A-3.png"]),
        (["a-2", "a", "a"], ["a-2.png", "a.png", "a-3.png"]),
        (["a", "a", "a-2"], ["a.png", "a-2.png", "a-2-2.png"]),
    ],
)
def test_names_are_distinct(stems, names):
    assert distinct(stems) == names
