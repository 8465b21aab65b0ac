"""What a course of a head minimises: the head's own loss, on codes or with the images in reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from zoo.interfaces import Head, HeadBatch
from zoo.training.objectives import Learner, Losses, elements, encoded, few

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.phases import Moment
    from zoo.stack import Stack
    from zoo.training.options import LossIn


class HeadLearner(Learner):
    """A head, on cached codes or with its loss in images."""

    labelled = True

    def __init__(self, stack: Stack, loss_in: LossIn) -> None:
        super().__init__()
        if stack.head is None:
            raise TypeError("HeadLearner wants a stack that ends in a head")
        self.learns = stack.head
        self.stack = (stack,)
        self.in_pixels = loss_in == "pixels"
        self.momentum = stack.head.momentum

    def forward(self, batch: Tensor, labels: Tensor | None = None) -> Losses:
        stack = self.stack[0]
        if self.in_pixels:
            with torch.no_grad():
                codes = stack.encode(batch)
            seen = HeadBatch(codes, labels, batch, stack.encode, stack.to_pixels)
        else:
            seen = HeadBatch(batch, labels)
        loss = self.learns.loss(seen)
        return Losses(loss / elements(batch), {"head": loss}, {"head": seen})

    def from_images(self, images: Tensor) -> Tensor:
        return images if self.in_pixels else self.stack[0].encode(images)

    def reconstruct(self, batch: Tensor) -> None:
        return None

    def advance(self, moment: Moment) -> None:
        self.learns.advance(moment)

    def critics(self) -> dict[str, Head]:
        return {} if self.learns.critic is None else {"head": self.learns}

    def critic_loss(self, name: str, losses: Losses) -> Tensor:
        seen = cast("HeadBatch", losses.seen[name])
        return self.learns.critic_loss(seen) / elements(seen.codes if seen.images is None else seen.images)

    def measures(self) -> dict[str, Tensor]:
        return self.learns.measures()

    def prepare(self, sample: Tensor, labels: Tensor | None = None) -> None:
        stack = self.stack[0]
        codes = encoded(stack, sample, len(stack.levels)) if self.in_pixels else sample
        if len(stack.levels) and type(self.learns).emphasise is not Head.emphasise:
            self.learns.emphasise(stack.sensitivity(few(codes), len(stack.levels)))
        self.learns.prepare(codes, labels)
