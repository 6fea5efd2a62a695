"""Rules for the scale of 8-bit flow: coarse fields, saturation, bytes and time by deflate level and codec.

    python -m benchmarks.codec_rules

A field misses where fewer than 99.9 % of its components lie within max(1/16 px, q/250) of their flow, q
being the 99.9 % point of its own |components|. Flow is that of the default preset at short side 256, step 1.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import deflate
import numpy as np

import flowkit
from benchmarks.record import ROOT, JsonObject, write_result
from flowkit.frames import pair_indices, resize, to_grey
from flowkit.quantize import quantile_px
from flowkit.resize_rule import ResizeRule
from flowkit.store.codecs import flow_codec
from flowkit.store.codecs.scaled import FIELD_SCALE, QUANTILE_SCALE
from flowkit.tvl1 import cpu
from flowkit.tvl1.params import DEFAULT_PRESET, resolve_params
from flowkit.typing import Flow

DATA = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data"))
UNIT_PX, LIMIT = FIELD_SCALE.unit_px, FIELD_SCALE.limit
PER_MILLE, TOLERANCE_PX, TOLERANCE_OF_QUANTILE = 999, 1 / 16, 1 / 250
LEVELS = (1, 2, 3, 4, 5, 6)
CODECS = ("i8", "q8")

# The scale of a field.
RULES: dict[str, Callable[[Flow], float]] = {
    "i8: power of two, all components": lambda flow: FIELD_SCALE.quantize(flow).scale,
    "power of two, 99.9 %": lambda flow: FIELD_SCALE.scale_px(quantile_px(flow, PER_MILLE)),
    "linear, all components": lambda flow: max(UNIT_PX, float(np.abs(flow).max()) / LIMIT),
    "q8: linear, 99.9 % at code 125": lambda flow: QUANTILE_SCALE.quantize(flow).scale,
}


def main() -> None:
    """Measure every rule on the clips and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=60, help="of each clip")
    parser.add_argument("--labelled", type=int, default=15, help="clips of labelled/fight, evenly spread")
    options = parser.parse_args()
    clips = {path.name: measure(path, options.frames) for path in chosen_clips(options.labelled)}
    print(write_result("codec-rules", {"preset": DEFAULT_PRESET, "total": total(clips), "clips": clips}))


def chosen_clips(labelled: int) -> list[Path]:
    """Return the clips with much motion, and some of the labelled ones."""
    names = ("misc/bikes.mp4", "misc/tests_data_test.avi", "decord/flipping_a_pancake.mkv")
    found = [DATA / "videos" / name for name in names]
    fight = sorted((DATA / "labelled" / "fight").rglob("*.mp4"))
    return found + fight[:: max(1, len(fight) // labelled)][:labelled]


def fields_of(path: Path, frames: int) -> Iterator[Flow]:
    """Yield the flow fields of a clip's first frames."""
    with flowkit.open_video(path) as reader:
        images = [frame.rgb for frame in itertools.islice(reader, frames)]
    size = ResizeRule(short_side=256).target_size(images[0].shape[1], images[0].shape[0])
    greys = np.stack([to_grey(resize(image, size)) for image in images])
    yield from cpu.load(resolve_params(DEFAULT_PRESET)).flow_batch(greys, pair_indices(len(greys), 1))


def measure(path: Path, frames: int) -> JsonObject:
    """Return sums over a clip's fields, by rule; times in seconds of this thread."""
    sums: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in (*RULES, *CODECS)}
    quantiles: list[float] = []
    for flow in fields_of(path, frames):
        quantile = quantile_px(flow, PER_MILLE)
        quantiles.append(quantile)
        for name, rule in RULES.items():
            sums[name].update(measure_field(flow, rule(flow), quantile))
        for name in CODECS:
            sums[name].update(time_codec(name, flow))
    return {
        "fields": len(quantiles),
        "quantile_px": [min(quantiles), statistics.median(quantiles), max(quantiles)],
        "rules": {name: dict(sums[name]) for name in RULES},
        "codecs": {name: dict(sums[name]) for name in CODECS},
    }


def measure_field(flow: Flow, scale: float, quantile: float) -> dict[str, float]:
    """Return what one field costs and loses at a scale."""
    codes = np.clip(np.rint(flow / np.float32(scale)), -LIMIT, LIMIT).astype(np.int8)
    error = np.abs(codes * np.float32(scale) - flow)
    tolerance = max(TOLERANCE_PX, TOLERANCE_OF_QUANTILE * quantile) * (1 + 1e-5)
    found: dict[str, float] = {
        "pixels": flow.size // 2,
        "missing_fields": float(1000 * np.count_nonzero(error <= tolerance) < PER_MILLE * flow.size),
        "coarse_fields": float(scale >= 0.5),
        "saturated": int(np.count_nonzero(np.abs(flow) > (LIMIT + 0.5) * scale)),
    }
    raw = codes.tobytes()
    for level in LEVELS:
        began = time.thread_time()
        packed = bytes(deflate.zlib_compress(raw, level))
        found[f"seconds_level_{level}"] = time.thread_time() - began
        found[f"bytes_level_{level}"] = len(packed)
        assert zlib.decompress(packed) == raw
    return found


def time_codec(name: str, flow: Flow) -> dict[str, float]:
    """Return the bytes of one field in a codec, and the seconds of each step of this thread."""
    codec, marks = flow_codec(name), [time.thread_time()]
    made = codec.quantizer.quantize(flow)
    marks.append(time.thread_time())
    encoded = codec.encode_codes(made)
    marks.append(time.thread_time())
    codes = codec.unpack(encoded.chunks, (flow.shape[1], flow.shape[2]))
    codec.to_px(codes, encoded.scale)
    marks.append(time.thread_time())
    codec.to_planes(codes, encoded.scale, bound_px=20.0)
    marks.append(time.thread_time())
    steps = ("quantise", "pack", "decode", "planes")
    seconds = [after - before for before, after in itertools.pairwise(marks)]
    found = {f"seconds_{step}": spent for step, spent in zip(steps, seconds, strict=True)}
    return found | {
        "pixels": flow.size // 2,
        "bytes": sum(map(len, encoded.chunks)),
        "large_fields": float(made.largest_px > LIMIT * UNIT_PX),
        "outlier_fields": float(made.clipped > 0),
    }


def total(clips: dict[str, JsonObject]) -> JsonObject:
    """Return rules and codecs over all clips: fractions of the fields, bytes a pixel, ms."""
    fields, result = sum(clip["fields"] for clip in clips.values()), {}
    for name in RULES:
        sums: collections.Counter[str] = collections.Counter()
        for clip in clips.values():
            sums.update(clip["rules"][name])
        result[name] = {
            "fields": fields,
            "missing": sums["missing_fields"] / fields,
            "coarse": sums["coarse_fields"] / fields,
            "saturated": sums["saturated"] / (2 * sums["pixels"]),
            "bytes_a_pixel": {k: sums[f"bytes_level_{k}"] / sums["pixels"] for k in LEVELS},
            "ms_a_megapixel": {k: 1e9 * sums[f"seconds_level_{k}"] / sums["pixels"] for k in LEVELS},
        }
    for name in CODECS:
        sums = collections.Counter()
        for clip in clips.values():
            sums.update(clip["codecs"][name])
        steps = {key.removeprefix("seconds_"): key for key in sums if key.startswith("seconds_")}
        result[name] = {
            "large": sums["large_fields"] / fields,
            "with_saturation": sums["outlier_fields"] / fields,
            "bytes_a_pixel": sums["bytes"] / sums["pixels"],
            "ms_a_field": {step: 1e3 * sums[key] / fields for step, key in steps.items()},
        }
    return result


if __name__ == "__main__":
    main()
