"""Make the pairs with exact true flow that presets are tuned and validated on.

Two sources, each split by scene before anything is searched:

- photographs that ship inside scikit-image's wheel. Frame 1 shows a photograph with one or two
  cut-outs of others in front of it. Each layer has its own smooth motion u, and frame 0 takes at x
  the value of its uppermost layer at x + u(x): the truth of frame 0 -> frame 1 is exact, occlusions
  included. Both frames are sampled alike from finer images, so that no interpolation kernel
  is favoured.
- scenes of `flowkit.synth` with their motion scaled.

``python -m benchmarks.tuning_pairs`` lists them with the grey residual that their truth leaves.
Needs scikit-image (0.26 was used).
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from collections.abc import Iterator
from typing import Any, Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from flowkit.frames import to_grey
from flowkit.synth import Scene, SynthConfig, build_scene, plan_clips

Part = Literal["tuning", "validation"]
Float32 = NDArray[np.float32]
Grey = NDArray[np.uint8]

WIDTH, HEIGHT = 320, 240
SEED = 3
BANDS = {"small": (0.5, 2.0), "medium": (2.0, 8.0), "large": (8.0, 30.0)}
"""Largest motion of a pair, px."""

PHOTOGRAPHS: dict[Part, tuple[str, ...]] = {
    "tuning": ("astronaut", "coffee", "rocket", "brick", "moon", "page"),
    "validation": ("chelsea", "camera", "gravel", "coins"),
}
SYNTH_LABELS: dict[Part, slice] = {"tuning": slice(0, 4), "validation": slice(4, 8)}
SYNTH_PACE = {"small": 0.2, "medium": 0.8, "large": 3.0}
DAMAGES = ("none", "noise", "light", "jpeg")
TAKES = 2
"""Pairs of each photograph and band, of different motion."""

CAMERA = (0.05, 0.5, 1.0)
"""Motion of the background relative to its band's: a still, a slow or a fast camera."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TuningPair:
    """Two grey frames and their true flow.

    Attributes
    ----------
    name
        "<scene>-<band>".
    band
        A name of `BANDS`.
    frames
        uint8 (2, H, W).
    true
        float32 (2, H, W), px; NaN where unknown.
    """

    name: str
    band: str
    frames: Grey
    true: Float32


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """A smooth flow field: a shift, a turn with a zoom about a centre, and slow waves."""

    shift: NDArray[np.float64]
    similarity: NDArray[np.float64]
    centre: NDArray[np.float64]
    waves: NDArray[np.float64]

    def at(self, x: Float32, y: Float32) -> tuple[Float32, Float32]:
        """Return u and v at positions x, y, px."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        turn, zoom = self.similarity
        u, v = self.shift[0] + zoom * dx - turn * dy, self.shift[1] + turn * dx + zoom * dy
        for kx, ky, phase, across, down in self.waves:
            wave = np.sin(kx * x + ky * y + phase)
            u, v = u + across * wave, v + down * wave
        return u.astype(np.float32), v.astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """An image, grey float32 finer than the frame by `fineness`, its outline and its motion.

    The outline is a blob about `motion.centre` whose radius (px; 0: everywhere) varies with the
    angle by `lobes`.
    """

    image: Float32
    fineness: float
    origin: NDArray[np.float64]
    radius: float
    lobes: NDArray[np.float64]
    motion: Motion

    def covers(self, x: Float32, y: Float32) -> NDArray[np.bool_]:
        """Return the mask of the layer at positions in frame 1."""
        if not self.radius:
            return np.ones(x.shape, bool)
        dx, dy = x - self.motion.centre[0], y - self.motion.centre[1]
        angle = np.arctan2(dy, dx)
        edge = sum(height * np.cos((k + 2) * angle + phase) for k, (height, phase) in enumerate(self.lobes))
        return np.asarray(np.hypot(dx, dy) < self.radius * (1 + edge))

    def sample(self, x: Float32, y: Float32) -> Float32:
        """Return the grey values at positions in frame 1; mirrored beyond the image."""
        columns, rows = (self.origin[k] + self.fineness * position for k, position in enumerate((x, y)))
        maps = (columns.astype(np.float32), rows.astype(np.float32))
        return np.asarray(cv2.remap(self.image, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101))


def photographs(part: Part) -> dict[str, Float32]:
    """Return the part's photographs, grey float32 (H, W)."""
    # By name: scikit-image is needed for tuning alone and is no dependency of the project.
    data = importlib.import_module("skimage.data")
    return {name: grey_photograph(getattr(data, name)()) for name in PHOTOGRAPHS[part]}


def grey_photograph(image: NDArray[np.uint8]) -> Float32:
    return (to_grey(image) if image.ndim == 3 else image).astype(np.float32)


def draw_motion(rng: Generator, peak: float, centre: NDArray[np.float64]) -> Motion:
    """Draw a motion of about `peak` px at most."""
    heading = rng.uniform(0, 2 * np.pi)
    lengths = rng.uniform(120, 300, 2)
    headings = rng.uniform(0, 2 * np.pi, 2)
    waves = np.stack(
        [
            2 * np.pi / lengths * np.cos(headings),
            2 * np.pi / lengths * np.sin(headings),
            rng.uniform(0, 2 * np.pi, 2),
            *(0.1 * peak * rng.standard_normal((2, 2))),
        ],
        axis=1,
    )
    return Motion(
        shift=0.75 * peak * np.array([np.cos(heading), np.sin(heading)]),
        similarity=0.2 * peak / 100 * rng.standard_normal(2),
        centre=centre,
        waves=waves,
    )


def draw_layer(rng: Generator, image: Float32, *, peak: float, radius: float = 0.0) -> Layer:
    """Draw a background (radius 0), or an object from a random position of the image."""
    height, width = image.shape
    fineness = min(width / WIDTH, height / HEIGHT)
    spare = np.array([width - fineness * WIDTH, height - fineness * HEIGHT])
    frame = np.array([WIDTH, HEIGHT])
    return Layer(
        image=image,
        fineness=fineness,
        origin=spare / 2 + (rng.uniform(-100, 100, 2) if radius else 0),
        radius=radius,
        lobes=np.stack([[0.2, 0.12, 0.08], rng.uniform(0, 2 * np.pi, 3)], axis=1),
        motion=draw_motion(rng, peak, frame * (rng.uniform(0.25, 0.75, 2) if radius else 0.5)),
    )


def look(layers: list[Layer], x: Float32, y: Float32, *, first: bool) -> tuple[Float32, Float32]:
    """Return grey (H, W) and flow (2, H, W) of the visible layer at positions in frame 0 or 1."""
    grey, flow = np.zeros(x.shape, np.float32), np.zeros((2, *x.shape), np.float32)
    for layer in layers:  # the hindmost first
        u, v = layer.motion.at(x, y)
        positions = (x + u, y + v) if first else (x, y)
        seen = layer.covers(*positions)
        grey = np.where(seen, layer.sample(*positions), grey)
        flow = np.where(seen, np.stack([u, v]), flow)
    return grey, flow


def render(layers: list[Layer], *, first: bool) -> Float32:
    """Render a frame, float32 (H, W): each pixel the mean of 2 x 2 positions."""
    x, y = pixel_centres()
    offsets = [(a, b) for a in (-0.25, 0.25) for b in (-0.25, 0.25)]
    greys = [look(layers, x + np.float32(a), y + np.float32(b), first=first)[0] for a, b in offsets]
    return np.asarray(np.mean(greys, axis=0), np.float32)


def pixel_centres() -> tuple[Float32, Float32]:
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    return x, y


def damage(frames: Float32, kind: str, rng: Generator) -> Grey:
    """Round two frames to 8 bits after noise, a change of light in frame 1, or before JPEG."""
    if kind == "noise":
        frames = frames + rng.normal(0, 2.5, frames.shape).astype(np.float32)
    if kind == "light":
        gain, lift = np.array([[1.0, 1.03], [0.0, -5.0]], np.float32)[..., None, None]
        frames = gain * frames + lift
    codes = np.clip(np.rint(frames), 0, 255).astype(np.uint8)
    if kind != "jpeg":
        return codes
    packed = [cv2.imencode(".jpg", code, [cv2.IMWRITE_JPEG_QUALITY, 60])[1] for code in codes]
    return np.stack([np.asarray(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE), np.uint8) for file in packed])


def photograph_pairs(part: Part) -> Iterator[TuningPair]:
    """Yield `TAKES` pairs for each photograph as background and each band of motion."""
    images = photographs(part)
    numbers = (range(len(images)), range(len(BANDS)), range(TAKES))
    for k, b, take in itertools.product(*numbers):
        band, name = list(BANDS)[b], list(images)[k]
        rng = np.random.default_rng([SEED, list(PHOTOGRAPHS).index(part), k, b, take])
        layers = draw_layers(rng, list(images.values())[k:] + list(images.values())[:k], band)
        frames = np.stack([render(layers, first=True), render(layers, first=False)])
        kind = str(rng.choice(DAMAGES))
        yield TuningPair(
            name=f"{name}-{band}-{take}-{kind}",
            band=band,
            frames=damage(frames, kind, rng),
            true=look(layers, *pixel_centres(), first=True)[1],
        )


def draw_layers(rng: Generator, images: list[Float32], band: str) -> list[Layer]:
    """Draw a background of the first image and one or two objects of the next ones."""
    low, high = BANDS[band]
    peaks = low * (high / low) ** rng.uniform(0.2, 1, 3)
    background = draw_layer(rng, images[0], peak=rng.choice(CAMERA) * peaks[0])
    objects = list(zip(images[1:3], peaks[1:], strict=True))[: rng.integers(1, 3)]
    return [
        background,
        *(draw_layer(rng, image, peak=peak, radius=rng.uniform(25, 60)) for image, peak in objects),
    ]


def synth_pairs(part: Part) -> Iterator[TuningPair]:
    """Yield a pair for each of the part's labels and each band of motion."""
    config = SynthConfig(clips=1, classes=8, width=WIDTH, height=HEIGHT, frames=2, seed=SEED)
    for clip in plan_clips(config)[SYNTH_LABELS[part]]:
        for band, pace in SYNTH_PACE.items():
            scene = scale_motion(build_scene(clip, config), pace)
            frames = np.stack([to_grey(scene.frame(k)) for k in (0, 1)])
            yield TuningPair(name=f"{clip.label}-{band}", band=band, frames=frames, true=scene.flow(0))


def scale_motion(scene: Scene, pace: float) -> Scene:
    """Return the scene with `pace` times the way gone, turned and grown since frame 0."""
    poses, pan = scene.poses, scene.pan
    slowed = dataclasses.replace(
        poses,
        offsets=poses.offsets[0] + pace * (poses.offsets - poses.offsets[0]),
        angles=poses.angles[0] + pace * (poses.angles - poses.angles[0]),
        scales=poses.scales[0] * (poses.scales / poses.scales[0]) ** pace,
    )
    return dataclasses.replace(scene, poses=slowed, pan=pan[0] + pace * (pan - pan[0]))


def motorcycle_pair() -> TuningPair:
    """Return scikit-image's real stereo pair (Middlebury 2014, Motorcycle) at half its size."""
    data: Any = importlib.import_module("skimage.data")
    left, right, disparity = data.stereo_motorcycle()
    height, width = (side // 2 * 2 for side in disparity.shape)
    views = [to_grey(view)[:height, :width] for view in (left, right)]
    halves = [cv2.resize(view, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for view in views]
    known = np.where(np.isfinite(disparity), disparity, np.nan)
    blocks = known[:height, :width].reshape(height // 2, 2, width // 2, 2)
    shift = blocks.mean(axis=(1, 3)) / 2
    even = np.ptp(blocks, axis=(1, 3)) < 1  # NaN, so false, where any of the four is unknown
    true = np.stack([np.where(even, -shift, np.nan), np.where(even, 0, np.nan)]).astype(np.float32)
    return TuningPair(name="motorcycle-large", band="large", frames=np.stack(halves), true=true)


def pairs(part: Part) -> list[TuningPair]:
    """Return the pairs of a part; equal calls give equal pairs."""
    real = [motorcycle_pair()] if part == "validation" else []
    return [*photograph_pairs(part), *synth_pairs(part), *real]


def residual(pair: TuningPair) -> float:
    """Return the median grey difference between frame 0 and frame 1 warped by the truth."""
    height, width = pair.frames.shape[1:]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    u, v = np.nan_to_num(pair.true, nan=-1e6)
    warped = cv2.remap(pair.frames[1].astype(np.float32), x + u, y + v, cv2.INTER_CUBIC, borderValue=-1e6)
    difference = np.abs(warped - pair.frames[0])
    return float(np.median(difference[difference < 1e3]))


def main() -> None:
    for part in ("tuning", "validation"):
        for pair in pairs(part):
            speed = np.hypot(*pair.true)
            print(
                f"{part:10} {pair.name:32} mean {np.nanmean(speed):5.2f} px, "
                f"largest {np.nanmax(speed):5.2f} px, residual {residual(pair):.2f} levels"
            )


if __name__ == "__main__":
    main()
