"""Workloads on a command line, and the images of sections."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.cuda_environment import candidates
from benchmarks.cuda_workload import (
    Workload,
    add_arguments,
    cluster_name,
    images_and_pairs,
    tile_name,
    waves,
    words_of,
    workload_of,
)
from flowkit.tvl1.cuda.cluster import ClusterShape
from flowkit.tvl1.cuda.plan import TileShape

WORDS = (
    "--size 340x256 320x240 --pairs 8 --iterations 20 --copy-bytes 64 --video a.avi --clips 2 3 4 "
    "--tile 1x4x16x5 --cluster 256x192=8x1x12x16x2 10x1x16x15"
)


def parse(words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words.split())


def test_options_give_a_workload() -> None:
    workload = workload_of(parse(WORDS))
    assert workload == Workload(
        sizes=((256, 340), (240, 320)),
        pairs=8,
        iterations=20,
        copy_bytes=64,
        clips=(2, 3, 4),
        video="a.avi",
        tiles=(TileShape(columns=1, halo=5),),
        clusters={
            (192, 256): ClusterShape(columns=8, rows=1, warps=12, blocks=16, resident=2),
            # Without a size: of the first one's frames.
            (256, 340): ClusterShape(columns=10, rows=1, warps=16, blocks=15),
        },
    )
    assert tile_name(workload.tiles[0]) == "1x4x16x5"
    assert cluster_name(workload.clusters[192, 256]) == "8x1x12x16x2"
    assert cluster_name(workload.clusters[256, 340]) == "10x1x16x15"


def test_words_pass_the_options_on() -> None:
    assert words_of(parse(WORDS)) == WORDS.split()
    assert words_of(parse("")) == []
    assert workload_of(parse("")) == Workload()


def test_a_workload_limits_iterations_and_pairs() -> None:
    workload = Workload(pairs=256, iterations=20)
    assert (workload.params().iterations, workload.params("accurate").iterations) == (20, 20)
    assert (workload.params(forced=True).epsilon, workload.params(levels=1).nscales) == (0, 1)
    assert (workload.pairs_at((240, 320)), workload.pairs_at((720, 1280))) == (256, 21)
    assert workload.pairs_at((20, 34)) == 256


def test_images_move_and_pairs_go_round() -> None:
    images, rows = images_and_pairs((20, 34), 70)
    assert images.shape == (33, 20, 34)
    assert rows.shape == (70, 2)
    assert (rows[32] == [0, 1]).all()
    assert (np.abs(np.diff(images.astype(int), axis=0)).mean((1, 2)) > 1).all()


def test_waves_are_grey_values_moved_by_a_flow() -> None:
    still, moved = waves((30, 40)), waves((30, 40), (3, -2))
    np.testing.assert_allclose(moved[:-2, 3:], still[2:, :-3], atol=1e-4)
    assert still.min() >= 20
    assert still.max() <= 235


def test_candidates_cover_their_levels() -> None:
    for (height, width), shape in candidates():
        assert shape.rows * shape.warps * shape.blocks >= height
        assert 32 * shape.columns >= width
        assert shape.shared_bytes < 227 * 1024


def test_frames_of_a_video_are_solved_in_place_of_made_ones(tmp_path: Path) -> None:
    path = str(tmp_path / "a.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 25, (34, 20))
    for level in (10, 100, 200):
        writer.write(np.full((20, 34, 3), level, np.uint8))
    writer.release()
    images, rows = images_and_pairs((10, 17), 4, path)
    assert images.shape == (3, 10, 17)
    assert np.abs(images.mean((1, 2)) - (10, 100, 200)).max() < 3
    assert rows.tolist() == [[0, 1], [1, 2], [0, 1], [1, 2]]
    with pytest.raises(ValueError, match="0 frames read, a pair needs 2"):
        images_and_pairs((10, 17), 4, str(tmp_path / "none.avi"))
