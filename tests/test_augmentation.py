"""Augmented views: what happens to every pixel, by loops; how they are named; drawn anew and repeatably."""

from __future__ import annotations

import itertools

import pytest
import torch

from zoo.data import Images
from zoo.data.augmentation import Augmentation, Augmented
from zoo.errors import DataError, TrainingError
from zoo.training import Options


def mirror(place: int, size: int) -> int:
    """A place beyond the border walked back: the outermost pixel is not repeated."""
    while size > 1 and not 0 <= place < size:
        place = -place if place < 0 else 2 * (size - 1) - place
    return place if size > 1 else 0


def slowly(x: torch.Tensor, decisions: torch.Tensor) -> torch.Tensor:
    """Flip, then move, pixel by pixel."""
    height, width = x.shape[-2:]
    views = torch.empty_like(x)
    for image, (mirrored, down, right) in enumerate(decisions.tolist()):
        flipped = x[image].flip(-1) if mirrored else x[image]
        for row, column in itertools.product(range(height), range(width)):
            views[image, :, row, column] = flipped[:, mirror(row - down, height), mirror(column - right, width)]
    return views


class TestViews:
    @pytest.mark.parametrize(("height", "width"), [(5, 7), (1, 1), (1, 6), (6, 1), (2, 2), (2, 3), (3, 2)])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_every_pixel_is_where_it_should_be(self, height, width, channels):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(40, channels, height, width, generator=generator)
        decisions = torch.cat(
            [torch.randint(2, (40, 1), generator=generator), torch.randint(-20, 21, (40, 2), generator=generator)], 1
        )
        assert torch.equal(Augmentation(True, 20).apply(x, decisions), slowly(x, decisions))

    def test_an_example(self):
        x = torch.arange(1.0, 5.0).reshape(1, 1, 1, 4)
        for decision, view in {
            (0, 0, 0): [1, 2, 3, 4],
            (1, 0, 0): [4, 3, 2, 1],
            (0, 3, 1): [2, 1, 2, 3],  # to the right; the border is a mirror on the outermost pixel
            (0, 0, -2): [3, 4, 3, 2],
            (1, 0, 1): [3, 4, 3, 2],
        }.items():
            assert Augmentation(True, 3).apply(x, torch.tensor([decision])).flatten().tolist() == view
        down = Augmentation(shift=1).apply(x.reshape(1, 1, 4, 1), torch.tensor([[0, 1, 0]]))
        assert down.flatten().tolist() == [2, 1, 2, 3]

    def test_what_went_in_is_left_alone(self):
        x = torch.rand(4, 1, 5, 5)
        before = x.clone()
        views = Augmentation(True, 2).apply(x, torch.zeros(4, 3, dtype=torch.long))
        assert torch.equal(views, x)
        views.zero_()
        assert torch.equal(x, before)

    def test_no_images(self):
        augmentation = Augmentation(True, 2)
        assert augmentation.apply(torch.rand(0, 3, 4, 4), augmentation.decide(0)).shape == (0, 3, 4, 4)


class TestTurning:
    def test_a_quarter_turn_to_the_left_is_exact_on_a_square(self):
        x = torch.rand(3, 2, 6, 6)
        decisions = torch.tensor([[0, 0, 0, 90], [0, 0, 0, -90], [0, 0, 0, 0]])
        views = Augmentation(rotate=90).apply(x, decisions)
        for view, image, turns in zip(views, x, (1, -1, 0), strict=True):
            torch.testing.assert_close(view, image.rot90(turns, (1, 2)), atol=1e-5, rtol=0)

    def test_a_half_turn_is_exact_on_an_oblong_and_nothing_is_sheared(self):
        x = torch.rand(1, 1, 4, 8)
        half = Augmentation(rotate=180).apply(x, torch.tensor([[0, 0, 0, 180]]))
        torch.testing.assert_close(half, x.flip(2, 3), atol=1e-5, rtol=0)
        line = torch.zeros(1, 1, 9, 21)
        line[:, :, 4, 2:19] = 1
        quarter = Augmentation(rotate=90).apply(line, torch.tensor([[0, 0, 0, 90]]))[0, 0]
        assert quarter[:, 10].min() > 0.99  # upright, in the middle, and as long as there is room
        assert quarter.sum().item() == pytest.approx(9, rel=1e-3)

    def test_it_is_drawn_evenly_and_other_views_are_what_they_were(self):
        turned = Augmentation(True, 2, 3).decide(10_000, torch.Generator().manual_seed(0))
        assert turned.shape == (10_000, 4)
        assert turned[:, 3].unique().tolist() == [*range(-3, 4)]
        plain = Augmentation(True, 2).decide(10_000, torch.Generator().manual_seed(0))
        assert torch.equal(turned[:, :3], plain)


class TestDecisions:
    @pytest.mark.parametrize(
        ("augmentation", "kinds"),
        [
            (Augmentation(True, 2), (2, 5, 5)),
            (Augmentation(True), (2, 1, 1)),
            (Augmentation(shift=1), (1, 3, 3)),
            (Augmentation(), (1, 1, 1)),
        ],
    )
    def test_every_choice_is_equally_likely(self, augmentation, kinds):
        decisions = augmentation.decide(10_000, torch.Generator().manual_seed(0))
        assert decisions.shape == (10_000, 3)
        for column, number in zip(decisions.unbind(1), kinds, strict=True):
            values, counts = column.unique(return_counts=True)
            assert values.tolist() == [*range(-(number // 2), number // 2 + 1)] if number != 2 else [0, 1]
            assert ((counts / 10_000 - 1 / number).abs() < 0.02).all()

    def test_they_follow_from_the_generator(self):
        one, other = (Augmentation(True, 3).decide(50, torch.Generator().manual_seed(seed)) for seed in (1, 1))
        assert torch.equal(one, other)
        assert not torch.equal(one, Augmentation(True, 3).decide(50, torch.Generator().manual_seed(2)))


class TestWords:
    @pytest.mark.parametrize(
        ("text", "augmentation"),
        [
            ("flip", Augmentation(True)),
            ("shift", Augmentation(shift=4)),
            ("shift2", Augmentation(shift=2)),
            ("shift30", Augmentation(shift=30)),
            ("flip+shift2", Augmentation(True, 2)),
            ("shift2 + flip", Augmentation(True, 2)),
            (" flip ", Augmentation(True)),
            ("rotate", Augmentation(rotate=15)),
            ("rotate30+flip+shift1", Augmentation(True, 1, 30)),
        ],
    )
    def test_words_are_read_and_written_back(self, text, augmentation):
        assert Augmentation.parse(text) == augmentation
        assert Augmentation.parse(str(augmentation)) == augmentation

    @pytest.mark.parametrize(
        "text",
        [
            "", "+", "flip+", "+flip", "flop", "Flip", "flip2", "shift-1", "shift1.5", "shift 2", "shift2x", "shift٣",
            "shift0", "shift00", "shift99999999999999999999", "flip+flip", "shift2+shift3", "flip,shift2",
            "rotate0", "rotate-3", "rotate181", "rotate5+rotate5", "Rotate",
        ],
    )  # fmt: skip
    def test_others_are_refused(self, text):
        with pytest.raises(DataError, match=r"there are flip, shiftN and rotateN|every angle"):
            Augmentation.parse(text)

    def test_options_hear_of_it_at_once(self):
        assert Options(augment="shift2+flip").augmentation == Augmentation(True, 2)
        assert Options().augmentation is None
        with pytest.raises(DataError, match="augment='flop'"):
            Options(augment="flop")
        with pytest.raises(TrainingError, match="views=3"):
            Options(views=3)


class TestAugmented:
    def test_every_batch_is_a_fresh_view_of_the_right_images(self):
        pixels = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 1, 4, 4) * 16
        pixels = pixels + torch.arange(16, dtype=torch.uint8).reshape(4, 4)
        images = Images(pixels, labels=torch.arange(6))
        views, index = Augmented(images, Augmentation(True, 2)), torch.tensor([5, 0, 3, 3])
        assert len(views) == 6
        assert views.labels.tolist() == [0, 1, 2, 3, 4, 5]
        torch.manual_seed(0)
        batch, next_one = views.batch(index), views.batch(index)
        assert (batch.shape, batch.dtype) == ((4, 1, 4, 4), torch.float32)
        assert not torch.equal(batch, next_one)
        assert torch.equal((batch * 255).round().div(16, rounding_mode="floor")[:, 0, 0, 0], index.float())
        torch.manual_seed(0)
        assert torch.equal(views.batch(index), batch)

    def test_without_labels(self):
        assert Augmented(Images(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)), Augmentation(True)).labels is None
