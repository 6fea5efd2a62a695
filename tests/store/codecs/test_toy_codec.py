"""A codec that only this file knows goes the whole way: its class and a line in the registry are all of it.

Worker processes start without the line. A codec of flowkit's own is in the registry that they import;
this one's workers import this module, since the function that they are given lives here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import flowkit
from flowkit import jpeg
from flowkit.datasets.reader import ClipSamples
from flowkit.errors import StoreOptionsError
from flowkit.executor import LocalExecutor, Outcome, Worker
from flowkit.extraction.run import prepare as prepare_extraction
from flowkit.extraction.run import run as run_extraction
from flowkit.extraction.sources import find_sources
from flowkit.frames import pair_indices, to_grey
from flowkit.quantize import Quantized, Quantizer, largest_px, quantize_u8
from flowkit.rawframes.export import ExportConfig, prepare, run
from flowkit.store.codecs import FLOW_CODECS, CodecEntry
from flowkit.store.codecs.codec import ChunkCodec, FlowForm
from flowkit.store.codecs.storage import ChunkStorage
from flowkit.store.read.store import open_store
from flowkit.store.tools.recode import recode
from flowkit.tvl1.backend import choose_backend
from flowkit.typing import Flow
from tests.make import clips
from tests.make.small import SMALL

NAME = "half"
LIMIT = float(np.finfo(np.float16).max)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HalfFloats(Quantizer):
    """float16: the flow itself, in 11 significant bits."""

    dtype: np.dtype[Any] = dataclasses.field(default=np.dtype("<f2"), init=False)

    def quantize(self, flow: Flow) -> Quantized:
        clipped = int(np.count_nonzero(np.abs(flow) > LIMIT))
        codes = np.clip(flow, -LIMIT, LIMIT).astype(self.dtype)
        return Quantized(codes=codes, scale=1.0, largest_px=largest_px(flow), clipped=clipped)

    @property
    def fixed_scale(self) -> float:
        return 1.0

    def are_scales(self, scales: NDArray[np.float32]) -> bool:
        return bool(np.all(scales == 1))


class HalfCodec(ChunkCodec):
    """float16, deflated."""

    storage = ChunkStorage(dtype=np.dtype("<f2"), shuffled=True, fill=float("inf"))

    @property
    def quantizer(self) -> Quantizer:
        return HalfFloats()


ENTRY = CodecEntry(f"{__name__}:HalfCodec", "float16")


def _in_worker(function: Callable[[Any, Worker], Any], task: Any, worker: Worker) -> Any:
    FLOW_CODECS.setdefault(NAME, ENTRY)
    return function(task, worker)


class Processes(LocalExecutor):
    """Worker processes that know the codec."""

    def run(
        self,
        function: Callable[[Any, Worker], Any],
        tasks: Iterable[Any],
        *,
        on_wait: Callable[[], None] | None = None,
        patience: Callable[[Any], float] | None = None,
    ) -> Generator[Outcome[Any, Any], None, None]:
        return super().run(functools.partial(_in_worker, function), tasks, on_wait=on_wait)


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FLOW_CODECS, NAME, ENTRY)
        yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of five groups, a clip each, 40 x 32 px, 5 frames."""
    folder = tmp_path_factory.mktemp("videos")
    for k, label in enumerate(("left", "right")):
        (folder / label).mkdir()
        for group in range(5):
            frames = clips.moving_texture(5, height=32, width=40, shift=(2 * k - 1, 0), seed=group)
            clips.lossless_mkv(folder / label / f"{label}_g{group}_c1.mkv", frames)
    return folder


@pytest.fixture(scope="module")
def store(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The videos, extracted by two worker processes."""
    path = tmp_path_factory.mktemp("store") / "clips.h5"
    config = dataclasses.replace(SMALL, flow_codec=NAME, backward=True)
    setup = prepare_extraction(find_sources([videos]), path, config=config)
    with Processes(2) as executor:
        report = run_extraction(setup, executor=executor)
    assert not report.failures
    assert report.stored == 10
    return path


@pytest.fixture(scope="module")
def flow(videos: Path) -> Flow:
    """The floats of one clip's flow, (4, 2, 32, 40)."""
    with flowkit.open_video(videos / "left" / "left_g0_c1.mkv") as reader:
        greys = np.stack([to_grey(frame.rgb) for frame in reader])
    return choose_backend("auto").solver.flow_batch(greys, pair_indices(5, 1))


CLIP = "left/left_g0_c1"


def test_it_is_stored_and_verified(store: Path) -> None:
    report = flowkit.verify(store)
    assert report.sound
    assert report.n_flow == 10 * 4 * 2


def test_both_readers_and_plain_h5py_read_it(store: Path, flow: Flow) -> None:
    with open_store(store) as direct, open_store(store, access="h5py") as through_hdf5:
        assert (direct.access.method, through_hdf5.access.method) == ("pread", "h5py")
        read = direct[CLIP].flow()
        assert read.dtype == np.float32
        assert np.array_equal(read, flow.astype(np.float16))
        assert np.array_equal(through_hdf5[CLIP].flow(), read)
        assert direct[CLIP].codes()[0].dtype == np.float16
    with h5py.File(store) as file:
        group = file[f"videos/{CLIP}"]
        assert file.attrs["flow_codec"] == NAME
        assert np.array_equal(group["flow"][()] * group["flow_scale"][()][:, None, None, None], read)


def test_a_missing_chunk_is_found(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.h5"
    path.write_bytes(store.read_bytes())
    with h5py.File(path, "r+") as file:
        file[f"videos/{CLIP}/flow"][0] = np.inf
    report = flowkit.verify(path)
    assert list(report.videos) == [CLIP]


@pytest.mark.parametrize("other", ["q8", "i8", "i16", "jpeg"])
def test_it_is_recoded_to_every_codec_and_back(store: Path, tmp_path: Path, other: str) -> None:
    there, back = tmp_path / "there.h5", tmp_path / "back.h5"
    recode(store, there, flow_codec=other)
    recode(there, back, flow_codec=NAME)
    with open_store(store) as first, open_store(there) as second, open_store(back) as third:
        px, coded = first[CLIP].flow(), second[CLIP].flow()
        codec = second.options.codec
        for made, field in zip(coded, px, strict=True):
            error = np.abs(made - np.clip(field, -codec.bound_px, codec.bound_px))
            if codec.stores_planes:  # JPEG adds its own error to the rule's
                assert error.mean() < 0.5
            else:
                assert error.max() <= codec.quantizer.quantize(field).scale / 2
        assert np.array_equal(third[CLIP].flow(), coded.astype(np.float16))
    assert flowkit.verify(back).sound


def test_dropping_frames_keeps_its_bytes(store: Path, tmp_path: Path) -> None:
    recode(store, tmp_path / "flow.h5", drop_frames=True)
    with open_store(store) as old, open_store(tmp_path / "flow.h5") as new:
        fields = [one.stored_video(CLIP).field("flow_backward") for one in (old, new)]
        assert fields[0].chunks(2) == fields[1].chunks(2)


def test_a_store_of_another_codec_is_not_gone_on_with(store: Path, videos: Path) -> None:
    config = dataclasses.replace(SMALL, backward=True, flow_codec="i8")
    with pytest.raises(StoreOptionsError, match="flow_codec: stored 'half', asked 'i8'"):
        prepare_extraction(find_sources([videos]), store, config=config)


def test_networks_get_it_in_every_form(store: Path) -> None:
    with open_store(store) as opened:
        forms = [ClipSamples(opened, ids=[CLIP], flow_form=form) for form in get_args(FlowForm)]
        codes, px, tsn = (samples.sample(0) for samples in forms)
        assert [made.flow.dtype.name for made in (codes, px, tsn)] == ["float16", "float32", "uint8"]
        assert np.array_equal(codes.flow * codes.flow_scale, px.flow)
        assert [samples.flow_offset_px for samples in forms] == [0, 0, -20]
        assert np.array_equal(tsn.flow, quantize_u8(px.flow, bound_px=20.0)[0])


def test_it_is_exported_as_tsns_images(store: Path, tmp_path: Path) -> None:
    with Processes(1) as executor:
        report = run(prepare(store, tmp_path / "out", ExportConfig(layout="tsn")), executor=executor)
    assert not report.failures
    with open_store(store) as opened:
        planes, _ = quantize_u8(opened[CLIP].flow(2, 3)[0], bound_px=20.0)
    for plane, axis in zip(planes, "xy", strict=True):
        written = (tmp_path / "out" / CLIP / f"flow_{axis}_00003.jpg").read_bytes()
        assert written == jpeg.encode_grey(plane)


def test_training_on_it_is_planned(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from cli.train import command

    monkeypatch.chdir(tmp_path)
    words = ["--preset", "tiny", "--segments", "2", "--stack", "2", "--size", "32", "--gate-data", "holdout"]
    words += ["--folds", "5", "--fold", "0", "--group", r"_g(\d+)_", "--threads", "1", "--dry-run"]
    done = CliRunner().invoke(command, [str(store), *words])
    assert done.exit_code == 0, done.output
    assert "codec half, no bound when stored" in done.output
