"""Streams of files: the same from each form, and a clear error for what is missing or wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

pytest.importorskip("torch")

from flowkit.errors import InputError
from gating.fusing.inputs import StreamArrays, read_stream

IDS = ("a/1", "a/2", "b")
SCORES = np.array([[2.0, -1.0], [0.5, 0.0], [3.0, 4.0]])


def features(segments: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, segments, 5)).astype(np.float32)


def write(path: Path, arrays: Mapping[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return path
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = (
                [one.encode() for one in value.tolist()] if np.asarray(value).dtype.kind == "U" else value
            )
    return path


def full(**changes: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "ids": np.array(IDS),
        "features": features(),
        "maps": np.ones((3, 2, 4, 4), np.float16),
        "more": np.zeros(7),
    }
    arrays |= changes
    return {key: value for key, value in arrays.items() if value is not None}


@pytest.mark.parametrize("name", ["s.npz", "s.h5"])
def test_npz_and_hdf5_hold_the_same(name: str, tmp_path: Path) -> None:
    read = read_stream(write(tmp_path / name, full()))
    assert (read.name, read.ids, read.gives_scores) == ("s", IDS, False)
    assert read.features is not None
    assert np.array_equal(read.features, features())
    assert read.maps is not None
    assert read.maps.dtype == np.float16
    scored = read_stream(
        write(tmp_path / name, full(features=None, scores=SCORES, classes=np.array(["x", "y"])))
    )
    assert scored.gives_scores
    assert scored.classes == ("x", "y")
    assert np.array_equal(scored.scores, SCORES)  # type: ignore[arg-type]


def test_segments_are_pooled_to_their_mean_and_std() -> None:
    pooled = StreamArrays(name="s", ids=IDS, features=features()).pooled()
    expected = np.concatenate([features().mean(axis=1), features().std(axis=1)], axis=1)
    assert pooled is not None
    assert np.allclose(pooled, expected, atol=1e-6)  # float32
    for single in (features(1), features(1)[:, 0]):
        assert np.array_equal(StreamArrays(name="s", ids=IDS, features=single).pooled(), features(1)[:, 0])  # type: ignore[arg-type]
    maps = np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2)
    assert np.array_equal(StreamArrays(name="s", ids=IDS, maps=maps).pooled(), maps.mean(axis=(2, 3)))  # type: ignore[arg-type]
    scores = StreamArrays(name="s", ids=IDS, scores=SCORES, classes=("x", "y"))
    assert scores.pooled() is None


def test_a_folder_has_a_file_a_clip_and_any_number_of_segments(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for video_id, array in zip(IDS, features(), strict=True):
        np.save(tmp_path / f"{video_id}.npy", array)
    read = read_stream(tmp_path)
    assert read.ids == IDS
    assert np.array_equal(read.features, features())  # type: ignore[arg-type]
    np.save(tmp_path / "b.npy", features()[2, :3])
    expected = np.concatenate([features()[2, :3].mean(axis=0), features()[2, :3].std(axis=0)])
    assert np.allclose(read_stream(tmp_path).pooled()[2], expected, atol=1e-6)  # type: ignore[index]
    np.save(tmp_path / "b.npy", features()[2, :, :3])
    with pytest.raises(InputError, match=re.escape("b.npy has (4, 3), and a/1.npy (4, 5)")):
        read_stream(tmp_path)


WRONG = {
    "no key": (full(ids=None), "has no ids; expected the keys ids and one or more of scores"),
    "no array": (full(features=None, maps=None), "has none of scores, features and maps"),
    "no classes": (full(scores=SCORES), "scores without classes"),
    "classes": (
        full(scores=SCORES, classes=np.array(["x"])),
        "classes must name the 2 columns of scores, each once",
    ),
    "probabilities": (
        full(scores=np.full((3, 2), 0.5), classes=np.array(["x", "y"])),
        "must be those before softmax, got probabilities",
    ),
    "twice": (full(ids=np.array(["a", "a", "b"])), r"1 ids occur twice: \['a'\]"),
    "empty": (full(ids=np.array(["a", "", "b"])), "none of them empty"),
    "numbers": (full(ids=np.arange(3)), "must be text of one axis, got int"),
    "axes": (
        full(features=np.zeros(3)),
        r"features must be \(N, D\) or \(N, K, D\) with N = 3 as ids, got \(3,\)",
    ),
    "clips": (full(maps=np.zeros((2, 2, 4, 4))), r"maps must be \(N, C, h, w\) with N = 3 as ids"),
    "text": (full(features=np.array([["x"]] * 3)), "features must be numbers, got"),
    "NaN": (
        full(features=np.where(np.arange(3)[:, None] == 1, np.nan, np.zeros((3, 2)))),
        r"features must be finite, got NaN.* in 1 of 3 clips: \['a/2'\]",
    ),
    "large": (full(features=np.full((3, 2), 1e39)), "beyond float32 in 3 of 3 clips"),
}


@pytest.mark.parametrize("name", ["s.npz", "s.h5"])
@pytest.mark.parametrize("fault", WRONG)
def test_what_is_missing_or_wrong_is_named(fault: str, name: str, tmp_path: Path) -> None:
    arrays, message = WRONG[fault]
    if name == "s.h5" and fault == "text":
        pytest.skip("HDF5 has no such array of text here")
    with pytest.raises(InputError, match=message):
        read_stream(write(tmp_path / name, arrays))


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"s\.npz cannot be read"):
        read_stream(tmp_path / "s.npz")
    np.savez(tmp_path / "o.npz", ids=np.array(["a", None], dtype=object))
    with pytest.raises(InputError, match=r"np\.array\(ids, dtype=str\)"):
        read_stream(tmp_path / "o.npz")
    with pytest.raises(InputError, match=r"a file \.npz, \.h5 or \.hdf5, or a folder"):
        read_stream(tmp_path / "s.pkl")
    with pytest.raises(InputError, match=r"has no file \.npy"):
        read_stream(write(tmp_path / "s.npz", full()).parent)
    with h5py.File(tmp_path / "l.h5", "w") as file:
        file["ids"] = h5py.ExternalLink("s.h5", "ids")
    with pytest.raises(InputError, match="links to elsewhere"):
        read_stream(tmp_path / "l.h5")
