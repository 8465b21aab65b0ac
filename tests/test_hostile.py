"""What a stranger's folder may hold: each case is refused with a message of its own, or changes nothing.

docs/security.md has a row for every case, with its message; a test keeps the two together.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import shutil
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from forgeries import Forgery, empty, packed, prefixed
from pace import slower

from zoo import files, registry
from zoo.builder import build, load
from zoo.errors import ZooError

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "security.md"
SPEC = "8x8x1/conv4x4x2(width=4)/fc3(hidden=[4])+kl"
FIRST = "stage.encoder.linear.weight"  # a tensor of level 1
SECONDS, MEBIBYTES = 2.0, 150

CASES = {}
IGNORED = {}


def case(message):
    """A tampering that is refused with this message, the words of docs/security.md."""

    def keep(function):
        CASES[function.__name__] = (function, message)
        return function

    return keep


def ignored(function):
    """A tampering that changes nothing."""
    IGNORED[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return build(SPEC).save(tmp_path_factory.mktemp("original"), report={"summary": "none"})


@pytest.fixture
def forged(original, tmp_path):
    shutil.copytree(original, tmp_path / "stack")
    return Forgery(tmp_path / "stack")


# -- the text of config.json ------------------------------------------------------------------------------------------


@case("is not JSON that the zoo wrote: the key 'spec' stands twice")
def duplicate_key(forged):
    forged.replace('"spec": "8x8', '"spec": "fc8", "spec": "8x8')


@case("is not JSON that the zoo wrote: the key 'last' stands twice")
def duplicate_key_among_many(forged):
    names = [f"k{number}" for number in range(60_000)] + ["last", "last"]
    forged.replace('"zoo":', ",".join(f'"{name}":1' for name in names) + ',"zoo":')


@case("NaN is not a number")
def nan(forged):
    forged.replace('"bytes": ', '"bytes": NaN, "old": ')


@case("1e999 is beyond what a float holds")
def infinite_float(forged):
    forged.replace('"bytes": ', '"bytes": 1e999, "old": ')


@case("a whole number of 5000 digits")
def long_integer(forged):
    forged.replace('"bytes": ', f'"bytes": {"7" * 5000}, "old": ')


@case("lists and objects stand in one another too deep")
def deep_nesting(forged):
    forged.config_path.write_text("[" * 100_000 + "]" * 100_000)


@case("Unexpected UTF-8 BOM")
def byte_order_mark(forged):
    forged.config_path.write_bytes(b"\xef\xbb\xbf" + forged.config_path.read_bytes())


@case("can't decode byte 0xff")
def not_utf_8(forged):
    forged.config_path.write_bytes(b"\xff\xfe" + forged.config_path.read_bytes())


@case("holds a JSON list, not an object")
def root_is_a_list(forged):
    forged.config_path.write_text("[1]")


@case("has more than 1048576 bytes")
def huge_config(forged):
    forged.config_path.write_text(json.dumps(forged.config | {"pad": "x" * 2_000_000}))


@case("there is no config.json")
def config_is_a_folder(forged):
    forged.config_path.unlink()
    forged.config_path.mkdir()


@case("there is no config.json")
def config_is_a_pipe(forged):
    forged.config_path.unlink()
    os.mkfifo(forged.config_path)


# -- the fields of config.json ----------------------------------------------------------------------------------------


@case("format_version is 2, this zoo reads 1: upgrade stackzoo")
def newer_format(forged):
    forged.set("format_version", 2)


@case("format_version is True, this zoo reads 1")
def format_version_of_another_type(forged):
    forged.set("format_version", True)


@case("no format_version: it is the config of something else")
def config_of_something_else(forged):
    forged.config_path.write_text('{"model_type": "bert"}')


@case("_target_ asks for code to be run")
def target(forged):
    forged.set("_target_", "os.system")


@case("levels[0].auto_map asks for code to be run")
def auto_map(forged):
    forged.set("levels.0.auto_map", {"AutoModel": "modeling.Evil"})


@case("trust_remote_code asks for code to be run")
def trust_remote_code(forged):
    forged.set("input.trust_remote_code", True)


@case("spec is None, not a text")
def no_spec(forged):
    forged.change(lambda config: config.pop("spec"))


@case("levels holds 100000; a list of 1 to 64 is wanted")
def many_levels(forged):
    forged.set("levels", [1] * 100_000)


@case("spec: a spec has at most 16384 characters")
def long_spec(forged):
    forged.set("spec", "8x8x1" + "/fc4" * 100_000)


@case("spec: a stack has 1 to 64 levels")
def deep_spec(forged):
    forged.set("spec", "8x8x1" + "/fc4" * 3_000)


@case("a level of 4001 terms, more than 64")
def many_terms(forged):
    forged.set("spec", "8x8x1/fc4" + "+kl" * 4_000)


@case("spec does not begin with its input")
def spec_without_input(forged):
    forged.set("spec", forged.config["spec"].removeprefix("8x8x1/"))


@case("not the spec of one level")
def two_levels_in_one(forged):
    forged.set("levels.0.spec", "fc4/fc3")


@case("'spec' has 2 levels, and 'levels' are 1")
def missing_level(forged):
    forged.change(lambda config: config["levels"].pop())


@case("levels[0].spec is conv4x4x2")
def spec_and_levels_differ(forged):
    forged.replace("conv4x4x2(width=4)", "conv4x4x2(width=8)")


@case("conv(weights='/etc/passwd') names a file of this machine")
def file_argument(forged):
    forged.set("levels.0.spec", "conv4x4x2(weights=/etc/passwd)")


@case("input.layout is 'HWC', the stack that its spec builds has 'CHW'")
def another_layout(forged):
    forged.set("input.layout", "HWC")


@case("input.range is [-1, 1], the stack that its spec builds has [0, 1]")
def another_range(forged):
    forged.set("input.range", [-1, 1])


@case("input.shape is [8, 8, 1], the stack that its spec builds has [1, 8, 8]")
def another_input_shape(forged):
    forged.set("input.shape", [8, 8, 1])


@case("levels[1].input_shape is [2, 4, 5]")
def another_shape_between(forged):
    forged.set("levels.1.input_shape", [2, 4, 5])


@case("levels[0].code_shape is [4, 4, 2], the stack that its spec builds has [2, 4, 4]")
def another_code_shape(forged):
    forged.set("levels.0.code_shape", [4, 4, 2])


@case("levels[1].posterior is 'point', the stack that its spec builds has 'gaussian'")
def another_posterior(forged):
    forged.set("levels.1.posterior", "point")


@case("levels[0].prior is True, the stack that its spec builds has False")
def another_prior(forged):
    forged.set("levels.0.prior", True)


@case("input.layout is a list of 1, the stack that its spec builds has 'CHW'")
def a_layout_900_deep(forged):
    forged.replace('"CHW"', "[" * 900 + "]" * 900)


# -- the names of plugins ---------------------------------------------------------------------------------------------


@case("no plugin offers a stage or regularizer or reconstruction or head named 'qonv'")
def unknown_plugin(forged):
    forged.replace("conv4x4x2", "qonv4x4x2")


@case("The stack was saved with 'frob' from zoo-frob 2.1: install it.")
def uninstalled_plugin(forged):
    forged.replace("conv4x4x2", "frob4x4x2")
    forged.set("plugins.frob", "zoo-frob 2.1")


@case("plugins.conv is 'zoo-other 0.1.0'; here 'conv' comes from stackzoo")
def plugin_of_another_distribution(forged):
    forged.set("plugins.conv", "zoo-other 0.1.0")


@case("plugins.conv is 'stackzoo 9.0.0', and stackzoo")
def later_plugin(forged):
    forged.set("plugins.conv", "stackzoo 9.0.0")


@case("plugins does not say where 'conv' comes from")
def plugin_not_named(forged):
    forged.change(lambda config: config["plugins"].pop("conv"))


@case("plugins.conv is '\\x1b[2Jstackzoo 0.1.0', not a distribution and its version")
def control_characters(forged):
    forged.set("plugins.conv", "\x1b[2Jstackzoo 0.1.0")


# -- what is asked to be built ----------------------------------------------------------------------------------------


def respell(forged, old, new):
    """Change an option in the spec and in the level that writes it out."""
    forged.change(lambda config: config.update(spec=config["spec"].replace(old, new)))
    forged.change(lambda config: [one.update(spec=one["spec"].replace(old, new)) for one in config["levels"]])


@case("is 1000000000 numbers, more than 67108864")
def huge_dimension(forged):
    respell(forged, "fc3", "fc1000000000")


@case("levels: far more numbers are asked for than the weight files hold")
def huge_width(forged):
    respell(forged, "width=4", "width=1000000000")


@case("levels: far more tensors are asked for than the weight files hold")
def a_million_blocks(forged):
    forged.change(
        lambda config: config["levels"][0].update(
            spec=config["levels"][0]["spec"].replace("blocks=1", "blocks=1000000")
        )
    )


@case("levels cannot be built: hidden is a list of widths")
def negative_width(forged):
    respell(forged, "hidden=[4]", "hidden=[-4]")


@case("hidden wants a list of int, got 'wide'")
def option_of_another_type(forged):
    respell(forged, "hidden=[4]", "hidden=wide")


@case("levels: far more numbers are asked for than the weight files hold")
def a_large_prime(forged):
    respell(forged, "8x8x1/conv4x4x2", "67108859x1x1/conv1x1x2")
    respell(forged, "conv4x4x2", "conv1x1x2")


# -- the names of files -----------------------------------------------------------------------------------------------


PLAIN = "not a plain name in this folder"


@case(PLAIN)
def absolute_path(forged):
    forged.set("levels.0.file", "/etc/level.safetensors")


@case(PLAIN)
def path_upwards(forged):
    forged.set("levels.0.file", "../level.safetensors")


@case(PLAIN)
def path_upwards_with_backslash(forged):
    forged.set("levels.0.file", "..\\level.safetensors")


@case(PLAIN)
def drive(forged):
    forged.set("levels.0.file", "C:\\level.safetensors")


@case(PLAIN)
def drive_without_slash(forged):
    forged.set("levels.0.file", "C:level.safetensors")


@case(PLAIN)
def nul_in_a_name(forged):
    forged.set("levels.0.file", "level\0.safetensors")


@case("levels[1].file and levels[0].file are the same but for upper and lower case")
def names_that_collide_by_case(forged):
    forged.set("levels.0.file", "level-a.safetensors")
    forged.set("levels.1.file", "Level-A.safetensors")


@case("levels[1].file and levels[0].file are the same, ")
def one_file_twice(forged):
    forged.set("levels.1.file", forged.config["levels"][0]["file"])


@case("is a link that leads out of its folder")
def weights_linked_from_elsewhere(forged):
    outside = forged.folder.parent / "outside.safetensors"
    forged.weights().rename(outside)
    forged.weights().symlink_to(outside)


@case("config.json is a link that leads out of its folder")
def config_linked_from_elsewhere(forged):
    forged.config_path.unlink()
    forged.config_path.symlink_to("/etc/passwd")


@case("report.json is a link that leads out of its folder")
def report_linked_from_elsewhere(forged):
    (forged.folder / "report.json").unlink()
    (forged.folder / "report.json").symlink_to("/etc/passwd")


@case("cannot be read")
def links_in_a_circle(forged):
    path = forged.weights()
    path.unlink()
    path.symlink_to(path.name)


@case("not the name of a .safetensors file; the zoo reads no other weights, and never a pickle")
def pickle_named(forged):
    (forged.folder / "level.bin").write_bytes(pickle.dumps(Bomb(forged.folder)))
    forged.set("levels.0.file", "level.bin")


@case("'pytorch_model.bin' is a pickle, which can run code and which the zoo never reads: convert it")
def only_a_pickle(forged):
    shutil.rmtree(forged.folder)
    forged.folder.mkdir()
    (forged.folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(forged.folder)))


@case("is a pickle with another name")
def pickle_as_safetensors(forged):
    torch.save({"a": torch.zeros(2)}, forged.folder / "x.pt")
    forged.put((forged.folder / "x.pt").read_bytes())


# -- sizes and hashes -------------------------------------------------------------------------------------------------


@case("is missing: config.json names it")
def missing_file(forged):
    forged.weights().unlink()


@case("is not a file: config.json names it")
def weights_are_a_pipe(forged):
    path = forged.weights()
    path.unlink()
    os.mkfifo(path)


@case("levels[0].bytes of config.json says 7")
def wrong_size(forged):
    forged.set("levels.0.bytes", 7)


@case("levels[0].bytes is True, not the size of a file")
def size_of_another_type(forged):
    forged.set("levels.0.bytes", True)


@case("its sha256 is not the one in config.json")
def flipped_byte(forged):
    data = bytearray(forged.weights().read_bytes())
    data[-1] ^= 1
    forged.put(bytes(data), honest=False)


@case("levels[0].sha256 is missing")
def no_sha256(forged):
    forged.change(lambda config: config["levels"][0].pop("sha256"))


@case("levels[0].sha256 is 'abc'; 64 hex digits in lower case are wanted")
def malformed_sha256(forged):
    forged.set("levels.0.sha256", "abc")


# -- the headers of weight files --------------------------------------------------------------------------------------


@case("is not one of safetensors: the key 'stage.encoder.linear.weight' stands twice")
def duplicate_tensor(forged):
    entries, data = forged.entries()
    forged.put(packed([*entries, *[pair for pair in entries if pair[0] == FIRST]], data))


@case("a header of 99000040 bytes, more than 16777216")
def huge_metadata(forged):
    header = b'{"__metadata__":{"a":"' + b"x" * 99_000_000 + b'"}}'
    forged.put(prefixed(header.ljust(99_000_040), b""))


@case("the header has more parts than one of 65536 tensors")
def header_of_empty_lists(forged):
    forged.put(prefixed(b'{"x":[' + b"[]," * 5_000_000 + b"[]]}", b""))


@case("__metadata__ of the header has 2000 entries, more than 1024")
def long_metadata(forged):
    entries = ",".join(f'"{number}":""' for number in range(2000))
    forged.put(prefixed(f'{{"__metadata__":{{{entries}}}}}'.encode(), b""))


@case("__metadata__ of the header is not an object of texts")
def metadata_of_another_type(forged):
    entries, data = forged.entries()
    forged.put(packed([*entries, ("__metadata__", {"a": 1})], data))


@case("it holds more than 65538 objects")
def many_empty_tensors(forged):
    entries = ((f"t{number}", {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}) for number in range(100_000))
    forged.put(packed(entries, b""))


@case("has 1000 sides, more than 8")
def rank_1000(forged):
    forged.rewrite(lambda tensors: tensors.update(odd=empty([0] * 1000)))


@case("a side is 0 to 2^40")
def shape_of_2_to_the_62(forged):
    forged.rewrite(lambda tensors: tensors.update(odd=empty([2**62, 0])))


@case("a side is 0 to 2^40")
def negative_side(forged):
    forged.rewrite(lambda tensors: tensors.update(odd=empty([-1, 0])))


@case("is of dtype 'F4'; the zoo reads F64, ")
def unknown_dtype(forged):
    forged.rewrite(lambda tensors: tensors.update(odd=empty([0], "F4")))


@case("bytes from 4 on are due")
def overlapping_tensors(forged):
    entries, data = forged.entries()
    forged.put(packed([(name, entry | {"data_offsets": [0, 4]}) for name, entry in entries], data))


@case("the tensors end after")
def trailing_bytes(forged):
    entries, data = forged.entries()
    forged.put(packed(entries, data + b"PK\x05\x06" + bytes(64)))


@case("goes beyond the end of the file")
def header_beyond_the_file(forged):
    forged.put(struct.pack("<Q", 10_000_000) + b"{}")


@case("bytes are no safetensors file")
def cut_short(forged):
    forged.put(b"\1\2\3")


@case("the header holds a JSON list, not an object")
def header_is_a_list(forged):
    forged.put(prefixed(b"[]", b""))


@case("lists and objects stand in one another too deep")
def deep_header(forged):
    forged.put(prefixed(b'{"a":' * 100_000, b""))


@case("does not fit its spec: missing ['emphasis', ")
def zero_tensors(forged):
    forged.put(prefixed(b"{}", b""))


@case("not expected ['../../x']")
def tensor_named_as_a_path(forged):
    forged.rewrite(lambda tensors: tensors.update({"../../x": empty([0])}))


@case("not expected ['__class__']")
def tensor_named_as_an_attribute(forged):
    forged.rewrite(lambda tensors: tensors.update({"__class__": empty([0])}))


@case("missing ['scale'], not expected []")
def missing_tensor(forged):
    forged.rewrite(lambda tensors: tensors.pop("scale"))


@case("missing [], not expected ['more']")
def extra_tensor(forged):
    forged.rewrite(lambda tensors: tensors.update(more=({"dtype": "F32", "shape": [1]}, bytes(4))))


@case("is torch.float32 (2, 4), its spec wants torch.float32 (2, 1, 2, 2)")
def another_shape(forged):
    forged.rewrite(lambda tensors: tensors.update({FIRST: (tensors[FIRST][0] | {"shape": [2, 4]}, tensors[FIRST][1])}))


@case("is torch.float64 (2, 1, 2, 2), its spec wants torch.float32 (2, 1, 2, 2)")
def another_dtype(forged):
    forged.rewrite(lambda tensors: tensors.update({FIRST: (tensors[FIRST][0] | {"dtype": "F64"}, bytes(64))}))


@case("stage.encoder.linear.weight holds NaN or infinity")
def nan_in_the_weights(forged):
    forged.rewrite(
        lambda tensors: tensors.update({FIRST: (tensors[FIRST][0], struct.pack("<8f", *[0] * 7, float("nan")))})
    )


@case("stage.encoder.linear.weight holds NaN or infinity")
def infinity_in_the_weights(forged):
    forged.rewrite(
        lambda tensors: tensors.update({FIRST: (tensors[FIRST][0], struct.pack("<8f", float("-inf"), *[0] * 7))})
    )


@case("trained holds a truth that is neither 0 nor 1")
def a_truth_of_7(forged):
    forged.rewrite(lambda tensors: tensors.update(trained=(tensors["trained"][0], b"\7")))


# -- the report beside it ---------------------------------------------------------------------------------------------


@case("report.json has more than 1048576 bytes")
def huge_report(forged):
    (forged.folder / "report.json").write_text('{"x":[' + "[]," * 2_000_000 + "[]]}")


@case("report.json is not JSON that the zoo wrote")
def broken_report(forged):
    (forged.folder / "report.json").write_text("{")


@case("stand in one another more than 100 deep")
def deep_report(forged):
    (forged.folder / "report.json").write_text('{"a":' + "[" * 500 + "]" * 500 + "}")


# -- what changes nothing ---------------------------------------------------------------------------------------------


class Bomb:
    """What a pickle can do: here it writes a file."""

    def __init__(self, folder):
        self.path = str(Path(folder).parent / "executed")

    def __reduce__(self):
        return os.mkdir, (self.path,)


@ignored
def pickle_beside_safetensors(forged):
    for name in ("pytorch_model.bin", "level-1.pt", "optimizer.pkl"):
        (forged.folder / name).write_bytes(pickle.dumps(Bomb(forged.folder)))


@ignored
def unknown_keys(forged):
    forged.set("colour", "red")
    forged.set("levels.0.class", "os.system")
    forged.set("input.__class__", "x")


@ignored
def keys_deep_and_wide(forged):
    wide = "{" + ",".join(f'"{number}":[]' for number in range(60_000)) + "}"
    opening = '{"' + "k" * 80 + '":'
    forged.replace('"zoo":', f'"pad": {opening * 700}{wide}{"}" * 700}, "zoo":')


@ignored
def yaml_bomb_in_the_card(forged):
    lists = [f"l{number}: &l{number} [{', '.join([f'*l{number - 1}'] * 9)}]" for number in range(1, 30)]
    (forged.folder / "README.md").write_text("\n".join(["---", "l0: &l0 [x]", *lists, "---"]))


@ignored
def python_beside_it(forged):
    for name in ("modeling.py", "zoo.py", "__init__.py", "conftest.py"):
        (forged.folder / name).write_text(f"import os; os.mkdir({str(forged.folder.parent / 'executed')!r})")


@ignored
def links_within_the_folder(forged):
    path = forged.weights()
    path.rename(forged.folder / "elsewhere")
    path.symlink_to("elsewhere")


@ignored
def small_metadata(forged):
    entries, data = forged.entries()
    forged.put(packed([*entries, ("__metadata__", {"format": "pt", "__class__": "x"})], data))


# -- the tests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_refused(name, forged):
    tamper, message = CASES[name]
    tamper(forged)
    said = bounded(refusal, forged.folder)
    assert message in said
    assert str(forged.folder) in said
    assert all(line.isprintable() for line in said.splitlines())
    assert len(said) < 2000


@pytest.mark.parametrize("name", IGNORED)
def test_ignored(name, forged, original):
    IGNORED[name](forged)
    stack, wanted = bounded(load, forged.folder), load(original)
    found = stack.state_dict()
    assert all(torch.equal(tensor, found[key]) for key, tensor in wanted.state_dict().items())
    assert stack.description() == wanted.description()


def refusal(folder):
    """What is said of a folder that is refused."""
    with pytest.raises(ZooError) as caught:
        load(folder)
    return str(caught.value)


def bounded(function, folder):
    """What comes of a function of the folder; it takes little time and memory, and writes nothing."""
    before = snapshot(folder.parent)
    started = time.process_time()
    function(folder)
    seconds = time.process_time() - started
    tracemalloc.start()
    try:
        found, (_, most) = function(folder), tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds < SECONDS * slower()
    assert most < MEBIBYTES * 2**20
    assert snapshot(folder.parent) == before
    return found


def snapshot(folder):
    """Every path below the folder, with its size."""
    return {str(path): path.lstat().st_size for path in folder.rglob("*")}


def test_every_message_is_of_one_kind_of_tampering():
    """Where several share a message, they are one thing in different spellings."""
    shared = {message for _, message in CASES.values()}
    assert len(CASES) - len(shared) <= 11


def test_the_page_has_a_row_for_every_case():
    text = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| .+? \| (.+?) \| `test_hostile\.py::(\w+)` \|$", text, re.M)
    written = {name: message for message, name in rows}
    messages = {name: f"`{message}`" for name, (_, message) in CASES.items()}
    assert written == messages | dict.fromkeys(IGNORED, "ignored")


def test_every_test_that_the_page_names_is_there():
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", PAGE.read_text("utf-8"))
    texts = {file: (ROOT / "tests" / file).read_text("utf-8") for file, _ in named}
    assert [name for file, name in named if f"def {name}(" not in texts[file]] == []


def test_the_hubs_cache_is_links_to_blobs(original, tmp_path):
    repo = tmp_path / "models--you--stage"
    snapshot, blobs = repo / "snapshots" / ("0" * 40), repo / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in original.iterdir():
        shutil.copy(path, blobs / f"blob-of-{path.name}")
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", f"blob-of-{path.name}"))
    assert load(snapshot).description() == load(original).description()
    (repo / "other.json").write_text("{}")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(Path("..", "..", "other.json"))
    with pytest.raises(ZooError, match="leads out of its folder"):
        load(snapshot)


def test_links_may_lead_to_a_root_that_is_given(forged):
    weights_linked_from_elsewhere(forged)
    with pytest.raises(ZooError, match="leads out of its folder"):
        load(forged.folder, root=forged.folder / "deeper")
    assert load(forged.folder, root=forged.folder.parent)


def test_an_option_that_names_a_file_is_not_saved(tmp_path, monkeypatch):
    part = registry.find("fc").load()

    class Warm(part):
        """Starts from a file."""

        def __init__(self, place, *, weights: str | None = None, hidden: tuple[int, ...] = (4,)):
            super().__init__(place, hidden=hidden)
            opened.append(weights)

    opened = []
    monkeypatch.setattr("zoo_conv.fc.FullyConnected", Warm)
    stack = build("4x4x1/fc3(weights=home/mine.safetensors)/fc2(hidden=[2])+kl")
    assert opened == ["home/mine.safetensors", None]
    assert str(stack.spec) == "4x4x1/fc3/fc2(hidden=[2])+kl"
    stack.save(tmp_path)
    assert "mine" not in (tmp_path / "config.json").read_text() + (tmp_path / "README.md").read_text()
    assert load(tmp_path).description() == stack.description()
    assert opened[2:] == [None, None]


def test_nothing_here_opens_a_pickle():
    sources = [path for folder in ("zoo", "plugins", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    opens = re.compile(
        r"(?<![\w.])torch\.load\(|allow_pickle=True|^\s*(import|from) (pickle|joblib|dill|cloudpickle|shelve)", re.M
    )
    assert len(sources) > 100
    assert [str(path) for path in sources if opens.search(path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    ("recorded", "installed", "refused"),
    [
        ("0.1.0", "0.1.0", False), ("0.1.9", "0.1.0", False), ("0.2.0", "0.1.9", True), ("0.1.0", "0.2.0", False),
        ("1.9", "1.2", False), ("2.0", "1.9", True), ("1.0", "2.0", False), ("0.9", "1.0", False),
        ("1.0", "0.9", True), ("unknown", "0.1", False), ("0+unknown", "1.0", False), ("1.0", "0+unknown", True),
    ],
)  # fmt: skip
def test_versions_of_plugins(original, monkeypatch, tmp_path, recorded, installed, refused):
    find = registry.find

    def found(name, **kinds):
        import dataclasses

        return dataclasses.replace(find(name, **kinds), version=installed)

    shutil.copytree(original, tmp_path / "stack")
    stack = Forgery(tmp_path / "stack")
    for name in stack.config["plugins"]:
        stack.set(f"plugins.{name}", f"StackZoo {recorded}")
    monkeypatch.setattr(registry, "find", found)
    if refused:
        with pytest.raises(ZooError, match="too old for this stack"):
            files.check_plugins(files.enter(stack.folder))
    else:
        files.check_plugins(files.enter(stack.folder))


def test_what_is_hashed_is_what_is_used(forged):
    """A file that is exchanged, cut off or removed after the load changes nothing of the stack."""
    stack = load(forged.folder)
    before = {key: tensor.clone() for key, tensor in stack.state_dict().items()}
    for number in (0, 1):
        with forged.weights(number).open("r+b") as handle:
            handle.truncate(0)
    assert all(torch.equal(tensor, before[key]) for key, tensor in stack.state_dict().items())


def test_a_header_that_is_exchanged_after_it_was_read_is_seen(forged):
    saved = files.enter(forged.folder)
    data = bytearray(forged.weights().read_bytes())
    data[-1] ^= 1
    forged.weights().write_bytes(bytes(data))
    with pytest.raises(ZooError, match="sha256"):
        saved.levels[0].tensors()


def test_tensors_are_those_that_safetensors_reads(original):
    for level in files.enter(original).levels:
        ours, theirs = level.tensors(), files.read_tensors(level.header.path)[0]
        assert ours.keys() == theirs.keys()
        assert all(
            torch.equal(tensor, theirs[key]) and tensor.dtype == theirs[key].dtype for key, tensor in ours.items()
        )


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "complex64"]
)
@pytest.mark.parametrize("count", [1, 2**20 + 3])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_last_number_of_every_type_is_looked_at(tmp_path, dtype, count, bad):
    import hashlib

    from zoo.files.headers import read_header
    from zoo.files.weights import read_checked

    kind = getattr(torch, dtype)
    if dtype == "float8_e4m3fn" and math.isinf(bad):
        pytest.skip("it has no infinity")
    tensor = torch.ones(count).to(kind)
    largest = torch.finfo(kind).max
    for last in (largest, bad):
        tensor[-1] = last
        files.write_tensors(tmp_path / "x.safetensors", {"x": tensor})
        header = read_header(tmp_path / "x.safetensors")
        digest = hashlib.sha256(header.path.read_bytes()).hexdigest()
        if last == largest:
            assert read_checked(header, digest)["x"].dtype == kind
            continue
        with pytest.raises(ZooError, match="NaN"):
            read_checked(header, digest)


def test_a_build_outside_the_budget_does_not_count():
    """The bound holds for what is built inside of it alone: not for other threads, and not afterwards."""
    from concurrent.futures import ThreadPoolExecutor

    with files.within_budget([], "here"), ThreadPoolExecutor() as pool:
        assert pool.submit(torch.nn.Linear, 5000, 5000).result()
        with pytest.raises(ZooError, match="here: far more numbers"), torch.device("meta"):
            torch.nn.Linear(5000, 5000)
    assert torch.nn.Linear(5000, 5000, device="meta")
