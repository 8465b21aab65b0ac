"""The check of a stage passes a good one and tells a broken one what it breaks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import SpecError
from zoo.interfaces import Place, Stage
from zoo.posterior import Posterior
from zoo.testing import ConformanceError, check_stage


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
FLAT = Place((6,), (3,))


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
