"""The table that a run prints last: a line a step, and below it its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.record import JsonObject
from benchmarks.step_runner import Outcome

MOST_LINES = 20
"""Of one step."""

# Keys that distinguish results, and how each is written.
_LABELS = {
    **dict.fromkeys(
        ("turn", "method", "baseline", "precision", "way", "copy", "start", "size", "stop"), "{}"
    ),
    **{key: f"{key} {{}}" for key in ("cluster", "clusters", "tile", "preset", "batch")},
}
_ERROR_CHARACTERS = 160


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table."""
    lines = []
    for outcome in outcomes:
        lines.append(f"{outcome.step.name:18} {outcome.ended:12} {outcome.seconds:6.1f} s")
        figures = list(_figures(outcome))
        lines += [f"    {line}" for line in figures[:MOST_LINES]]
        if len(figures) > MOST_LINES:
            lines.append(f"    and {len(figures) - MOST_LINES} more")
    return "\n".join(lines)


def _figures(outcome: Outcome) -> Iterator[str]:
    for result in outcome.results:
        label = ", ".join(form.format(result[key]) for key, form in _LABELS.items() if key in result)
        figure = _figure(result)
        if figure:
            yield f"{label}: {figure}" if label else figure
    if not outcome.results:
        *_, last = outcome.last_output.splitlines() or [""]
        if last:
            yield last[:_ERROR_CHARACTERS]


def _figure(result: JsonObject) -> str:
    """Return the figures of one result in words; none where it is of a kind that the table leaves out."""
    parts = [
        f"{key.replace('_', ' ')}: {result[key]}"[:_ERROR_CHARACTERS]
        for key in ("failed", "absent", "no_gpu")
        if key in result
    ]
    if "nvrtc" in result:
        parts.append(f"{result['gpu']}, cupy {result['cupy']}, NVRTC {result['nvrtc']}")
    if "max_px" in result:
        parts.append(f"{result['max_px']:.1e} px off at most, iterations equal: {result['iterations_equal']}")
    if "pairs_per_second" in result:
        parts.append(f"{result['pairs_per_second']:.0f} pairs/s")
    if "frames_per_second" in result:
        parts.append(f"{result['frames_per_second']:.0f} frames/s, limited by {result['limits']}")
    if "gigabytes_per_second" in result:
        parts.append(f"{result['gigabytes_per_second']:.1f} GB/s")
    if "instructions_per_second" in result:
        parts.append(f"{result['instructions_per_second']:.3g} instructions/s")
        parts.append(f"{result['bytes_per_second']:.3g} bytes/s")
    if "pixel_iterations_per_pair" in result:
        parts.append(
            f"{result['iterations_per_pair']:.0f} iterations and "
            f"{result['pixel_iterations_per_pair'] / 1e6:.2f} M pixel-iterations a pair"
        )
    if "levels_by_clusters" in result:
        parts.append(f"{result['levels_by_clusters']} levels by clusters")
    if "blocks_of_the_gpu" in result:
        parts.append(f"{result['registers']} registers, {result['spilled_bytes']} bytes spilled")
        parts.append(f"{result['resident']} clusters at once")
    if "start" in result and "seconds" in result:
        parts.append(f"{result['seconds']:.2f} s")
    return ", ".join(parts)
