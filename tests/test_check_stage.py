"""The check of a stage passes a good one and tells a broken one what it breaks."""

from __future__ import annotations

import math
import sys
from types import MappingProxyType
from typing import Literal

import pytest
import torch
from torch import nn

from zoo.errors import SpecError
from zoo.interfaces import Phase, Place, Stage
from zoo.posterior import Posterior
from zoo.testing import ConformanceError, check_stage

FLAT = Place((6,), (3,))


class Linear(Stage):
    """A good stage, small enough to break in many ways."""

    source = "Nobody (2020). A test."
    exportable = compilable = True

    def __init__(self, place, *, bias: bool = True):
        super().__init__(place, place.code_shape)
        size, code = place.input_shape[0], place.code_shape[0]
        self.encoder = nn.ModuleDict({"mean": nn.Linear(size, code, bias), "logvar": nn.Linear(size, code)})
        if place.posterior == "point":
            del self.encoder["logvar"]
        self.decoder = nn.Linear(code, size)

    def encode(self, x):
        logvar = self.encoder["logvar"](x) if self.place.posterior == "gaussian" else None
        return Posterior(self.encoder["mean"](x), logvar)

    def decode(self, z):
        x_hat = self.decoder(z)
        return x_hat.sigmoid() if self.place.output == "sigmoid" else x_hat


class NoSource(Linear):
    source = " "


class NoSuchPositional(Linear):
    positional = "weight"


class PositionalOption(Linear):
    def __init__(self, place, bias: bool = True):
        super().__init__(place)


class OptionWithoutDefault(Linear):
    def __init__(self, place, *, bias: bool):
        super().__init__(place)


class WithoutPlace(Linear):
    def __init__(self):
        super().__init__(FLAT)


class EmptyDefault(Linear):
    def __init__(self, place, *, hidden: tuple[int, ...] = ()):
        super().__init__(place)


class EndlessDefault(Linear):
    def __init__(self, place, *, limit: float = math.inf):
        super().__init__(place)


class HugeDefault(Linear):
    def __init__(self, place, *, most: int = sys.maxsize):
        super().__init__(place)


class MisfitDefault(Linear):
    def __init__(self, place, *, width: int = 0.5):
        super().__init__(place)


class ListDefault(Linear):
    def __init__(self, place, *, hidden: tuple[int, ...] = [8]):
        super().__init__(place)


class NoSpecHasIt(Linear):
    def __init__(self, place, *, kind: torch.dtype | None = None):
        super().__init__(place)


class NoKey(Linear):
    def __init__(self, place, *, _width: int = 4):
        super().__init__(place)


class NamesAFile(Linear):
    def __init__(self, place, *, weights: str = "uniform"):
        super().__init__(place)


class HidesTheSource(Linear):
    def __init__(self, place, *, source: str | None = None):
        super().__init__(place)


class HidesTheMode(Linear):
    def __init__(self, place, *, training: bool | None = None):
        super().__init__(place)


class DoubleState(Linear):
    def __init__(self, place, *, bias: bool = True):
        super().__init__(place)
        self.register_buffer("sum", torch.zeros((), dtype=torch.float64))


class Misspelt(Linear):
    def phases(self):
        return (Phase("halves", rates={"encodr": 1.0}), Phase())


class SettledElsewhere(Linear):
    settled = MappingProxyType({"encoder.lin": 0.0})


class SettledBackwards(Linear):
    settled = MappingProxyType({"encoder": -0.1})


class Untrained(Linear):
    def phases(self):
        return ()


class WrongShape(Linear):
    def decode(self, z):
        return super().decode(z)[:, :-1]


class WrongKind(Linear):
    def encode(self, x):
        return Posterior(super().encode(x).mean)


class TensorCode(Linear):
    def encode(self, x):
        return super().encode(x).mean


class Dead(Linear):
    def decode(self, z):
        return self.decoder(z) * 0 + z.sum() * 0


class UnusedLayer(Linear):
    def __init__(self, place, *, bias: bool = True):
        super().__init__(place)
        self.encoder["spare"] = nn.Linear(2, 2)


class CutInput(Linear):
    def encode(self, x):
        return super().encode(x.detach())


class Entangled(Linear):
    def encode(self, x):
        plain = super().encode(x)
        return Posterior(plain.mean + x @ self.decoder.weight, plain.logvar)


class DecoderInEncoder(Linear):
    def __init__(self, place, *, bias: bool = True):
        super().__init__(place)
        self.encoder["last"] = self.decoder
        self.decoder = nn.Identity()

    def decode(self, z):
        return self.encoder["last"](z)


class Noisy(Linear):
    def decode(self, z):
        return super().decode(z) + 1e-3 * torch.randn(len(z), *self.input_shape)


class Counting(Linear):
    def __init__(self, place, *, bias: bool = True):
        super().__init__(place)
        self.register_buffer("seen", torch.zeros(()))

    def encode(self, x):
        self.seen += len(x)
        return super().encode(x)


class BatchDependent(Linear):
    def encode(self, x):
        return super().encode(x - x.mean(0))


class InPlace(Linear):
    def encode(self, x):
        with torch.no_grad():
            x.mul_(2)
        return super().encode(x)


class HiddenState(Linear):
    def __init__(self, place, *, bias: bool = True):
        super().__init__(place)
        self.offset = 0.0

    def prepare(self, x):
        self.offset = float(x.mean())

    def encode(self, x):
        return super().encode(x - self.offset)


class RandomConstant(Linear):
    def __init__(self, place, *, bias: bool = True):
        super().__init__(place)
        self.mixing = torch.randn(place.input_shape[0])

    def encode(self, x):
        return super().encode(x * self.mixing)


class ConstantBuffer(Linear):
    def __init__(self, place, *, bias: bool = True):
        super().__init__(place)
        self.register_buffer("two", torch.tensor(2.0), persistent=False)

    def encode(self, x):
        return super().encode(x * self.two)


class SinglePrecision(Linear):
    def decode(self, z):
        return super().decode(z).float()


class OverConfident(Linear):
    def prepare(self, x):
        with torch.no_grad():
            self.encoder["mean"].weight.div_(x.std(0).mean())


class Unbounded(Linear):
    def decode(self, z):
        return self.decoder(z)


class ClaimsSizes(Linear):
    any_size = True


class GraphBreak(Linear):
    def encode(self, x):
        return super().encode(-x if x.sum() > 1e9 else x)


class NotANumber(Linear):
    def decode(self, z):
        return super().decode(z) / z.abs().sum(1, keepdim=True).round(decimals=-3)


BROKEN_STAGES = {
    NoSource: "source is empty",
    NoSuchPositional: "positional='weight' is no option",
    PositionalOption: "keyword-only",
    OptionWithoutDefault: "a default",
    WithoutPlace: "takes its Place first",
    EmptyDefault: "no spec can write this default: a list holds at least one value",
    EndlessDefault: "no spec can write this default: a number is finite",
    HugeDefault: "no spec can write this default: a whole number has at most 16 digits",
    MisfitDefault: r"no spec can write this default: width wants int, got 0\.5",
    ListDefault: "a list of a spec is a tuple",
    NoSpecHasIt: "a spec gives numbers",
    NoKey: "a key is a letter",
    NamesAFile: "weights names a file that is read once",
    HidesTheSource: "a Stage has an attribute source",
    HidesTheMode: "a Stage has an attribute training",
    DoubleState: "sum is not float32",
    Misspelt: "phase 'halves' trains nothing",
    SettledElsewhere: "settled: no parameter's name begins with 'encoder.lin'",
    SettledBackwards: "settled: the factor of 'encoder' is -0.1, and is 0 or more",
    Untrained: "phases is empty",
    WrongShape: r"decode\(z\).* has shape \(1, 5\), not \(1, 6\)",
    WrongKind: "gives a point where the place asks for gaussian",
    TensorCode: "gives a Tensor, not a Posterior",
    Dead: "no gradient of x_hat reaches encoder.mean.weight",
    UnusedLayer: "no gradient of x_hat reaches encoder.spare.weight, encoder.spare.bias",
    CutInput: "no gradient of x_hat reaches its input",
    Entangled: "encode without its decoder",
    DecoderInEncoder: "decode without its encoder",
    Noisy: "two answers for one input",
    Counting: "in eval mode changes its state: seen",
    BatchDependent: "depends on the others of its batch",
    InPlace: "changes its input in place",
    HiddenState: "state is missing",
    RandomConstant: "state is missing",
    ConstantBuffer: "built on the meta device",
    SinglePrecision: "as a float64 module gives",
    OverConfident: "after prepare on constant inputs.* holds NaN or infinity",
    Unbounded: r"not into \[0, 1\]",
    GraphBreak: "compilable is claimed",
    NotANumber: "holds NaN or infinity",
}


def test_a_good_stage_passes_whatever_posterior_is_asked_for():
    check_stage(Linear, FLAT)
    check_stage(Linear, Place((6,), (3,), pixels=False, posterior="gaussian"), bias=False)


@pytest.mark.parametrize("cls", BROKEN_STAGES)
def test_a_broken_stage_is_told_what_it_breaks(cls):
    with pytest.raises(ConformanceError, match=BROKEN_STAGES[cls]) as caught:
        check_stage(cls, FLAT)
    assert cls.__name__ in str(caught.value)


class Strided(Stage):
    """A map whose claim of any size can be true or false."""

    source = "Nobody (2020). A test."
    any_size = True

    def __init__(self, place, *, honest: bool = True):
        super().__init__(place, place.code_shape)
        if place.posterior == "gaussian":
            raise SpecError("this one gives points only")
        self.encoder, self.decoder = nn.Conv2d(1, 2, 2, 2), nn.ConvTranspose2d(2, 1, 2, 2)
        self.honest = honest

    def encode(self, x):
        mean = self.encoder(x)
        return Posterior(mean if self.honest else mean[:, :, : self.code_shape[1]])

    def decode(self, z):
        x_hat = self.decoder(z)
        return x_hat.sigmoid() if self.place.output == "sigmoid" else x_hat


def test_any_size_is_proven_where_it_is_claimed():
    place = Place((1, 4, 4), (2, 2, 2))
    check_stage(Strided, place)
    with pytest.raises(ConformanceError, match="any_size is claimed"):
        check_stage(Strided, place, honest=False)


def test_a_stage_may_refuse_the_posterior_that_is_not_asked_for_and_only_that():
    with pytest.raises(SpecError, match="points only"):
        check_stage(Strided, Place((1, 4, 4), (2, 2, 2), posterior="gaussian"))


class Viewing(Stage):
    """Goes through vectors, by a function that takes every layout or by one that does not."""

    source = "Nobody (2020). A test."

    def __init__(self, place, *, shaped: Literal["reshape", "view"] = "reshape"):
        super().__init__(place, place.code_shape)
        if place.posterior == "gaussian":
            raise SpecError("this one gives points only")
        self.shaped = shaped
        self.encoder, self.decoder = nn.Linear(48, 8), nn.Linear(8, 48)

    def encode(self, x):
        return Posterior(self.encoder(getattr(x, self.shaped)(len(x), -1)))

    def decode(self, z):
        x_hat = self.decoder(z).unflatten(1, self.input_shape)
        return x_hat.sigmoid() if self.place.output == "sigmoid" else x_hat


def test_maps_are_laid_as_the_trainer_lays_them():
    place = Place((3, 4, 4), (8,))
    check_stage(Viewing, place)
    with pytest.raises(ConformanceError, match=r"a step on cpu, channels last.* raises RuntimeError: view size"):
        check_stage(Viewing, place, shaped="view")


class Elsewhere(Linear):
    """Leaves a constant on the CPU."""

    def encode(self, x):
        plain = super().encode(x)
        return Posterior(plain.mean + torch.ones(3, dtype=x.dtype), plain.logvar)


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="there is no accelerator here")
def test_it_has_to_work_where_it_is_trained():
    check_stage(Linear, FLAT)
    with pytest.raises(ConformanceError, match="channels last"):
        check_stage(Elsewhere, FLAT)


class Laid(Stage):
    """Deviations that one feature has for all of its numbers."""

    source = "Nobody (2020). A test."

    def __init__(self, place, *, noise: Literal["local", "feature", "shared"] = "local"):
        super().__init__(place, place.code_shape)
        code = place.code_shape
        self.noise = noise
        spread = code if noise == "local" else code[:1]
        self.encoder = nn.ModuleDict({"mean": nn.Linear(6, math.prod(code)), "logvar": nn.Linear(6, math.prod(spread))})
        if place.posterior == "point":
            del self.encoder["logvar"]
        self.decoder = nn.Linear(math.prod(code), 6)
        self.spread = spread

    def encode(self, x):
        mean = self.encoder["mean"](x).unflatten(1, self.code_shape)
        if self.place.posterior == "point":
            return Posterior(mean)
        return Posterior(mean, self.encoder["logvar"](x).unflatten(1, self.spread), self.noise)

    def decode(self, z):
        x_hat = self.decoder(z.flatten(1))
        return x_hat.sigmoid() if self.place.output == "sigmoid" else x_hat


def test_a_deviation_by_feature_is_of_maps_and_vectors():
    for code in ((3,), (2, 1, 3)):
        check_stage(Laid, Place((6,), code), noise="feature")
    check_stage(Laid, Place((6,), (2, 3)))
    with pytest.raises(ConformanceError, match=r"of a map .* the mean is \(1, 2, 3\): take 'local'"):
        check_stage(Laid, Place((6,), (2, 3)), noise="feature")


class HalfGrown(Strided):
    """Says what is new at one size alone."""

    def start_growing(self, sizes):
        return [()]


class Overgrown(Strided):
    """Says that something is new which is not there."""

    def start_growing(self, sizes):
        return [(), ("encodr",)]


class StaysGrown(Strided):
    """Keeps what only growing needed."""

    def start_growing(self, sizes):
        self.ways = nn.Linear(2, 2)
        return super().start_growing(sizes)


class FullGrown(Strided):
    """Does not look at how images are shown to it."""

    any_size = False

    def start_growing(self, sizes):
        return [(), ()]

    def decode(self, z):
        return super().decode(z)[:, :, :4, :4] if z.shape[-1] > 1 else super().decode(z).repeat(1, 1, 2, 2)


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (HalfGrown, "new at 1 sizes, not at 2"),
        (Overgrown, "says that encodr is new: no parameter begins so"),
        (StaysGrown, "stop_growing leaves state"),
        (FullGrown, r"while it grows has shape \(2, 1, 4, 4\), not \(2, 1, 2, 2\)"),
    ],
)
def test_growing_is_tried_where_it_is_not_refused(cls, words):
    with pytest.raises(ConformanceError, match=words):
        check_stage(cls, Place((1, 4, 4), (2, 2, 2)))


class Exported(GraphBreak):
    compilable = False


def test_exportable_is_proven_where_it_is_claimed():
    with pytest.raises(ConformanceError, match="exportable is claimed"):
        check_stage(Exported, FLAT)


def test_the_check_leaves_the_random_state_alone_and_refuses_another_kind():
    state = torch.random.get_rng_state()
    check_stage(Linear, FLAT)
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(ConformanceError, match="is not a Stage"):
        check_stage(nn.Linear, FLAT)
