"""The clips of a set, before any pixel: label, content, mode, group and seed of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator, SeedSequence

from flowkit.synth.config import APPEARANCES, MODES, MOTIONS, SUFFIXES, SynthConfig

SCRAMBLED = "scrambled"
JOLTS = "jolts"

Signal = Literal["", "mark", "motion"]


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
