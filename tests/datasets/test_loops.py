"""Every loop of docs/loops.md, with the real library, for two epochs: what it gets is what the store has.

Where a library does not import, its test is skipped with a word; with FLOWKIT_REQUIRE_READERS=1, as CI has
it, it fails. mmaction2 has no installation here: its loader's logic is restated below.
"""

from __future__ import annotations

import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import flowkit
from flowkit.datasets import ClipSamples

from .conftest import MakeStore

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
# Whole batches of 4: a loop that counts them never asks the sampler for more.
CLIPS = {
    "run/a": 9,
    "run/b": 12,
    "run/c": 7,
    "run/d": 8,
    "walk/a": 10,
    "walk/b": 8,
    "walk/c": 11,
    "walk/d": 7,
}
EPOCHS = 2
# What these libraries say on import would fail whatever test runs meanwhile: each loop is a process.
HEAD = """
import pickle
import numpy as np
seen = []
def plain(value):
    if isinstance(value, str):
        return value
    return value.numpy().copy() if hasattr(value, "numpy") else np.array(value)
def step(*values):
    seen.append([plain(value) for value in values])
"""
TAIL = """
with open("seen.pickle", "wb") as file:
    pickle.dump(seen, file)
"""

pytestmark = pytest.mark.slow


def section(title: str, page: str = "loops.md") -> str:
    text = (DOCS / page).read_text(encoding="utf-8")
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def blocks(text: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def codec() -> str:
    return "i8"


@pytest.fixture
def store(make_store: MakeStore, codec: str) -> Path:
    return make_store(CLIPS, flow_codec=codec)


def export(title: str, store: Path) -> None:
    """Run the commands of a section."""
    for line in "".join(blocks(section(title), "bash")).splitlines():
        program, *words = shlex.split(line)
        assert program == "flowkit"
        subprocess.run([sys.executable, "-m", "flowkit_cli", *words], cwd=store.parent, check=True)


def seen_by(code: str, store: Path, *, head: str = "") -> list[list[Any]]:
    """Run a loop beside its store; return what each call of `step` got."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + head + code + TAIL],
        cwd=store.parent,
        env=os.environ
        | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(store.parent / "home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    missing = re.search(r"^ModuleNotFoundError: .*$", done.stderr, re.MULTILINE)
    if missing and os.environ.get("FLOWKIT_REQUIRE_READERS") != "1":
        pytest.skip(f"a library of the loop is not installed: {missing[0]}")
    assert done.returncode == 0, done.stdout + done.stderr
    calls: list[list[Any]] = pickle.loads((store.parent / "seen.pickle").read_bytes())
    return calls


def check_batches(calls: list[list[Any]], expected: ClipSamples, *, frames: bool = True) -> None:
    """Compare the batches of two epochs, (rgb, flow, label), with those of the same samples read here."""
    wanted = [batch for epoch in range(EPOCHS) for batch in expected.batches(4, epoch=epoch)]
    assert len(calls) == len(wanted) == 4
    for (*rgb, flow, labels), batch in zip(calls, wanted, strict=True):
        assert np.array_equal(flow, batch.flow)
        assert labels.tolist() == batch.labels.tolist()
        assert len(rgb) == frames
        if batch.rgb is not None:
            assert np.array_equal(rgb[0], batch.rgb)
    assert not np.array_equal(calls[0][-2], calls[2][-2])


def test_pytorch(store: Path) -> None:
    (code,) = blocks(section("PyTorch"))
    settings: dict[str, Any] = {"resize": 256, "crop": (224, 224), "flip": 0.5, "flow_form": "tsn"}
    calls = seen_by(code, store)
    assert [call[1].shape for call in calls[:2]] == [(4, 3, 10, 224, 224)] * 2
    check_batches(calls, ClipSamples(store, training=True, **settings))


def test_lightning(store: Path) -> None:
    (code,) = blocks(section("Lightning"))
    head = """
def step(net, batch):
    assert net.training
    seen.append([plain(batch["flow"]), plain(batch["label"])])
    return net(batch["flow"].flatten(0, 1).float()).mean()
"""
    expected = ClipSamples(store, training=True, crop=(14, 14), frames=False, flow_form="tsn")
    check_batches(seen_by(code, store, head=head), expected, frames=False)


def test_numpy_alone(store: Path) -> None:
    (code,) = blocks(section("NumPy alone"))
    calls = seen_by(code, store, head="import sys\n")
    assert calls[0][1].shape == (4, 3, 10, 240, 320)
    check_batches(calls, ClipSamples(store, training=True, resize=(240, 320), flip=0.5, flow_form="px"))


def check_clips(calls: list[list[Any]], store: Path) -> None:
    """Compare clips (id, label, ..., flow) of two epochs with the store."""
    assert len(calls) == EPOCHS * len(CLIPS)
    orders = [[str(call[0]) for call in calls[k * len(CLIPS) :][: len(CLIPS)]] for k in range(EPOCHS)]
    assert [sorted(order) for order in orders] == [sorted(CLIPS)] * EPOCHS
    with flowkit.open(store) as opened:
        for video_id, label, *frames, flow in calls:
            clip = opened[str(video_id)]
            assert label in (clip.label, opened.labels.index(clip.label))
            # What one process decodes is what another does, but for the order of float32 operations at 20 px.
            assert np.abs(flow - clip.flow(0, len(flow))).max() < 1e-5
            for images in frames:
                assert np.array_equal(images, clip.frames())


def test_hugging_faces_datasets(store: Path) -> None:
    (code,) = blocks(section("Hugging Face datasets"))
    assert "flowkit" not in code
    loop = "for epoch in range(2):\n    data.set_epoch(epoch)\n    for clip in data:\n"
    _, found, body = code.partition(loop)
    assert found
    # Once more from the workers of a loader, as the page says.
    workers = (
        "from torch.utils.data import DataLoader\ndata = DataLoader(data, batch_size=None, num_workers=2)\n"
    )
    calls = seen_by(code + workers + "for epoch in range(2):\n    for clip in data:\n" + body, store)
    assert (calls[0][2].shape, calls[0][2].dtype) == ((5, 2, 16, 24), np.float32)
    n = len(CLIPS)
    check_clips(calls[: 2 * n], store)
    check_clips(calls[2 * n :], store)
    assert [call[0] for call in calls[:n]] != [call[0] for call in calls[n : 2 * n]]


@pytest.mark.parametrize("codec", ["jpeg"])  # whose bytes are exported, so that flow is the same
def test_webdataset(store: Path) -> None:
    export("webdataset", store)
    (code,) = blocks(section("webdataset"))
    page = section("Other training loops", "move-from-mmaction2.md")
    (unpack,) = [block for block in blocks(page) if "def unpack" in block]
    calls = seen_by(code, store, head=unpack)
    assert [call[3].shape[0] for call in calls] == [CLIPS[call[0]] - 1 for call in calls]
    check_clips(calls, store)


def test_h5py_alone_in_workers(store: Path) -> None:
    code = next(
        block for block in blocks(section("In the workers of a loader", "read.md")) if "h5py" in block
    )
    assert "flowkit" not in code
    end = "print(video_id, label, flow.shape)"
    assert end in code
    check_clips(seen_by(code.replace(end, "step(video_id, label, flow)"), store), store)


def decoded(config: dict[str, Any], folder: Path, *, flip: bool) -> list[tuple[str, int, list[Any]]]:
    """Return (frame_dir, label, imgs) of mmaction2's RawframeDataset and its first transforms, in test mode.

    RawframeDataset: a line is a folder below data_prefix, a count and a label. SampleFrames: clips in the
    middle of equal parts, modulo the count, from start_index. RawFrameDecode: `filename_tmpl` filled with
    `x` and `y` of a number, or the number alone. Flip: all mirrored, of flow each first of two inverted.
    """
    sample, decode, mirror = config["pipeline"]
    assert (sample["type"], decode["type"], mirror["type"]) == ("SampleFrames", "RawFrameDecode", "Flip")
    found = []
    for line in (folder / config["ann_file"]).read_text().splitlines():
        frame_dir, total, label = line.strip().split()
        directory = os.path.join(folder, config["data_prefix"]["img"], frame_dir)
        clip_len, num_clips = sample["clip_len"] * sample["frame_interval"], sample["num_clips"]
        spacing = (int(total) - clip_len + 1) / num_clips
        offsets = (np.arange(num_clips) * spacing + spacing / 2).astype(int)
        indices = offsets[:, None] + np.arange(sample["clip_len"]) * sample["frame_interval"]
        numbers = indices.ravel() % int(total) + config["start_index"]
        imgs: list[Any] = []
        for number in numbers:
            flow = config["modality"] == "Flow"
            for words in [("x", number), ("y", number)] if flow else [(number,)]:
                path = os.path.join(directory, config["filename_tmpl"].format(*words))
                image = cv2.imread(path, cv2.IMREAD_GRAYSCALE if flow else cv2.IMREAD_COLOR)
                assert image is not None, f"the loader asked for {path}"
                imgs.append(image if flow else image[..., ::-1])
        if flip:
            imgs = [image[:, ::-1] for image in imgs]
            if config["modality"] == "Flow":
                imgs[::2] = [255 - image for image in imgs[::2]]
        found.append((frame_dir, int(label), imgs))
    return found


@pytest.mark.parametrize("codec", ["jpeg"])
def test_mmaction2s_loader_gives_the_codes_of_the_store(store: Path) -> None:
    export("mmaction2", store)
    names: dict[str, Any] = {}
    exec(blocks(section("mmaction2"))[0], names)
    config = names["dataset"]
    # Its clips of a test are TSN's: segments' middles.
    for flip in (False, True):
        expected = ClipSamples(store, flow_form="tsn", flip=flip)
        clips = decoded(config, store.parent, flip=flip)
        assert [name for name, _, _ in clips] == sorted(CLIPS)
        for video_id, label, imgs in clips:
            sample = expected.sample(expected.ids.index(video_id))
            assert label == sample.label
            assert np.array_equal(stacked(imgs), sample.flow)
    rgb = config | {"ann_file": "rawframes/annotations/all/rgb_all.txt", "modality": "RGB"}
    rgb["filename_tmpl"] = "img_{:05}.jpg"
    text = section("mmaction2")
    assert all(word in text for word in ("`rgb_all.txt`", f'filename_tmpl="{rgb["filename_tmpl"]}"'))
    with flowkit.open(store) as opened:
        for video_id, _, images in decoded(rgb, store.parent, flip=False):
            assert all(
                any(np.array_equal(image, frame) for frame in opened[video_id].frames()) for image in images
            )


def stacked(imgs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return x, y, x, y, ... of three clips as stacks (3, 10, H, W)."""
    return np.stack(imgs).reshape(3, 10, *imgs[0].shape)


def test_arrays_and_batches_of_several_sizes(make_store: MakeStore) -> None:
    store = make_store(CLIPS, sizes={"run/b": (12, 30), "run/c": (40, 20)})
    arrays, padded = blocks(section("Sizes and flips"))
    check = "assert (flow.shape, rgb.shape) == ((5, 2, 112, 112), (5, 3, 112, 112))\n"
    assert seen_by(arrays + check, store) == []
    batches = seen_by(padded + "    step(batch['valid'], mean, batch['flow'])\n", store)
    assert [bool(valid.all()) for valid, _, _ in batches] == [False, True]
    for valid, mean, flow in batches:
        inside = np.broadcast_to(valid[:, None, None], flow.shape)
        # float32 sums of a million codes.
        assert abs(float(mean) - float(flow[inside].mean())) < 1e-3
