"""Every stage, term and head that is registered keeps the contract of its kind."""

from __future__ import annotations

import pytest

from zoo.interfaces import Place
from zoo.registry import find, names
from zoo.testing import ConformanceError, check_head, check_stage, check_term

IMAGE = Place((3, 16, 16), (4, 4, 4))
MAP = Place((4, 8, 8), (6, 2, 2), pixels=False)
NARROW = Place((1, 14, 14), (8,))
SMALL = Place((1, 8, 8), (5,))
VECTOR = Place((12,), (3,), pixels=False)

# Where the stages stand, by name, and the options that make them other networks. A stage without a row stands on IMAGE.
STAGES = {
    "conv": [
        *((place, {}) for place in (IMAGE, MAP, NARROW, Place((2, 12, 8), (3, 4, 2)))),
        *((MAP, {"noise": noise}) for noise in ("feature", "shared")),
        *((IMAGE, {"up": up, "linear": False}) for up in ("shuffle", "nearest", "transpose")),
        *((IMAGE, {"norm": norm}) for norm in ("group", "batch")),
        (NARROW, {"linear": False, "hidden": 9}),
    ],
    "fc": [(SMALL, {}), (VECTOR, {}), (Place((4, 8, 8), (6,), pixels=False), {}), (SMALL, {"linear": False})],
}
TERMS = {
    "wae_mmd": [{}, {"kernel": "rbf"}, {"kernel": "rbf", "detach": True}, {"biased": True}],
    "ssim": [{}, {"window": 3}],
}


def test_the_first_party_names_are_all_there():
    assert {"conv", "fc"} <= set(names(kind="stage"))
    assert {"kl", "mc", "stl", "wae_mmd"} <= set(names(kind="regularizer"))
    assert {"gaussian", "mse", "mae", "bernoulli", "ssim"} <= set(names(kind="reconstruction"))
    assert "normal" in names(kind="head")


def stage_cases():
    return [(name, *case) for name in names(kind="stage") for case in STAGES.get(name, [(IMAGE, {})])]


def term_cases():
    terms = [*names(kind="regularizer"), *names(kind="reconstruction")]
    return [(name, options) for name in terms for options in TERMS.get(name, [{}])]


@pytest.mark.parametrize(("name", "place", "options"), stage_cases())
def test_every_stage(name, place, options):
    check_stage(find(name).load(), place, **options)


@pytest.mark.parametrize("place", [IMAGE, MAP, SMALL, VECTOR], ids=["image", "map", "small", "vector"])
@pytest.mark.parametrize(("name", "options"), term_cases())
def test_every_term(name, options, place):
    cls = find(name).load()
    if getattr(cls, "needs_pixels", False) and not place.pixels:
        with pytest.raises(ConformanceError, match="pixels=True"):
            check_term(cls, place, **options)
        return
    check_term(cls, place, **options)


@pytest.mark.parametrize("place", [Place((4, 3, 3), pixels=False), Place((5,), pixels=False)], ids=["map", "vector"])
@pytest.mark.parametrize("name", names(kind="head"))
def test_every_head(name, place):
    check_head(find(name).load(), place)
