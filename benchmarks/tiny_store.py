"""Records of tiny clips, for stores that benchmarks make."""

from __future__ import annotations

from flowkit.store.record import VideoRecord

WIDTH, HEIGHT = 34, 26


def tiny_record(video_id: str, n_frames: int, *, source_mtime_ns: int = 0) -> VideoRecord:
    """Return the record of a clip of 34 x 26 px, labelled by its folder; its source has one byte."""
    label, _, name = video_id.rpartition("/")
    return VideoRecord(
        video_id=video_id,
        label=label,
        width=WIDTH,
        height=HEIGHT,
        source_width=WIDTH,
        source_height=HEIGHT,
        fps=25.0,
        n_frames=n_frames,
        n_flow=n_frames - 1,
        backend="cpu",
        device="a CPU",
        source_name=f"{name}.avi",
        source_bytes=1,
        source_mtime_ns=source_mtime_ns,
        source_sha256="0" * 64,
        flow_max_px=8.0,
    )
