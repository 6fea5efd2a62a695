"""The plan of a run: each source compared with what the store already holds."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from flowkit.errors import InvalidParameterError, StoreOptionsError
from flowkit.extraction.held import held_state
from flowkit.extraction.sources import VideoSource
from flowkit.store.inventory import Inventory
from flowkit.store.record import SourceFingerprint, VideoRecord
from flowkit.store.schema import FieldOptions, StoreOptions
from flowkit.tvl1.params import TVL1Params

# Settings that a store's text leaves out, as it did before there was a choice.
_LEFT_OUT: dict[str, dict[str, object]] = {
    "resize": {"pixels": "stored", "scaler": "opencv"},
    "sampling": {"deinterlace": False},
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The sources of a run, by what is to be done with them.

    Attributes
    ----------
    todo : tuple of VideoSource
        To be extracted.
    stored : tuple of VideoSource
        In the store already, from the same file.
    changed : tuple of VideoSource
        In the store from another state of its file; left alone.
    replaced : frozenset of str
        Ids of `todo` that are in the store now (asked for with `update`).
    """

    todo: tuple[VideoSource, ...]
    stored: tuple[VideoSource, ...]
    changed: tuple[VideoSource, ...]
    replaced: frozenset[str]


def make_plan(sources: Iterable[VideoSource], inventory: Inventory, *, update: bool = False) -> Plan:
    """Compare the sources with the store.

    A source is the same if size and modification time are, or else its SHA-256.
    """
    todo, stored, changed, replaced = [], [], [], set()
    for source in sources:
        record = inventory.records.get(source.video_id)
        if record is None:
            todo.append(source)
        elif _is_same(source, record):
            stored.append(source)
        elif update:
            todo.append(source)
            replaced.add(source.video_id)
        else:
            changed.append(source)
    return Plan(todo=tuple(todo), stored=tuple(stored), changed=tuple(changed), replaced=frozenset(replaced))


def check_options(asked: StoreOptions, stored: StoreOptions | None, store: Path) -> None:
    """Refuse to continue a store with other options.

    Raises
    ------
    StoreOptionsError
        Options differ; the message names each one, as stored and as asked.
    """
    if stored is None:
        return
    differences, methods = stored.differences(asked), _method_differences(asked, stored)
    if methods or any(line.startswith("fields:") for line in differences):
        # These say it field by field, where the attributes have the settings of all fields in one text.
        attributes = ("tvl1_preset:", "tvl1_params:")
        differences = methods + [line for line in differences if not line.startswith(attributes)]
    differences = [line for each in differences for line in _by_setting(each, asked, stored)]
    if differences:
        raise StoreOptionsError(
            f"{store} was made with other options: {'; '.join(differences)}; "
            "repeat its options, or extract into another file"
        )


def _by_setting(line: str, asked: StoreOptions, stored: StoreOptions) -> list[str]:
    """Return a line for each setting that differs, where a line is of an option that has several."""
    name = line.partition(":")[0]
    if name not in _LEFT_OUT:
        return [line]
    there, here = (json.loads(getattr(options, name)) for options in (stored, asked))
    if not isinstance(there, dict) or not isinstance(here, dict):
        return [line]
    there, here = ({**_LEFT_OUT[name], **settings} for settings in (there, here))
    return [
        f"{name}.{key}: stored {there.get(key)!r}, asked {here.get(key)!r}"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key)
    ]


def _method_differences(asked: StoreOptions, stored: StoreOptions) -> list[str]:
    """Return one line for each difference of a field's method: what it is, its preset, its parameters."""
    there, lines = {field.name: field for field in stored.fields}, []
    for field in asked.fields:
        old = there.get(field.name, field)
        both_tvl1 = old.method == field.method == "tvl1"
        if old.summary != field.summary and not both_tvl1:
            lines.append(f"method of {field.name}: stored {old.summary}, asked {field.summary}")
            continue
        if old.tvl1_preset != field.tvl1_preset:
            lines.append(f"preset of {field.name}: stored {old.tvl1_preset!r}, asked {field.tvl1_preset!r}")
        settings, others = _settings(old), _settings(field)
        lines += [
            f"{name} of {field.name}: stored {settings.get(name)!r}, asked {others.get(name)!r}"
            for name in sorted({*settings, *others})
            if settings.get(name) != others.get(name)
        ]
    return lines


def _settings(field: FieldOptions) -> dict[str, object]:
    """Return what a field keeps of its method, with those parameters of TV-L1 that its text leaves out."""
    if field.method == "tvl1":
        # A text of another version is compared as it is.
        with contextlib.suppress(InvalidParameterError):
            return dataclasses.asdict(TVL1Params.from_json(field.tvl1_params))
    settings: object = json.loads(field.tvl1_params)
    return settings if isinstance(settings, dict) else {"settings": settings}


def fingerprint(path: Path, *beside: Path, with_hash: bool = True) -> SourceFingerprint:
    """Return the state of a source: size, modification time, SHA-256.

    A folder of images counts as the list of its files, and so do those `beside` it; without `with_hash`
    the hash is "".

    Raises
    ------
    OSError
        The source cannot be read.
    """
    files, stats = [], []
    for place in (path, *beside):
        state = place.stat()
        is_folder = stat.S_ISDIR(state.st_mode)
        below = sorted(place.iterdir()) if is_folder else [place]
        files += below
        stats += [file.stat() for file in below] if is_folder else [state]
    return SourceFingerprint(
        name=path.name,
        bytes=sum(each.st_size for each in stats),
        mtime_ns=max((each.st_mtime_ns for each in stats), default=0),
        sha256=_sha256(files) if with_hash else "",
    )


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if not file.is_file():
            continue
        if len(files) > 1:
            digest.update(os.fsencode(file.name) + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _state(source: VideoSource, *, with_hash: bool) -> SourceFingerprint:
    if source.held is not None:
        return held_state(source.held, with_hash=with_hash)
    return fingerprint(source.path, *source.beside, with_hash=with_hash)


def _is_same(source: VideoSource, record: VideoRecord) -> bool:
    if (record.start_seconds, record.end_seconds) != source.times:
        return False
    try:
        now = _state(source, with_hash=False)
        if now.bytes == record.source_bytes and now.mtime_ns != record.source_mtime_ns:
            now = _state(source, with_hash=True)
    except OSError:
        # A file that is gone cannot have changed: the store keeps what it has.
        return True
    return record.fingerprint.matches(now)
