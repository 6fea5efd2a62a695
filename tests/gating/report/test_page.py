"""The page of a run; its look in a browser is checked by eye."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from flowkit.errors import InvalidParameterError
from gating.errors import ScoresError
from gating.report import newest_run, write_report
from tests.make import clips, small
from tests.make.scores import CHEAP, made_comparison, write_run

HOSTILE = "</script><img src=x onerror=alert(1)>&amp;\"'\u2028{{ 7 * 7 }}{% raw %}"
CLASSES = ("up", "down", HOSTILE)


class Page(HTMLParser):
    """Every element with its attributes, what is open, and all text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        self.raw[inside].append(data) if inside in self.raw else self.words.append(data)


def page_of(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def ids(count: int) -> list[str]:
    return [f"clip{k}{HOSTILE if k == 0 else ''}" for k in range(count)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    trials = [made_comparison(ids(30), CLASSES, seed=seed) for seed in (0, 1)]
    context = {"config": {"preset": "tiny", "gate": {"width": 0.125}}, "data": {"fingerprint": "abc"}}
    return write_run(tmp_path / "runs" / "one", trials, **context)


def test_page_is_whole_and_names_every_fusion(out: Path) -> None:
    path = write_report(out)
    assert path == out / "report.html"
    page = page_of(path)
    for name in (*CHEAP, "gating"):
        assert name in page.words
    for words in ("a bound, no method", "gate.width", "0.125", "fingerprint", "abc", "30 test clips"):
        assert words in page.text


def test_page_loads_nothing_and_runs_only_its_own_script(out: Path) -> None:
    page = page_of(write_report(out))
    for name, attributes in page.found:
        assert name not in ("link", "iframe", "object", "base")
        assert not any(key.startswith("on") or key == "style" for key in attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
        assert "href" not in attributes
    assert not re.search(r"https?://", "".join(page.raw["style"] + page.raw["script"]))
    policy = next(a["content"] for _, a in page.found if a.get("http-equiv") == "Content-Security-Policy")
    for text in (*page.raw["style"], page.raw["script"][1]):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in (policy or "")


def test_names_are_text_whatever_they_hold(out: Path) -> None:
    path = write_report(out)
    html = path.read_text()
    assert "<img src=x" not in html
    page = page_of(path)
    assert HOSTILE in page.text
    assert any(HOSTILE in (attributes.get("title") or "") for _, attributes in page.found)
    assert any(HOSTILE in (attributes.get("aria-label") or "") for _, attributes in page.found)
    data = json.loads(page.raw["script"][0])
    assert data["classes"] == list(CLASSES)
    assert sum(data["matrices"]["gating"][2::3]) == 2 * 30


def test_clips_have_images_where_the_store_has_them(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    clips.lossless_mkv(tmp_path / "videos" / "clip1.mkv", clips.moving_texture(4))
    store = tmp_path / "s.h5"
    small.run(tmp_path / "videos", store)
    trial = made_comparison([f"clip{k}" for k in range(30)], CLASSES)
    labels, gate, fixed = trial.scores.labels, trial.fused["gating"], trial.fused["search"]
    # The plainest of all: wholly saved.
    gate[1], fixed[1] = 0, 0
    gate[1, labels[1]], fixed[1, (labels[1] + 1) % 3] = 99, 99
    page = page_of(write_report(write_run(tmp_path / "run", [trial], data={"store": str(store)})))
    images = [a for name, a in page.found if name == "img"]
    assert [a["alt"] for a in images[1:]] == ["frame", "flow"]
    assert "not in the store" in page.text
    assert str(store) in page.text


def test_a_store_that_is_not_there_is_reported_and_costs_no_page(out: Path) -> None:
    page = page_of(write_report(out, store=out / "absent.h5"))
    assert "These clips have no images" in page.text
    assert "absent.h5" in page.text
    assert not [name for name, _ in page.found if name == "img"]


def test_no_store_at_all_is_reported(out: Path) -> None:
    assert "the run names no store that exists" in page_of(write_report(out)).text


def test_number_of_clips_is_kept_to(out: Path) -> None:
    for count in (0, 1, 5):
        page = page_of(write_report(out, clips=count))
        # Both sections with clips have that many at most, and the first has them all.
        assert count <= len([name for name, _ in page.found if name == "article"]) <= 2 * count
    with pytest.raises(InvalidParameterError, match="clips"):
        write_report(out, clips=-1)


def test_a_run_without_a_gate_has_a_page(tmp_path: Path) -> None:
    out = write_run(tmp_path / "run", [made_comparison(ids(12), CLASSES, gate=False)])
    text = page_of(write_report(out)).text
    assert "no gate" in text
    assert "Confusion" in text
    assert "Weights of the gate" not in text


def test_gate_whose_weights_are_all_zero_is_shown(tmp_path: Path) -> None:
    trial = made_comparison(ids(12), CLASSES)
    scores = dataclasses.replace(trial.scores, gates=np.zeros((12, 2)))
    out = write_run(tmp_path / "run", [dataclasses.replace(trial, scores=scores)])
    text = page_of(write_report(out)).text
    assert text.count("Every weight is zero.") == 1  # of the fractions; the sums are known, and 0
    assert "both are zero, so the fixed weights served" in text


def test_folds_and_a_results_file_that_lacks_everything(tmp_path: Path) -> None:
    trials = [
        made_comparison([f"{part}-{k}" for k in range(9)], CLASSES, part=part, kind="fold")
        for part in ("0", "1")
    ]
    out = write_run(tmp_path / "run", trials)
    (out / "results.json").unlink()
    text = page_of(write_report(out, dest=tmp_path / "new" / "p.html")).text
    assert "results.json has none" in text
    assert "18 test clips" in text


def test_a_hundred_classes_stay_light(tmp_path: Path) -> None:
    classes = [f"a class of some name {k}" for k in range(101)]
    out = write_run(tmp_path / "run", [made_comparison([f"v{k}" for k in range(202)], classes)])
    assert write_report(out).stat().st_size < 1_000_000


def test_trials_of_other_classes_are_refused(out: Path) -> None:
    write_run(out, [made_comparison(ids(30), ("a", "b", "c"), seed=2)])
    with pytest.raises(ScoresError, match="several configurations"):
        write_report(out)


def test_a_damaged_results_file_is_reported(out: Path) -> None:
    (out / "results.json").write_text("{")
    with pytest.raises(ScoresError, match="is no JSON"):
        write_report(out)


def test_newest_run_is_the_one_compared_last(out: Path) -> None:
    write_run(out.parent / "two", [made_comparison(ids(12), CLASSES)])
    (out.parent / "unfinished").mkdir()
    os.utime(next(out.glob("*/seed0/judgement.json")), (1, 1))
    os.utime(next(out.glob("*/seed1/judgement.json")), (1, 1))
    assert newest_run(out.parent) == out.parent / "two"
    with pytest.raises(ScoresError, match="no run"):
        newest_run(out)
