"""Settings of a synthetic set, and its clips before any pixel: label, content, mode, group, seed of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator, SeedSequence

from flowkit.errors import InvalidParameterError
from flowkit.validate import check_choice, check_range, check_that

APPEARANCES = ("disc", "square", "triangle", "cross", "ring", "star", "bar", "crescent")
MOTIONS = ("sideways", "down", "spin", "pulse", "up", "shake", "circle", "bob")
MODES = ("clean", "rgb_unreliable", "flow_unreliable")
CLASSES_FROM = ("both", "product")
RELIABILITIES = ("none", "noise", "conflict")
CUES = ("cross", "own", "none")
SUFFIXES = {"mpeg4": ".avi", "mjpeg": ".avi", "h264": ".mp4"}

SCRAMBLED = "scrambled"
JOLTS = "jolts"

Signal = Literal["", "mark", "motion"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthConfig:
    """Settings of a synthetic labelled set.

    Parameters
    ----------
    clips
        Clips per label.
    classes
        Number k of appearances and of motions in use, 2 to 8.
    classes_from
        "both": k labels, each determined by its appearance and by its motion alike. "product":
        k * k labels, one for each pair, so that neither modality alone determines the label.
    reliability
        Content of an unreliable modality. "none": every clip is clean. "noise": a scrambled
        appearance, or jolts instead of the motion. "conflict": the signal of another class.
    fractions
        Of clips that are clean, have an unreliable appearance, an unreliable motion; sum 1.
    cue
        Stream that shows which modality is unreliable: "cross", the other one (a patch that moves
        when the appearance is wrong, a mark when the motion is); "own", the unreliable stream
        itself; "none". With a cue, both patches are drawn in every clip, and change only in clips
        with an unreliable modality.
    width, height
        Frame size in pixels, even, 64 to 4096.
    frames
        Frames per clip, at least 2.
    fps
        Frame rate of the files, 1 to 1000.
    groups
        Number of groups for k-fold splits; clip ids carry g01, g02, …
    seed
        Of all random numbers: equal settings give equal frames, whatever the order.
    codec
        "mpeg4" (XviD) or "mjpeg", both in .avi and by OpenCV, or "h264" in .mp4 by PyAV.
    ground_truth
        Write the exact flow of every pair as .flo beside the videos.

    Raises
    ------
    InvalidParameterError
        A value outside its range.
    """

    clips: int = 20
    classes: int = 4
    classes_from: str = "both"
    reliability: str = "none"
    fractions: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)
    cue: str = "none"
    width: int = 64
    height: int = 64
    frames: int = 20
    fps: float = 25.0
    groups: int = 5
    seed: int = 0
    codec: str = "mpeg4"
    ground_truth: bool = False

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_choices(self)
        for name in ("width", "height"):
            pixels = getattr(self, name)
            check_that(name, pixels, pixels % 2 == 0, "even (chroma is stored at half size)")
        check_range("fps", self.fps, 1, 1000)
        _check_fractions(self.fractions)

    @property
    def labels(self) -> list[tuple[str, str]]:
        """Appearance and motion of each label, in the order of the labels."""
        appearances, motions = APPEARANCES[: self.classes], MOTIONS[: self.classes]
        if self.classes_from == "both":
            return list(zip(appearances, motions, strict=True))
        return [(appearance, motion) for appearance in appearances for motion in motions]


def _check_counts(config: SynthConfig) -> None:
    limits = {
        "clips": (1, 999_999),
        "classes": (2, len(APPEARANCES)),
        "width": (64, 4096),
        "height": (64, 4096),
        "frames": (2, 100_000),
        "groups": (1, 99),
        "seed": (0, 2**63 - 1),
    }
    for name, (low, high) in limits.items():
        check_range(name, getattr(config, name), low, high)


def _check_choices(config: SynthConfig) -> None:
    choices = {
        "classes_from": CLASSES_FROM,
        "reliability": RELIABILITIES,
        "cue": CUES,
        "codec": tuple(SUFFIXES),
    }
    for name, supported in choices.items():
        check_choice(name, getattr(config, name), supported)


def _check_fractions(fractions: tuple[float, ...]) -> None:
    # NaN fails `>= 0`.
    valid = len(fractions) == 3 and all(fraction >= 0 for fraction in fractions)
    check_that("fractions", fractions, valid, "three numbers of at least 0")
    if abs(sum(fractions) - 1) > 1e-3:
        raise InvalidParameterError(f"fractions must sum to 1 (within 0.001), got {sum(fractions)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthClip:
    """One clip of a synthetic set: a row of its index.csv.

    Attributes
    ----------
    path
        Path of the video relative to the set, with forward slashes.
    label
        True class, "<appearance>-<motion>".
    appearance, motion
        The label's two parts.
    shown_appearance, shown_motion
        The content: the same in a clean clip, another class's in a conflict, "scrambled" or
        "jolts" in noise.
    mode
        "clean", "rgb_unreliable" or "flow_unreliable".
    cue
        Sign of the mode: "mark" (visible in a single frame), "motion" (visible in the flow) or ""
        (none).
    group
        "g01", "g02", …
    seed
        Seed of this clip's own random numbers.
    """

    path: str
    label: str
    appearance: str
    motion: str
    shown_appearance: str
    shown_motion: str
    mode: str
    cue: Signal
    group: str
    seed: int


def plan_clips(config: SynthConfig) -> list[SynthClip]:
    """Return the clips of a set, label by label.

    Each label has the modes in the fractions of `config.fractions` (by largest remainder).

    Parameters
    ----------
    config
        Settings of the set.

    Returns
    -------
    list of SynthClip
        `config.clips` for each label of `config.labels`.
    """
    return [
        _plan_clip(config, number, index, mode)
        for number in range(len(config.labels))
        for index, mode in enumerate(_modes(config, number))
    ]


def _modes(config: SynthConfig, number: int) -> list[str]:
    """Modes of one label's clips, in random order so that every group gets its part."""
    if config.reliability == "none":
        return ["clean"] * config.clips
    wanted = config.clips * np.array(config.fractions) / sum(config.fractions)
    # Thirds of a multiple of three must not lose one to the last bit.
    counts = np.floor(wanted + 1e-9).astype(int)
    largest_first = np.argsort(counts - wanted, kind="stable")
    counts[largest_first[: config.clips - counts.sum()]] += 1
    modes = np.repeat(MODES, counts)
    return [str(mode) for mode in np.random.default_rng([config.seed, number]).permutation(modes)]


def _plan_clip(config: SynthConfig, number: int, index: int, mode: str) -> SynthClip:
    appearance, motion = config.labels[number]
    # 63 bits: readers of index.csv take whole numbers as int64.
    seed = int(SeedSequence([config.seed, number, index]).generate_state(1, np.uint64)[0]) >> 1
    label = f"{appearance}-{motion}"
    group = f"g{index % config.groups + 1:02d}"
    name = f"{label}_{group}_c{index // config.groups + 1:03d}{SUFFIXES[config.codec]}"
    shown_appearance, shown_motion = _shown(config, number, mode, np.random.default_rng([seed, 0]))
    return SynthClip(
        path=f"{label}/{name}",
        label=label,
        appearance=appearance,
        motion=motion,
        shown_appearance=shown_appearance,
        shown_motion=shown_motion,
        mode=mode,
        cue=_cue(config.cue, mode),
        group=group,
        seed=seed,
    )


def _shown(config: SynthConfig, number: int, mode: str, rng: Generator) -> tuple[str, str]:
    appearance, motion = config.labels[number]
    noise = config.reliability == "noise"
    if mode == "rgb_unreliable":
        appearance = SCRAMBLED if noise else _other(appearance, APPEARANCES[: config.classes], rng)
    elif mode == "flow_unreliable":
        motion = JOLTS if noise else _other(motion, MOTIONS[: config.classes], rng)
    return appearance, motion


def _other(name: str, names: tuple[str, ...], rng: Generator) -> str:
    others = [other for other in names if other != name]
    return others[rng.integers(len(others))]


def _cue(cue: str, mode: str) -> Signal:
    if cue == "none" or mode == "clean":
        return ""
    in_rgb = (mode == "rgb_unreliable") == (cue == "own")
    return "mark" if in_rgb else "motion"
