"""The variational ladder autoencoder as a stage: a code of rungs, one for every depth of the network."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zoo.errors import SpecError
from zoo.interfaces import Place, Stage
from zoo.outputs import probability
from zoo.posterior import Posterior
from zoo_vlae.ladder import LadderDecoder, LadderEncoder, Merge
from zoo_vlae.layers import Layers, Norm, PaperLayers, SeluLayers
from zoo_vlae.steps import paper_steps, selu_steps, shared_out

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.interfaces import Shape
    from zoo_vlae.steps import Map

Style = Literal["paper", "selu"]
Order = Literal["matching", "inverted"]

MOST_RUNGS = 64


class VariationalLadder(Stage):
    """A ladder: ``vlae4x16`` codes its input as 4 rungs of 16 numbers, each read at, and put back at, its own depth.

    With h_0 = x, rung l says (mean_l, logvar_l) = ladder_l(h_l), and h_{l+1} = inference_l(h_l). Back, the deepest rung
    comes first and each one joins where the trunk has its depth, the shallowest before the last steps to the image:
    s_l = f_l(s_{l+1} joined with v_l(z_l)). What a few layers can say of the image ends up in the shallow rungs, what
    takes many in the deep ones. Numbers and options: docs/ladder.md.

    Args:
        place: where it stands; any image or map, or a vector, for which all steps are dense.
        style: ``paper`` (4x4 convolutions of stride 2, then dense layers) or ``selu`` (self-normalising, convolutions
            without padding, alpha dropout).
        merge: how a rung joins the deeper ones: ``add``, ``concat``, or ``gated``, which adds it times a learned gate.
        order: ``inverted`` takes the shallow rung first in the decoder, a slip that was published; for comparisons.
        width: channels after the first step; they double with every step, to eight times this at most. Where not given,
            32 in the paper's style, half of what was published, and 16 in the other, as published.
        hidden: width of dense layers. Where not given, 512 on images and 256 on codes in the paper's style, half of
            what was published, and a rung's own in the other, at least 16.
        norm: of the paper's style: ``layer``, ``batch`` as published, or ``none``.
        dropout: of the SELU style, 0.1 where not given.
        overcomplete: allow a code with more numbers than its input.
    """

    source: ClassVar[str] = (
        "Zhao, Song and Ermon (2017), Learning Hierarchical Features from Generative Models, arXiv:1702.08396. "
        "SELU and alpha dropout: Klambauer et al. (2017), arXiv:1706.02515."
    )
    exportable: ClassVar[bool] = True
    compilable: ClassVar[bool] = True

    def __init__(
        self,
        place: Place,
        *,
        style: Style = "paper",
        merge: Merge = "gated",
        order: Order = "matching",
        width: int | None = None,
        hidden: int | None = None,
        norm: Norm | None = None,
        dropout: float | None = None,
        overcomplete: bool = False,
    ) -> None:
        code = _checked_code(place, overcomplete=overcomplete)
        super().__init__(place, code)
        _check_options(style, width=width, hidden=hidden, norm=norm, dropout=dropout)
        self.order: Order = order
        self.inputs: Map = _as_map(place.input_shape)
        if style == "paper":
            self.width, self.hidden = width or 32, hidden or (512 if place.pixels else 256)
            self.norm: Norm = norm or "layer"
            layers: Layers = PaperLayers(self.norm)
            steps = paper_steps(self.inputs, code[0], self.width, self.hidden)
        else:
            self.width, self.hidden = width or 16, hidden or max(16, code[1])
            self.dropout = 0.1 if dropout is None else dropout
            layers = SeluLayers(self.hidden, self.dropout)
            steps = selu_steps(self.inputs, code[0], self.width, self.hidden)
        runs = shared_out(steps, code[0])
        maps = tuple(run[-1].outputs for run in runs)
        self.maps: tuple[Map, ...] = maps[::-1] if order == "inverted" else maps
        self.encoder: nn.Module = LadderEncoder(runs, code[1], layers, gaussian=place.posterior == "gaussian")
        self.decoder: nn.Module = LadderDecoder(runs, code[1], layers, merge)

    @property
    def rungs(self) -> int:
        """How many there are. The first, ``z[:, 0]``, is the shallowest; rung ``n`` is ``z[:, n - 1]``.

        ``maps[n - 1]`` is the shape, (C, H, W), at which rung ``n`` enters the decoder.
        """
        return self.code_shape[0]

    def encode(self, x: Tensor) -> Posterior:
        """(B, *input), images in [0, 1] or unit-scale codes, to a posterior over (B, rungs, width)."""
        self.check_input(x)
        x = x * 2 - 1 if self.place.pixels else x
        return Posterior(*self.encoder(x.reshape(len(x), *self.inputs)))

    def decode(self, z: Tensor) -> Tensor:
        """(B, rungs, width) to (B, *input); pixels in [0, 1], codes unbounded."""
        y: Tensor = self.decoder(z.flip(1) if self.order == "inverted" else z)
        y = y.reshape(len(z), *self.input_shape)
        return probability(y) if self.place.pixels else y  # both sources bound their pixels


def _checked_code(place: Place, *, overcomplete: bool) -> tuple[int, int]:
    code = place.code_shape
    if code is None or len(code) != 2:
        raise SpecError("vlae wants the rungs of its code and the width of each, as in vlae4x16")
    if code[0] > MOST_RUNGS:
        raise SpecError(f"{code[0]} rungs: a ladder has {MOST_RUNGS} at the most")
    numbers, inputs = prod(code), prod(place.input_shape)
    if numbers > inputs and not overcomplete:
        raise SpecError(
            f"a code of {numbers} numbers is larger than its input of {inputs}; if you mean it, say overcomplete=true"
        )
    return code[0], code[1]


def _check_options(style: Style, **options: Any) -> None:
    for name in ("width", "hidden"):
        if options[name] is not None and options[name] < 1:
            raise SpecError(f"{name} is at least 1")
    alien, owner = ("dropout", "selu") if style == "paper" else ("norm", "paper")
    if options[alien] is not None:
        raise SpecError(f"{alien} belongs to style={owner}")
    if options["dropout"] is not None and not 0 <= options["dropout"] < 1:
        raise SpecError("dropout is at least 0 and below 1")


def _as_map(shape: Shape) -> Map:
    """A map as it is; anything else as one pixel of as many channels as it has numbers."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (prod(shape), 1, 1)
