from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowkit.errors import InputError, InvalidParameterError
from flowkit.quantize import quantize_u8
from flowkit.store.codecs import DEFAULT_FLOW_CODEC
from flowkit.store.parts_folder import parts_path, shards_path
from flowkit.store.read.store import open_store
from flowkit.store.tools.recode import recode
from flowkit.store.tools.verify import verify
from tests.make import stores
from tests.store.conftest import MakeStore, make_options


def test_frames_are_dropped_and_flow_stays_as_stored(make_store: MakeStore, tmp_path: Path) -> None:
    path, out = make_store("a", "b/c"), tmp_path / "new.h5"
    seen: list[str] = []
    options = recode(path, out, drop_frames=True, on_video=seen.append)
    assert (options.frame_codec, seen) == ("none", ["a", "b/c"])
    assert out.stat().st_size < path.stat().st_size
    assert verify(out).sound
    assert not parts_path(out).exists()
    with open_store(path) as old, open_store(out) as new:
        for video_id in old:
            assert new[video_id].record == old[video_id].record
            assert np.array_equal(new[video_id].pts, old[video_id].pts)
            for k in range(old[video_id].n_flow):
                chunks = new.stored_video(video_id).field("flow").chunks(k)
                assert chunks == old.stored_video(video_id).field("flow").chunks(k)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *[("i16", "i8"), ("i8", "i16"), ("i8", "jpeg"), ("jpeg", "i8")],
        *[("i8", "q8"), ("q8", "i8"), ("q8", "i16"), ("q8", "jpeg")],
    ],
)
def test_flow_gets_another_codec_and_frames_stay_as_stored(
    make_store: MakeStore, tmp_path: Path, before: str, after: str
) -> None:
    path, out = make_store("a", options=make_options(flow_codec=before)), tmp_path / "new.h5"
    recode(path, out, flow_codec=after, shard_bytes=1)
    assert verify(out).sound
    with open_store(path) as old, open_store(out) as new:
        assert new.options.flow_codec == after
        flow = old["a"].flow()
        # Half a code of 1/4 px, at most, or of 1/64 px; JPEG blurs noise of 4 px.
        tolerance = {"q8": 1 / 16, "i8": 1 / 8, "i16": 1 / 128, "jpeg": 2.0}[after]
        expected = np.clip(flow, -20, 20) if after == "jpeg" else flow
        error = np.abs(new["a"].flow() - expected).max()
        assert error <= tolerance
        # A finer code, or one of the same 1/8 px, loses nothing.
        assert (error == 0) == (before in ("i8", "q8") and after != "jpeg")
        assert [new.stored_video("a").frames[k] for k in range(4)] == [
            old.stored_video("a").frames[k] for k in range(4)
        ]
        if after == "jpeg":
            clipped = sum(quantize_u8(field, bound_px=20)[1] for field in flow)
            assert new["a"].record.clipped_fraction == pytest.approx(clipped / flow.size)


@pytest.mark.parametrize(("px", "count"), [(600.0, 2), (600.0, 1), (500.0, 2)])
def test_a_video_that_the_new_codec_clips_is_named_in_a_warning(
    tmp_path: Path, px: float, count: int
) -> None:
    flow, warnings = np.zeros((1, 2, 24, 32), np.float32), list[str]()
    flow.flat[:count] = px  # of 1,536: two are more than a thousandth
    path = stores.write_store(tmp_path / "out.h5", {"b": flow, "a": 0 * flow}, codec="i8")
    recode(path, tmp_path / "new.h5", flow_codec="i16", on_warning=warnings.append)
    expected = (
        "b: 0.13% of the flow is beyond the range of --flow-codec i16 and was clipped (largest 600.0 px)"
    )
    assert [warning.partition(",")[0] for warning in warnings] == [expected] * (px > 512 and count > 1)


def test_what_cannot_be_recoded_is_reported(make_store: MakeStore, tmp_path: Path) -> None:
    path, out = make_store("a", "b", shard_bytes=1), tmp_path / "new.h5"
    with pytest.raises(InputError, match="nothing would change"):
        recode(path, out, flow_codec=DEFAULT_FLOW_CODEC)
    with pytest.raises(InvalidParameterError, match="flow_codec"):
        recode(path, out, flow_codec="f16")
    with pytest.raises(InvalidParameterError, match="bound_px"):
        recode(path, out, flow_codec="jpeg", bound_px=0)
    with pytest.raises(InputError, match="there already"):
        recode(path, path, drop_frames=True)
    (shards_path(path) / "00001.h5").unlink()
    with pytest.warns(RuntimeWarning, match="lacks"), pytest.raises(InputError, match="put them back"):
        recode(path, out, drop_frames=True)
    assert not out.exists()
