"""The summary of a store and the page that shows it; what a browser makes of it is looked at by eye."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowkit
from flowkit.distribution import Distribution
from flowkit.store.record import Failure
from flowkit.view.motion import EDGES_PX
from flowkit.view.page import timeline, write_page
from flowkit.view.summary import SummaryConfig, VideoSummary, config_for, summarise
from tests.make import stores

HOSTILE = '</script><img src=x onerror=alert(1)>&amp;"\u2028{{ 7 * 7 }}{% raw %}'


def make_page(path: Path, page: Path, config: SummaryConfig, *, jobs: int = 1) -> list[VideoSummary]:
    rows: list[VideoSummary] = []
    speeds = Distribution()
    with flowkit.open(path) as store:
        for batch, measured in summarise(store, config, jobs=jobs):
            rows += batch
            speeds.merge(measured)
        size = write_page(page, store, rows, speeds=speeds, config=config)
    assert size == page.stat().st_size
    return rows


class Elements(HTMLParser):
    """Every element with its attributes, and the text of the scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style"):
            self.texts.append(data)


def data_of(html: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert match
    parsed: dict[str, Any] = json.loads(match[1])
    return parsed


def videos_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(data["columns"], row, strict=True)) for row in data["videos"]]


def test_page_holds_every_video_in_the_stores_order(tmp_path: Path) -> None:
    videos = {"b/two": stores.steady(3, 3, 4), "a/one": stores.steady(2, 0, 0)}
    failures = (Failure(source="x.mp4", reason="too_short", detail="1 frame"),)
    path = stores.write_store(tmp_path / "s.h5", videos, codec="i16", failures=failures)
    make_page(path, tmp_path / "p.html", SummaryConfig())
    data = data_of((tmp_path / "p.html").read_text())
    with flowkit.open(path) as store:
        assert [row["id"] for row in videos_of(data)] == list(store)
    two = next(row for row in videos_of(data) if row["id"] == "b/two")
    assert (two["label"], two["n_frames"], two["mean_px"], two["static_fraction"]) == ("b", 4, 5.0, 0.0)
    assert sum(two["histogram"]) == 1000
    assert data["failures"] == [["too_short", "x.mp4", "1 frame"]]
    tiles = {name: value for name, value, _, _ in data["tiles"]}
    assert (tiles["videos"], tiles["frames"], tiles["flow fields"], tiles["failures"]) == (2, 7, 5, 1)
    # three fields of 5 px, two still
    assert data["histogram"][0] == pytest.approx(0.4)
    assert data["histogram"][EDGES_PX.index(8.0)] == pytest.approx(0.6)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "_")
    failure = Failure(source=HOSTILE, reason="unopenable", detail=HOSTILE)
    path = stores.write_store(
        tmp_path / f"{name[:40]}.h5",
        {name: stores.steady(2, 1, 0)},
        labels={name: HOSTILE},
        failures=(failure,),
    )
    make_page(path, tmp_path / "p.html", SummaryConfig())
    html = (tmp_path / "p.html").read_text()
    elements = Elements(html)
    assert not [tag for tag, _ in elements.found if tag in ("img", "iframe", "object", "link", "base")]
    assert [tag for tag, _ in elements.found].count("script") == 3  # data, one block of images, the script
    assert not [attrs for _, attrs in elements.found if any(name.startswith("on") for name in attrs)]
    data = data_of(html)
    assert videos_of(data)[0]["id"] == name
    assert videos_of(data)[0]["label"] == HOSTILE
    assert data["failures"] == [["unopenable", HOSTILE, HOSTILE]]


def test_page_may_run_its_own_script_and_load_nothing(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.steady(2, 1, 0)})
    make_page(path, tmp_path / "p.html", SummaryConfig())
    html = (tmp_path / "p.html").read_text()
    policy = unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', html)[0])
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind in ("script", "style"):
        text = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)[0]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    fetched = re.findall(
        r"(?:src|href|action)\s*=\s*[\"']?(?!x)[^\s>]*|url\(|@import|https?://[^\s\"']*", html
    )
    assert {word for word in fetched if word != "http://www.w3.org/2000/svg"} == set()
    assert not re.search("{{|{%|{#", html)


def test_thumbnails_are_in_blocks_in_the_order_of_the_rows(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.steady(2, 1, 0)})
    rows = [VideoSummary(video_id=f"v{k:03}", thumbnail=b"image %d" % k) for k in range(120)]
    with flowkit.open(path) as store:
        write_page(tmp_path / "p.html", store, rows, speeds=Distribution(), config=SummaryConfig())
    html = (tmp_path / "p.html").read_text()
    blocks = re.findall(r'id="thumbnails-(\d+)">([^<]*)<', html)
    assert len(blocks) > 1
    assert [int(number) for number, _ in blocks] == list(range(len(blocks)))
    images = [text.split(",") for _, text in blocks]
    # The page's script finds row k in block k // size.
    assert {len(block) for block in images[:-1]} == {data_of(html)["thumbnails_per_block"]}
    assert [base64.b64decode(image) for block in images for image in block] == [row.thumbnail for row in rows]


def test_many_videos_stay_within_the_budget_of_each(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.noise(60, seed=0)})
    config = config_for(10_000)
    with flowkit.open(path) as store:
        one = next(iter(summarise(store, config)))[0][0]
        rows = [
            VideoSummary(video_id=f"class/v_{k:05}", record=one.record, motion=one.motion)
            for k in range(1000)
        ]
        size = write_page(tmp_path / "p.html", store, rows, speeds=Distribution(), config=config)
    # bytes a video without its image, which adds about 1.2 kB: 20 MB for 10,000 videos at most
    assert size < 40_000 + 600 * len(rows)


def test_damaged_video_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    import h5py

    path = stores.write_store(tmp_path / "s.h5", {"a": stores.noise(3, 0), "b": stores.noise(3, 1)})
    with h5py.File(path) as file:
        where = file["videos/a/flow"].id.get_chunk_info(1).byte_offset + 7
    data = bytearray(path.read_bytes())
    data[where] ^= 4
    path.write_bytes(data)
    rows = make_page(path, tmp_path / "p.html", SummaryConfig())
    problems = {row.video_id: row.problem for row in rows}
    assert "CRC" in problems["a"]
    assert problems["b"] == ""
    tiles = {name: value for name, value, _, _ in data_of((tmp_path / "p.html").read_text())["tiles"]}
    assert tiles["unreadable"] == 1


def test_processes_find_what_one_does(tmp_path: Path) -> None:
    videos = {f"v{k}": stores.noise(3, k) for k in range(5)}
    path = stores.write_store(tmp_path / "s.h5", videos)
    alone = make_page(path, tmp_path / "p.html", SummaryConfig())
    shared = make_page(path, tmp_path / "q.html", SummaryConfig(), jobs=2)
    assert sorted(shared, key=lambda row: row.video_id) == sorted(alone, key=lambda row: row.video_id)
    assert (tmp_path / "p.html").read_bytes() == (tmp_path / "q.html").read_bytes()


def test_store_without_frames_or_flow_is_shown(tmp_path: Path) -> None:
    videos = {"moves": stores.noise(3, 0), "none": stores.steady(0, 0, 0)}
    path = stores.write_store(tmp_path / "s.h5", videos, frames=False)
    rows = {row.video_id: row for row in make_page(path, tmp_path / "p.html", SummaryConfig())}
    assert rows["moves"].thumbnail[8:12] == b"WEBP"
    assert rows["none"].thumbnail == b""
    assert rows["none"].problem == ""


def test_page_replaces_the_last_one_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.steady(2, 1, 0)})
    page = tmp_path / "out" / "p.html"
    page.parent.mkdir()
    page.write_text("old")
    make_page(path, page, SummaryConfig(thumbnail_height=0))
    assert page.read_text().startswith("<!doctype html>")
    assert list(page.parent.iterdir()) == [page]


def test_timeline_keeps_the_order_and_the_scale() -> None:
    assert timeline([]) == ""
    assert len(timeline(np.linspace(0, 64, 500).tolist())) == 60
    # Level k of 64 is log2(1 + 8 px) = 9 k / 63.
    levels = [timeline([(2 ** (k / 7) - 1) / 8]) for k in range(64)]
    assert len(set(levels)) == 64
    assert timeline([0.0, 1000.0]) == levels[0] + levels[-1]
    assert timeline([0, 0.5, 1, 2, 4, 8]) == "".join(levels[k] for k in (0, 16, 22, 29, 35, 42))


def test_the_pages_script_reads_the_timelines_letters(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.steady(2, 1, 0)})
    make_page(path, tmp_path / "p.html", SummaryConfig())
    levels = "".join(timeline([(2 ** (k / 7) - 1) / 8]) for k in range(64))
    assert f'"{levels}"' in (tmp_path / "p.html").read_text()
