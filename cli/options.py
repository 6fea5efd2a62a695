"""Option groups that commands share, and their translation into the library's dataclasses."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from flowkit.errors import InvalidParameterError
from flowkit.tvl1.params import DEFAULT_PRESET, PRESETS, Border, Pyramid, TVL1Params, resolve_params

if TYPE_CHECKING:
    from flowkit.frames import ResizeRule

Function = TypeVar("Function", bound=Callable[..., Any])

# What each TV-L1 parameter's --help says; the dataclass has the ranges.
_TVL1_HELP = {
    "tau": "Step of the dual iteration.",
    "lambda_": "Weight of the data term, for grey values in [0, 255].",
    "theta": "Coupling of the two flows.",
    "nscales": "Most pyramid levels.",
    "scale_step": "Size of a level relative to the one below.",
    "pyramid": "How levels are made.",
    "warps": "Linearisations per level.",
    "iterations": "Most iterations per warp.",
    "epsilon": "Stop a warp below this mean change, px.",
    "check_every": "Iterations between two tests of epsilon.",
    "median": "Side of the median filter; 0 is none.",
    "median_every": "Iterations between two median filters.",
    "bicubic_a": "Parameter of the bicubic kernel.",
    "border": "Beyond the frame: clamp, or data term off.",
    "presmooth_sigma": "Blur of the input, px.",
    "normalize": "Stretch both frames jointly to [0, 255].",
}
_CHOICES = {"pyramid": get_args(Pyramid), "border": get_args(Border), "median": (0, 5)}


def tvl1_options(function: Function) -> Function:
    """Add --preset and one option per TV-L1 parameter."""
    for field in reversed(dataclasses.fields(TVL1Params)):
        flag = "--" + field.name.strip("_").replace("_", "-")
        kind: Any = click.Choice(_CHOICES[field.name]) if field.name in _CHOICES else type(field.default)
        if field.name == "normalize":
            flag, kind = "--normalize/--no-normalize", None
        function = click.option(
            flag,
            field.name,
            type=kind,
            default=None,
            help=f"{_TVL1_HELP[field.name]} [default: the preset's]",
        )(function)
    return click.option(
        "--preset",
        type=click.Choice(list(PRESETS)),
        default=DEFAULT_PRESET,
        show_default=True,
        help="Full set of TV-L1 parameters; the options below replace single values.",
    )(function)


def take_tvl1_params(options: dict[str, Any]) -> TVL1Params:
    """Take --preset and the TV-L1 options out of a command's options."""
    params = resolve_params(options.pop("preset"))
    given = {field.name: options.pop(field.name) for field in dataclasses.fields(TVL1Params)}
    return dataclasses.replace(params, **{name: value for name, value in given.items() if value is not None})


def resize_options(function: Function) -> Function:
    """Add --short-side, --size, --native and --interpolation."""
    for option in (
        click.option(
            "--interpolation",
            type=click.Choice(["auto", "linear"]),
            default="auto",
            show_default=True,
            help="auto: area when shrinking, linear when enlarging; linear: always (TSN's way).",
        ),
        click.option("--native", is_flag=True, help="Keep the source's size."),
        click.option(
            "--size", metavar="WxH", help="Exact size; 340x256 is TSN's. Distorts where shapes differ."
        ),
        click.option(
            "--short-side",
            type=click.IntRange(min=1),
            metavar="N",
            help="Shrink until the shorter side is N pixels; never enlarges. [default: 256]",
        ),
    ):
        function = option(function)
    return function


def take_resize_rule(options: dict[str, Any]) -> ResizeRule:
    """Take the size options out of a command's options.

    Raises
    ------
    InvalidParameterError
        More than one of them, or a size that is not WxH.
    """
    from flowkit.frames import ResizeRule

    short_side, size, native = (options.pop(name) for name in ("short_side", "size", "native"))
    interpolation = options.pop("interpolation")
    if sum([short_side is not None, size is not None, native]) > 1:
        raise InvalidParameterError("--short-side, --size and --native exclude one another; give one")
    if native:
        return ResizeRule(mode="native", interpolation=interpolation)
    if size is not None:
        match = re.fullmatch(r"(\d+)x(\d+)", size)
        if not match:
            raise InvalidParameterError(f"--size must be WxH such as 340x256, got {size!r}")
        return ResizeRule(mode="size", width=int(match[1]), height=int(match[2]), interpolation=interpolation)
    return ResizeRule(short_side=short_side or 256, interpolation=interpolation)


def parse_bytes(_: click.Context, __: click.Parameter, value: str) -> int:
    """Return the number of bytes that `500M`, `4G` or `4GiB` means (a click callback)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", value.strip(), re.IGNORECASE)
    if not match:
        raise click.BadParameter(f"{value!r} is not a size such as 500M or 4G")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def parse_gpus(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    """Return the GPUs that `0,1` names; `all` is the empty tuple (a click callback)."""
    if value == "all":
        return ()
    if not re.fullmatch(r"\d+(,\d+)*", value):
        raise click.BadParameter(f"{value!r} is neither `all` nor numbers such as 0,1")
    return tuple(dict.fromkeys(int(number) for number in value.split(",")))


def parse_shard(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, int]:
    """Return (I, N) of `I/N`, counted from 1; (1, 1) is everything (a click callback)."""
    match = re.fullmatch(r"(\d+)/(\d+)", value or "1/1")
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"{value!r} is not I/N with 1 <= I <= N, such as 1/4")
    return int(match[1]), int(match[2])
