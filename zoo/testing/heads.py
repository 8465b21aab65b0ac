"""The contract of a head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch

from zoo.errors import ZooError
from zoo.interfaces import Head, HeadBatch, Place
from zoo.layout import channels_last, laid
from zoo.level import features
from zoo.seeding import seeded
from zoo.testing.changes import check_told
from zoo.testing.requirements import (
    as_trained,
    check_declaration,
    check_reached,
    check_saving,
    check_untouched,
    critic_parameters,
    devices,
    disturb,
    during,
    inputs,
    opinions,
    require,
    require_scalar,
    require_tensor,
)

if TYPE_CHECKING:
    from torch import Tensor


CLASSES = 3
"""In the batches that heads are shown."""


def check_head(part: type[Head], place: Place, **options: Any) -> None:
    """A head keeps its contract; ``place.input_shape`` is the shape of the codes below it.

    ``emphasise`` and ``prepare``, and then a finite float32 loss, with labels and without, in codes or else in pixels;
    a gradient to every parameter; samples of the codes' shape that follow their generator; a label is either drawn or
    refused, and of one that learns by class those it was shown are drawn; the saved state is the whole state; a critic
    learns from ``critic_loss`` alone; ``measures`` are finite scalars; a step as ``zoo.fit`` takes it, with channels
    last, on the CPU and on an accelerator where there is one.

    Raises:
        ConformanceError: what it does not keep.
    """
    check_declaration(part, Head)
    with seeded(device=devices()[-1]):
        trial = _Trial(part, place, options)
        for labels in (True,) if trial.build().labelled else (False, True):  # labels that the data has are always shown
            for check in (_check_loss, _check_samples, _check_state, _check_as_trained):
                check(trial, labels=labels)
            if trial.build().critic is not None:
                _check_critic(trial, labels=labels)
        if trial.build().labelled:
            _check_labels(trial)
        check_told(trial.build())


@dataclass(frozen=True)
class _Trial:
    """A class, where it stands and its options: everything it takes to build it and feed it."""

    part: type[Head]
    place: Place
    options: dict[str, Any]

    def build(self) -> Head:
        return cast("Any", self.part)(self.place, **self.options)  # type: ignore[no-any-return]

    def prepared(self, *, labels: bool) -> Head:
        head = self.build().train()
        self.prepare(head, torch.device("cpu"), labels=labels)
        return head

    def prepare(self, head: Head, device: torch.device, *, labels: bool, note: str = "") -> None:
        """What comes before the first step: what codes mean in pixels, where it stands on codes, and a sample."""
        note += " (with labels)" * labels
        if not self.place.pixels:
            with during(self.part, f"emphasise{note}"):
                head.emphasise(torch.rand(features(self.place.input_shape)).add(0.5).to(device))
        with during(self.part, f"prepare{note}"):
            head.prepare(self.codes(64).to(device), (torch.arange(64) % CLASSES).to(device) if labels else None)

    def codes(self, n: int) -> Tensor:
        return inputs(self.place.input_shape, n, pixels=self.place.pixels)

    def batch(self, *, labels: bool, images: bool) -> HeadBatch:
        """Codes, and for a loss in pixels the same tensor as images with maps that change nothing between them."""
        codes = self.codes(8)
        classes = torch.arange(8) % CLASSES if labels else None
        if not images:
            return HeadBatch(codes, classes)
        return HeadBatch(codes, classes, codes, lambda x: x, lambda z: z)

    def fitting_batch(self, head: Head, *, labels: bool) -> HeadBatch:
        """A batch in codes, or in pixels where the head says that codes alone are not enough."""
        batch = self.batch(labels=labels, images=False)
        try:
            head.loss(batch)
        except ZooError:
            return self.batch(labels=labels, images=True)
        except Exception:  # the check that asked meets it again, and says where
            return batch
        return batch


def _check_loss(trial: _Trial, *, labels: bool) -> None:
    head = trial.prepared(labels=labels)
    disturb(head)
    batch = trial.fitting_batch(head, labels=labels)
    note = " (with labels)" if labels else ""
    with during(trial.part, f"loss{note}"):
        number = require_scalar(trial.part, f"loss(batch){note}", head.loss(batch))
        if number.requires_grad:
            torch.autograd.backward(number)
    check_reached(trial.part, critic_parameters(head, critic=False), "loss")
    _check_measures(trial, head)
    with during(trial.part, f"loss{note}, bf16 autocast"), torch.autocast("cpu", torch.bfloat16):
        require_scalar(trial.part, f"loss(batch){note} under bf16 autocast", head.loss(batch))


def _check_measures(trial: _Trial, head: Head) -> None:
    with during(trial.part, "measures"):
        found = head.measures()
    for name, value in found.items():
        require_tensor(trial.part, f"measures()[{name!r}]", value, ())


@torch.no_grad()
def _check_samples(trial: _Trial, *, labels: bool) -> None:
    head, shape = trial.prepared(labels=labels).eval(), trial.place.input_shape
    for n in (1, 5):
        with during(trial.part, f"sample({n})"):
            require_tensor(trial.part, f"sample({n})", head.sample(n), (n, *shape))
    first, again, other = (head.sample(4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    require(torch.equal(first, again), trial.part, "sample ignores its generator: one seed, two draws")
    require(not torch.equal(first, other), trial.part, "sample ignores its generator: two seeds, one draw")
    try:
        labelled = head.sample(2, label=0)
    except ZooError:
        return  # it knows no labels, and says so
    except Exception as error:
        require(False, trial.part, f"sample(label=0) raises {type(error).__name__}: draw it or raise a ZooError")
        return
    require_tensor(trial.part, "sample(2, label=0)", labelled, (2, *shape))


@torch.no_grad()
def _check_labels(trial: _Trial) -> None:
    """Of a head that learns by class: it knows the labels that it was shown, draws these and refuses others."""
    head = trial.prepared(labels=True).eval()
    known = [*range(CLASSES)]
    require(head.labels() == known, trial.part, f"labels() is {head.labels()} after prepare with {known}")
    for label in known:
        with during(trial.part, f"sample(2, label={label})"):
            drawn = head.sample(2, label=label, generator=torch.Generator().manual_seed(1))
            again = head.sample(2, label=label, generator=torch.Generator().manual_seed(1))
        require_tensor(trial.part, f"sample(2, label={label})", drawn, (2, *trial.place.input_shape))
        require(torch.equal(drawn, again), trial.part, f"sample(label={label}) ignores its generator")
    try:
        head.sample(2, label=CLASSES)
    except ZooError:
        return
    except Exception as error:
        require(False, trial.part, f"a label it was not shown raises {type(error).__name__}: raise a ZooError")
    require(False, trial.part, f"sample(label={CLASSES}) draws a label that it was not shown: refuse it")


def _check_state(trial: _Trial, *, labels: bool) -> None:
    head = trial.prepared(labels=labels)
    disturb(head)
    batch = trial.fitting_batch(head, labels=labels)

    def outputs(fresh: Head) -> list[Tensor]:
        with seeded(1), torch.no_grad():
            samples = [fresh.sample(3, label=label, generator=torch.Generator().manual_seed(1))
                       for label in (None, *fresh.labels())]  # fmt: skip
            return [fresh.loss(batch), *samples]

    check_saving(head.eval(), trial.build, outputs)


def _check_as_trained(trial: _Trial, *, labels: bool) -> None:
    for device in devices():
        head, note = trial.build().train(), as_trained(device)
        channels_last(head, device)
        trial.prepare(head, device, labels=labels, note=note)
        batch = _moved(trial.fitting_batch(trial.prepared(labels=labels), labels=labels), device)
        with during(trial.part, f"loss{note}"):
            number = require_scalar(trial.part, f"loss(batch){note}", head.loss(batch))
            if number.requires_grad:
                torch.autograd.backward(number)
        if head.critic is not None:
            with during(trial.part, f"critic_loss{note}"):
                torch.autograd.backward(head.critic_loss(batch))
        with during(trial.part, f"sample(2){note}"), torch.no_grad():
            samples = head.eval().sample(2, generator=torch.Generator().manual_seed(1))
        require_tensor(trial.part, f"sample(2){note}", samples, (2, *trial.place.input_shape))


def _moved(batch: HeadBatch, device: torch.device) -> HeadBatch:
    """The batch as ``zoo.fit`` has it on this device."""
    labels = None if batch.labels is None else batch.labels.to(device)
    images = None if batch.images is None else laid(batch.images, device)
    return replace(batch, codes=laid(batch.codes, device), labels=labels, images=images)


def _check_critic(trial: _Trial, *, labels: bool) -> None:
    head = trial.prepared(labels=labels)
    batch = trial.fitting_batch(head, labels=labels)
    critic = critic_parameters(head, critic=True)
    for _ in opinions(critic):
        with during(trial.part, "critic_loss"):
            torch.autograd.backward(require_scalar(trial.part, "critic_loss(batch)", head.critic_loss(batch)))
    check_reached(trial.part, critic, "critic_loss")
    check_untouched(trial.part, critic_parameters(head, critic=False), "critic_loss")
    _check_measures(trial, head)
    for parameter in head.parameters():
        parameter.grad = None
    for _, parameter in critic:
        parameter.requires_grad_(False)
    with during(trial.part, "loss with its critic frozen"):
        torch.autograd.backward(head.loss(batch))
    check_reached(trial.part, critic_parameters(head, critic=False), "loss, its critic frozen,")
