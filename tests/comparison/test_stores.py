from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.comparison.stores import CompareConfig, compare
from flowkit.errors import InputError, InvalidParameterError
from flowkit.flow_files.flo import write_flo
from flowkit.view.canvas import read_rgb
from flowkit.view.panels import contrast, write_worst
from tests.make import stores
from tests.make.small import SMALL, run


def config(a: Path, b: Path, **settings: object) -> CompareConfig:
    return CompareConfig(a=a, b=b, **settings)  # type: ignore[arg-type]


def write_truth(folder: Path, videos: dict[str, stores.Flow]) -> Path:
    for name, flow in videos.items():
        (folder / name).mkdir(parents=True)
        for k, field in enumerate(flow):
            write_flo(folder / name / f"{k:05d}.flo", field)
    return folder


def test_store_is_nothing_apart_from_itself(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a/x": stores.noise(3, 0), "b/y": stores.noise(2, 1)})
    found = compare(config(path, path))
    assert (found.overall.n_fields, found.overall.epe_max_px, found.overall.codes_changed) == (5, 0, 0)
    assert [video.video_id for video in found.videos] == ["a/x", "b/y"]
    assert found.failings(max_epe_px=0) == []


def test_codecs_differ_by_what_they_lose(tmp_path: Path) -> None:
    flow = {"a": stores.noise(4, 0, sigma_px=1.0)}
    fine = stores.write_store(tmp_path / "fine.h5", flow, codec="i16")
    coarse = stores.write_store(tmp_path / "coarse.h5", flow, codec="i8")
    found = compare(config(fine, coarse))
    # half a code of 1/8 px in u and in v
    assert 0.01 < found.overall.epe_mean_px < found.overall.epe_max_px <= np.hypot(1, 1) / 16 + 1e-6
    assert found.options == ("flow_codec: 'i16' and 'i8'",)


def test_store_against_ground_truth(tmp_path: Path) -> None:
    truth = {"drift/one": stores.steady(3, 2, 0), "drift/two": stores.steady(3, 0, 1)}
    off = {"drift/one": stores.steady(3, 2, 0.5), "drift/two": stores.steady(3, 0, 1)}
    folder = write_truth(tmp_path / "truth", truth)
    path = stores.write_store(tmp_path / "s.h5", off)
    found = compare(config(folder, path))
    means = {v.video_id: v.difference.epe_mean_px for v in found.videos if v.difference}
    assert means == {"drift/one": 0.5, "drift/two": 0.0}
    assert found.overall.epe_mean_px == 0.25
    assert found.overall.codes_changed == 0.25  # v of one of two videos
    assert found.failings(max_epe_px=0.5) == []
    assert found.failings(max_epe_px=0.4) == ["drift/one: mean EPE 0.5000 px, expected at most 0.4"]


def test_worst_field_is_found(tmp_path: Path) -> None:
    flow = stores.steady(6, 1, 0)
    off = flow.copy()
    off[4] += 2
    a = stores.write_store(tmp_path / "a.h5", {"x": flow})
    b = stores.write_store(tmp_path / "b.h5", {"x": off})
    video = compare(config(a, b)).videos[0]
    assert video.worst_field == 4
    assert video.worst_epe_px == pytest.approx(np.sqrt(8))


def test_videos_of_one_side_only_fail_unless_common_is_enough(tmp_path: Path) -> None:
    both, left, right = stores.steady(2, 1, 0), stores.steady(2, 0, 0), stores.steady(1, 0, 0)
    a = stores.write_store(tmp_path / "a.h5", {"both": both, "left": left})
    b = stores.write_store(tmp_path / "b.h5", {"both": both, "right": right})
    found = compare(config(a, b))
    assert (found.only_a, found.only_b) == (("left",), ("right",))
    assert len(found.failings()) == 2
    assert found.failings(common=True) == []


def test_one_video_each_is_compared_whatever_the_names(tmp_path: Path) -> None:
    a = stores.write_store(tmp_path / "a.h5", {"here": stores.steady(1, 1, 0)})
    write_flo(tmp_path / "truth.flo", stores.steady(1, 1, 0)[0])
    found = compare(config(a, tmp_path / "truth.flo"))
    assert (found.videos[0].video_id, found.videos[0].partner) == ("here", "truth")
    assert found.overall.epe_max_px == 0


def test_what_cannot_be_compared_is_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    a = {"size": stores.steady(2, 1, 0), "count": stores.steady(3, 1, 0), "ok": stores.steady(2, 1, 0)}
    b = a | {"size": stores.steady(2, 1, 0, width=21), "count": stores.steady(2, 1, 0)}
    found = compare(
        config(stores.write_store(tmp_path / "a.h5", a), stores.write_store(tmp_path / "b.h5", b))
    )
    videos = {video.video_id: video for video in found.videos}
    assert videos["size"].difference is None
    assert "sizes differ" in videos["size"].problem
    assert "3 and 2" in videos["count"].problem
    assert videos["count"].difference is not None
    assert videos["count"].difference.n_fields == 2
    assert videos["ok"].problem == ""
    assert len(found.failings()) == 2


def test_damaged_store_is_a_problem_of_its_video(tmp_path: Path) -> None:
    import h5py

    flow = {"bad": stores.noise(3, 0), "good": stores.noise(3, 1)}
    a, b = (stores.write_store(tmp_path / f"{name}.h5", flow) for name in "ab")
    with h5py.File(b) as file:
        where = file["videos/bad/flow"].id.get_chunk_info(1).byte_offset + 7
    data = bytearray(b.read_bytes())
    data[where] ^= 4
    b.write_bytes(data)
    problems = {video.video_id: video.problem for video in compare(config(a, b)).videos}
    assert "CRC" in problems["bad"]
    assert problems["good"] == ""


def test_fields_can_be_sampled(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.noise(9, 0), "b": stores.steady(0, 0, 0)})
    found = compare(config(path, path, most_fields=4))
    assert found.overall.n_fields == 4
    assert {video.video_id: video.problem for video in found.videos} == {"a": "", "b": ""}
    with pytest.raises(InvalidParameterError, match="most_fields"):
        config(path, path, most_fields=0)


def test_processes_find_what_one_does(tmp_path: Path) -> None:
    a = stores.write_store(tmp_path / "a.h5", {f"v{k:02}": stores.noise(2, k) for k in range(12)})
    b = stores.write_store(tmp_path / "b.h5", {f"v{k:02}": stores.noise(2, k + 50) for k in range(12)})
    seen: list[tuple[int, int]] = []
    alone = compare(config(a, b))
    shared = compare(config(a, b), jobs=2, on_video=lambda done, total: seen.append((done, total)))
    assert shared.videos == alone.videos
    assert shared.overall.epe_mean_px == pytest.approx(alone.overall.epe_mean_px, rel=1e-12)
    assert seen[-1] == (12, 12)


def test_sources_without_a_common_video_are_refused(tmp_path: Path) -> None:
    a = stores.write_store(tmp_path / "a.h5", {"a": stores.steady(1, 0, 0), "b": stores.steady(1, 0, 0)})
    b = stores.write_store(tmp_path / "b.h5", {"c": stores.steady(1, 0, 0), "d": stores.steady(1, 0, 0)})
    with pytest.raises(InputError, match="share no video: the first has 'a', 'b', the second 'c', 'd'"):
        compare(config(a, b))


def test_worst_cases_are_drawn_worst_first_and_inside_the_folder(tmp_path: Path) -> None:
    truth = {"dots..and/sla sh": stores.steady(2, 1, 0), "b": stores.steady(2, 1, 0)}
    off = {"dots..and/sla sh": stores.steady(2, 3, 0), "b": stores.steady(2, 2, 0)}
    a = stores.write_store(tmp_path / "a.h5", truth)
    b = stores.write_store(tmp_path / "b.h5", off)
    asked = config(a, b)
    written = list(write_worst(tmp_path / "out", asked, compare(asked)))
    assert [path.name for path in written] == ["01_dots..and_sla_sh_00000.png", "02_b_00000.png"]
    assert sorted((tmp_path / "out").iterdir()) == written
    assert len(list(write_worst(tmp_path / "few", asked, compare(asked), most=1))) == 1
    # four panels: the frame, a, b, the error
    assert read_rgb(written[0]).shape[1] == 6 + 4 * 326 + 150


def test_contrast_is_dark_where_fields_agree() -> None:
    a = stores.steady(1, 1, 0, height=40, width=80)[0]
    b = a.copy()
    b[0, :, 40:] += 4
    a[:, :4] = np.nan
    image = contrast(a, b, title="x")
    error = image[50 + 60 : 50 + 150, 6 + 2 * 326 : 6 + 2 * 326 + 320].astype(int).sum(axis=2)
    assert error[:, :150].max() < 20
    assert error[:, 170:].min() > 500


def test_a_field_is_compared_with_another_of_the_same_store(videos: Path, store: Path) -> None:
    fields = (("flow_dis", "dis/fast"),)
    run(videos, store, dataclasses.replace(SMALL, flow_codec="i16", more_fields=fields))
    found = compare(config(store, store, field_b="flow_dis"))
    assert (found.a, found.b) == (str(store), f"{store} flow_dis")
    assert found.options == ("method: TV-L1 preset fast and dis preset fast",)
    with flowkit.open(store) as opened:
        errors = [
            np.hypot(*np.moveaxis(opened[k].flow() - opened[k].flow(field="flow_dis"), 1, 0)).mean()
            for k in opened
        ]
    assert [video.difference.epe_mean_px for video in found.videos if video.difference] == pytest.approx(
        errors, rel=1e-4
    )
    assert min(errors) > 0.01
