"""The contract of a stage."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.interfaces import Place, PosteriorKind, Regularizer, Stage
from zoo.layout import channels_last, laid
from zoo.level import Level
from zoo.posterior import Posterior
from zoo.seeding import seeded
from zoo.testing.changes import check_growing, check_phases, check_told
from zoo.testing.requirements import (
    as_trained,
    check_declaration,
    check_reached,
    check_saving,
    devices,
    disturb,
    during,
    inputs,
    require,
    require_tensor,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.interfaces import RoundTrip


def check_stage(part: type[Stage], place: Place, **options: Any) -> None:
    """A stage keeps its contract, for a point and for a gaussian posterior.

    Shapes and finite values for batches of 1, 2 and 5, each row as if alone; in evaluation deterministic and without
    a change of state; training sends a gradient to every parameter; ``encode`` works without ``decoder`` and
    ``decode`` without ``encoder``; the saved state is the whole state; bf16 autocast and float64; ``prepare`` leaves
    it usable, on constant inputs too; in a level its codes are brought to unit scale; a step as ``zoo.fit`` takes it,
    with channels last, on the CPU and on an accelerator where there is one; phases that train something;
    ``output="sigmoid"`` keeps pixels in [0, 1]; and ``any_size``, ``compilable`` and ``exportable`` where they are
    claimed. A stage may refuse, with a ``ZooError``, the posterior that ``place`` does not ask for, and to grow.

    Raises:
        ConformanceError: what it does not keep.
    """
    check_declaration(part, Stage)
    with seeded(device=devices()[-1]):
        for posterior in get_args(PosteriorKind):
            trial = _Trial(part, replace(place, posterior=posterior), options)
            try:
                trial.build()
            except ZooError:
                if posterior != place.posterior:
                    continue
                raise
            for check in CHECKS:
                check(trial)
        asked = _Trial(part, place, options)
        check_told(asked.build())
        check_phases(asked.build(), lambda n: torch.randn(n, *asked.build().code_shape))
        if place.pixels:
            _check_sigmoid(asked)
        if part.any_size:
            _check_sizes(asked)
        if part.compilable:
            _check_compile(asked)
        if part.exportable:
            _check_export(asked)
        if place.pixels and len(place.input_shape) == 3 and not any(side % 2 for side in place.input_shape[1:]):
            check_growing(asked.build().eval(), asked.x(2))


@dataclass(frozen=True)
class _Trial:
    """A class, where it stands and its options: everything it takes to build it and feed it."""

    part: type[Stage]
    place: Place
    options: dict[str, Any]

    def build(self) -> Stage:
        return cast("Any", self.part)(self.place, **self.options)  # type: ignore[no-any-return]

    def x(self, n: int = 4) -> Tensor:
        return inputs(self.place.input_shape, n, pixels=self.place.pixels)

    def maps(self, stage: Stage, x: Tensor) -> tuple[Tensor, ...]:
        """There and back from the mean: mean, logvar if there is one, x_hat."""
        posterior = stage.encode(x)
        spread = () if posterior.logvar is None else (posterior.logvar,)
        return (posterior.mean, *spread, stage.decode(posterior.mean))


def _require_maps(
    trial: _Trial, stage: Stage, x: Tensor, *, note: str = "", code_shape: Sequence[int] = ()
) -> Posterior:
    part = trial.part
    with during(part, f"encode of {tuple(x.shape)}{note}"):
        posterior = stage.encode(x)
    require(isinstance(posterior, Posterior), part, f"encode gives a {type(posterior).__name__}, not a Posterior")
    require_tensor(part, f"encode(x).mean{note}", posterior.mean, (len(x), *(code_shape or stage.code_shape)))
    kind: PosteriorKind = "point" if posterior.logvar is None else "gaussian"
    require(
        kind == trial.place.posterior, part, f"encode gives a {kind} where the place asks for {trial.place.posterior}"
    )
    if posterior.logvar is not None:
        require_tensor(part, f"encode(x).logvar{note}", posterior.logvar, posterior.logvar.shape)
    with during(part, f"decode of {tuple(posterior.mean.shape)}{note}"):
        x_hat = stage.decode(posterior.mean)
    require_tensor(part, f"decode(z){note}", x_hat, x.shape)
    return posterior


def _check_shapes(trial: _Trial) -> None:
    part, stage = trial.part, trial.build().eval()
    shape, place = stage.code_shape, trial.place
    require(stage.input_shape == place.input_shape, part, f"input_shape is {stage.input_shape}, not the place's")
    require(place.code_shape in (None, shape), part, f"code_shape is {shape}, the place asks for {place.code_shape}")
    before = deepcopy(stage.state_dict())
    for n in (1, 2, 5):
        _require_maps(trial, stage, trial.x(n), note=f" (batch of {n}, eval)")
    for name, x in (("zeros", torch.zeros(2, *place.input_shape)), ("ones", torch.ones(2, *place.input_shape))):
        _require_maps(trial, stage, x, note=f" (inputs all {name})")
    x = trial.x(3)
    kept = x.clone()
    first, again = trial.maps(stage, x), trial.maps(stage, x)
    require(torch.equal(x, kept), part, "changes its input in place")
    require(all(map(torch.equal, first, again)), part, "in eval mode gives two answers for one input")
    rows = [trial.maps(stage, x[row : row + 1]) for row in range(len(x))]
    alone = [torch.cat(outputs) for outputs in zip(*rows, strict=True)]
    same = all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(first, alone, strict=True))
    require(same, part, "in eval mode an input's code or reconstruction depends on the others of its batch")
    changed = [name for name, value in stage.state_dict().items() if not torch.equal(value, before[name])]
    require(not changed, part, f"in eval mode changes its state: {', '.join(changed)}")


def _check_training(trial: _Trial) -> None:
    stage = trial.build().train()
    disturb(stage)
    x = trial.x().requires_grad_()
    posterior = _require_maps(trial, stage, x, note=" (train)")
    x_hat = stage.decode(posterior.sample())
    with during(trial.part, "backward through decode and encode"):
        torch.autograd.backward((x_hat * torch.randn_like(x_hat)).sum())
    check_reached(trial.part, stage.named_parameters(), "x_hat")
    require(x.grad is not None and x.grad.any(), trial.part, "no gradient of x_hat reaches its input")


def _check_halves(trial: _Trial) -> None:
    """Either half works without the other, which is what ``zoo.load(part=...)`` relies on."""
    part, stage, x = trial.part, trial.build().eval(), trial.x(2)
    for half in ("encoder", "decoder"):
        require(isinstance(getattr(stage, half, None), nn.Module), part, f"has no module called {half}")
    mean, *_, x_hat = trial.maps(stage, x)
    words = "a module that only one of the two maps uses belongs under that map's half"
    bare = deepcopy(stage)
    del bare.decoder
    with during(part, f"encode without its decoder ({words})"):
        require(torch.equal(bare.encode(x).mean, mean), part, "encode computes something else without its decoder")
    bare = deepcopy(stage)
    del bare.encoder
    with during(part, f"decode without its encoder ({words})"):
        require(torch.equal(bare.decode(mean), x_hat), part, "decode computes something else without its encoder")


def _check_types(trial: _Trial) -> None:
    stage = trial.build()
    with torch.autocast("cpu", torch.bfloat16):
        _require_maps(trial, stage.train(), trial.x(), note=" (bf16 autocast, train)")
        _require_maps(trial, stage.eval(), trial.x(), note=" (bf16 autocast, eval)")
    double = trial.build().double().eval()
    with during(trial.part, "float64"):
        outputs = trial.maps(double, trial.x().double())
    types = {output.dtype for output in outputs}
    require(types == {torch.float64}, trial.part, f"as a float64 module gives {sorted(map(str, types))}")


def _check_prepare(trial: _Trial) -> None:
    constant = torch.full((16, *trial.place.input_shape), 0.5)
    for note, x in (("", trial.x(16)), (" on constant inputs", constant)):
        stage = trial.build().train()
        with during(trial.part, f"prepare{note}"):
            stage.prepare(x)
        _require_maps(trial, stage.eval(), trial.x(2), note=f" (after prepare{note})")


class _Prior(Regularizer):
    """Has a level measure deviations as well as means when it is finished."""

    def forward(self, trip: RoundTrip) -> Tensor:
        return trip.z.square().mean()


@torch.no_grad()
def _check_level(trial: _Trial) -> None:
    level, x = Level(trial.build().eval(), {"prior": _Prior(trial.place, 1.0)}), trial.x(16)
    with during(trial.part, "a level that is finished with its codes"):
        level.finish([level.encode(x)])
        x_hat = level.decode(level.encode(x).sample())
    require_tensor(trial.part, "decode(z) in a finished level", x_hat, x.shape)


def _check_as_trained(trial: _Trial) -> None:
    for device in devices():
        stage, note = trial.build().train(), as_trained(device)
        channels_last(stage, device)
        with during(trial.part, f"prepare{note}"):
            stage.prepare(trial.x(16).to(device))
        disturb(stage)
        with during(trial.part, f"a step{note}"):
            x = laid(trial.x(), device).requires_grad_()  # a stage that learns nothing has a step too, on its input
            x_hat = stage.decode(stage.encode(x).sample())
            torch.autograd.backward((x_hat * torch.randn_like(x_hat)).sum())
        _require_maps(trial, stage.eval(), trial.x(2).to(device), note=note)


def _check_state(trial: _Trial) -> None:
    stage = trial.build().train()
    stage.prepare(trial.x(16))
    disturb(stage)
    trial.maps(stage, trial.x())  # running statistics, if it keeps any
    x = trial.x(2)
    check_saving(stage.eval(), trial.build, lambda fresh: trial.maps(fresh, x))


CHECKS = (
    _check_shapes, _check_training, _check_halves, _check_types, _check_prepare, _check_state, _check_level,
    _check_as_trained,
)  # fmt: skip
"""For each posterior that the stage can give."""


def _check_sigmoid(trial: _Trial) -> None:
    asked = replace(trial, place=replace(trial.place, output="sigmoid"))
    stage = asked.build().eval()
    with torch.no_grad():
        for parameter in stage.decoder.parameters():
            parameter.mul_(10)  # far enough that only a bound keeps the pixels in
        x_hat = stage.decode(10 * torch.randn(8, *stage.code_shape))
    low, high = x_hat.min().item(), x_hat.max().item()
    require(low >= 0 and high <= 1, trial.part, f'output="sigmoid" decodes to [{low:.3g}, {high:.3g}], not into [0, 1]')


def _check_sizes(trial: _Trial) -> None:
    stage = trial.build().eval()
    if len(stage.code_shape) != 3:
        return  # the claim is of maps: a vector has no size to follow
    (channels, height, width), (features, rows, columns) = stage.input_shape, stage.code_shape
    for tall, wide in ((2, 1), (2, 3), (1, 1)):
        x = inputs((channels, tall * height, wide * width), 2, pixels=trial.place.pixels)
        code = (features, tall * rows, wide * columns)
        _require_maps(trial, stage, x, note=" (any_size is claimed)", code_shape=code)


@torch.no_grad()
def _check_compile(trial: _Trial) -> None:
    stage, x = trial.build().eval(), trial.x(2)
    torch.compiler.reset()
    with during(trial.part, "torch.compile(fullgraph=True) (compilable is claimed)"):
        compiled = torch.compile(trial.maps, fullgraph=True, backend="eager")(stage, x)
    torch.compiler.reset()
    _require_same(trial, compiled, trial.maps(stage, x), "torch.compile")


class _Encode(nn.Module):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor) -> Tensor:
        return self.stage.encode(x).mean


class _Decode(_Encode):
    def forward(self, x: Tensor) -> Tensor:
        return self.stage.decode(x)


@torch.no_grad()
def _check_export(trial: _Trial) -> None:
    stage, x = trial.build().eval(), trial.x(2)
    mean, *_, x_hat = trial.maps(stage, x)
    with during(trial.part, "torch.export (exportable is claimed)"):
        encode = torch.export.export(_Encode(stage).eval(), (x,), strict=False).module()
        decode = torch.export.export(_Decode(stage).eval(), (mean,), strict=False).module()
        exported = (encode(x), decode(mean))
    _require_same(trial, exported, (mean, x_hat), "torch.export")


def _require_same(trial: _Trial, given: Sequence[Tensor], wanted: Sequence[Tensor], how: str) -> None:
    same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(given, wanted, strict=True))
    require(same, trial.part, f"{how} computes something else than the stage itself")
