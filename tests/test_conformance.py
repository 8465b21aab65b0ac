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
MAP_TO_VECTOR = Place((4, 7, 7), (6,), pixels=False)
RUNGS = Place((1, 8, 8), (3, 2))

# Where the stages stand, by name, and the options that make them other networks. A stage without a row stands on IMAGE.
STAGES = {
    "conv": [
        *((place, {}) for place in (IMAGE, MAP, NARROW, Place((2, 12, 8), (3, 4, 2)))),
        *((MAP, {"noise": noise}) for noise in ("feature", "shared")),
        *((IMAGE, {"up": up, "linear": False}) for up in ("shuffle", "nearest", "transpose", "transpose_uneven")),
        *((IMAGE, {"up": up}) for up in ("shuffle_blur", "shuffle_plain")),
        *((SMALL, {"network": "pooled", "width": 4, "up": up}) for up in ("nearest", "shuffle_blur")),
        *((IMAGE, {"norm": norm}) for norm in ("group", "batch")),
        (NARROW, {"linear": False, "hidden": 9}),
    ],
    "fc": [(SMALL, {}), (VECTOR, {}), (Place((4, 8, 8), (6,), pixels=False), {}), (SMALL, {"linear": False})],
    "fc_conv": [
        (place, {"down": 6, "up": 5, **options})
        for place, options in ((SMALL, {}), (Place((3, 6, 8), (4,)), {"standardise": True}), (MAP_TO_VECTOR, {}))
    ],
    "resnet": [
        (Place((3, 32, 32), (4, 8, 8)), {"backbone": "test_resnet", "width": 4}),
        (Place((1, 32, 32), (5, 2, 2)), {"backbone": "test_vit", "width": 4, "linear": "pixels", "level": 1}),
        (Place((3, 32, 32), (5, 4, 4)), {"backbone": "test_efficientnet", "width": 4, "tune": "frozen"}),
        (Place((4, 8, 8), (6, 2, 2), pixels=False), {"backbone": "test_convnext", "width": 4, "linear": "none"}),
    ],
    "vlae": [
        (Place(shape, code, pixels=shape in ((3, 16, 16), (1, 9, 14))), {"width": 4, "hidden": 8, **options})
        for shape, code, options in (
            ((3, 16, 16), (3, 4), {}),
            ((1, 9, 14), (4, 2), {"style": "selu", "merge": "add"}),
            ((4, 7, 7), (2, 5), {"merge": "concat", "norm": "batch"}),
            ((12,), (3, 2), {"style": "selu", "order": "inverted"}),
        )
    ],
}
TERMS = {
    "kl": [{}, {"warmup": 0.2}, {"tau": 20.0}, {"balance": 0.9}],
    "wae_mmd": [
        *({}, {"kernel": "rbf"}, {"kernel": "rbf", "detach": True}, {"biased": True}),
        *({"warmup": 0.5, "adaptive": 10}, {"adaptive": 1}, {"tau": 2000, "pretrain": 200}),
    ],
    "wae_gan": [{"width": 16, **options} for options in ({}, {"depth": 1, "rate": 2.0}, {"trick": True, "tau": 9.0})],
    "ssim": [{}, {"window": 3}],
    "feature": [
        {"network": "test_resnet", "pretrained": False, **options}
        for options in ({}, {"layers": ("act1",), "gram": True}, {"layers": (0, 1), "calibrated": False, "gram": 2.0})
    ],
    "lpips": [{"net": "alex", "layers": 1, "pretrained": False, "calibrated": False}],
    "adversary": [{"width": 8, **options} for options in ({}, {"adaptive": False, "start": 0.0}, {"depth": 1})],
}
HEADS = {
    "began": [{"width": 6, **options} for options in ({}, {"z": 7, "blocks": 2, "gamma": 0.3}, {"mode": "pixels"})],
    "flow": [{"width": 16, "steps": 2, **options} for options in ({}, {"linear": False}, {"classes": True})],
    "mixture": [{}, {"components": 2, "covariance": "diagonal"}, {"components": 7, "classes": True}],
}


def test_the_first_party_names_are_all_there():
    assert {"conv", "fc", "fc_conv", "resnet", "vlae"} <= set(names(kind="stage"))
    assert {"kl", "mc", "stl", "wae_gan", "wae_mmd"} <= set(names(kind="regularizer"))
    assert {"gaussian", "mse", "mae", "bernoulli", "ssim", "feature", "lpips", "adversary"} <= set(
        names(kind="reconstruction")
    )
    assert {"began", "flow", "mixture", "normal"} <= set(names(kind="head"))


def stage_cases():
    return [(name, *case) for name in names(kind="stage") for case in STAGES.get(name, [(IMAGE, {})])]


def term_cases():
    terms = [*names(kind="regularizer"), *names(kind="reconstruction")]
    return [(name, options) for name in terms for options in TERMS.get(name, [{}])]


def head_cases():
    return [(name, options) for name in names(kind="head") for options in HEADS.get(name, [{}])]


@pytest.mark.parametrize(("name", "place", "options"), stage_cases())
def test_every_stage(name, place, options):
    check_stage(find(name).load(), place, **options)


@pytest.mark.parametrize("place", [IMAGE, MAP, SMALL, VECTOR, RUNGS], ids=["image", "map", "small", "vector", "rungs"])
@pytest.mark.parametrize(("name", "options"), term_cases())
def test_every_term(name, options, place):
    cls = find(name).load()
    if getattr(cls, "needs_pixels", False) and not place.pixels:
        with pytest.raises(ConformanceError, match="pixels=True"):
            check_term(cls, place, **options)
        return
    check_term(cls, place, **options)


@pytest.mark.parametrize("code", [(4, 3, 3), (5,), (3, 2)], ids=["map", "vector", "rungs"])
@pytest.mark.parametrize(("name", "options"), head_cases())
def test_every_head(name, options, code):
    check_head(find(name).load(), Place(code, pixels=False), **options)
