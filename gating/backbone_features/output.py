"""Features on disk: one HDF5 file, one .npz or a folder of .npy, a CSV beside it, and how they were made.

::

    OUT.h5          /rgb/<id>, /flow/<id>   float32 (T, D); joined: /features/<id>, (T, 2 D), rgb first
    OUT.npz         <id>_rgb, <id>_flow     the same; joined: <id>
    OUT/            <id>_rgb.npy, <id>_flow.npy, as video_features names them; joined: <id>.npy, as
                    ActionFormer reads them
    OUT.csv         a line a row, `COLUMNS`
    OUT.json        settings: a run goes on with equal ones only
    OUT.parts/      while it runs: arrays of finished clips (not of a folder), and videos that are extracted

A clip is there if the CSV has all its lines and its arrays are there. Its arrays are written first, whole;
so a run that ends in the middle loses one clip at most.
"""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

import h5py
import numpy as np

from flowkit.atomic import folder_lock, replacement, write_text
from flowkit.errors import InputError
from flowkit.store.record import check_video_id
from flowkit.untrusted_json import read_json
from gating.arrays import DAMAGE
from gating.backbone_features.compute import Features
from gating.backbone_features.run import VideoFeatures
from gating.run_folder import write_json
from gating.training.checkpoint import differences

COLUMNS = (
    *("id", "row", "rows", "start_s", "end_s", "first_frame", "last_frame"),
    *("frames", "fields", "label", "source"),
)
JOINED = "features"
Kind = Literal["h5", "npz", "npy"]


class FeatureFiles:
    """The output of one run, which may go on with that of an earlier one.

    Parameters
    ----------
    out : Path
        `.h5` or `.hdf5`: one file; `.npz`: one file; any other name: a folder of .npy.
    settings : mapping
        All that decides features but for the clips, as plain values.
    joined : bool
        One array a clip: both streams' columns, rgb first.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], *, joined: bool) -> None:
        self.out = out
        kinds: dict[str, Kind] = {".h5": "h5", ".hdf5": "h5", ".npz": "npz"}
        self._kind = kinds.get(out.suffix.lower(), "npy")
        self._settings = {**settings, "joined": joined, "format": self._kind}
        streams = settings["streams"]
        names = ("rgb", "flow") if streams == "both" else (streams,)
        self._arrays: tuple[str, ...] = (JOINED,) if joined else names
        self.parts, self.csv, self.json = (_beside(out, suffix) for suffix in (".parts", ".csv", ".json"))
        self._folder = out if self._kind == "npy" else self.parts / "arrays"

    @contextlib.contextmanager
    def opened(self) -> Iterator[FeatureWriter]:
        """Hold the output for this run alone; when the `with` block ends well, finished clips are packed.

        Raises
        ------
        InputError
            The output is there and was made with other settings, is damaged, or is none of ours.
        StoreBusyError
            Another run is writing it.
        """
        with folder_lock(self.parts, self.out):
            self._check_settings()
            self._folder.mkdir(parents=True, exist_ok=True)
            known = self._known_lines()
            text = io.StringIO()
            table = csv.writer(text, lineterminator="\n")
            table.writerows([COLUMNS, *(line for lines in known.values() for line in lines)])
            write_text(self.csv, text.getvalue())
            with self.csv.open("a", encoding="utf-8", newline="") as file:
                writer = FeatureWriter(self, file, known)
                yield writer
            if self._kind != "npy":
                self._pack(writer.known)
                shutil.rmtree(self._folder)

    def array_path(self, video_id: str, name: str) -> Path:
        """Return the path of a clip's array while it is a file of its own."""
        return self._folder / _member(video_id, name)

    def arrays_of(self, one: VideoFeatures) -> dict[str, Features]:
        """Return a clip's arrays by their names."""
        found = {name: rows for name, rows in (("rgb", one.rgb), ("flow", one.flow)) if rows is not None}
        return {JOINED: np.concatenate(list(found.values()), axis=1)} if self._arrays == (JOINED,) else found

    def _check_settings(self) -> None:
        if self.json.exists():
            found = differences(read_json(self.json), self._settings)
            if found:
                raise InputError(
                    f"{self.out} was made with other settings (there: {self.json}; here: this command): "
                    f"{'; '.join(found)}; write to another OUT, or remove this one"
                )
        elif self.out.exists() and (self.out.is_file() or any(self.out.iterdir())):
            raise InputError(f"{self.out} is there and has no {self.json}; write to another OUT")
        elif self.csv.exists():  # a table of the user's own, such as that of labels
            raise InputError(f"{self.csv} is there and has no {self.json} beside it; write to another OUT")
        write_json(self.json, self._settings)

    def _known_lines(self) -> dict[str, list[list[str]]]:
        """Return the lines of the CSV by clip, of clips that are there wholly."""
        lines: dict[str, list[list[str]]] = {}
        if self.csv.is_file():
            with self.csv.open(encoding="utf-8", newline="") as file:
                for line in list(csv.reader(file))[1:]:
                    if len(line) == len(COLUMNS):
                        lines.setdefault(line[0], []).append(line)
        try:
            packed = self._packed()
        except DAMAGE as error:
            raise InputError(f"{self.out} cannot be read: {error}; remove it with {self.csv}") from error
        return {
            video_id: own
            for video_id, own in lines.items()
            if [line[1] for line in own] == [str(k) for k in range(len(own))]
            and own[0][2] == str(len(own))
            and all(self._is_there(video_id, one, packed) for one in self._arrays)
        }

    def _is_there(self, video_id: str, name: str, packed: Collection[str]) -> bool:
        return _member(video_id, name) in packed or self.array_path(video_id, name).is_file()

    def _packed(self) -> set[str]:
        """Return the arrays in the one file, by the names that they have as files of their own."""
        if not self.out.is_file():
            return set()
        if self._kind == "npz":
            with zipfile.ZipFile(self.out) as archive:
                return set(archive.namelist())
        found: set[str] = set()
        with h5py.File(self.out) as file:
            for name in self._arrays:
                keys: list[str] = []
                if name in file:
                    file[name].visit(keys.append)
                found |= {_member(key, name) for key in keys if isinstance(file[name][key], h5py.Dataset)}
        return found

    def _pack(self, ids: Collection[str]) -> None:
        """Put the arrays of finished clips into the one file, beside those that it has."""
        pairs = [(video_id, name) for video_id in ids for name in self._arrays]
        new = [pair for pair in pairs if self.array_path(*pair).is_file()]
        if new:
            with replacement(self.out) as temporary:
                if self._kind == "h5":
                    self._pack_hdf5(temporary, new)
                else:
                    self._pack_npz(temporary, new)

    def _pack_hdf5(self, temporary: Path, new: Sequence[tuple[str, str]]) -> None:
        if self.out.is_file():
            shutil.copyfile(self.out, temporary)
        with h5py.File(temporary, "a") as file:
            for video_id, name in new:
                key = f"{name}/{video_id}"
                if key in file:
                    del file[key]
                file[key] = np.load(self.array_path(video_id, name))

    def _pack_npz(self, temporary: Path, new: Sequence[tuple[str, str]]) -> None:
        members = {_member(*pair): self.array_path(*pair) for pair in new}
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            if self.out.is_file():
                with zipfile.ZipFile(self.out) as earlier:
                    for name in earlier.namelist():
                        if name not in members:
                            archive.writestr(name, earlier.read(name))
            for member, path in members.items():
                archive.write(path, member)


class FeatureWriter:
    """The open output of one run.

    Attributes
    ----------
    known : set of str
        Ids of the clips that it has.
    """

    def __init__(self, files: FeatureFiles, file: TextIO, known: Collection[str]) -> None:
        self._files, self._file = files, file
        self.known = set(known)

    def write(self, one: VideoFeatures) -> None:
        """Write a clip: its arrays, then its lines."""
        check_video_id(one.video_id)  # it names files
        for name, rows in self._files.arrays_of(one).items():
            path = self._files.array_path(one.video_id, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacement(path, durable=False) as temporary, temporary.open("wb") as file:
                np.save(file, rows)
        csv.writer(self._file, lineterminator="\n").writerows(_lines(one))
        self._file.flush()
        self.known.add(one.video_id)


def _lines(one: VideoFeatures) -> Iterator[tuple[object, ...]]:
    count = len(one.ranges)
    for k, (frames, (start, end)) in enumerate(zip(one.ranges, one.times.tolist(), strict=True)):
        read = "" if one.frames is None else " ".join(map(str, one.frames[k].tolist()))
        fields = "" if one.fields is None else " ".join(map(str, one.fields[k].ravel().tolist()))
        yield (
            *(one.video_id, k, count, f"{start:.6f}", f"{end:.6f}", frames.start, frames.stop - 1),
            *(read, fields, one.label, one.source),
        )


def _member(video_id: str, name: str) -> str:
    return f"{video_id}.npy" if name == JOINED else f"{video_id}_{name}.npy"


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(out.name + suffix)
