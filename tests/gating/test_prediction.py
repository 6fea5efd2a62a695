"""Predictions of a finished run for stored clips and raw videos."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowkit.extraction.config import ExtractConfig

pytest.importorskip("torch")

import flowkit
from flowkit.errors import ClipNotFoundError, InputError, InvalidParameterError, StoreCorruptError
from flowkit.executor import InlineExecutor
from flowkit.resize_rule import ResizeRule
from flowkit.store.read.store import Clip
from flowkit.store.record import Failure
from flowkit.tvl1.params import resolve_params
from gating.config import LoaderConfig
from gating.errors import CheckpointError, ScoresError
from gating.evaluation.scores import load_scores
from gating.prediction import Prediction, PredictOptions, predict
from gating.run_folder import RECORD, scores_path
from tests.make import clips, small
from tests.make.finished_runs import FinishedRun, prefer, train_run


@pytest.fixture(scope="module")
def trained(labelled_path: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return train_run(labelled_path, tmp_path_factory.mktemp("predicting"))


@pytest.fixture
def run(trained: FinishedRun, tmp_path: Path) -> FinishedRun:
    """The run in a folder that a test may change; store and videos are the module's."""
    shutil.copytree(trained.out, tmp_path / "run")
    return dataclasses.replace(trained, out=tmp_path / "run")


def options(**changes: Any) -> PredictOptions:
    return dataclasses.replace(PredictOptions(device="cpu", loader=LoaderConfig()), **changes)


def predicted(run: FinishedRun, *inputs: Path, **changes: Any) -> list[Prediction]:
    found = list(predict(inputs or [run.store], run.out, options(**changes)))
    assert all(isinstance(one, Prediction) for one in found), found
    return [one for one in found if isinstance(one, Prediction)]


def of_videos(run: FinishedRun, *inputs: Path, **changes: Any) -> list[Prediction | Failure]:
    with InlineExecutor() as executor:
        return list(predict(inputs, run.out, options(executor=executor, **changes)))


def known_weights(found: list[Prediction]) -> list[tuple[float, float]]:
    return [one.weights for one in found if one.weights is not None]


def test_scores_of_the_test_clips_are_those_of_the_comparison(run: FinishedRun) -> None:
    prefer(run.trial, gate=1.0, search=0.0)
    test = load_scores(scores_path(run.trial, "test"))
    assert test.gated is not None
    assert test.gates is not None
    found = predicted(run, ids=test.ids)
    assert tuple(one.video_id for one in found) == test.ids
    assert [one.classes[0] for one in found] == [test.classes[k] for k in test.gated.argmax(axis=1)]
    # Of other clips in the same batch, whose sums a library may order otherwise: float32's noise.
    np.testing.assert_allclose(known_weights(found), test.gates, rtol=1e-5)


def test_probabilities_are_all_when_all_classes_are_asked_for(run: FinishedRun) -> None:
    for one in predicted(run):
        assert set(one.classes) == {"disc-sideways", "square-down"}
        assert sum(one.probabilities) == pytest.approx(1, abs=1e-12)
        assert one.probabilities == tuple(sorted(one.probabilities, reverse=True))
        assert one.label == one.video_id.split("/")[0]
    assert {len(one.classes) for one in predicted(run, top=1)} == {1}


def test_the_fixed_weights_predict_where_validation_did_not_prefer_the_gate(run: FinishedRun) -> None:
    prefer(run.trial, gate=0.5, search=0.5, search_share=0.25)
    notes: list[str] = []
    test = load_scores(scores_path(run.trial, "test"))
    found = predicted(run, ids=test.ids, on_note=notes.append)
    assert {one.weights for one in found} == {(0.25, 0.75)}
    fused = 0.25 * test.flow + 0.75 * test.rgb
    assert [one.classes[0] for one in found] == [test.classes[k] for k in fused.argmax(axis=1)]
    assert "fusion: search; top-1 on the validation clips is 50.0 % with the gate, 50.0 %" in notes[-1]


def test_raw_videos_are_predicted_as_their_store_does(run: FinishedRun) -> None:
    ids = ("disc-sideways/disc-sideways_g01_c001", "square-down/square-down_g02_c001")
    stored = predicted(run, ids=ids)
    raw = of_videos(run, run.videos, ids=ids)
    sources = [run.videos / f"{video_id}.avi" for video_id in ids]
    assert raw == [
        dataclasses.replace(one, source=str(source)) for one, source in zip(stored, sources, strict=True)
    ]


def test_files_of_one_name_are_told_apart_by_their_suffixes(run: FinishedRun, tmp_path: Path) -> None:
    clips.mjpeg_avi(tmp_path / "one.avi", clips.moving_texture(4))
    shutil.copy(tmp_path / "one.avi", tmp_path / "one.mkv")
    with pytest.raises(InputError, match="--keep-suffix"):
        of_videos(run, tmp_path)
    found = of_videos(run, tmp_path, keep_suffix=True)
    assert [one.video_id for one in found if isinstance(one, Prediction)] == ["one.avi", "one.mkv"]


def test_a_broken_video_costs_only_itself_and_nothing_is_written_beside_it(
    run: FinishedRun, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    clips.mjpeg_avi(folder / "good.avi", clips.moving_texture(5))
    clips.truncated(folder / "bad.avi", folder / "good.avi", 0.1)
    before = sorted(tmp_path.rglob("*"))
    found = of_videos(run, folder)
    failed = [one for one in found if isinstance(one, Failure)]
    assert [(Path(one.source).name, one.reason) for one in failed] == [("bad.avi", "unopenable")]
    good = [one for one in found if isinstance(one, Prediction)]
    assert [(one.video_id, one.source, one.label) for one in good] == [("good", str(folder / "good.avi"), "")]
    assert sorted(tmp_path.rglob("*")) == before


def test_no_video_that_works_leaves_failures_alone(run: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "bad.avi").write_bytes(b"RIFF")
    found = of_videos(run, tmp_path / "bad.avi")
    assert [type(one) for one in found] == [Failure]


def test_stores_and_videos_may_be_mixed(run: FinishedRun, tmp_path: Path) -> None:
    clips.mjpeg_avi(tmp_path / "one.avi", clips.moving_texture(5))
    found = of_videos(run, tmp_path / "one.avi", run.store)
    assert len(found) == 21
    assert {one.source for one in found} == {str(run.store), str(tmp_path / "one.avi")}


def test_a_damaged_clip_costs_only_itself(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "square-down/square-down_g01_c001"
    iter_codes = Clip.iter_codes

    def harmed(self: Clip, *words: Any, **named: Any) -> Any:
        if self.id == broken:
            raise StoreCorruptError(f"{self.id}: a checksum does not hold")
        return iter_codes(self, *words, **named)

    monkeypatch.setattr(Clip, "iter_codes", harmed)
    found = list(predict([run.store], run.out, options()))
    assert [(one.source, one.reason) for one in found if isinstance(one, Failure)] == [(broken, "corrupt")]
    assert sum(isinstance(one, Prediction) for one in found) == 19


def test_a_store_made_otherwise_is_refused_with_the_differences(run: FinishedRun, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    clips.mjpeg_avi(videos / "one.avi", clips.moving_texture(5))
    params, resize = resolve_params("accurate"), ResizeRule(mode="native")
    config = ExtractConfig(params=params, resize=resize, step=2, jobs=1)
    small.run(videos, tmp_path / "other.h5", config)
    with pytest.raises(InputError, match=r"flow.warps is 2 there and 5 here.*step is 1 there and 2 here"):
        predicted(run, tmp_path / "other.h5")


def test_the_first_finished_trial_of_a_run_predicts_and_is_named(run: FinishedRun) -> None:
    record = json.loads((run.trial / RECORD).read_text())
    notes: list[str] = []
    shutil.copytree(run.trial, run.out / "3-fold-0" / "seed0")
    (run.out / "3-fold-0" / "seed0" / "judgement.json").unlink()
    record["data"]["split"] = "3-fold"
    (run.out / "3-fold-0" / "seed0" / RECORD).write_text(json.dumps(record))
    predicted(run, top=1, on_note=notes.append)
    assert notes[0] == f"trial: {run.trial}, the first finished one"
    with pytest.raises(ScoresError, match="make it again with `flowkit eval`"):
        list(predict([run.store], run.out / "3-fold-0" / "seed0", options()))
    (run.trial / "judgement.json").unlink()
    with pytest.raises(CheckpointError, match=r"none of the 2 trials .* has finished and been compared"):
        predicted(run)


def test_missing_inputs_are_named(run: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(ClipNotFoundError, match="did you mean"):
        predicted(run, ids=("square-down/square-down_g01_c0",))
    with pytest.raises(InputError, match=r"no input has the clips \['nobody'\]"):
        predicted(run, run.store, run.videos, ids=("nobody",))
    with pytest.raises(InputError, match="no such store, video or folder"):
        predicted(run, tmp_path / "nothing.h5")
    with pytest.raises(CheckpointError, match="is no run"):
        list(predict([run.store], tmp_path / "no", options()))
    with pytest.raises(InvalidParameterError, match=r"Invalid crops \(3\). Supported values are 1, 5, 10"):
        options(crops=3)


def test_the_store_is_known_by_its_bytes_not_by_its_name(run: FinishedRun, tmp_path: Path) -> None:
    shutil.copy(run.store, tmp_path / "clips.avi")
    with flowkit.open(run.store) as store:
        assert len(predicted(run, tmp_path / "clips.avi")) == len(store)


def test_a_window_is_predicted_as_the_clip_cut_to_its_frames(run: FinishedRun, tmp_path: Path) -> None:
    frames = clips.moving_texture(15)
    cut = ("whole", slice(0, 15)), ("w0", slice(0, 6)), ("w4", slice(4, 10)), ("w8", slice(8, 14))
    (tmp_path / "videos").mkdir()
    for name, part in cut:
        clips.lossless_mkv(tmp_path / "videos" / f"{name}.mkv", frames[part])
    found = of_videos(run, tmp_path / "videos", window=6, stride=4)
    windows = {(one.video_id, one.first_frame, one.last_frame): one for one in found}  # type: ignore[union-attr]
    assert windows.keys() == {
        *(("whole", first, first + 5) for first in (0, 4, 8)),
        *((f"w{first}", 0, 5) for first in (0, 4, 8)),
    }
    for first in (0, 4, 8):
        one, other = windows["whole", first, first + 5], windows[f"w{first}", 0, 5]
        assert isinstance(one, Prediction)
        assert isinstance(other, Prediction)
        assert one.classes == other.classes
        np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-6)
        assert one.start == pytest.approx(first / 25)
        assert one.end == pytest.approx((first + 6) / 25)


def test_a_clip_shorter_than_a_window_is_one_and_a_window_needs_a_flow_field(run: FinishedRun) -> None:
    video_id = "square-down/square-down_g01_c001"
    (one,) = predicted(run, ids=(video_id,), window=100)
    (whole,) = predicted(run, ids=(video_id,))
    assert (one.first_frame, one.last_frame) == (0, 7)
    assert dataclasses.replace(one, first_frame=None, last_frame=None, start=None, end=None) == whole
    with pytest.raises(InvalidParameterError, match=r"window must be an integer >= 2 frames, got 1"):
        predicted(run, window=1)
    with pytest.raises(InvalidParameterError, match="stride must be given with window"):
        options(stride=2)
