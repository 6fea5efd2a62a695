"""Features on disk: the three forms, their names, and how a run goes on."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("torch")

from flowkit.errors import InputError
from gating.backbone_features.output import COLUMNS, FeatureFiles
from gating.backbone_features.run import VideoFeatures

SETTINGS = {"streams": "both", "per": "window", "window": 4}


def made(video_id: str, count: int = 3) -> VideoFeatures:
    rng = np.random.default_rng(len(video_id))
    return VideoFeatures(
        video_id=video_id,
        source="clips.h5",
        label="run",
        times=np.arange(2 * count, dtype=np.float64).reshape(count, 2) / 4,
        ranges=tuple(range(k, k + 4) for k in range(count)),
        frames=np.arange(count)[:, None] + 2,
        fields=np.arange(2 * count).reshape(count, 1, 2),
        rgb=rng.random((count, 5), np.float32),
        flow=rng.random((count, 5), np.float32),
    )


def files(out: Path, **changes: object) -> FeatureFiles:
    return FeatureFiles(out, {**SETTINGS, **changes}, joined=False)


def write(out: Path, *ids: str, joined: bool = False) -> set[str]:
    """Write clips; return the ids that were there before."""
    with FeatureFiles(out, SETTINGS, joined=joined).opened() as writer:
        known = set(writer.known)
        for video_id in ids:
            writer.write(made(video_id))
    return known


def lines(out: Path) -> list[dict[str, str]]:
    with Path(f"{out}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_hdf5_file_has_a_dataset_a_clip_and_modality(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    write(out, "a/one", "two")
    with h5py.File(out) as file:
        assert sorted(file) == ["flow", "rgb"]
        np.testing.assert_array_equal(file["rgb/a/one"][:], made("a/one").rgb)
        assert file["flow/two"].dtype == np.float32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "out.h5.csv", "out.h5.json"]


def test_one_npz_has_an_array_a_clip_and_modality(tmp_path: Path) -> None:
    write(tmp_path / "out.npz", "a/one", "two")
    with np.load(tmp_path / "out.npz") as arrays:
        assert sorted(arrays.files) == ["a/one_flow", "a/one_rgb", "two_flow", "two_rgb"]
        np.testing.assert_array_equal(arrays["two_flow"], made("two").flow)


def test_a_folder_has_the_names_of_video_features_or_joined_of_actionformer(tmp_path: Path) -> None:
    write(tmp_path / "apart", "a/one")
    assert sorted(path.name for path in (tmp_path / "apart/a").iterdir()) == ["one_flow.npy", "one_rgb.npy"]
    write(tmp_path / "joined", "a/one", joined=True)
    one = made("a/one")
    assert one.rgb is not None
    assert one.flow is not None
    np.testing.assert_array_equal(
        np.load(tmp_path / "joined/a/one.npy"), np.concatenate([one.rgb, one.flow], axis=1)
    )


def test_the_csv_has_times_frames_fields_and_labels(tmp_path: Path) -> None:
    write(tmp_path / "out", "a/one")
    table = lines(tmp_path / "out")
    assert list(table[0]) == list(COLUMNS)
    expected = ("a/one", "1", "3", "0.500000", "0.750000", "1", "4", "3", "2 3", "run", "clips.h5")
    assert tuple(table[1].values()) == expected


@pytest.mark.parametrize("name", ["out.h5", "out.npz", "out"])
def test_a_run_goes_on_with_finished_clips_and_loses_the_one_that_was_cut(name: str, tmp_path: Path) -> None:
    out = tmp_path / name

    def interrupted() -> None:
        with files(out).opened() as writer:
            writer.write(made("one"))
            writer.write(made("two"))
            raise KeyboardInterrupt

    write(out, "zero")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    table = Path(f"{out}.csv")
    table.write_text(table.read_text()[:-30])  # the last line of `two` is cut off
    assert write(out, "two") == {"zero", "one"}
    assert write(out) == {"zero", "one", "two"}
    assert [line["id"] for line in lines(out)] == ["zero"] * 3 + ["one"] * 3 + ["two"] * 3
    assert not Path(f"{out}.parts").exists()


def test_other_settings_and_foreign_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "out.h5", "one")
    with (
        pytest.raises(InputError, match="window is 4 there and 8 here"),
        files(tmp_path / "out.h5", window=8).opened(),
    ):
        pass
    (tmp_path / "mine.npz").write_bytes(b"mine")
    with pytest.raises(InputError, match="has no"), files(tmp_path / "mine.npz").opened():
        pass
    (tmp_path / "out.h5").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"cannot be read.*remove it"), files(tmp_path / "out.h5").opened():
        pass
    (tmp_path / "labels.csv").write_text("id,label\n")
    with pytest.raises(InputError, match=r"labels\.csv is there"), files(tmp_path / "labels").opened():
        pass
    assert (tmp_path / "labels.csv").read_text() == "id,label\n"
