"""Features of stored clips and raw videos: as training sees them, of the frames that rows name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")

import torch

import flowkit
from flowkit.errors import InputError, StoreCorruptError
from flowkit.executor import InlineExecutor
from flowkit.store.read.clip import Clip
from flowkit.store.read.store import Store
from flowkit.store.record import Failure
from gating.backbone_features import compute
from gating.backbone_features.networks import feature_networks
from gating.backbone_features.options import FeatureOptions
from gating.backbone_features.run import VideoFeatures, features
from gating.config import LoaderConfig
from gating.data.loader import ClipLoader
from gating.data.partition import TrialData
from gating.distributed import ProcessGroup
from gating.frozen.features import computed_features
from tests.make import clips
from tests.make.finished_runs import train_run
from tests.make.stores import steady, write_store

CPU = torch.device("cpu")


def assert_close(one: NDArray[Any] | None, other: NDArray[Any] | None) -> None:
    """Features of about 1 are equal but for float32's noise, of batches of other sizes."""
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-4)


def found(inputs: list[Path], options: FeatureOptions, **changes: Any) -> list[VideoFeatures]:
    made = list(features(inputs, dataclasses.replace(options, **changes)))
    assert all(isinstance(one, VideoFeatures) for one in made), made
    return [one for one in made if isinstance(one, VideoFeatures)]


def loader(store: Store, options: FeatureOptions, segments: int) -> tuple[ClipLoader, Any]:
    """Return the reader of the preset `frozen` with the networks of the options."""
    networks = feature_networks(options, CPU)
    config = dataclasses.replace(networks.config, test_segments=segments)
    data = TrialData(
        store=store,
        split="",
        part="",
        classes=store.labels,
        labels={},
        groups={},
        train=(),
        gate=(),
        validation=(),
        test=(),
    )
    inputs = networks.streams["rgb"].backbone.inputs
    return (
        ClipLoader(data, config, inputs, process_group=ProcessGroup(CPU), loader_config=LoaderConfig()),
        networks.streams,
    )


def test_segments_are_the_features_that_the_frozen_preset_trains_on(
    labelled_store: Store, small_options: FeatureOptions
) -> None:
    ids = list(labelled_store)[:2]
    batches, streams = loader(labelled_store, small_options, 3)
    expected = computed_features(streams, batches, ids)
    path = Path(str(labelled_store.path))
    made = found([path], small_options, ids=tuple(ids), per="segment", segments=3)
    mean = found([path], small_options, ids=tuple(ids), per="clip", segments=3)
    for k, one in enumerate(made):
        assert one.video_id == ids[k]
        for name in ("rgb", "flow"):
            wanted = expected.of(name).features[k]
            assert_close(getattr(one, name), wanted)
            assert_close(getattr(mean[k], name)[0], wanted.mean(axis=0))


def test_windows_read_their_own_frames_a_few_at_a_time(
    labelled_path: Path, small_options: FeatureOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flowkit.open(labelled_path) as store:
        ids = tuple(store)[:1]
    (whole,) = found([labelled_path], small_options, ids=ids)
    assert whole.frames is not None
    assert whole.fields is not None
    assert whole.frames[:, 0].tolist() == [2, 4, 6]
    assert whole.fields[:, 0, 0].tolist() == [1, 3, 5]
    assert whole.label == whole.video_id.split("/")[0]
    monkeypatch.setattr(compute, "IMAGES_AT_ONCE", 2)
    asked: list[int] = []
    frames = Clip.frames

    def counted(self: Clip, indices: Any = None) -> Any:
        asked.append(len(indices))
        return frames(self, indices)

    monkeypatch.setattr(Clip, "frames", counted)
    (again,) = found([labelled_path], small_options, ids=(whole.video_id,))
    assert max(asked) <= 2
    assert_close(again.rgb, whole.rgb)
    # Each of two frames of a window is seen once, and their mean is the row.
    (pair,) = found([labelled_path], small_options, ids=(whole.video_id,), frames_per_window=2)
    assert pair.frames is not None
    assert pair.frames.tolist() == [[1, 3], [3, 5], [5, 7]]
    (single,) = found([labelled_path], small_options, ids=(whole.video_id,), window=2)
    assert single.frames is not None
    assert single.frames[:, 0].tolist() == [1, 3, 5, 7]
    assert single.rgb is not None
    assert_close(pair.rgb, (single.rgb[:-1] + single.rgb[1:]) / 2)
    assert np.abs(np.diff(single.rgb, axis=0)).max() > 0.01


def test_one_stream_reads_the_other_not_at_all(small_options: FeatureOptions, tmp_path: Path) -> None:
    store = write_store(tmp_path / "flow.h5", {"a": steady(6, 1, 0)}, frames=False)
    (one,) = found([store], small_options, streams="flow")
    assert (one.rgb, one.frames) == (None, None)
    assert one.flow is not None
    # Steady flow: each window is the same.
    assert np.ptp(one.flow, axis=0).max() < 1e-5
    with pytest.raises(InputError, match="--streams flow"):
        found([store], small_options)


def test_a_raw_video_is_extracted_and_gives_what_its_store_gives(
    small_options: FeatureOptions, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    clips.mjpeg_avi(folder / "good.avi", clips.moving_texture(8))
    (folder / "bad.avi").write_bytes(b"RIFF")
    before = sorted(tmp_path.rglob("*"))
    with InlineExecutor() as executor:
        options = dataclasses.replace(small_options, jobs=1)
        made = list(features([folder], options, executor=executor))
        assert sorted(tmp_path.rglob("*")) == before
        flowkit.extract(folder / "good.avi", tmp_path / "out.h5", executor=executor)
        slow_options = dataclasses.replace(options, fps=12.5)
        slower = list(features([folder / "good.avi"], slow_options, executor=executor))
    failed = [one for one in made if isinstance(one, Failure)]
    assert [(Path(one.source).name, one.reason) for one in failed] == [("bad.avi", "unopenable")]
    (raw,) = (one for one in made if isinstance(one, VideoFeatures))
    (stored,) = found([tmp_path / "out.h5"], small_options)
    assert raw.source == str(folder / "good.avi")
    np.testing.assert_array_equal(raw.flow, stored.flow)
    np.testing.assert_array_equal(raw.times, stored.times)
    (slow,) = (one for one in slower if isinstance(one, VideoFeatures))
    assert slow.times[0, 1] == pytest.approx(4 / 12.5, abs=0.01)
    with pytest.raises(InputError, match="for raw videos"):
        found([tmp_path / "out.h5"], small_options, fps=12.5)
    with pytest.raises(InputError, match="two inputs have the clips"):
        found([tmp_path / "out.h5", folder / "good.avi"], small_options)


def test_a_damaged_clip_costs_only_itself(
    labelled_path: Path, small_options: FeatureOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    iter_codes = Clip.iter_codes
    with flowkit.open(labelled_path) as store:
        ids = tuple(store)[:2]

    def harmed(self: Clip, *words: Any, **named: Any) -> Any:
        if self.id == ids[0]:
            raise StoreCorruptError("a checksum does not hold")
        return iter_codes(self, *words, **named)

    monkeypatch.setattr(Clip, "iter_codes", harmed)
    made = list(features([labelled_path], dataclasses.replace(small_options, ids=ids)))
    assert [type(one) for one in made] == [Failure, VideoFeatures]


def test_a_run_gives_its_own_backbones_on_its_own_input(labelled_path: Path, tmp_path: Path) -> None:
    trained = train_run(labelled_path, tmp_path)
    options = FeatureOptions(run=trained.out, window=4, stride=2, device="cpu")
    with flowkit.open(trained.store) as store:
        ids = tuple(store)[:1]
    (one,) = found([trained.store], options, ids=ids)
    networks = feature_networks(options, CPU)
    assert networks.record is not None
    assert networks.record.folder == trained.trial
    assert one.fields is not None
    assert one.fields.shape == (3, 1, networks.config.stack)
    assert one.flow is not None
    assert one.flow.shape == (3, networks.streams["flow"].backbone.features)
