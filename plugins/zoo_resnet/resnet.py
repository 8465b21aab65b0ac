"""Any network of timm as the encoder, pretrained or fresh, with a decoder of matching depth."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from zoo.errors import SpecError
from zoo.interfaces import Place, Stage
from zoo.outputs import probability
from zoo.posterior import Noise, Posterior
from zoo_resnet import backbone as networks
from zoo_resnet import regression, transfer
from zoo_resnet import weights as weights_of
from zoo_resnet.halves import BackboneEncoder, PatchEncoder, RisingDecoder
from zoo_resnet.transfer import STEP, Schedule, Tune

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from zoo.interfaces import Shape
    from zoo.phases import Phase

DEFAULT = "resnet18"
Linear = Literal["features", "pixels", "none"]
Scale = tuple[float, ...]
DEEPEST = 3
"""Channels of the decoder double with every step down, so often at most."""


class BackboneAutoencoder(Stage):
    """A network of timm as the encoder: ``resnet8x8x64(backbone=resnet18.a1_in1k, pretrained=true)``.

    Not only ResNets: ConvNeXts, EfficientNets, ViTs, DINOs and most others. The last of the network's levels whose maps
    have the code's size is projected to its channels, and what lies behind it is left out. A saved stage carries its
    weights: loaded, it asks nobody for them again. docs/pretrained-encoders.md.

    Args:
        place: where it stands; the code is a map.
        backbone: a network's name in timm; where not given, the one that ``weights`` says, or resnet18.
        pretrained: with timm's own weights of it, which are downloaded.
        weights: with these: a safetensors file, ``local-dir:FOLDER`` or ``hf-hub:user/name@revision``.
        tune: how the backbone learns: ``all`` with everything else; ``frozen``, not at all; ``unfreeze``, after the
            decoder has learned, the lower a group of its layers the slower; ``gradual``, likewise, and one more group
            every epoch.
        slowest: the learning rate of the backbone's first group as a part of the decoder's; where not given, each group
            learns 2.6 times slower than the one above it.
        decoder_share: with ``unfreeze`` and ``gradual``, the part of the level's budget that the decoder alone has, at
            most; 0.3 where not given.
        patience: likewise, the decoder alone has learned enough when so many of the twenty validations of its phase in
            a row have brought next to nothing; 3 where not given.
        group_epochs: with ``gradual``, epochs before one more group learns; 1 where not given.
        last_share: with ``gradual``, the part of the budget that all together have, at least; 0.3 where not given.
        level: which of the backbone's levels, from 0; where not given, the last whose maps have the code's size.
        stem_stride: of the backbone's first convolution, where it is to be another than its own: 1 for small images.
        zoom: the backbone sees the images so many times as large.
        mean, std: of the images that the backbone has learned from, for all channels or for each; where not given, as
            timm or the weights' own config has them, and 0 and 1 on codes.
        noise: how the deviations are laid over the map, where a regularizer needs them.
        width: channels of the decoder at half the input's size; they double with every step, to eight times this.
        blocks: residual blocks of the decoder at every resolution.
        linear: where training starts: ``features``, from the code that explains most of the pixels of all that are
            linear in the backbone's features; ``pixels``, from the input's principal components, which go past the
            backbone in a linear path of the encoder and leave it the rest; ``none``, from chance.
        overcomplete: allow a code with more numbers than its input.
    """

    source: ClassVar[str] = (
        "Networks: Wightman (2019), PyTorch Image Models, doi:10.5281/zenodo.4414861. Discriminative rates and gradual "
        "unfreezing: Howard and Ruder (2018), arXiv:1801.06146. Linear start: Izenman (1975), Journal of Multivariate "
        "Analysis 5(2). Sub-pixel convolution: Shi et al. (2016), arXiv:1609.05158."
    )
    exportable: ClassVar[bool] = True
    compilable: ClassVar[bool] = True
    any_size: ClassVar[bool] = True

    encoder: BackboneEncoder
    decoder: RisingDecoder

    def __init__(
        self,
        place: Place,
        *,
        backbone: str | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        tune: Tune = "all",
        slowest: float | None = None,
        decoder_share: float | None = None,
        patience: int | None = None,
        group_epochs: int | None = None,
        last_share: float | None = None,
        level: int | None = None,
        stem_stride: int | None = None,
        zoom: float = 1.0,
        mean: float | tuple[float, ...] | None = None,
        std: float | tuple[float, ...] | None = None,
        noise: Noise = "local",
        width: int = 32,
        blocks: int = 1,
        linear: Linear = "features",
        overcomplete: bool = False,
    ) -> None:
        code = _checked_code(place, overcomplete=overcomplete)
        super().__init__(place, code)
        self.factor = _factor(place.input_shape, code)
        _check_numbers(width=width, blocks=blocks, zoom=zoom, slowest=slowest)
        if pretrained and weights is not None:
            raise SpecError("pretrained=true are timm's own weights and weights= others: give one of them")
        kept = None if weights is None else weights_of.look(weights)
        self.backbone = _named(backbone, kept)
        described = networks.described(self.backbone).to_dict() | ({} if kept is None else kept.described)
        self.mean, self.std = (_scale(*given, described, place) for given in (("mean", mean), ("std", std)))
        learned = pretrained or kept is not None
        self.tune: Tune = tune
        self.schedule = transfer.settled(tune, Schedule(decoder_share, patience, group_epochs, last_share))
        self.decoder_share, self.patience = self.schedule.decoder_share, self.schedule.patience
        self.group_epochs, self.last_share = self.schedule.group_epochs, self.schedule.last_share
        seen = Fraction(zoom).limit_denominator(1000) * self.factor
        cut = _built(self.backbone, place, seen, learned=learned, kept=kept, level=level, stem_stride=stem_stride)
        self.level, self.groups = cut.level, cut.groups
        self.slowest = slowest or STEP ** -len(cut.groups)
        spread = noise if place.posterior == "gaussian" else None
        self.noise: Noise = noise
        self.encoder = BackboneEncoder(cut, code[0], mean=self.mean, std=self.std, zoom=zoom, noise=spread)
        if linear == "pixels":
            self.encoder.pass_by(PatchEncoder(place.input_shape[0], code[0], self.factor))
        self.encoder.network.requires_grad_(self.tune != "frozen")
        steps = _steps(self.factor)
        widths = [width * 2 ** min(depth, DEEPEST) for depth in reversed(range(len(steps)))]
        self.decoder = RisingDecoder(
            code[0], place.input_shape, steps, widths=widths, blocks=blocks, linear=linear != "none"
        )

    def encode(self, x: Tensor) -> Posterior:
        """Images (B, C, H, W) in [0, 1], or a unit-scale map, to a posterior over (B, *code)."""
        channels = self.input_shape[0]
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % self.factor or x.shape[3] % self.factor:
            raise SpecError(
                f"this stage takes (B, {channels}, H, W) with H and W multiples of {self.factor}, got {tuple(x.shape)}"
            )
        mean, logvar = self.encoder(x)
        return Posterior(mean, logvar, self.noise)

    def decode(self, z: Tensor) -> Tensor:
        """(B, *code) to (B, C, H, W), pixels about [0, 1] and not clamped."""
        x_hat: Tensor = self.decoder(z)
        if self.place.output == "sigmoid":
            return probability(x_hat)
        return (x_hat + 1) / 2 if self.place.pixels else x_hat

    def prepare(self, x: Tensor) -> None:
        """Start as the best linear maps from the features of x, (N, C, H, W), or x itself, to the code and back."""
        if self.decoder.linear is None:
            return
        target = x * 2 - 1 if self.place.pixels else x
        if self.encoder.linear is not None:
            regression.fit_pixels(self.encoder.linear, self.decoder.linear, x, target)
            return
        network = self.encoder.network
        training = network.training
        # a fresh batch norm knows no statistics but those of its batch
        network.train(self.tune == "all" and networks.is_fresh(network))
        regression.fit_features(self.encoder, self.decoder.linear, x, target)
        network.train(training)

    def phases(self) -> tuple[Phase, ...]:
        """As ``tune`` says."""
        return transfer.phases(self.tune, self.groups, self.slowest, self.schedule)


def _built(
    name: str, place: Place, factor: Fraction, *, learned: bool, kept: weights_of.Place | None,
    level: int | None, stem_stride: int | None,
) -> networks.Backbone:  # fmt: skip
    """The network, cut, with its weights; on ``meta``, where a saved stage is built, they come from elsewhere."""
    channels = _seen(place)
    source = None
    if learned and not torch.empty(0).is_meta:
        source = weights_of.source(kept, networks.described(name).classifier)
    try:
        return networks.build(name, channels, factor, level=level, stem_stride=stem_stride, source=source)
    except SpecError:
        raise
    except Exception as error:  # timm, the Hub and the network below them raise what they like
        if source is None:
            raise
        raise weights_of.refusal(name, kept, error) from error


def _seen(place: Place) -> int:
    """Channels of what the backbone sees: three of one grey, as it was trained to."""
    return 3 if place.pixels and place.input_shape[0] == 1 else place.input_shape[0]


def _named(backbone: str | None, kept: weights_of.Place | None) -> str:
    """The network that is meant, which timm has."""
    said = None if kept is None else kept.backbone
    name = backbone or said or DEFAULT
    networks.check_name(name)
    if said is not None and name.partition(".")[0] != said.partition(".")[0]:
        raise SpecError(f"weights={kept and kept.text!r} are of {said}, not of {name}: leave backbone= out")
    return name


def _scale(option: str, value: float | tuple[float, ...] | None, described: Mapping[str, Any], place: Place) -> Scale:
    """A mean, or a deviation, for each channel that the backbone sees."""
    channels = _seen(place)
    if value is None:
        if not place.pixels:
            return (float(option == "std"),) * channels
        told = tuple(float(number) for number in described[option])
        value = told if len(told) == channels else sum(told) / len(told)
    values = value if isinstance(value, tuple) else (value,) * channels
    plain = all(isinstance(number, int | float) for number in values)
    if len(values) != channels or not plain or (option == "std" and min(values) <= 0):
        raise SpecError(f"{option}={value}: a number, or one for each of {channels} channels, and a std is above 0")
    return tuple(float(number) for number in values)


def _checked_code(place: Place, *, overcomplete: bool) -> Shape:
    code, shape = place.code_shape, place.input_shape
    if code is None or len(code) != 3:
        wide = f"{code[0]}" if code else "512"
        raise SpecError(
            f"resnet codes maps: HxWxC, as in resnet8x8x64; for a vector, resnet1x1x{wide} or a level /fc{wide}"
        )
    if len(shape) != 3:
        raise SpecError(
            f"resnet takes images and maps; its input here has the shape {'x'.join(map(str, shape))}: use fc"
        )
    if prod(code) > prod(shape) and not overcomplete:
        raise SpecError(
            f"a code of {prod(code)} numbers is larger than its input of {prod(shape)}; if you mean it, say "
            "overcomplete=true"
        )
    return code


def _check_numbers(*, width: int, blocks: int, zoom: float, slowest: float | None) -> None:
    if width < 1 or blocks < 0 or zoom <= 0:
        raise SpecError("width is at least 1, blocks at least 0, zoom above 0")
    if slowest is not None and not 0 < slowest <= 1:
        raise SpecError(f"slowest={slowest}: a part of the decoder's rate, above 0 and at most 1")


def _factor(shape: Shape, code: Shape) -> int:
    """How many times smaller than the input a map is, on both sides alike."""
    factor = shape[1] // code[1]
    if factor < 2 or (code[1] * factor, code[2] * factor) != (shape[1], shape[2]):
        raise SpecError(
            f"a map of {code[1]}x{code[2]} is not {shape[1]}x{shape[2]} divided by a whole number from 2, on both "
            "sides the same"
        )
    return factor


def _steps(factor: int) -> list[int]:
    """The prime factors, ascending: the last step up, at the highest resolution, is the big one."""
    primes, prime = [], 2
    while factor > 1:
        while factor % prime == 0:
            primes.append(prime)
            factor //= prime
        prime += 1
    return primes
