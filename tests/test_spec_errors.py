"""What no spec can be is refused, quickly, with the place and the way out."""

from __future__ import annotations

import re
import time

import pytest
from pace import slower

from zoo.errors import ZooError
from zoo.spec import Item, LevelSpec, SpecError, StackSpec, parse

REFUSED = [
    ("", "the spec is empty", 0),
    ("  ", "the spec is empty", 2),
    ("28x28x1", "after the input come '/' and a level", 7),
    ("28x28x1/", "a stage or a head is missing", 8),
    ("28x28x1+kl", "after the input", 7),
    ("28x28/conv", "height x width x channels", 0),
    ("28x28x0/conv", "whole numbers from 1", 6),
    ("28x28x1/28x28x1/conv", "stands once, in front", 8),
    ("conv/28x28x1", "stands once, in front", 5),
    ("conv8x8x", "a number is missing after 'x'", 8),
    ("conv8x8x/fc8", "a number is missing after 'x'", 8),
    ("conv08x8", "without leading zeros", 4),
    ("conv8x1000000001", "from 1 to 1000000000", 6),
    ("conv" + "9" * 5000, "from 1 to 1000000000", 4),
    ("conv8x8x64+", "a term is missing", 11),
    ("conv8x8x64/", "a stage or a head is missing", 11),
    ("/conv", "a stage or a head is missing", 0),
    ("conv//fc8", "a stage or a head is missing", 5),
    ("conv++kl", "a term is missing", 5),
    ("+kl", "a stage or a head is missing", 0),
    ("fc8+8", "a term begins with its name", 4),
    ("_conv", "'_' is no letter", 0),
    ("fc8/été", "'é' is no letter", 4),
    ("conv2d8x8x64", "the digits that follow it are its shape", 5),
    ("resnet50d", "resnet8x8x64(backbone=resnet50)", 8),
    ("conv8x8x64kl", "the digits that follow it are its shape", 10),
    ("conv_8", "single underscores between words", 4),
    ("wae__mmd", "single underscores between words", 3),
    ("conv 8x8x64", "'8' has no place here", 5),
    ("conv-net", "'-' has no place here", 4),
    ("conv8x8x64)", "')' has no place here", 10),
    ("conv8é8", "'é' has no place here", 5),
    ("conv.", "a tag is lower-case letters", 5),
    ("conv.Tag", "a tag is lower-case letters", 5),
    ("conv.tAg", "a tag is lower-case letters", 6),
    ("fc8+kl.tag", "leave '.tag' out", 4),
    ("conv(", "a value is missing", 5),
    ("conv()", "leave the brackets out", 5),
    ("conv(a,)", "a value is missing", 7),
    ("conv(a=)", "a value is missing", 7),
    ("conv(a=[])", "a value is missing", 8),
    ("fc8/conv(a", "this bracket is never closed: ')'", 8),
    ("conv(a, b=[1, 2", "this bracket is never closed: ']'", 10),
    ("conv(a]", "after a value comes ',' or ')'", 6),
    ("conv(a b)", "double quotes", 7),
    ("conv('a')", "double quotes", 5),
    ("conv(a=é)", "double quotes", 7),
    ("conv(a=b=c)", "a key is a letter", 8),
    ("conv(free-bits=2)", "a key is a letter", 14),
    ('hub("you', 'quoted text ends with "', 4),
    ('hub(a="\\q")', "written as in JSON", 6),
    ('hub("a\nb")', "written as in JSON", 4),
    ('hub("\\ud800")', "surrogate", 4),
    ('hub("\ud800")', "surrogate", 4),
    ("kl(1, 2)", "only the first value stands without a key", 6),
    ("kl(a=1, 2)", "only the first value stands without a key", 8),
    ("kl(a=1, b=2, a=3)", "'a' is given twice", 13),
    ("kl(nan)", "numbers finite", 3),
    ("kl(a=-Infinity)", "numbers finite", 5),
    ("kl(True)", "true and false are lower-case", 3),
    ("kl(1e999)", "a number is finite", 3),
    ("kl(007)", "no leading zeros", 3),
    ("kl(00.5)", "no leading zeros", 3),
    ("kl(10000000000000000)", "at most 16 digits", 3),
    ("kl(" + "1" * 5000 + ")", "at most 16 digits", 3),
    ("f(" + "[" * 9 + "1" + "]" * 9 + ")", "at most 8 deep", 10),
    ("f" + "([" * 5000, "double quotes", 3),
    ("f(" + "[" * 5000, "at most 8 deep", 10),
    ("fc/" * 64 + "fc", "1 to 64 levels", 192),
    ("f" * 16385, "at most 16384 characters", 16384),
    ('f("' + "é" * 5000 + '")', "as it prints itself", 0),
]


@pytest.mark.parametrize(("text", "problem", "position"), REFUSED, ids=lambda value: repr(value)[:30])
def test_an_error_says_what_and_where(text, problem, position):
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert problem in caught.value.problem
    assert caught.value.position == position
    assert isinstance(caught.value, ZooError)
    if len(text) < 60:
        assert str(caught.value).splitlines()[-1] == " " * (position + 2) + "^"


def test_errors_are_not_sentences_long():
    with pytest.raises(SpecError) as caught:
        parse("fc8/" * 10**5)
    assert len(str(caught.value)) < 400


def test_hand_written_trees_obey_the_same_rules():
    deep: tuple[object, ...] = (1,)
    for _ in range(10**5):
        deep = (deep,)
    for fields, problem in [
        ({"name": "a-b"}, "a name is letters"),
        ({"name": "conv8"}, "not 'conv8'"),
        ({"name": ""}, "a name is letters"),
        ({"name": 5}, "not int"),
        ({"name": "a\n"}, "a name is letters"),
        ({"shape": (0,)}, "shape: a shape is whole numbers"),
        ({"shape": (True,)}, "a shape is whole numbers"),
        ({"shape": (8.0,)}, "a shape is whole numbers"),
        ({"shape": (10**5000,)}, "a shape is whole numbers"),
        ({"shape": 8}, "shape: a list is wanted"),
        ({"tag": "A"}, "a tag is lower-case"),
        ({"tag": ""}, "a tag is lower-case"),
        ({"args": ((None, float("nan")),)}, "a number is finite"),
        ({"args": ((None, 10**5000),)}, "at most 16 digits"),
        ({"args": (("x", None),)}, "args: x: a value is a number"),
        ({"args": (("x", ()),)}, "at least one value"),
        ({"args": (("x", deep),)}, "at most 8 deep"),
        ({"args": (("x", "\ud800"),)}, "surrogate"),
        ({"args": ((None, 1), (None, 2))}, "only the first value"),
        ({"args": (("x", 1), (None, 2))}, "only the first value"),
        ({"args": (("x", 1), ("x", 2))}, "given twice"),
        ({"args": (("2x", 1),)}, "a key is a letter"),
        ({"args": (("x",),)}, "args: each is a pair"),
        ({"args": 5}, "args: a list is wanted"),
    ]:
        with pytest.raises(SpecError, match=re.escape(problem)):
            Item(**{"name": "conv"} | fields)


def test_hand_written_levels_and_stacks_obey_the_same_rules():
    level = LevelSpec((Item("fc"),))
    for build, problem in [
        (lambda: LevelSpec(()), "at least one item"),
        (lambda: LevelSpec(("fc8",)), "a list of Item is wanted"),
        (lambda: LevelSpec((Item("fc"), Item("kl", tag="a"))), "a tag names a pretrained stage"),
        (lambda: StackSpec(()), "1 to 64 levels"),
        (lambda: StackSpec((level,) * 10**5), "1 to 64 levels"),
        (lambda: StackSpec((Item("fc"),)), "a list of LevelSpec is wanted"),
        (lambda: StackSpec((level,), (28, 28)), "height x width x channels"),
        (lambda: StackSpec((level,), (28, 28, 0)), "input: a shape is whole numbers"),
        (lambda: StackSpec((LevelSpec((Item("f" * 20000),)),)), "at most 16384 characters"),
    ]:
        with pytest.raises(SpecError, match=re.escape(problem)):
            build()


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        (None, "an object with the field 'levels' is wanted"),
        ([], "an object with the field 'levels' is wanted"),
        ({"level": []}, "an object with the field 'levels' is wanted"),
        ({"levels": [], "inputs": 1}, "'inputs' is no field here; did you mean 'input'?"),
        ({"levels": []}, "levels: a stack has 1 to 64 levels"),
        ({"levels": "fc8"}, "levels: a list is wanted"),
        ({"levels": [[]] * 10**5}, "levels: a stack has 1 to 64 levels"),
        ({"levels": [[]]}, "levels[0]: a level has at least one item"),
        ({"levels": [5]}, "levels[0]: a list is wanted"),
        ({"levels": [["fc8"]]}, "levels[0]: items[0]: an object with the field 'name'"),
        ({"levels": [[{"name": "fc8"}]]}, "levels[0]: items[0]: a name is letters"),
        ({"levels": [[{"name": "fc"}, {"name": "kl", "tag": "a"}]]}, "levels[0]: a tag names a pretrained stage"),
        ({"levels": [[{"name": "fc", "shape": [0]}]]}, "levels[0]: items[0]: shape: a shape is whole numbers"),
        ({"levels": [[{"name": "fc", "options": []}]]}, "options: an object"),
        ({"levels": [[{"name": "fc", "options": {"a-b": 1}}]]}, "a key is a letter"),
        ({"levels": [[{"name": "fc", "value": {}}]]}, "a value is a number"),
        ({"levels": [[{"name": "fc", "args": []}]]}, "'args' is no field here"),
        ({"levels": [[{"name": "fc"}]], "input": [1, 2]}, "height x width x channels"),
        ({"levels": [[{"name": "fc"}]], "input": "1x2x3"}, "input: a list is wanted"),
    ],
)
def test_json_of_another_form_is_refused_by_field(form, problem):
    with pytest.raises(SpecError, match=re.escape(problem)):
        StackSpec.from_json(form)


@pytest.mark.parametrize(
    "text",
    [
        "conv8x8x64/" * 10**5 + "fc8",
        "(" * 10**6,
        "f(" + "[" * 16000,
        "f(" + "1" * 16000 + "x",
        "f(" + "a" * 16000 + " " * 300,
        'f("' + "\\" * 16000,
        "f(" + "a=1," * 4000 + ")",
        "fc8+" * 4000,
        "f(" + ",".join(f"a{number}=1" for number in range(2000)),
        "f" + "_f" * 8000 + "!",
        "8x" * 8000,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_text_is_refused_quickly(text):
    seconds = []
    for _ in range(3):  # a garbage collection, with a whole suite's objects behind it, may fall into one of them
        start = time.process_time()
        with pytest.raises(SpecError):
            parse(text)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5 * slower()
