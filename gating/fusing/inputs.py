"""Files of one stream, computed elsewhere: ids, and scores, features or maps of each clip.

::

    STREAM.npz, STREAM.h5    arrays or datasets by name
        ids                  text (N,), each once
        scores, classes      (N, C), before softmax, and text (C,) that names the columns
        features             (N, D), or (N, K, D) of K segments
        maps                 (N, C, h, w), that the gate reads
    STREAM/                  a folder of ID.npy, features (D,) or (K, D) each; K may differ

Besides ids one of scores, features and maps is enough. Numbers are finite.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from flowkit.errors import InputError
from gating.arrays import DAMAGE, MOST_ARRAY_BYTES, read_arrays
from gating.models.streams import clip_features

KEYS = ("ids", "scores", "classes", "features", "maps")
_HDF5 = (".h5", ".hdf5")
_SHAPES = {
    "scores": ("(N, C)", (2,)),
    "features": ("(N, D) or (N, K, D)", (2, 3)),
    "maps": ("(N, C, h, w)", (4,)),
}
_NAMED = 5
_SUM_OF_PROBABILITIES = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StreamArrays:
    """One stream of N clips: what a network gave of each.

    Parameters
    ----------
    name : str
        In messages and tables.
    ids : tuple of str
        Of the clips, each once.
    scores : NDArray or None
        (N, C), before softmax, of networks that did not learn from these clips.
    classes : tuple of str
        Names of the columns of `scores`, each once.
    features : NDArray or None
        (N, D), or (N, K, D) of K segments. With them linear heads are fitted, and `scores` are not used.
    maps : NDArray or None
        (N, C, h, w).

    Raises
    ------
    InputError
        Neither scores nor features nor maps are there; an array has another shape, no numbers or one that
        is not finite; an id occurs twice; scores lack their classes or are probabilities.
    """

    name: str
    ids: tuple[str, ...]
    scores: NDArray[Any] | None = None
    classes: tuple[str, ...] = ()
    features: NDArray[Any] | None = None
    maps: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        """Check and convert the arrays: scores become float64, the others float32 (float16 maps stay)."""
        _check_ids(self.name, self.ids)
        given = [key for key in _SHAPES if getattr(self, key) is not None]
        if not given:
            raise InputError(
                f"{self.name} has none of scores, features and maps; expected one of them beside ids"
            )
        for key in given:
            array = np.asarray(getattr(self, key))
            self._check(key, array)
            halves = key == "maps" and array.dtype == np.float16
            dtype = np.float16 if halves else np.float64 if key == "scores" else np.float32
            with np.errstate(over="ignore"):
                object.__setattr__(
                    self, key, array.astype(dtype, copy=False)
                )  # the one way in a frozen dataclass
            self._check_finite(key)
        if self.scores is not None:
            self._check_scores(self.scores)

    def _check(self, key: str, array: NDArray[Any]) -> None:
        text, axes = _SHAPES[key]
        if array.ndim not in axes or 0 in array.shape or len(array) != len(self.ids):
            raise InputError(
                f"{self.name}: {key} must be {text} with N = {len(self.ids)} as ids, got {array.shape}"
            )
        if array.dtype.kind not in "fiu":
            raise InputError(f"{self.name}: {key} must be numbers, got {array.dtype}")

    def _check_finite(self, key: str) -> None:
        array = getattr(self, key)
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if bad.any():
            named = [self.ids[k] for k in np.flatnonzero(bad)[:_NAMED]]
            raise InputError(
                f"{self.name}: {key} must be finite, got NaN, infinity or numbers beyond {array.dtype} in "
                f"{bad.sum()} of {len(bad)} clips: {named}; compute these again, or leave them out"
            )

    def _check_scores(self, scores: NDArray[np.float64]) -> None:
        if len(self.classes) != scores.shape[1] or len(set(self.classes)) < len(self.classes):
            raise InputError(
                f"{self.name}: classes must name the {scores.shape[1]} columns of scores, each once, got "
                f"{len(self.classes)} names: {list(self.classes[:_NAMED])}"
            )
        if len(self.classes) < 2:
            raise InputError(f"{self.name}: scores must have 2 columns or more, got {len(self.classes)}")
        if (scores >= 0).all() and (abs(scores.sum(axis=1) - 1) < _SUM_OF_PROBABILITIES).all():
            raise InputError(
                f"{self.name}: scores must be those before softmax, got probabilities (each row sums to 1); "
                "give the network's logits, or np.log(p + 1e-6)"
            )

    def of_clips(self, ids: Sequence[str]) -> StreamArrays:
        """Return some clips, in this order."""
        row = {video_id: k for k, video_id in enumerate(self.ids)}
        rows = np.array([row[video_id] for video_id in ids], np.intp)
        taken = {key: getattr(self, key)[rows] for key in _SHAPES if getattr(self, key) is not None}
        return dataclasses.replace(self, ids=tuple(ids), **taken)

    def pooled(self) -> NDArray[np.float32] | None:
        """Return the features as heads read them, float32 (N, P); None where there are scores alone.

        They are means and standard deviations over segments, (N, 2 D), or with one segment (N, D); without
        features the means of the maps, (N, C).
        """
        if self.features is None:
            return None if self.maps is None else self.maps.mean(axis=(2, 3), dtype=np.float32)
        segments = self.features[:, None] if self.features.ndim == 2 else self.features
        if segments.shape[1] == 1:
            return np.ascontiguousarray(segments[:, 0])
        pooled: NDArray[np.float32] = clip_features(torch.from_numpy(segments)).numpy()
        return pooled

    @property
    def gives_scores(self) -> bool:
        """True if its scores are used: it has no features."""
        return self.scores is not None and self.features is None


def read_stream(path: Path | str) -> StreamArrays:
    """Read the file or folder of one stream.

    Raises
    ------
    InputError
        It is absent, damaged or of another kind, a key is missing, or as `StreamArrays`.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if path.suffix not in (".npz", *_HDF5):
        raise InputError(f"{path}: a stream is a file .npz, .h5 or .hdf5, or a folder of ID.npy")
    try:
        arrays = read_arrays(path) if path.suffix == ".npz" else _read_hdf5(path)
    except DAMAGE as error:
        hint = "; save text as np.array(ids, dtype=str)" if "bject" in str(error) else ""
        raise InputError(f"{path} cannot be read: {error}{hint}") from error
    if "ids" not in arrays:
        raise InputError(
            f"{path} has no ids; expected the keys ids and one or more of scores (with classes), features "
            f"and maps, got {sorted(arrays)[: 2 * _NAMED]}"
        )
    found: dict[str, Any] = {key: arrays[key] for key in KEYS if key in arrays}
    for key in {"ids", "classes"} & found.keys():
        found[key] = _texts(f"{path}: {key}", found[key])
    if "scores" in found and "classes" not in found:
        raise InputError(f"{path} has scores without classes; expected text (C,) that names their columns")
    return StreamArrays(name=path.stem, **found)


def _texts(name: str, array: NDArray[Any]) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise InputError(
            f"{name} must be text of one axis, got {array.dtype} {array.shape}; np.array(ids, dtype=str)"
        )
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{name} must be UTF-8: {error}") from error
    return tuple(array.tolist())


def _check_ids(name: str, ids: Sequence[str]) -> None:
    if not ids or not all(ids):
        raise InputError(f"{name}: ids must be one text or more, none of them empty, got {len(ids)}")
    if len(set(ids)) < len(ids):
        twice = [one for one, count in Counter(ids).items() if count > 1]
        raise InputError(f"{name}: {len(twice)} ids occur twice: {twice[:_NAMED]}; expected each once")


def _read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    """Return the datasets of `KEYS` in a file's root, text as str."""
    if not path.is_file():
        raise ValueError(f"{path.name} is absent, or no regular file")
    with h5py.File(path) as file:
        links = {key: file.get(key, getlink=True) for key in KEYS if key in file}
        if strays := [key for key, link in links.items() if not isinstance(link, h5py.HardLink)]:
            raise ValueError(f"{strays} are links to elsewhere")
        if not links:
            return {key: np.empty(0) for key in file if key not in KEYS}
        return {key: _read_dataset(key, file[key]) for key in links}


def _read_dataset(key: str, dataset: object) -> NDArray[Any]:
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ValueError(f"{key} is no dataset of the file")
    if dataset.nbytes > MOST_ARRAY_BYTES:
        raise ValueError(f"{key} has {dataset.nbytes} bytes, expected at most {MOST_ARRAY_BYTES}")
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.array(dataset.asstr()[:], dtype=str)
    array: NDArray[Any] = dataset[:]
    return array


def _read_folder(path: Path) -> StreamArrays:
    """Read features of a clip a file; segments of different numbers are pooled here."""
    files = sorted(path.rglob("*.npy"))
    if not files:
        raise InputError(f"{path} has no file .npy; expected one a clip, named ID.npy")
    arrays = {one.relative_to(path).with_suffix("").as_posix(): _read_npy(one) for one in files}
    (first, shape), *_ = ((video_id, array.shape) for video_id, array in arrays.items())
    for video_id, array in arrays.items():
        fits = (
            array.ndim in (1, 2) and array.ndim == len(shape) and array.shape[-1] == shape[-1] and array.size
        )
        if not fits:
            raise InputError(
                f"{path}: {video_id}.npy has {array.shape}, and {first}.npy {shape}; expected features (D,), "
                "or (K, D) of K segments, with one D"
            )
    return StreamArrays(name=path.name, ids=tuple(arrays), features=_stacked(arrays))


def _stacked(arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    if len({array.shape for array in arrays.values()}) == 1:
        return np.stack([*arrays.values()])
    each = [clip_features(torch.from_numpy(array[None].astype(np.float32)))[0] for array in arrays.values()]
    pooled: NDArray[np.float32] = torch.stack(each).numpy()
    return pooled


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            array: NDArray[Any] = np.load(file, allow_pickle=False)
    except DAMAGE as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return array
