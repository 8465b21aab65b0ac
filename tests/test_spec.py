"""The spec: what it means, and that what it prints reads back. What it refuses: test_spec_errors.py."""

from __future__ import annotations

import doctest
import json
import random
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.spec import Item, LevelSpec, SpecError, StackSpec, parse, parser, slug, tree, words

DOCS = Path(__file__).parent.parent / "docs" / "spec.md"

SPECS = [
    "conv8x8x64",
    "conv8x8x64+wae_mmd",
    "28x28x1/conv7x7x10/fc8+kl(0.5)",
    "64x64x3/conv16x16x32/conv4x4x32/fc64+kl",
    "conv256/vlae4x16/began",
    "resnet508x8x64",
    "resnet8x8x64(backbone=resnet50.a1_in1k)",
    "conv7x7x10.fashion_mnist/fc8+wae_gan/began",
    "conv8x8x64/began(mode=codes)",
    "hub(you/x@v1)",
    "hub(you/conv8x8x64-openimages@v1, levels=1)/fc32+wae_mmd",
    "fc8(weights=dir/f.safetensors)",
    "fc8+feature(vgg16, gram=true, layers=[relu1_2, relu2_2])",
    "fc8+kl(1e16)+stl(-1e-05)+mc(1.5e300)",
    'hub("my folder/\\u00fc \\"x\\"\\n", none="", revision="1e5", try="true", zero="007")',
    "conv8x8x64(a=[[1, 2], [x, [y, true]]], b=false, up=shuffle)",
]

# -- trees -----------------------------------------------------------------------------------------------------------

letters = st.lists(st.text("abxEZ", min_size=1, max_size=3), min_size=1, max_size=3).map("_".join)
keys = st.text("aexEZ_059", min_size=1, max_size=4).filter(words.KEY.fullmatch)
tags = st.text("aex_059", min_size=1, max_size=4)
sizes = st.integers(1, words.LARGEST_DIMENSION)
lookalikes = st.sampled_from(
    [
        "",
        "1",
        "-0",
        "007",
        ".5",
        "1e5",
        "1e+16",
        "1e999",
        "true",
        "True",
        "NaN",
        "-inf",
        "a=b",
        "a,b",
        "]",
        "#",
        "'",
        "x y",
    ]
)
texts = st.one_of(
    st.text(max_size=5), lookalikes, st.text("ae0159_/.:@+-", max_size=6), st.text('"\\\n\x00\x7f/+u0', max_size=5)
)
whole = st.integers(1 - words.LARGEST_WHOLE, words.LARGEST_WHOLE - 1)
plain = st.one_of(st.booleans(), whole, st.floats(allow_nan=False, allow_infinity=False), texts)
lists = st.lists(plain, min_size=1, max_size=3).map(tuple)
values = st.one_of(plain, lists, st.lists(st.one_of(plain, lists), min_size=1, max_size=3).map(tuple))
options = st.dictionaries(keys, values, max_size=3)
positional = st.lists(values.map(lambda value: (None, value)), max_size=1)
arguments = st.builds(lambda first, rest: (*first, *rest.items()), positional, options)
shapes = st.lists(sizes, max_size=3).map(tuple)
terms = st.builds(Item, letters, shapes, st.none(), arguments)
firsts = st.builds(Item, letters, shapes, st.none() | tags, arguments)
levels = st.builds(lambda first, rest: LevelSpec((first, *rest)), firsts, st.lists(terms, max_size=3))
inputs = st.none() | st.tuples(sizes, sizes, sizes)
stacks = st.builds(StackSpec, st.lists(levels, min_size=1, max_size=4).map(tuple), inputs)


def check_round_trips(spec: StackSpec) -> None:
    text = str(spec)
    again = parse(text)
    assert again == spec
    assert hash(again) == hash(spec)
    assert str(again) == text
    assert text.isascii()
    assert text.isprintable()
    assert StackSpec.from_json(spec.to_json()) == spec
    assert StackSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False))) == spec


@settings(max_examples=300, deadline=None)
@given(stacks)
def test_every_tree_prints_and_reads_back(spec):
    check_round_trips(spec)
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*-[0-9a-f]{8}", slug(spec))
    assert len(slug(spec)) <= 57


@settings(max_examples=200, deadline=None)
@given(values, values)
def test_values_are_equal_when_they_print_alike(one, other):
    first, second = Item("f", args=((None, one),)), Item("f", args=((None, other),))
    assert (first == second) == (str(first) == str(second))
    assert first != second or hash(first) == hash(second)


@pytest.mark.parametrize("text", SPECS)
def test_canonical_specs_print_as_they_were_written(text):
    assert str(parse(text)) == text
    check_round_trips(parse(text))


def test_a_spec_means_its_tree():
    conv = Item("conv", (7, 7, 10), "fashion_mnist")
    level = LevelSpec((Item("fc", (8,)), Item("kl", args=((None, 0.5), ("free_bits", 2)))))
    assert parse("28x28x1/conv7x7x10.fashion_mnist/fc8+kl(0.5,free_bits=2)") == StackSpec(
        (LevelSpec((conv,)), level), (28, 28, 1)
    )


def test_an_item_gives_its_arguments_and_its_place():
    item = parse("fc8 + feature(vgg16, layers=[a, 2], gram=true)").levels[0].items[1]
    assert item.value == "vgg16"
    assert item.options == {"gram": True, "layers": ("a", 2)}
    assert item.position == 6
    assert Item("kl").value is None
    assert Item("kl").options == {}
    assert replace(item, position=None) == item


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" 28x28x1 / fc8 + kl ( 0.50 , a = [ 1 ,2 ] )\n", "28x28x1/fc8+kl(0.5, a=[1, 2])"),
        ("kl(b=1,a=2)", "kl(a=2, b=1)"),
        ("kl(x,b=1,a=2)", "kl(x, a=2, b=1)"),
        ("kl(1.0)", "kl(1)"),
        ("kl(+5.)", "kl(5)"),
        ("kl(-0.0)", "kl(0)"),
        ("kl(1E+16)", "kl(1e16)"),
        ("kl(1e15)", "kl(1000000000000000)"),
        ("kl(9999999999999999)", "kl(9999999999999999)"),
        ("kl(0.00001)", "kl(1e-05)"),
        ('hub("you/x")', "hub(you/x)"),
        ('hub("1")', 'hub("1")'),
        ('hub("é")', 'hub("\\u00e9")'),
        ("hub(8x8)", "hub(8x8)"),
        ("hub(none)", "hub(none)"),
        ("hub(+)", "hub(+)"),
    ],
)
def test_spellings_of_one_spec(text, canonical):
    assert str(parse(text)) == canonical
    assert parse(text) == parse(canonical)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f(true)", "f(1)"),
        ("f(false)", "f(0)"),
        ("f(1)", 'f("1")'),
        ("f(true)", 'f("true")'),
        ("f(a=[true])", "f(a=[1])"),
    ],
)
def test_what_looks_alike_stays_apart(one, other):
    assert parse(one) != parse(other)
    assert len({parse(one), parse(other)}) == 2


def test_trees_are_frozen():
    with pytest.raises(FrozenInstanceError):
        parse("fc8").levels = ()


def test_lists_and_whole_floats_are_brought_to_their_one_form():
    item = Item("conv", [8, 8], args=[["b", [1.0, 2.5]], ["a", -0.0]])
    assert item == Item("conv", (8, 8), args=(("a", 0), ("b", (1, 2.5))))
    assert item.args == (("a", 0), ("b", (1, 2.5)))
    assert type(item.options["a"]) is int
    assert hash(item)


def test_json_says_only_what_is_given():
    assert parse("fc").to_json() == {"levels": [[{"name": "fc"}]]}
    assert parse("28x28x1/fc8.a(0)+kl(b=[1, [x]], c=false)").to_json() == {
        "input": [28, 28, 1],
        "levels": [
            [
                {"name": "fc", "shape": [8], "tag": "a", "value": 0},
                {"name": "kl", "options": {"b": [1, ["x"]], "c": False}},
            ]
        ],
    }


def read(text):
    try:
        return parse(text)
    except SpecError as error:
        return error


def test_mutations_parse_or_are_refused():
    """Nothing but a tree or a SpecError ever comes out; 100,000 damaged specs."""
    draw = random.Random(0)  # noqa: S311 - the same mutations every time
    alphabet = 'abxX_0159./+:@-=,()[]"\\ \t\n\x00é\ud800😀eEnulltrue'
    parsed = 0
    for _ in range(100_000):
        text = draw.choice(SPECS)
        for _ in range(draw.randint(1, 4)):
            start = draw.randrange(len(text) + 1)
            end = min(len(text), start + draw.choice((0, 0, 1, 1, 2, 8)))
            text = text[:start] + draw.choice(("", draw.choice(alphabet), text[end : end + 5], "[" * 3)) + text[end:]
        result = read(text)
        if isinstance(result, SpecError):
            assert 0 <= result.position <= len(text)
            assert str(result).endswith("^")
        else:
            parsed += 1
            assert parse(str(result)) == result
            assert StackSpec.from_json(result.to_json()) == result
    assert 10_000 < parsed < 90_000


def test_slugs_are_file_names():
    assert slug(parse("conv8x8x64+wae_mmd")).startswith("conv8x8x64-wae_mmd-")
    assert slug(parse("hub(../../etc)")).startswith("hub-etc-")
    assert slug(parse("fc8+kl(1.0)")) == slug(parse("fc8 + kl(1)"))
    assert slug(parse("fc8/kl")) != slug(parse("fc8+kl"))
    assert len(slug(parse("fc8+" + "kl+" * 100 + "kl"))) <= 57


def test_the_spec_needs_the_standard_library_only():
    code = (
        "import sys; before = set(sys.modules); import zoo.spec; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["zoo"]


@pytest.mark.parametrize("module", [tree, parser, sys.modules["zoo.spec"]])
def test_examples_of_the_code(module):
    assert doctest.testmod(module).attempted
    assert not doctest.testmod(module).failed


def test_examples_of_the_documentation():
    """The blocks of docs/spec.md run as written, one after another."""
    text = DOCS.read_text("utf-8")
    blocks = "\n".join(re.findall(r"```pycon\n(.*?)```", text, flags=re.DOTALL))
    examples = doctest.DocTestParser().get_doctest(blocks, {}, DOCS.name, str(DOCS), 0)
    results = doctest.DocTestRunner().run(examples)
    assert results.attempted >= 10
    assert results.failed == 0
