"""The spec: one line of text that says what a stack is made of. Standard library only, no torch.

>>> spec = parse("28x28x1 / conv7x7x10 / fc8 + kl(0.50)")
>>> print(spec)
28x28x1/conv7x7x10/fc8+kl(0.5)
>>> [level.items[0].name for level in spec.levels]
['conv', 'fc']

`tree` is what a spec means and how it prints, `parser` reads it, `words` knows its names, shapes and values.
docs/spec.md explains it to users. The grammar:

    stack = [input "/"] level ("/" level)*           pixels first
    input = int "x" int "x" int                      height, width, channels of the images
    level = item ("+" item)*                         a stage and the terms of its objective, or a head
    item  = name [shape] ["." tag] ["(" args ")"]
    name  = letters ("_" letters)*                   no digits: those that follow a name are its shape
    shape = int ("x" int)*
    tag   = [a-z0-9_]+                               only on the first item of a level
    args  = arg ("," arg)*
    arg   = [key "="] value                          only the first may stand without a key
    key   = [A-Za-z] [A-Za-z0-9_]*
    value = number | "true" | "false" | bare | quoted | "[" value ("," value)* "]"
    bare  = [A-Za-z0-9_/.:@+-]+                      text, where it looks like none of the above
"""

from __future__ import annotations

from zoo.errors import SpecError
from zoo.spec.parser import parse
from zoo.spec.tree import Item, LevelSpec, StackSpec, slug
from zoo.spec.words import Value

__all__ = ["Item", "LevelSpec", "SpecError", "StackSpec", "Value", "parse", "slug"]
