"""Codes: as exact as was promised, encoded once, and again when, and only when, something has changed."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from children import ended, start, until
from PIL import Image

from zoo import cache, codes, data
from zoo.builder import build
from zoo.cache import making
from zoo.cli import main
from zoo.codes import Coding
from zoo.data import Images
from zoo.data.augmentation import Augmentation
from zoo.errors import DataError, SpecError
from zoo.training import fit

COUNT = 30
SHAPE = (1, 8, 8)
SPEC = "8x8x1/conv2x2x4(width=4, blocks=0)+kl/fc2(hidden=[4])+kl"
EVERYTHING = torch.arange(COUNT)


def stack(spec=SPEC, seed=0):
    """A stack whose every weight is drawn, so that nothing is zero by accident."""
    built, generator = build(spec).eval(), torch.Generator().manual_seed(seed)
    for level in built.lower():
        for weight in level.stage.parameters():
            weight.data.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return built


def images(count=COUNT, **facts):
    pixels = torch.randint(256, (count, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images(pixels, **facts)


def spread(codes):
    """The standard deviation of each feature."""
    return codes.std([axis for axis in range(codes.ndim) if axis != 1], correction=0)


class Encoding:
    """Encodes, and knows how many images were read for it and what was said."""

    def __init__(self, monkeypatch):
        self.count, self.said, self.ticks = 0, [], []
        real = codes._Encoder._views

        def views(encoder, first, size):
            self.count += size
            return real(encoder, first, size)

        monkeypatch.setattr(codes._Encoder, "_views", views)

    def __call__(self, stack, of, levels=1, **coding):
        self.count = 0
        return codes.encode(
            stack, of, levels=levels, coding=Coding(**coding), tick=self.ticks.append, say=self.said.append
        )


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(making, "SHARD_BYTES", 4 * 16 * 8)  # of conv2x2x4, eight codes a shard
    return tmp_path / "cache"


@pytest.fixture
def encode(monkeypatch):
    return Encoding(monkeypatch)


class TestMean:
    @pytest.mark.parametrize("levels", [1, 2])
    def test_codes_are_what_the_stack_encodes(self, encode, levels):
        trained, of = stack(), images(labels=EVERYTHING % 3)
        found = encode(trained, of, levels)
        assert (len(found), encode.count, sum(encode.ticks)) == (COUNT, COUNT, COUNT)
        with torch.inference_mode():
            whole = trained.encode(of.batch(EVERYTHING), levels)
        index = torch.randint(COUNT, (50,), generator=torch.Generator().manual_seed(1))
        assert found.batch(index).dtype == torch.float32
        assert not found.batch(index).is_inference()
        assert torch.allclose(found.batch(index), whole[index], atol=1e-6)
        assert found.labels.tolist() == of.labels.tolist()

    def test_of_no_images_there_are_none(self):
        with pytest.raises(DataError, match=r"nothings \(train\) has no images: there is nothing to encode"):
            codes.encode(stack(), images(0, name="nothings", split="train"), levels=1)

    def test_a_subset_is_plain_indexing(self, encode):
        found = encode(stack(), images(labels=EVERYTHING))
        whole, outer, inner = found.batch(EVERYTHING), torch.tensor([9, 3, 3, 29, 0, 17]), torch.tensor([5, 1, 0])
        part = found.subset(outer).subset(inner)
        assert len(part) == 3
        assert part.labels.tolist() == [17, 3, 9]
        assert torch.equal(part.batch(torch.tensor([2, 0, 2])), whole[[9, 17, 9]])

    def test_a_batch_of_another_size_encodes_the_same(self, encode, monkeypatch):
        of, first = images(), encode(stack(), images()).batch(EVERYTHING)
        monkeypatch.setattr(codes, "BATCH", 7)
        (entry,) = cache.entries()
        cache.clear(entry)
        assert torch.allclose(encode(stack(), of).batch(EVERYTHING), first, atol=1e-6)


@pytest.fixture
def rounding():
    """The settings of how products and convolutions are rounded, put back afterwards."""
    cpu, cuda, cudnn = torch.backends.mkldnn, torch.backends.cuda, torch.backends.cudnn
    kinds = cuda.matmul, cudnn.conv, cudnn.rnn, cpu.matmul, cpu.conv
    legacy, before = torch.get_float32_matmul_precision(), [kind.fp32_precision for kind in kinds]
    yield lambda: [kind.fp32_precision for kind in kinds]
    torch.set_float32_matmul_precision(legacy)
    for kind, precision in zip(kinds, before, strict=True):
        kind.fp32_precision = precision


@pytest.mark.parametrize("legacy", [True, False])
def test_on_a_gpu_they_are_made_in_full_precision_whatever_is_set(encode, monkeypatch, rounding, legacy):
    """Or what a run makes would differ from what measuring makes, under other settings, and be made anew each time."""
    views, seen, flags = codes._Encoder._views, [], torch.backends.cudnn

    def seeing(encoder, first, size):
        seen.append((rounding(), flags.deterministic, flags.benchmark))
        return views(encoder, first, size)

    monkeypatch.setattr(codes._Encoder, "_views", seeing)
    if legacy:
        torch.set_float32_matmul_precision("high")
    else:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    before = rounding()
    assert before[0] == "tf32"
    for made in (COUNT, making.PROBED):
        encode(stack(), images())
        assert encode.count == made
        assert rounding() == before
    assert all(found == (["ieee"] * 5, True, False) for found in seen)
    assert not legacy or torch.get_float32_matmul_precision() == "high"


def brighter(of):
    pixels = of.pixels.clone()
    pixels[17, 0, 3, 3] ^= 1
    return Images(pixels)


def heavier(trained):
    with torch.no_grad():
        next(trained.level(1).stage.parameters()).view(-1)[0] += 1e-6
    return trained


def standardised(trained):
    trained.level(1).shift += 1e-6
    return trained


def like(spec, trained):
    """A stack of another spec with the same weights in its stages."""
    other = build(spec).eval()
    for mine, theirs in zip(other.lower(), trained.lower(), strict=False):
        mine.stage.load_state_dict(theirs.stage.state_dict())
    return other


FLIP, VIEWS = Augmentation(flip=True), {"augmentation": Augmentation(True, 1), "views": 2}
NOISY = "8x8x1/conv2x2x4(width=4, blocks=0, noise={})+kl"


class TestKey:
    @pytest.mark.parametrize(
        "change",
        [
            lambda trained, of: (heavier(trained), of),
            lambda trained, of: (standardised(trained), of),
            lambda trained, of: (trained, brighter(of)),
            lambda trained, of: (trained, of.subset(slice(0, 29))),
            lambda trained, of: (trained, of.subset(EVERYTHING.flip(0))),
            lambda trained, of: (trained, of, 2),
            lambda trained, of: (trained, of, 1, "moments"),
            lambda trained, of: (trained, of, 1, "mean", "float16"),
        ],
    )
    def test_what_changes_codes_encodes_anew(self, encode, change):
        encode(stack(), images())
        trained, of, *more = change(stack(), images())
        encode(trained, of, *more[:1], **dict(zip(("mode", "dtype"), more[1:], strict=False)))
        assert encode.count == len(of)
        assert len(cache.entries()) == 2

    def test_an_argument_of_a_stage_encodes_anew(self, encode):
        first = stack(NOISY.format("shared"))
        encode(first, images())
        encode(like(NOISY.format("feature"), first), images())
        assert encode.count == COUNT
        encode(like(NOISY.format("shared"), first), images())
        assert encode.count == 4

    @pytest.mark.parametrize(
        "change", [{"views": 3}, {"seed": 1}, {"augmentation": FLIP}, {"augmentation": Augmentation(True, 2)}]
    )
    def test_other_views_encode_anew(self, encode, change):
        encode(stack(), images(), **VIEWS)
        assert encode.count == 2 * COUNT
        encode(stack(), images(), **VIEWS)
        assert encode.count == 4
        encode(stack(), images(), **{**VIEWS, **change})
        assert encode.count == change.get("views", 2) * COUNT

    @pytest.mark.parametrize("change", [{"seed": 5}, {"views": 7}])
    def test_without_augmentation_views_are_no_part_of_the_key(self, encode, change):
        encode(stack(), images())
        assert len(encode(stack(), images(), **change)) == COUNT
        assert encode.count == 4

    @pytest.mark.parametrize(
        "spec",
        [
            SPEC.replace("+kl/", "+kl(2.5)/"),
            SPEC.replace("+kl/", "+kl+mae/"),
            SPEC.replace("hidden=[4]", "hidden=[5]"),
            SPEC.partition("/fc2")[0],
        ],
    )
    def test_terms_and_what_stands_above_do_not(self, encode, spec):
        trained = stack()
        first = encode(trained, images()).batch(EVERYTHING)
        other = build(spec).eval()
        other.level(1).stage.load_state_dict(trained.level(1).stage.state_dict())
        assert torch.equal(encode(other, images()).batch(EVERYTHING), first)
        assert encode.count == 4
        assert encode.said == []

    def test_what_a_term_has_learned_does_not(self, encode):
        trained = stack()
        trained.level(1).terms["kl"].register_buffer("seen", torch.zeros(()))
        encode(trained, images())
        trained.level(1).terms["kl"].seen += 1
        encode(trained, images())
        assert encode.count == 4

    def test_what_data_is_called_does_not(self, encode):
        encode(stack(), images())
        found = encode(stack(), images(name="others", split="test", labels=EVERYTHING, skipped=("a: broken",)))
        assert encode.count == 4
        assert found.labels.tolist() == EVERYTHING.tolist()
        more = Images(torch.cat([images().pixels[:3], images().pixels]))
        encode(stack(), more.subset(slice(3, None)))  # the same images
        assert encode.count == 4

    def test_a_changed_image_in_a_folder_is_told(self, encode, tmp_path):
        for number, pixels in enumerate(images().pixels):
            Image.fromarray(pixels[0].numpy()).save(tmp_path / f"{number}.png")
        encode(stack(), data.images(tmp_path, SHAPE, split="all"))
        encode(stack(), data.images(tmp_path, SHAPE, split="all"))
        assert (encode.count, encode.said) == (4, [])
        Image.new("L", (8, 8)).save(tmp_path / "7.png")
        changed = data.images(tmp_path, SHAPE, split="all")
        found = encode(stack(), changed)
        assert encode.count == COUNT
        assert len(encode.said) == 1
        assert "data changed: made anew" in encode.said[0]
        assert torch.allclose(found.batch(EVERYTHING), stack().encode(changed.batch(EVERYTHING), 1), atol=1e-6)


class TestMoments:
    @pytest.mark.parametrize("noise", ["local", "feature", "shared"])
    def test_draws_are_fresh_and_of_the_right_law(self, encode, noise):
        trained, of = stack(NOISY.format(noise)), images(3)
        found = encode(trained, of, mode="moments")
        with torch.inference_mode():
            posterior = trained.posterior(of.batch(slice(0, 3)))
        torch.manual_seed(0)
        draws = torch.cat([found.batch(torch.tensor([2] * 500)) for _ in range(8)])
        assert len(draws.unique(dim=0)) == 4000
        error = posterior.std[2] / 4000**0.5
        assert ((draws.mean(0) - posterior.mean[2]).abs() < 5 * error).all()
        assert torch.allclose(draws.std(0), posterior.std[2], rtol=0.06)
        standard = ((draws - posterior.mean[2]) / posterior.std[2]).flatten(2)
        together = (standard[:, :, 0] * standard[:, :, 1]).mean().item()
        assert abs(together - (noise == "shared")) < 0.05

    def test_they_follow_from_the_global_seed(self, encode):
        found = encode(stack(), images(), mode="moments", **VIEWS)
        batches = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            batches.append(found.subset(EVERYTHING[5:]).batch(torch.arange(20)))
        assert torch.equal(batches[0], batches[1])
        assert not torch.equal(batches[0], batches[2])

    def test_a_level_without_a_posterior_has_none(self):
        with pytest.raises(SpecError, match=r"conv2x2x4.* one code for each image .*mode='mean'"):
            codes.encode(stack("8x8x1/conv2x2x4(width=4)"), images(), levels=1, coding=Coding("moments"))


def shifted(trained, feature, mean):
    """The stack with this feature of its first level's codes far from zero."""
    trained.level(1).shift[feature] -= mean * trained.level(1).scale[feature].item()
    return trained


VECTORS = "8x8x1/fc4(hidden=[4])+kl"


class TestFloat16:
    @pytest.fixture
    def greys(self, monkeypatch):
        """32 images, two shards of codes, of which some are alike, one grey."""
        monkeypatch.setattr(making, "SHARD_BYTES", 16 * 4 * 2)

        def some(alike):
            pixels = images(32).pixels.clone()
            pixels[alike] = 99
            return Images(pixels)

        return some

    def test_the_error_is_within_a_thousandth_of_each_features_deviation(self, encode):
        whole = encode(stack(), images(), mode="moments").shards
        half = encode(stack(), images(), mode="moments", dtype="float16").shards
        assert {part["mean"].dtype for part in half.parts} == {torch.float16}
        for name in ("mean", "logvar"):
            error = (half.all(name).float() - whole.all(name)).square().mean((0, 2, 3)).sqrt()
            assert (error <= 1e-3 * spread(whole.all(name))).all()
        assert (half.all("mean").float() != whole.all("mean")).any()
        both = [sum(path.stat().st_size for path in entry.folder.glob("*.safetensors")) for entry in cache.entries()]
        assert both[0] < both[1]

    def test_where_it_would_be_more_codes_stay_as_they_are(self, encode):
        trained = shifted(stack(), 1, 300.0)
        half = encode(trained, images(), dtype="float16")
        assert {part["mean"].dtype for part in half.shards.parts} == {torch.float32}
        assert torch.equal(half.batch(EVERYTHING), encode(trained, images()).batch(EVERYTHING))

    def test_numbers_too_large_for_it(self, encode):
        half = encode(shifted(stack(), 1, 1e5), images(), dtype="float16")
        assert half.batch(EVERYTHING).isfinite().all()

    def test_every_shard_decides_for_itself(self, encode, greys):
        """Images of one grey have codes without a spread, which do not halve."""
        of = greys(range(16, 32))
        half, whole = (encode(stack(VECTORS), of, dtype=dtype) for dtype in ("float16", "float32"))
        assert [part["mean"].dtype for part in half.shards.parts] == [torch.float16, torch.float32]
        index = torch.randperm(32)
        taken, there = half.batch(index), whole.batch(index)
        assert torch.equal(taken[index >= 16], there[index >= 16])
        assert not torch.equal(taken, there)
        assert ((taken - there).square().mean(0).sqrt() <= 1e-3 * spread(there)).all()

    @pytest.mark.parametrize("alike", [range(4), range(4, 16), range(16)])
    def test_the_few_that_are_encoded_again_to_see_may_decide_otherwise(self, encode, greys, alike):
        of = greys(alike)
        half = encode(stack(VECTORS), of, dtype="float16")
        assert (half.shards.parts[0]["mean"].dtype == torch.float16) is (len(alike) < 16)
        encode(stack(VECTORS), of, dtype="float16")
        assert (encode.count, encode.said) == (4, [])


class TestViews:
    def candidates(self, trained, of):
        """The codes of every view there may be of every image: (views, N, *code)."""
        views = [
            VIEWS["augmentation"].apply(of.batch(EVERYTHING), torch.tensor([decision]).expand(COUNT, 3))
            for decision in itertools.product((0, 1), (-1, 0, 1), (-1, 0, 1))
        ]
        with torch.inference_mode():
            return torch.stack([trained.encode(view, 1) for view in views])

    def test_each_is_a_view_of_its_image(self, encode, monkeypatch):
        monkeypatch.setattr(codes, "BATCH", 7)
        trained, of = stack(), images()
        found = encode(trained, of, augmentation=VIEWS["augmentation"], views=5)
        assert (encode.count, len(found), sum(encode.ticks)) == (5 * COUNT, COUNT, 5 * COUNT)
        recorded = found.shards.all("mean").reshape(5, 1, COUNT, 4, 2, 2)
        distance = (recorded - self.candidates(trained, of)).flatten(3).abs().amax(3)
        assert (distance.amin(1) < 1e-5).all()
        chosen = distance.argmin(1)
        assert all(
            (chosen[one] != chosen[other]).sum() > COUNT // 2 for one, other in itertools.combinations(range(5), 2)
        )
        assert len(chosen.unique()) == 18

    def test_a_batch_takes_one_of_them_at_random(self, encode):
        found = encode(stack(), images(), augmentation=VIEWS["augmentation"], views=3)
        recorded = found.shards.all("mean").reshape(3, COUNT, 16)
        torch.manual_seed(0)
        taken = torch.stack([found.subset(EVERYTHING[10:]).batch(EVERYTHING[:9]).flatten(1) for _ in range(300)])
        which = (taken[:, None] == recorded[:, 10:19]).all(-1)
        assert (which.sum(1) >= 1).all()
        which = which[:, :, (which.sum(1) == 1).all(0)]  # of some images two views are the same
        assert which.shape[2] >= 3
        assert ((which.float().mean(0) - 1 / 3).abs() < 0.1).all()
        alike = (which[:, :, 0] == which[:, :, 1]).all(1).float().mean().item()
        assert abs(alike - 1 / 3) < 0.1  # each image for itself

    def test_they_are_the_same_when_they_are_made_again(self, encode, monkeypatch):
        first = encode(stack(), images(), **VIEWS).shards.all("mean")
        (entry,) = cache.entries()
        cache.clear(entry)
        monkeypatch.setattr(codes, "BATCH", 3)
        monkeypatch.setattr(making, "SHARD_BYTES", 4 * 16 * 11)
        assert torch.allclose(encode(stack(), images(), **VIEWS).shards.all("mean"), first, atol=1e-6)


class TestBelow:
    """Codes of a higher level are made of those that are in the cache, not of images."""

    @pytest.fixture(autouse=True)
    def small_batches(self, monkeypatch):
        monkeypatch.setattr(codes, "BATCH", 7)
        monkeypatch.setattr(making, "SHARD_BYTES", 4 * 16 * 9)

    def test_images_are_read_no_more(self, encode):
        trained, of = stack(), images(labels=EVERYTHING % 3)
        encode(trained, of)
        found = encode(trained, of, 2)
        assert encode.count == making.PROBED  # of level 1, to see that they are what would be made now
        assert (found.labels.tolist(), sum(encode.ticks)) == (of.labels.tolist(), 2 * COUNT)
        with torch.inference_mode():
            assert torch.allclose(found.batch(EVERYTHING), trained.encode(of.batch(EVERYTHING)), atol=1e-6)
        assert encode.said == []

    def test_from_the_highest_level_that_is_there(self, encode, monkeypatch):
        trained, of = stack(SPEC + "/fc2(hidden=[4])"), images()
        encode(trained, of)
        encode(trained, of, 2)
        above, real = [], type(trained).posterior

        def posterior(stack, x, levels=None, **more):
            above.append((len(x), more.get("above", 0)))
            return real(stack, x, levels, **more)

        monkeypatch.setattr(type(trained), "posterior", posterior)
        found = encode(trained, of, 3)
        assert above == [(1, 0), (making.PROBED, 0), (7, 2), (7, 2), (7, 2), (7, 2), (2, 2)]
        with torch.inference_mode():
            assert torch.allclose(found.batch(EVERYTHING), trained.encode(of.batch(EVERYTHING)), atol=1e-6)

    @pytest.mark.parametrize("mode", ["mean", "moments"])
    @pytest.mark.parametrize("above", ["mean", "moments"])
    def test_means_are_gone_on_from_however_they_are_kept(self, encode, mode, above):
        trained, of = stack(), images()
        encode(trained, of, mode=mode)
        found = encode(trained, of, 2, mode=above).shards
        assert encode.count == making.PROBED
        with torch.inference_mode():
            posterior = trained.posterior(of.batch(EVERYTHING))
        assert torch.allclose(found.all("mean"), posterior.mean, atol=1e-6)
        assert ("logvar" in found.types) == (above == "moments")
        assert above == "mean" or torch.allclose(found.all("logvar"), posterior.logvar, atol=1e-6)

    def test_views_of_the_same_views(self, encode):
        trained, of = stack(), images()
        encode(trained, of, **VIEWS)
        found = encode(trained, of, 2, **VIEWS).shards.all("mean")
        assert encode.count == making.PROBED
        for entry in cache.entries():
            cache.clear(entry)
        assert torch.allclose(encode(trained, of, 2, **VIEWS).shards.all("mean"), found, atol=1e-6)
        assert encode.count == 2 * COUNT

    @pytest.mark.parametrize(
        ("lower", "upper"),
        [
            ({"dtype": "float16"}, {}),
            ({}, VIEWS),
            (VIEWS, {}),
            (VIEWS, {**VIEWS, "seed": 1}),
            (VIEWS, {**VIEWS, "views": 1}),
        ],
    )
    def test_others_are_not(self, encode, lower, upper):
        trained, of = stack(), images()
        encode(trained, of, **lower)
        encode(trained, of, 2, **upper)
        assert encode.count == COUNT * upper.get("views", 1)

    def test_nor_those_of_other_weights_or_images(self, encode):
        encode(heavier(stack()), images())
        encode(stack(), brighter(images()))
        encode(stack(), images(), 2)
        assert encode.count == COUNT

    @pytest.mark.parametrize("damage", ["cut short", "changed", "gone", "unfinished", "no index"])
    def test_nor_what_is_damaged(self, encode, damage):
        trained, of = stack(), images()
        encode(trained, of)
        (entry,) = cache.entries()
        shard, index = sorted(entry.folder.glob("*.safetensors"))[-1], entry.folder / making.INDEX
        content = shard.read_bytes()
        if damage == "cut short":
            shard.write_bytes(content[:-4])
        elif damage == "changed":
            shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif damage == "gone":
            shard.unlink()
        elif damage == "unfinished":
            facts = json.loads(index.read_text())
            index.write_text(json.dumps({**facts, "shards": facts["shards"][:-1]}))
        else:
            index.write_text("{")
        found = encode(trained, of, 2)
        assert encode.count == COUNT
        assert encode.said == []
        with torch.inference_mode():
            assert torch.allclose(found.batch(EVERYTHING), trained.encode(of.batch(EVERYTHING)), atol=1e-6)

    @pytest.mark.parametrize("shift", [1, 1e-3])
    def test_nor_what_another_version_made(self, encode, monkeypatch, shift):
        """Though a level's own codes may be off by so much: what is made of them would be off by more."""
        trained, of = stack(), images()
        real = type(trained).posterior

        def posterior(stack, x, levels=None, **more):
            found = real(stack, x, levels, **more)
            return replace(found, mean=found.mean + shift)

        with monkeypatch.context() as patch:
            patch.setattr(type(trained), "posterior", posterior)
            encode(trained, of)
        encode(trained, of, 2)
        assert encode.count == making.PROBED + COUNT

    def test_images_are_encoded_in_the_same_batches_for_every_level(self, encode, monkeypatch):
        """Or the last digits of codes would depend on what else is in the cache."""
        real, batches = codes._Encoder._views, []

        def views(encoder, first, size):
            batches.append((first, size))
            return real(encoder, first, size)

        monkeypatch.setattr(codes._Encoder, "_views", views)
        found = encode(stack(), images(), 2).shards
        assert (found.rows, batches) == ([30], [(0, 7), (7, 7), (14, 7), (21, 7), (28, 2)])
        batches.clear()
        assert encode(stack(), images()).shards.rows == [7, 7, 7, 7, 2]
        assert batches == [(0, 7), (7, 7), (14, 7), (21, 7), (28, 2)]
        cache.clear(next(entry for entry in cache.entries() if "fc2" in entry.title))
        assert torch.equal(encode(stack(), images(), 2).shards.all("mean"), found.all("mean"))

    def test_what_is_read_has_been_used(self, encode):
        trained, of = stack(), images()
        encode(trained, of)
        index = cache.entries()[0].folder / making.INDEX
        os.utime(index, (1, 1))
        encode(trained, of, 2)
        assert index.stat().st_mtime > 1

    def test_a_cache_that_others_keep_for_us(self, encode, monkeypatch):
        trained, of = stack(), images()
        encode(trained, of)

        def refused(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(making.os, "utime", refused)
        encode(trained, of, 2)
        assert encode.count == making.PROBED

    def test_a_batch_is_made_of_images(self, encode, monkeypatch):
        monkeypatch.setattr(codes, "BATCH", COUNT)
        trained, of = stack(), images()
        encode(trained, of)
        encode(trained, of, 2)
        assert encode.count == COUNT


@pytest.fixture(scope="module")
def lower(tmp_path_factory):
    """A file of images, and a stack of which the first level is trained."""
    folder = tmp_path_factory.mktemp("lower")
    np.save(folder / "images.npy", images(200).pixels.numpy())
    trained = fit(stack(), np.load(folder / "images.npy"), level=1, steps=2, progress=False)
    trained.save(folder / "stack")
    return folder


class TestTwoRuns:
    def test_two_at_once_encode_once(self, lower, tmp_path, root):
        one, two = (tmp_path / name for name in ("one", "two"))
        first = self.begin(one, 1, lower, root)
        until(lambda: (one / "encoded").is_file())
        second = self.begin(two, 2, lower, root)
        until(lambda: "another process is at work on the same" in self.log(two))
        (tmp_path / "go").touch()
        assert [ended(first), ended(second)] == [0, 0], self.log(one) + self.log(two)
        counts = [[int(line) for line in (out / "encoded").read_text().splitlines()] for out in (one, two)]
        assert sum(counts[0]) == 200
        assert counts[1] == [4]  # a probe
        assert "encoding through level 1" in self.log(one)
        assert "encoding through level 1" not in self.log(two)
        assert "another process" not in self.log(one)
        held = [json.loads((out / "run" / "run.json").read_text())["val"]["sha256"] for out in (one, two)]
        assert held[0] != held[1]
        assert all((out / "run" / "config.json").is_file() for out in (one, two))

    def begin(self, out, seed, lower, root):
        out.mkdir()
        words = [
            "train", lower / "stack", "--data", lower / "images.npy", "--level", 2, "--seed", seed, "--steps", 2,
            "--out", out / "run", "--precision", "fp32",
        ]  # fmt: skip
        return start(train, [*map(str, words)], out, log=out / "log", environ={"ZOO_CACHE": str(root)})

    def log(self, out):
        return (out / "log").read_text() if (out / "log").is_file() else ""


def train(words, out):
    """`zoo train`, which writes down how many images it encodes at a time, and waits before the first."""
    making.SHARD_BYTES = 64 * 16 * 4
    real = codes._Encoder.rows

    def rows(encoder, wanted, tick):
        with (out / "encoded").open("a") as file:
            file.write(f"{len(wanted)}\n")
        until((out.parent / "go").is_file)
        return real(encoder, wanted, tick)

    codes._Encoder.rows = rows
    main(words, prog_name="zoo")
