"""The contract of a term: a regularizer or a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, cast

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.interfaces import Place, PosteriorKind, Reconstruction, Regularizer, RoundTrip, Term
from zoo.layout import channels_last, laid
from zoo.posterior import NOISES, Noise, Posterior
from zoo.seeding import seeded
from zoo.testing.changes import check_phases, check_told, check_weights
from zoo.testing.requirements import (
    ConformanceError,
    as_trained,
    check_declaration,
    check_reached,
    check_saving,
    check_untouched,
    critic_parameters,
    devices,
    during,
    inputs,
    opinions,
    require,
    require_scalar,
    require_tensor,
)


def check_term(part: type[Term], place: Place, **options: Any) -> None:
    """A regularizer or reconstruction keeps its contract; ``place`` tells it the code shape, as ``build`` does.

    One finite float32 number, averaged over the batch and not yet weighted, for float32 and bf16 trips and under
    autocast; a finite gradient to what it judges, also when codes collapse or x_hat is x, and to every parameter of
    its own; no number for inputs that do not fit; ``draw`` and ``sample`` of a regularizer; the saved state is the
    whole state; a critic learns from ``critic_loss`` alone; a step as ``zoo.fit`` takes it, with channels last, on the
    CPU and on an accelerator where there is one; a weight that changes over training is a finite number
    at every moment, and in the end that of the spec; phases of its own can be trained in.

    Raises:
        ConformanceError: what it does not keep.
    """
    check_declaration(part, Regularizer if issubclass(part, Regularizer) else Reconstruction)
    require(place.code_shape, part, "check_term wants the level's code shape: Place(input_shape, code_shape)")
    pixels = issubclass(part, Reconstruction) and part.needs_pixels
    require(place.pixels or not pixels, part, "needs_pixels, so check it in a place with pixels=True")
    with seeded(device=devices()[-1]):
        trials = [_Trial(part, place, options, kind, noise) for kind, noise in _posteriors(part, place)]
        _check_weight(trials[0])
        for trial in trials:
            _check_number(trial)
            _check_types(trial)
        for check in (_check_edges, _check_misfits, _check_state, _check_prior, _check_critic, _check_as_trained):
            check(trials[0])
        check_told(trials[0].build())
        check_weights(trials[0].build)
        check_phases(trials[0].build(), lambda n: torch.randn(n, *trials[0].code_shape))


@dataclass(frozen=True)
class _Trial:
    """A class, where it stands and its options: everything it takes to build it and send it on a trip."""

    part: type[Term]
    place: Place
    options: dict[str, Any]
    kind: PosteriorKind
    noise: Noise

    def build(self, **more: Any) -> Term:
        return cast("Any", self.part)(self.place, **{**self.options, **more})  # type: ignore[no-any-return]

    @property
    def note(self) -> str:
        """What messages say of the posterior."""
        return f" ({self.kind} posterior, {self.noise} noise)" if self.kind == "gaussian" else ""

    @property
    def code_shape(self) -> tuple[int, ...]:
        return self.place.code_shape or ()

    def leaves(self, n: int = 6) -> _Leaves:
        """Tensors of a trip that ask for gradients: what a network would have made."""
        x = inputs(self.place.input_shape, n, pixels=self.place.pixels)
        x_hat = inputs(self.place.input_shape, n, pixels=self.place.pixels)
        mean = 0.5 * torch.randn(n, *self.code_shape) + 0.3
        spread = mean.shape if self.noise == "local" else mean.shape[:2]
        logvar = 0.3 * torch.randn(spread) - 0.5 if self.kind == "gaussian" else None
        return _Leaves(x, x_hat, mean, logvar, self.noise)


@dataclass(frozen=True)
class _Leaves:
    x: Tensor
    x_hat: Tensor
    mean: Tensor
    logvar: Tensor | None
    noise: Noise

    def to(self, dtype: torch.dtype) -> _Leaves:
        x, x_hat, mean = (value.detach().to(dtype) for value in (self.x, self.x_hat, self.mean))
        logvar = None if self.logvar is None else self.logvar.detach().to(dtype)
        return _Leaves(x, x_hat, mean, logvar, self.noise)

    def laid(self, device: torch.device) -> _Leaves:
        x, x_hat, mean = (laid(value.detach(), device) for value in (self.x, self.x_hat, self.mean))
        logvar = None if self.logvar is None else laid(self.logvar.detach(), device)
        return _Leaves(x, x_hat, mean, logvar, self.noise)

    def repeat(self, times: int) -> _Leaves:
        x, x_hat, mean = (torch.cat([value.detach()] * times) for value in (self.x, self.x_hat, self.mean))
        logvar = None if self.logvar is None else torch.cat([self.logvar.detach()] * times)
        return _Leaves(x, x_hat, mean, logvar, self.noise)

    def trip(self, term: Term) -> RoundTrip:
        for leaf in (self.x_hat, self.mean, self.logvar):
            if leaf is not None:
                leaf.requires_grad_()
                leaf.grad = None
        posterior = Posterior(self.mean, self.logvar, self.noise)
        z = term.draw(posterior) if isinstance(term, Regularizer) else posterior.sample()
        return RoundTrip(self.x, posterior, z, self.x_hat)

    def judged(self, term: Term) -> list[Tensor]:
        """What the term pulls at: the codes, or what came back."""
        if not isinstance(term, Regularizer):
            return [self.x_hat]
        return [self.mean] if self.logvar is None else [self.mean, self.logvar]


def _posteriors(part: type[Term], place: Place) -> list[tuple[PosteriorKind, Noise]]:
    """The posteriors it may meet; one that asks for a point can still share its level with one that does not."""
    noises: tuple[Noise, ...] = NOISES if len(place.code_shape or ()) in (1, 3) else ("local",)
    deviations: list[tuple[PosteriorKind, Noise]] = [("gaussian", noise) for noise in noises]
    needs_deviation = issubclass(part, Regularizer) and part.posterior == "gaussian"
    return deviations if needs_deviation else [("point", "local"), *deviations]


def _run(trial: _Trial, term: Term, leaves: _Leaves, note: str) -> Tensor:
    with during(trial.part, f"forward{note}"), seeded(1):
        return require_scalar(trial.part, f"forward(trip){note}", term(leaves.trip(term)))


def _check_weight(trial: _Trial) -> None:
    with during(trial.part, "building it with weight=2.5"):
        heavy = trial.build(weight=2.5)
    require(heavy.weight == 2.5, trial.part, f"weight=2.5 makes weight {heavy.weight}")


def _check_number(trial: _Trial) -> None:
    part, term, leaves, note = trial.part, trial.build(), trial.leaves(), trial.note
    number = _run(trial, term, leaves, note)
    gradients = _gradients(trial, number, term, leaves, note)
    wanted = "the posterior" if isinstance(term, Regularizer) else "x_hat"
    require(any(bool(gradient.any()) for gradient in gradients), part, f"no gradient reaches {wanted}{note}")
    check_reached(part, critic_parameters(term, critic=False), f"forward(trip){note}")
    repeated = _run(trial, term, leaves.repeat(4), f"{note}, the batch four times")
    summed = number.abs() > 1e-3 and (repeated / number - 4).abs() < 0.01
    require(not summed, part, "grows with the batch: sum over an image, then average over the batch")
    heavy = trial.build(weight=2.5)
    heavy.load_state_dict(term.state_dict())
    weighted = _run(trial, heavy, leaves, note)
    require(torch.equal(weighted, number), part, "multiplies by its weight: the trainer does that")


def _check_types(trial: _Trial) -> None:
    term, leaves, note = trial.build(), trial.leaves(), trial.note
    _run(trial, term, leaves.to(torch.bfloat16), f"{note}, bf16 trip")
    with torch.autocast("cpu", torch.bfloat16):
        _run(trial, term, leaves, f"{note}, bf16 autocast")
    _run(trial, term.eval(), leaves, f"{note}, eval")


def _gradients(trial: _Trial, number: Tensor, term: Term, leaves: _Leaves, note: str) -> list[Tensor]:
    """What went back to the tensors that the term judges; finite."""
    with during(trial.part, f"backward{note}"):
        torch.autograd.backward(number)
    gradients = [leaf.grad for leaf in leaves.judged(term) if leaf.grad is not None]
    finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
    require(finite, trial.part, f"its gradient is NaN or infinite{note}")
    return gradients


def _check_edges(trial: _Trial) -> None:
    """Where logarithms and roots break: nothing to reconstruct, all codes in one place, a batch of one."""
    plain = trial.leaves()
    logvar = None if plain.logvar is None else torch.zeros_like(plain.logvar)
    perfect = replace(plain, x_hat=plain.x.clone(), mean=torch.zeros_like(plain.mean), logvar=logvar)
    blank = replace(plain, x=torch.zeros_like(plain.x), x_hat=torch.zeros_like(plain.x))
    for note, leaves in ((", x_hat is x and codes are all alike", perfect), (", inputs all zero", blank)):
        term = trial.build()
        _gradients(trial, _run(trial, term, leaves, note), term, leaves, note)
    try:
        _run(trial, trial.build(), trial.leaves(1), ", batch of one")
    except ConformanceError as error:
        if not isinstance(error.__cause__, ZooError):  # a refusal in words is an answer
            raise


def _check_misfits(trial: _Trial) -> None:
    """What cannot be judged is refused; a number would be believed."""
    term, points = trial.build(), replace(trial, kind="point", noise="local").leaves()
    words = "a point posterior, which it cannot work with"
    if isinstance(term, Regularizer) and term.posterior == "point":
        return
    if isinstance(term, Reconstruction):
        points = replace(points, x_hat=points.x_hat[:1])
        words = "an x_hat of another shape than x, which broadcasts"
    try:
        number = term(points.trip(term))
    except Exception:  # any refusal will do
        return
    require(False, trial.part, f"gives the number {float(number.detach()):.3g} for {words}: raise an error instead")


def _check_state(trial: _Trial) -> None:
    term, leaves = trial.build(), trial.leaves()
    _run(trial, term.train(), leaves, "")  # statistics, if it keeps any
    check_saving(term.eval(), trial.build, lambda fresh: [_run(trial, fresh, leaves, "")])


def _check_prior(trial: _Trial) -> None:
    term, leaves = trial.build(), trial.leaves()
    if not isinstance(term, Regularizer):
        return
    z = require_tensor(trial.part, "draw(posterior)", leaves.trip(term).z, leaves.mean.shape)
    require(z.requires_grad, trial.part, "draw(posterior) cuts the graph: no gradient of x_hat reaches the encoder")
    if not term.prior:
        return
    draws = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        with during(trial.part, "sample"):
            draws.append(require_tensor(trial.part, "sample(3)", term.sample(3, generator), (3, *trial.code_shape)))
    require(torch.equal(draws[0], draws[1]), trial.part, "sample ignores its generator: one seed, two draws")
    require(not torch.equal(draws[0], draws[2]), trial.part, "sample ignores its generator: two seeds, one draw")
    many = term.sample(4096 // prod(trial.code_shape) + 2, torch.Generator().manual_seed(0))
    scale = many.square().mean().sqrt().item()
    require(0.5 < scale < 2, trial.part, f"its prior has scale {scale:.3g}; a code has unit scale")


def _check_critic(trial: _Trial) -> None:
    """Two players: each one's loss moves its own parameters, and neither needs the other's gradient."""
    term, leaves = trial.build(), trial.leaves()
    if term.critic is None:
        return
    critic = critic_parameters(term, critic=True)
    for _ in opinions(critic):
        with during(trial.part, "critic_loss of a detached trip"):
            loss = require_scalar(trial.part, "critic_loss(trip)", term.critic_loss(leaves.trip(term).detach()))
            torch.autograd.backward(loss)
    check_reached(trial.part, critic, "critic_loss")
    check_untouched(trial.part, critic_parameters(term, critic=False), "critic_loss")
    term.critic.requires_grad_(False)
    note = ", its critic frozen"
    gradients = _gradients(trial, _run(trial, term, leaves, note), term, leaves, note)
    reached = any(bool(gradient.any()) for gradient in gradients)
    require(reached, trial.part, "with its critic frozen forward sends no gradient to what it judges")


def _check_as_trained(trial: _Trial) -> None:
    for device in devices():
        term, leaves, note = trial.build(), trial.leaves().laid(device), as_trained(device)
        channels_last(term, device)
        _gradients(trial, _run(trial, term, leaves, note), term, leaves, note)
        if term.critic is not None:
            with during(trial.part, f"critic_loss{note}"):
                torch.autograd.backward(term.critic_loss(leaves.trip(term).detach()))
        if isinstance(term, Regularizer) and term.prior:
            with during(trial.part, f"sample{note}"):
                require_tensor(trial.part, f"sample(3){note}", term.sample(3), (3, *trial.code_shape))
