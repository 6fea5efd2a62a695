"""TV-L1 parameters: one frozen dataclass, six presets, validation.

The names are stored in every file, so they stay. Symbols follow Sánchez,
Meinhardt-Llopis, Facciolo, "TV-L1 Optical Flow Estimation", IPOL 2013
(doi 10.5201/ipol.2013.26), section 3.
"""

from __future__ import annotations

import dataclasses
import json
import math
from types import MappingProxyType
from typing import Literal, get_args

from flowkit.errors import InvalidParameterError
from flowkit.validate import (
    check_at_least,
    check_choice,
    check_integer,
    check_positive,
    check_range,
    check_that,
)

Pyramid = Literal["resize", "pyrdown", "gaussian"]
Border = Literal["clamp", "off"]
Dual = Literal["semi-implicit", "projected"]
DualStart = Literal["zero", "coarser"]
FilterAfter = Literal["warp", "level"]

MIN_LEVEL_SIDE_PX = 16
"""A pyramid level with a shorter side is not made (OpenCV's rule, CPU and CUDA)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TVL1Params:
    """Parameters of TV-L1.

    Parameters
    ----------
    tau : float
        Step of the dual iteration, in (0, 0.25]: the scheme converges up to 1/4
        (Chambolle 2004, in two dimensions the practical bound).
    lambda_ : float
        Weight of the data term, > 0, for grey values in [0, 255].
    theta : float
        Coupling of u and v: |u - v|^2 / (2 theta), > 0.
    nscales : int
        Most pyramid levels, >= 1; small frames get fewer.
    scale_step : float
        Size of a level relative to the one below it, in (0, 1).
    pyramid : {"resize", "pyrdown", "gaussian"}
        Bilinear resize with half-pixel centres; 5x5 Gaussian and every second pixel
        (scale_step must be 0.5); Gaussian blur and bicubic zoom (IPOL).
    warps : int
        Linearisations per level, >= 1.
    iterations : int
        Most dual iterations per warp, >= 1.
    epsilon : float
        A warp ends when sum |du|^2 <= epsilon^2 * area; px; 0 never stops early.
    check_every : int
        Iterations between two tests of that rule, >= 1.
    check_first : int
        Iterations before one more test, >= 0; 0 is none. A warp that ends there ends its level:
        still content costs two iterations a level.
    median : {0, 5}
        Side of the median filter on u; 0 is none.
    median_every : int
        Iterations between two median filters, >= 1; the first comes before iteration 0.
    bicubic_a : float
        Keys' parameter of the warp's bicubic kernel, in [-1, 0].
    border : {"clamp", "off"}
        Where a warped position leaves the frame: clamp it, or switch the data term off.
    presmooth_sigma : float
        Gaussian blur of the input, px; 0 is none.
    normalize : bool
        Scale both frames jointly to [0, 255] first (IPOL section 4).
    gradient_taps : {3, 5}
        Central difference of I1: (-1, 0, 1)/2, or (1, -8, 0, 8, -1)/12 (Wedel et al. 2009), which
        is exact for fine texture too.
    warp_snap : float
        Linearise at the whole pixel where a component of u is closer to it than this, px, in
        [0, .5]: another point of the same model, and still content needs no interpolation.
    dual : {"semi-implicit", "projected"}
        Step of p: Chambolle 2004, equation 9; or (p + tau/theta grad u) projected to |p| <= w
        (Chambolle 2005), w being 1 or the edge weight.
    dual_start : {"zero", "coarser"}
        What p is at the start of a level: zero, or that of the coarser level, which spreads the
        flow in a few iterations where zero takes many.
    edge_alpha, edge_beta : float
        Weight of the total variation, w = exp(-alpha (|grad G I0| / 255)^beta), G a Gaussian of
        .8 px, at least .001 (Werlberger et al. 2009): flow breaks where the image does. alpha in
        [0, 1000], 0 is w = 1, others need dual="projected"; beta in [0.5, 4].
    block_epsilon : float
        A block of 16x16 px (fewer at the right and at the bottom) is still when the iteration that
        `check_first` tests changes it by sum |du|^2 <= block_epsilon^2 * area, and the warp goes on:
        it iterates no more on its level. px, in [0, 1/16]; 0 is none. With epsilon 0 nothing is tested.
    weighted_median : {0, 5, 7}
        Side of the weighted median of u, px; 0 is none. Neighbours weigh
        exp(-(dI0 / grey)^2 / 2 - (distance / px)^2 / 2) (Sun, Roth, Black 2010, equation 11).
    weighted_median_after : {"warp", "level"}
        Filter after each warp of a level, or after its last.
    weighted_median_spread : float
        Filter only where a component of u differs by more than this within the window; px, >= 0.
    weighted_median_grey : float
        Grey levels at which a neighbour's weight falls off, in [0.01, 1e6].
    weighted_median_px : float
        Distance at which it does, px, in [0.01, 1e6].

    Raises
    ------
    InvalidParameterError
        A value outside its range; the message names it.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    nscales: int = 5
    scale_step: float = 0.8
    pyramid: Pyramid = "resize"
    warps: int = 5
    iterations: int = 300
    epsilon: float = 0.01
    check_every: int = 10
    median: Literal[0, 5] = 0
    median_every: int = 30
    bicubic_a: float = -0.5
    border: Border = "clamp"
    presmooth_sigma: float = 0.0
    normalize: bool = False
    check_first: int = 2
    gradient_taps: Literal[3, 5] = 3
    warp_snap: float = 0.0
    dual: Dual = "semi-implicit"
    dual_start: DualStart = "zero"
    edge_alpha: float = 0.0
    edge_beta: float = 0.8
    weighted_median: Literal[0, 5, 7] = 0
    weighted_median_after: FilterAfter = "warp"
    weighted_median_spread: float = 0.0
    weighted_median_grey: float = 7.0
    weighted_median_px: float = 3.0
    block_epsilon: float = 0.0

    def __post_init__(self) -> None:
        """Check every value; the solvers trust it afterwards."""
        self._check_types()
        check_range("tau", self.tau, 0, 0.25, bounds="(]")
        check_positive("lambda_", self.lambda_)
        check_positive("theta", self.theta)
        check_range("scale_step", self.scale_step, 0, 1, bounds="()")
        for name in ("nscales", "warps", "iterations", "check_every", "median_every"):
            check_integer(name, getattr(self, name), 1)
        check_at_least("epsilon", self.epsilon, 0, unit="px")
        check_choice("median", self.median, (0, 5))
        check_range("bicubic_a", self.bicubic_a, -1, 0)
        check_at_least("presmooth_sigma", self.presmooth_sigma, 0, unit="px")
        check_choice("pyramid", self.pyramid, get_args(Pyramid))
        check_choice("border", self.border, get_args(Border))
        self._check_model()
        if self.pyramid == "pyrdown":
            halves = self.scale_step == 0.5
            check_that("scale_step", self.scale_step, halves, "0.5 with pyramid='pyrdown'")

    def _check_model(self) -> None:
        """Check what the published model has not."""
        check_integer("check_first", self.check_first, 0)
        check_choice("gradient_taps", self.gradient_taps, (3, 5))
        check_range("warp_snap", self.warp_snap, 0, 0.5, unit="px")
        check_choice("dual", self.dual, get_args(Dual))
        check_choice("dual_start", self.dual_start, get_args(DualStart))
        check_range("edge_alpha", self.edge_alpha, 0, 1000)
        projected = self.edge_alpha == 0 or self.dual == "projected"
        check_that("edge_alpha", self.edge_alpha, projected, "0 with dual='semi-implicit'")
        # The engines sum up to 1 px^2 a pixel: a block with more is not still up to here.
        check_range("block_epsilon", self.block_epsilon, 0, 1 / 16, unit="px")
        check_choice("weighted_median", self.weighted_median, (0, 5, 7))
        check_choice("weighted_median_after", self.weighted_median_after, get_args(FilterAfter))
        check_at_least("weighted_median_spread", self.weighted_median_spread, 0, unit="px")
        # Near 0 the power makes an edge of a rounding; the weights are of single precision.
        check_range("edge_beta", self.edge_beta, 0.5, 4)
        check_range("weighted_median_grey", self.weighted_median_grey, 0.01, 1e6)
        check_range("weighted_median_px", self.weighted_median_px, 0.01, 1e6, unit="px")

    def _check_types(self) -> None:
        for field in dataclasses.fields(self):
            value, default = getattr(self, field.name), field.default
            boolean = isinstance(default, bool)
            wanted = "True or False" if boolean else "neither True nor False"
            check_that(field.name, value, isinstance(value, bool) == boolean, wanted)
            if isinstance(default, float):
                finite = isinstance(value, (int, float)) and math.isfinite(value)
                check_that(field.name, value, finite, "a finite number")
                object.__setattr__(self, field.name, float(value))
            elif isinstance(default, int):
                check_that(field.name, value, isinstance(value, int), "an integer")

    def to_json(self) -> str:
        """Return the parameters as the JSON object that the store keeps (keys sorted).

        Those at which earlier versions stood are left out, so that equal settings are equal text.
        """
        values = dataclasses.asdict(self)
        kept = {name: value for name, value in values.items() if value != _EARLIER.get(name)}
        return json.dumps(kept, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> TVL1Params:
        """Return the parameters that a store keeps.

        Raises
        ------
        InvalidParameterError
            They are not those of this version, or a value is outside its range.
        """
        values, known = json.loads(text), {field.name for field in dataclasses.fields(cls)}
        if isinstance(values, dict):
            values = {**_EARLIER, **values}
        if not isinstance(values, dict) or values.keys() != known:
            raise InvalidParameterError(
                f"TV-L1 parameters must be an object of {', '.join(sorted(known))}, got {text!r}"
            )
        return cls(**values)


# What the first version computed, which had none of these: its stores go on as they began.
_EARLIER = {
    "check_first": 0,
    "gradient_taps": 3,
    "warp_snap": 0.0,
    "dual": "semi-implicit",
    "dual_start": "zero",
    "edge_alpha": 0.0,
    "edge_beta": 0.8,
    "weighted_median": 0,
    "weighted_median_after": "warp",
    "weighted_median_spread": 0.0,
    "weighted_median_grey": 7.0,
    "weighted_median_px": 3.0,
    "block_epsilon": 0.0,
}

_OPENCV_CUDA = TVL1Params()
_OURS = TVL1Params(
    lambda_=0.18,
    nscales=100,
    bicubic_a=-0.75,
    border="off",
    gradient_taps=5,
    warp_snap=0.0625,
    dual="projected",
    dual_start="coarser",
    edge_alpha=3.0,
)

PRESETS = MappingProxyType(
    {
        # OpenCV >= 3, cudaoptflow/src/tvl1flow.cpp: denseflow and mmaction2 call it.
        "opencv-cuda": _OPENCV_CUDA,
        # OpenCV 2.4 gpu/src/tvl1flow.cpp, which TSN's own build pins: pyrDown levels.
        "tsn": dataclasses.replace(_OPENCV_CUDA, pyramid="pyrdown", scale_step=0.5),
        # OpenCV contrib optflow/src/tvl1flow.cpp, DualTVL1 defaults (inner 30 x outer 10).
        "opencv-cpu": dataclasses.replace(_OPENCV_CUDA, median=5, bicubic_a=-0.75, border="off"),
        # IPOL 2013.26, the authors' code: nscales by size, joint normalisation, sigma .8.
        "ipol": TVL1Params(
            nscales=100,
            scale_step=0.5,
            pyramid="gaussian",
            border="off",
            presmooth_sigma=0.8,
            normalize=True,
        ),
        # Our own: levels down to 16 px for large motion, the model of docs/numerics.md ("Our own
        # presets"), and as many warps and filters as time allows.
        "accurate": dataclasses.replace(
            _OURS,
            warps=5,
            iterations=20,
            epsilon=0.005,
            weighted_median=7,
            weighted_median_spread=0.05,
            block_epsilon=0.007,
        ),
        "fast": dataclasses.replace(
            _OURS,
            scale_step=0.75,
            warps=2,
            iterations=12,
            check_every=12,
            epsilon=0.013,
            weighted_median=5,
            weighted_median_after="level",
            weighted_median_spread=0.15,
            weighted_median_grey=10.0,
            block_epsilon=0.013,
        ),
    }
)
"""The named presets; each is a full set, and any value of it can be replaced."""

_FIRST_OURS = TVL1Params(nscales=100, bicubic_a=-0.6, border="off", check_first=0)
FIRST_PRESETS = {
    "accurate": dataclasses.replace(_FIRST_OURS, warps=10, iterations=30, epsilon=0.005),
    "fast": dataclasses.replace(_FIRST_OURS, scale_step=0.75, warps=2, epsilon=0.013),
}
"""Our own presets as the first version had them, by whose names its stores go on."""

NUMERICS_REVISION = 1
"""Raised whenever an engine of ours computes another flow from the same parameters, beyond rounding: a
store keeps it, and another revision does not go on with its work."""

DEFAULT_PRESET = "fast"
"""Preset of every command and function that is given none."""


def resolve_params(params: TVL1Params | str) -> TVL1Params:
    """Return the parameters of a preset's name, or `params` itself.

    Raises
    ------
    InvalidParameterError
        No preset has this name.
    """
    if isinstance(params, TVL1Params):
        return params
    check_choice("preset", params, PRESETS)
    return PRESETS[params]


def preset_of(params: TVL1Params) -> str:
    """Return the name of the preset that `params` are, now or in the first version, or "custom"."""
    names = (name for name, preset in PRESETS.items() if params in (preset, _first_version(name)))
    return next(names, "custom")


def _first_version(preset: str) -> TVL1Params:
    return FIRST_PRESETS.get(preset, dataclasses.replace(PRESETS[preset], check_first=0))
