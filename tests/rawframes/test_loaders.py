"""Exported folders read by the rules of the projects they are for.

The loaders below are written from those projects' documentation, know nothing of flowkit, and read
images with OpenCV: what they return is compared with what the store returns.

TSN: "Each line of the list file will contain a tuple of extracted video frame path, video frame number,
and video groundtruth class"; its PyTorch version asks for img_{:05d}.jpg and flow_{}_{:05d}.jpg with x
and y, numbers 1 to the list's count. mmaction2: RawframeDataset joins a line's folder to data_prefix,
numbers start at start_index (1), images are img_{:05}.jpg, flow {}_{:05d}.jpg with x and y.
denseflow's README and source: img_%05d.jpg and flow_x_%05d.jpg from 0, below class folders with -cf.
"""

from __future__ import annotations

import dataclasses
import glob
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import flowkit
from tests.rawframes.conftest import MakeStore, run_export

UInt8 = NDArray[np.uint8]

CLIPS = {"run/v_run_g01": 6, "walk/v_walk_g01": 8, "walk/v_walk_g02": 5}


@dataclasses.dataclass
class Record:
    """A line of a list."""

    folder: str
    count: int
    label: int


def read_list(path: Path, *, root: str = "") -> list[Record]:
    records = []
    for line in path.read_text().splitlines():
        folder, count, label = line.strip().split(" ")
        records.append(Record(os.path.join(root, folder), int(count), int(label)))
    return records


def load(record: Record, template: str, numbers: range, *words: str) -> UInt8:
    """Load the images of a template, colour ones as RGB; one plane for each of `words`."""
    images = []
    for number in numbers:
        for word in words or ("",):
            path = os.path.join(record.folder, template.format(*([word] if word else []), number))
            image = cv2.imread(path, cv2.IMREAD_GRAYSCALE if word else cv2.IMREAD_COLOR)
            assert image is not None, f"the loader asked for {path}"
            images.append(image if word else cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return np.asarray(images, np.uint8)


def check_frames(store: Path, video_id: str, frames: UInt8) -> None:
    with flowkit.open(store) as opened:
        clip = opened[video_id]
        assert len(frames) == clip.n_frames
        assert np.array_equal(frames, clip.frames(range(clip.n_frames)))


def check_flow(store: Path, video_id: str, planes: UInt8) -> None:
    """Planes x1, y1, x2, ... by the loaders' own inverse: v = code * 40 / 255 - 20."""
    with flowkit.open(store) as opened:
        clip = opened[video_id]
        flow = planes.reshape(-1, 2, clip.height, clip.width) * (40 / 255) - 20
        assert len(flow) == clip.n_flow
        # Half a code is .08 px; JPEG at quality 95 moves single codes by a few, .16 px each.
        error = np.abs(flow - clip.flow())
        assert float(error.mean()) < 0.2
        assert float(error.max()) < 1.0


@pytest.fixture
def store(make_store: MakeStore, tmp_path: Path) -> Path:
    splits = tmp_path / "out.h5.splits"
    splits.mkdir()
    (splits / "split1.csv").write_text(
        "id,subset,group\nwalk/v_walk_g01,train,g01\nrun/v_run_g01,train,g01\nwalk/v_walk_g02,test,g02\n"
    )
    return make_store(CLIPS)


def test_tsns_lists_and_names_lead_to_the_stores_frames_and_flow(store: Path, tmp_path: Path) -> None:
    dest = tmp_path / "frames"
    run_export(store, dest)
    lists = dest / "annotations" / "split1"
    rgb, flow = read_list(lists / "rgb_train.txt"), read_list(lists / "flow_train.txt")
    assert [(record.count, record.label) for record in rgb] == [(8, 1), (6, 0)]
    for record in rgb:
        video_id = os.path.relpath(record.folder, dest)
        check_frames(store, video_id, load(record, "img_{:05d}.jpg", range(1, record.count + 1)))
    for record in flow:
        video_id = os.path.relpath(record.folder, dest)
        planes = load(record, "flow_{}_{:05d}.jpg", range(1, record.count + 1), "x", "y")
        check_flow(store, video_id, planes)
    assert [os.path.basename(r.folder) for r in read_list(lists / "rgb_test.txt")] == ["v_walk_g02"]


def test_tsns_file_counts_agree_with_the_lists(store: Path, tmp_path: Path) -> None:
    """TSN's `parse_directory`: files that start with img_, flow_x_ and flow_y_ in each folder."""
    dest = tmp_path / "frames"
    run_export(store, dest)
    records = read_list(dest / "annotations/all/rgb_all.txt")
    assert len(records) == len(CLIPS)
    for record in records:
        names = os.listdir(record.folder)
        counts = [sum(name.startswith(p) for name in names) for p in ("img_", "flow_x_", "flow_y_")]
        assert counts == [record.count, record.count - 1, record.count - 1]


@pytest.mark.parametrize(
    ("templates", "flow_template"),
    [((), "{}_{:05d}.jpg"), (("x=flow_x_%05d.jpg", "y=flow_y_%05d.jpg"), "flow_{}_{:05d}.jpg")],
)
@pytest.mark.parametrize("start_index", [1, 0])
def test_mmaction2s_dataset_finds_frames_and_flow(
    store: Path, tmp_path: Path, templates: tuple[str, ...], flow_template: str, start_index: int
) -> None:
    prefix = tmp_path / "rawframes"
    changes = {} if start_index == 1 else {"first_index": start_index}
    run_export(store, prefix, "mmaction2", templates=templates, **changes)
    lists = prefix / "annotations" / "split1"
    for record in read_list(lists / "rgb_train.txt", root=str(prefix)):
        video_id = os.path.relpath(record.folder, prefix)
        numbers = range(start_index, start_index + record.count)
        check_frames(store, video_id, load(record, "img_{:05}.jpg", numbers))
    for record in read_list(lists / "flow_train.txt", root=str(prefix)):
        video_id = os.path.relpath(record.folder, prefix)
        numbers = range(start_index, start_index + record.count)
        check_flow(store, video_id, load(record, flow_template, numbers, "x", "y"))


def test_mmaction2s_file_list_script_could_count_the_folders(store: Path, tmp_path: Path) -> None:
    """mmaction2's `parse_directory` with level 2 lists the files of every entry of `*/*`."""
    prefix = tmp_path / "rawframes"
    run_export(store, prefix, "mmaction2", templates=("x=flow_x_%05d.jpg", "y=flow_y_%05d.jpg"))
    counts = {}
    for folder in glob.glob(os.path.join(prefix, "*", "*")):
        names = os.listdir(folder)
        key = os.path.join(os.path.basename(os.path.dirname(folder)), os.path.basename(folder))
        counts[key] = tuple(sum(name.startswith(p) for name in names) for p in ("img_", "flow_x_", "flow_y_"))
    clips = {key: count for key, count in counts.items() if any(count)}
    assert clips == {video_id: (n, n - 1, n - 1) for video_id, n in CLIPS.items()}


def test_denseflows_folders_count_from_0_below_class_folders(store: Path, tmp_path: Path) -> None:
    dest = tmp_path / "flow"
    run_export(store, dest, "denseflow")
    for video_id, n in CLIPS.items():
        record = Record(str(dest / video_id), n, 0)
        check_frames(store, video_id, load(record, "img_{:05d}.jpg", range(n)))
        check_flow(store, video_id, load(record, "flow_{}_{:05d}.jpg", range(n - 1), "x", "y"))
        assert len(os.listdir(record.folder)) == 3 * n - 2
