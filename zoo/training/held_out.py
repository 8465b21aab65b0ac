"""Held-out images, and what a course's learner makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Images
    from zoo.training.objectives import Learner
    from zoo.training.processes import Processes
    from zoo.training.progress import Reporter

AT_ONCE = 250
KEPT_BYTES = 2**26
"""Of what frozen levels make of held-out images, at most: the rest is encoded again for every look."""


class HeldOut:
    """Measures the learners of one course, always from raw images, whose codes it encodes once.

    Args:
        images: that are held out.
        batch_size: of the training.
        processes: that share the images.
        reporter: is shown some of what comes back.
    """

    def __init__(self, images: Images, batch_size: int, processes: Processes, reporter: Reporter) -> None:
        self.images, self.processes, self.reporter = images, processes, reporter
        self.size = max(2, min(AT_ONCE, batch_size * 4))
        self.kept: dict[int, Tensor] = {}
        """What learners take of a batch of images, by its start. The members of a course take the same."""

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, learner: Learner) -> dict[str, float]:
        """The learner's loss, and the squared error of the images that come back, where some do."""
        loss = error = 0.0
        returned = False
        every = self.images.labels if learner.labelled else None
        count, size = len(self.images), self.size
        for start in range(self.processes.rank * size, count, size * self.processes.count):
            x = self.images.batch(slice(start, start + size)).to(self.processes.device)
            labels = None if every is None else every[start : start + size].to(x.device)
            batch = self._taken(learner, start, x)
            loss += learner(batch, labels).total.item() * len(x)
            x_hat = learner.reconstruct(batch)
            if x_hat is not None:
                if start == 0:
                    self.reporter.keep(x, x_hat)
                error += (x_hat - x).square().mean().item() * len(x)
                returned = True
        loss, error, some = self.processes.total([loss, error, float(returned)])
        return {"loss": loss / count} | ({"mse": error / count} if some else {})

    def _taken(self, learner: Learner, start: int, x: Tensor) -> Tensor:
        """What the learner takes of these images."""
        if start in self.kept:
            return self.kept[start]
        batch = learner.from_images(x)
        if batch is not x and sum(each.nbytes for each in (*self.kept.values(), batch)) <= KEPT_BYTES:
            self.kept[start] = batch
        return batch
