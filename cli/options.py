"""Option groups of several commands, and their conversion to the library's types."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeVar, get_args

import click

from flowkit.errors import InvalidParameterError
from flowkit.tvl1.params import (
    DEFAULT_PRESET,
    PRESETS,
    Border,
    Dual,
    DualStart,
    FilterAfter,
    Pyramid,
    TVL1Params,
    resolve_params,
)

if TYPE_CHECKING:
    from flowkit.extraction.lists import ListEntry
    from flowkit.resize_rule import ResizeRule


class StorePath(click.Path):
    """A store to read: a path, or an address of fsspec."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the address."""
        from flowkit.remote import is_address, locate

        return locate(value) if is_address(value) else super().convert(value, param, ctx)


Function = TypeVar("Function", bound=Callable[..., object])

Options: TypeAlias = dict[str, Any]
"""Values of a command's options, by parameter; each is of the type that click gave it."""

# The --help of each TV-L1 parameter; the dataclass has the ranges.
_TVL1_HELP = {
    "tau": "Step of the dual iteration.",
    "lambda_": "Weight of the data term, for grey values in [0, 255].",
    "theta": "Coupling of the two flows.",
    "nscales": "Most pyramid levels.",
    "scale_step": "Size of a level relative to the one below.",
    "pyramid": "Kind of pyramid.",
    "warps": "Linearisations per level.",
    "iterations": "Most iterations per warp.",
    "epsilon": "Stop a warp below this mean change, px.",
    "check_every": "Iterations between two tests of epsilon.",
    "median": "Side of the median filter; 0 is none.",
    "median_every": "Iterations between two median filters.",
    "bicubic_a": "Parameter of the bicubic kernel.",
    "border": "Beyond the frame: clamp, or data term off.",
    "presmooth_sigma": "Blur of the input, px.",
    "normalize": "Scale both frames jointly to [0, 255].",
    "check_first": "Iterations before one more test; a warp that ends there ends its level.",
    "gradient_taps": "Taps of the central difference.",
    "warp_snap": "Linearise at the whole pixel where the flow is closer to it than this, px.",
    "dual": "Step of the dual variable.",
    "dual_start": "Dual variable at the start of a level: zero, or that of the coarser one.",
    "edge_alpha": "Weaken the smoothness at edges of the image; 0 is nowhere.",
    "edge_beta": "Power of the image's gradient in that weight.",
    "block_epsilon": "A block of 16x16 px that the first test finds still iterates no more, px; 0 is none.",
    "weighted_median": "Side of the weighted median filter; 0 is none.",
    "weighted_median_after": "Filter after each warp, or after a level's last.",
    "weighted_median_spread": "Filter where the flow differs by more than this within the window, px.",
    "weighted_median_grey": "Grey levels at which a neighbour's weight falls off.",
    "weighted_median_px": "Distance at which it does, px.",
}
_CHOICES = {
    "pyramid": get_args(Pyramid),
    "border": get_args(Border),
    "median": (0, 5),
    "gradient_taps": (3, 5),
    "dual": get_args(Dual),
    "dual_start": get_args(DualStart),
    "weighted_median": (0, 5, 7),
    "weighted_median_after": get_args(FilterAfter),
}


def tvl1_options(function: Function) -> Function:
    """Add --preset and one option per TV-L1 parameter."""
    for field in reversed(dataclasses.fields(TVL1Params)):
        flag = "--" + field.name.strip("_").replace("_", "-")
        kind: object = click.Choice(_CHOICES[field.name]) if field.name in _CHOICES else type(field.default)
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
        default=None,
        help="Full set of TV-L1 parameters; the options below replace single values. "
        f"[default: {DEFAULT_PRESET}]",
    )(function)


def take_tvl1_params(options: Options) -> TVL1Params | None:
    """Take --preset and the TV-L1 options out of a command's options; None where none of them is given."""
    names = [field.name for field in dataclasses.fields(TVL1Params)]
    preset, values = options.pop("preset"), {name: options.pop(name) for name in names}
    given = {name: value for name, value in values.items() if value is not None}
    if preset is None and not given:
        return None
    return dataclasses.replace(resolve_params(preset or DEFAULT_PRESET), **given)


def check_tvl1_options(ctx: click.Context) -> None:
    """Check that TV-L1's options are given with --method tvl1 alone.

    Raises
    ------
    InvalidParameterError
        One of them is given, and the method is another, which would ignore it.
    """
    method = ctx.params["method"]
    given = given_flags(ctx, ("preset", *(field.name for field in dataclasses.fields(TVL1Params))))
    if given and method != "tvl1":
        raise InvalidParameterError(
            f"{given[0]} is an option of --method tvl1, got --method {method}; name a preset after a "
            "slash, as in dis/fast or tvl1/fast"
        )


def given_flags(ctx: click.Context, names: Sequence[str]) -> list[str]:
    """Return the flags of those parameters of a command that are given, not left at their defaults."""
    defaults = (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP)
    flags = {parameter.name: parameter.opts[0] for parameter in ctx.command.params}
    return [flags[name] for name in names if ctx.get_parameter_source(name) not in defaults]


def parse_fields(
    _: click.Context, __: click.Parameter, value: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Return (NAME, METHOD) of each `NAME=METHOD` (a click callback)."""
    found = [text.partition("=") for text in value]
    for name, equals, method in found:
        if not (name and equals and method):
            raise click.BadParameter(
                f"{name + equals + method!r} is not NAME=METHOD such as flow_dis=dis/fast"
            )
    return tuple((name, method) for name, _, method in found)


def resize_options(function: Function) -> Function:
    """Add --short-side, --size, --native, --interpolation, --pixels and --scaler."""
    for option in (
        click.option(
            "--scaler",
            type=click.Choice(["swscale", "opencv"]),
            help="swscale: FFmpeg's area filter, from the decoder's planes to RGB of the size in one step; "
            "opencv: RGB first, then OpenCV's. [default: the store's; of a new one swscale, but opencv with "
            "--decoder opencv or --interpolation linear]",
        ),
        click.option(
            "--pixels",
            type=click.Choice(["square", "stored"]),
            help="Of videos whose pixels are not square; square: as players show them; stored: as they are "
            "coded. [default: the store's; of a new one square, but stored with --size]",
        ),
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


def take_resize_rule(options: Options) -> ResizeRule:
    """Take the size options out of a command's options.

    Raises
    ------
    InvalidParameterError
        More than one of them, or a size that is not WxH.
    """
    from flowkit.resize_rule import ResizeRule

    short_side, size, native = (options.pop(name) for name in ("short_side", "size", "native"))
    how = {name: options.pop(name) for name in ("interpolation", "pixels", "scaler")}
    if sum([short_side is not None, size is not None, native]) > 1:
        raise InvalidParameterError("--short-side, --size and --native exclude one another; give one")
    if native:
        return ResizeRule(mode="native", **how)
    if size is not None:
        match = re.fullmatch(r"(\d+)x(\d+)", size)
        if not match:
            raise InvalidParameterError(f"--size must be WxH such as 340x256, got {size!r}")
        return ResizeRule(mode="size", width=int(match[1]), height=int(match[2]), **how)
    return ResizeRule(short_side=short_side or 256, **how)


def parse_bytes(_: click.Context, __: click.Parameter, value: str) -> int:
    """Return the bytes of `500M`, `4G` or `4GiB` (a click callback)."""
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


shard_size_option = click.option(
    "--shard-size",
    "shard_bytes",
    callback=parse_bytes,
    default="4GiB",
    show_default=True,
    help="Beyond it the store is a small master file and shards in its folder, named after it with .shards.",
)


log_file_option = click.option(
    "--log-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append a JSON line for each event: a video begun, stored or failed, with worker, stage and time; a "
    "worker lost, with versions.",
)


def device_options(function: Function) -> Function:
    """Add --device and --threads."""
    threads = click.option(
        "--threads", type=click.IntRange(min=1), help="Threads of torch. [default: torch's]"
    )
    device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
    return device(threads(function))


def compute_options(function: Function) -> Function:
    """Add --device, --threads and --workers."""
    workers = click.option(
        "--workers",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Processes that read ahead.",
    )
    return device_options(workers(function))


def seed_options(function: Function) -> Function:
    """Add --seed and --seeds."""
    count = click.option(
        "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Number of seeds."
    )
    first = click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The first seed."
    )
    return first(count(function))


def read_lines(file: IO[bytes]) -> list[str]:
    """Return the lines of a text file in any of the encodings that flowkit takes."""
    from flowkit.datasets.text import decode_text

    return decode_text(file.read(), source=_name(file)).split("\n")


def _name(file: IO[bytes]) -> str:
    # Streams that replace standard input have no name.
    return str(getattr(file, "name", "standard input"))


def read_classes(file: IO[bytes] | None) -> dict[int, str] | None:
    """Return the class names of a class file by their numbers; None without a file."""
    from flowkit.datasets import parse_classes

    return None if file is None else parse_classes(read_lines(file), source=_name(file))


def read_list(
    file: IO[bytes],
    *,
    classes: dict[int, str] | None,
    is_video: Callable[[str], bool],
    on_note: Callable[[str], None],
    of_folders: bool = False,
    columns: Sequence[str] = (),
) -> list[ListEntry]:
    """Return the entries of a list, of videos or of folders of frames; say what of it was skipped."""
    from flowkit.extraction.lists import parse_list

    found = parse_list(
        read_lines(file),
        source=_name(file),
        classes=classes,
        is_video=is_video,
        of_folders=of_folders,
        columns=columns,
    )
    for note in found.notes:
        on_note(note)
    return list(found.entries)
