"""A clip's scene: three layers with known motion, rendered at any frame together with true flow.

The backdrop pans. The sprite moves on a torus: what leaves the frame on one side comes in on the
other, so that a sprite's position says nothing of its motion and it can go on for ever. Two patches
are on the screen itself, above both, where a cue is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from flowkit.synth.motion import Poses, jolts, trajectory
from flowkit.synth.plan import JOLTS, SynthClip, SynthConfig
from flowkit.synth.texture import NOISE_PERIOD_PX, TEXELS_PER_PX, colour, noise, sprite_image
from flowkit.typing import Float32, Float64

BACKDROP, SPRITE, MARK, BEACON = range(4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """A square of the screen, side in px, top left corner at (left, top)."""

    left: int
    top: int
    side: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A clip before it is rendered.

    Attributes
    ----------
    width, height
        Frame size in px.
    pan
        float64 (n, 2), position of the backdrop at each frame, px.
    tint
        Two colour differences of the backdrop, levels.
    sprite
        float32 (S, S, 4), see `sprite_image`.
    start
        float64 (2,), position of the sprite's centre to which `poses.offsets` are added, px.
    poses
        The sprite's transform at each frame.
    mark
        Patch whose appearance is the cue in a single frame, or None; it never moves.
    marked
        The patch shows the cue.
    beacon
        Patch whose motion is the cue in the flow, or None; a single frame looks the same either way.
    scroll
        float64 (n,), displacement of the texture in the beacon, both right and down, px.
    """

    width: int
    height: int
    pan: Float64
    tint: tuple[float, float]
    sprite: Float32
    start: Float64
    poses: Poses
    mark: Patch | None
    marked: bool
    beacon: Patch | None
    scroll: Float64

    def __len__(self) -> int:
        return len(self.pan)

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Render a frame, uint8 RGB (H, W, 3)."""
        image = self._backdrop(index)
        painted = self._painted_sprite(index)
        image += painted[..., 3:] * (painted[..., :3] - image)
        if self.mark is not None:
            image[self.mark.window] = _mark_image(self.mark, self.marked)
        if self.beacon is not None:
            image[self.beacon.window] = self._beacon_image(self.beacon, index)
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)

    def layers(self, index: int) -> NDArray[np.uint8]:
        """Return the layer seen at each pixel, uint8 (H, W): BACKDROP, SPRITE, MARK or BEACON."""
        seen = np.where(self._painted_sprite(index)[..., 3] > 0.5, SPRITE, BACKDROP).astype(np.uint8)
        for patch, layer in ((self.mark, MARK), (self.beacon, BEACON)):
            if patch is not None:
                seen[patch.window] = layer
        return seen

    def flow(self, index: int) -> Float32:
        """Return the motion of each pixel of a frame to the next one.

        Parameters
        ----------
        index
            Frame, 0 to n - 2.

        Returns
        -------
        float32 (2, H, W)
            u (right) then v (down), px: where the point seen at the pixel goes, whether or not it
            is still seen there.
        """
        seen = self.layers(index)
        flow = np.empty((2, self.height, self.width), np.float32)
        flow[:] = (self.pan[index + 1] - self.pan[index])[:, None, None]
        flow = np.where(seen == SPRITE, self._sprite_flow(index), flow)
        flow[:, seen >= MARK] = 0
        flow[:, seen == BEACON] = self.scroll[index + 1] - self.scroll[index]
        return flow

    def _backdrop(self, index: int) -> Float32:
        x, y = _grid(self.width, self.height)
        across, down = np.mod(self.pan[index], NOISE_PERIOD_PX).astype(np.float32)
        grain = noise(x - across, y - down)
        blue, red = (tint + 7 * grain[..., 1] for tint in self.tint)
        return colour(115 + 26 * grain[..., 0], blue, red)

    def _from_centre(self, index: int) -> tuple[Float32, Float32]:
        """Offset of each pixel from the nearest copy of the sprite's centre, px: (1, W) and (H, 1)."""
        x, y = _grid(self.width, self.height)
        centre = self.start + self.poses.offsets[index]
        return _wrapped(x - centre[0], self.width), _wrapped(y - centre[1], self.height)

    def _painted_sprite(self, index: int) -> Float32:
        """Sprite on the frame's pixels, float32 (H, W, 4); opacity 0 outside it."""
        dx, dy = self._from_centre(index)
        size = TEXELS_PER_PX / self.poses.scales[index]
        cos, sin = size * np.cos(self.poses.angles[index]), size * np.sin(self.poses.angles[index])
        middle = (len(self.sprite) - 1) / 2
        columns = (cos * dx + sin * dy + middle).astype(np.float32)
        rows = (cos * dy - sin * dx + middle).astype(np.float32)
        painted = cv2.remap(self.sprite, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(painted, dtype=np.float32)

    def _sprite_flow(self, index: int) -> Float32:
        """Similarity from frame to frame about the sprite's centre, on all pixels."""
        poses, after = self.poses, index + 1
        ratio, turn = poses.scales[after] / poses.scales[index], poses.angles[after] - poses.angles[index]
        cos, sin = ratio * np.cos(turn), ratio * np.sin(turn)
        dx, dy = self._from_centre(index)
        step = poses.offsets[after] - poses.offsets[index]
        u, v = cos * dx - sin * dy - dx + step[0], sin * dx + cos * dy - dy + step[1]
        return np.stack([u, v]).astype(np.float32)

    def _beacon_image(self, patch: Patch, index: int) -> Float32:
        x, y = _grid(patch.side, patch.side)
        shift = np.float32(np.mod(self.scroll[index], NOISE_PERIOD_PX))
        grain = noise(x + 40 - shift, y + 90 - shift)[..., 0]
        return colour(120 + 42 * grain, 0.0, 0.0)


def build_scene(clip: SynthClip, config: SynthConfig) -> Scene:
    """Set up the scene of a clip.

    Parameters
    ----------
    clip
        Its content and seed.
    config
        Settings of its set: size, number of frames, whether patches are drawn.

    Returns
    -------
    Scene
        The same for the same arguments.
    """
    rng = np.random.default_rng([clip.seed, 1])
    unit = min(config.width, config.height) / 64
    cued = config.cue != "none"
    mark, beacon = _patches(config, unit) if cued else (None, None)
    return Scene(
        width=config.width,
        height=config.height,
        pan=_pan(clip, config.frames, unit, rng),
        tint=(rng.uniform(-8, 8), rng.uniform(-8, 8)),
        sprite=sprite_image(clip.shown_appearance, unit * rng.uniform(12.5, 14.5), rng),
        start=rng.uniform(0, 1, 2) * (config.width, config.height),
        poses=trajectory(clip.shown_motion, config.frames, unit=unit, rng=rng),
        mark=mark,
        marked=clip.cue == "mark",
        beacon=beacon,
        scroll=_scroll(config.frames, unit, rng, moving=clip.cue == "motion"),
    )


def _pan(clip: SynthClip, frames: int, unit: float, rng: Generator) -> Float64:
    """Steady slow pan from anywhere; a shaken camera jolts on top of it."""
    angle, pace = rng.uniform(0, 2 * np.pi), unit * rng.uniform(0, 0.5)
    velocity: Float64 = pace * np.array([np.cos(angle), np.sin(angle)])
    pan = rng.uniform(0, NOISE_PERIOD_PX, 2) + np.arange(frames, dtype=np.float64)[:, None] * velocity
    if clip.shown_motion == JOLTS:
        pan = pan + jolts(frames, unit=unit, rng=rng)
    return pan


def _scroll(frames: int, unit: float, rng: Generator, *, moving: bool) -> Float64:
    """Two frames there, two frames back: of mean zero; oblique, unlike every class's motion."""
    phase, start = rng.integers(4), rng.uniform(0, NOISE_PERIOD_PX)
    if not moving:
        return np.full(frames, start)
    back_and_forth: Float64 = np.abs((np.arange(frames) + phase) % 4 - 2.0)
    return start + 1.3 * unit * back_and_forth


def _patches(config: SynthConfig, unit: float) -> tuple[Patch, Patch]:
    inset, side = round(3 * unit), round(12 * unit)
    return (
        Patch(left=inset, top=inset, side=side),
        Patch(left=config.width - inset - side, top=inset, side=side),
    )


def _mark_image(patch: Patch, marked: bool) -> Float32:
    """Black and white checks for an unreliable modality, grey grain otherwise."""
    x, y = _grid(patch.side, patch.side)
    if not marked:
        return colour(120 + 42 * noise(x, y)[..., 0], 0.0, 0.0)
    cell = patch.side / 3
    checks = (np.floor(x / cell) + np.floor(y / cell)) % 2
    return colour((20 + 220 * checks).astype(np.float32), 0.0, 0.0)


def _grid(width: int, height: int) -> tuple[Float32, Float32]:
    """Return x as (1, W) and y as (H, 1), px."""
    return np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]


def _wrapped(offset: Float32 | Float64, period: int) -> Float32:
    """Bring offsets into [-period / 2, period / 2)."""
    return (np.mod(offset + period / 2, period) - period / 2).astype(np.float32)
