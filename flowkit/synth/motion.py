"""Trajectories of a sprite: its pose at each frame, by the class of motion.

Every class is its own mirror image, so that a trainer may flip clips sideways. Sizes and angles
are distributed alike in all classes, positions by `Scene`, so that a single frame shows no class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from flowkit.synth.plan import JOLTS
from flowkit.typing import Float64


@dataclass(frozen=True, kw_only=True, slots=True)
class Poses:
    """Similarity transform of a sprite at each of n frames.

    Attributes
    ----------
    offsets
        float64 (n, 2), x (right) then y (down) in px, from where the sprite starts.
    angles
        float64 (n,), radians, clockwise on the screen.
    scales
        float64 (n,), 1 is the sprite's own size.
    """

    offsets: Float64
    angles: Float64
    scales: Float64


@dataclass(frozen=True, kw_only=True, slots=True)
class _Beat:
    """Variation between clips of one class: pace in units per frame, phase, direction."""

    times: Float64
    pace: float
    phase: float
    way: int

    def cycle(self, period: float) -> Float64:
        """Angle within a cycle of `period` frames, at each frame."""
        return 2 * np.pi / period * self.times + self.phase

    def amplitude(self, period: float) -> float:
        """Amplitude in units whose cycle reaches the pace."""
        return self.pace * period / (2 * np.pi)

    def size(self, angle: Float64) -> Float64:
        """Scale at an angle of the growing and shrinking."""
        return np.asarray(np.exp(0.2 * self.pace * np.sin(angle)), dtype=np.float64)


def _along(x: Float64 | float, y: Float64 | float) -> Float64:
    return np.stack(np.broadcast_arrays(x, y), axis=1).astype(np.float64)


def _sideways(rest: Poses, beat: _Beat) -> Poses:
    return replace(rest, offsets=_along(beat.way * beat.pace * beat.times, 0))


def _down(rest: Poses, beat: _Beat) -> Poses:
    return replace(rest, offsets=_along(0, beat.pace * beat.times))


def _up(rest: Poses, beat: _Beat) -> Poses:
    return replace(rest, offsets=_along(0, -beat.pace * beat.times))


def _spin(rest: Poses, beat: _Beat) -> Poses:
    return replace(rest, angles=rest.angles + beat.way * 0.11 * beat.pace * beat.times)


def _pulse(rest: Poses, beat: _Beat) -> Poses:
    return replace(rest, scales=beat.size(beat.cycle(12)))


def _shake(rest: Poses, beat: _Beat) -> Poses:
    return replace(rest, offsets=_along(1.3 * beat.amplitude(6) * np.sin(beat.cycle(6)), 0))


def _bob(rest: Poses, beat: _Beat) -> Poses:
    return replace(rest, offsets=_along(0, 1.3 * beat.amplitude(6) * np.sin(beat.cycle(6))))


def _circle(rest: Poses, beat: _Beat) -> Poses:
    angle, radius = beat.cycle(14), beat.amplitude(14)
    return replace(rest, offsets=_along(beat.way * radius * np.cos(angle), radius * np.sin(angle)))


_TRAJECTORIES: dict[str, Callable[[Poses, _Beat], Poses]] = {
    "sideways": _sideways,
    "down": _down,
    "spin": _spin,
    "pulse": _pulse,
    "up": _up,
    "shake": _shake,
    "circle": _circle,
    "bob": _bob,
}


def trajectory(motion: str, frames: int, *, unit: float, rng: Generator) -> Poses:
    """Return the poses of a sprite over a clip.

    Parameters
    ----------
    motion
        A name of `MOTIONS`, or "jolts": an independent random position at each frame, which shows
        no class.
    frames
        Number of frames n.
    unit
        Px per 1/64 of the frame's short side: paces grow with the image.
    rng
        Draws pace (1.2 to 1.8 units per frame), phase, angle and direction.

    Returns
    -------
    Poses
        Of n frames.
    """
    times = np.arange(frames, dtype=np.float64)
    beat = _Beat(
        times=times,
        pace=rng.uniform(1.2, 1.8),
        phase=rng.uniform(0, 2 * np.pi),
        way=int(rng.choice((-1, 1))),
    )
    rest = Poses(
        offsets=np.zeros((frames, 2)),
        angles=np.full(frames, rng.uniform(0, 2 * np.pi)),
        scales=beat.size(np.full(frames, beat.phase)),
    )
    if motion == JOLTS:
        return replace(rest, offsets=jolts(frames, unit=unit, rng=rng))
    poses = _TRAJECTORIES[motion](rest, beat)
    return replace(poses, offsets=unit * poses.offsets)


def jolts(frames: int, *, unit: float, rng: Generator) -> Float64:
    """Return independent positions, float64 (frames, 2) in px, within 1.8 units of the origin."""
    return unit * rng.uniform(-1.8, 1.8, (frames, 2))
