"""Find clips whose frames and flow lie in trees of their own: `u/<clip>`, `v/<clip>` and `frames/<clip>`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from flowkit.errors import InputError
from flowkit.extraction.search import walk_folders
from flowkit.extraction.sources import VideoSource, check_ids
from flowkit.rawframes.folders import Folders, misfit
from flowkit.rawframes.frame_files import counted_names, kinds_of
from flowkit.rawframes.inspection import counted
from flowkit.rawframes.layouts.layout import CLIP_FOLDER, Kind, Layout
from flowkit.store.record import Failure, encode_video_id


def find_trees(root: Path, layouts: Sequence[Layout], *, kinds: Collection[Kind]) -> Folders:
    """Return the clips of a layout whose kinds of files are in several folders.

    A clip is there if one of its folders is; what it lacks is found out when it is read. The label is the
    name of the folder above the clip.

    Parameters
    ----------
    root : Path
        The folder that the templates' folders count from.
    layouts : sequence of Layout
        From `readings`.
    kinds : collection of str
        The kinds of files that are wanted.

    Raises
    ------
    InputError
        A tree does not exist, or one id is a folder of another.
    """
    trees: dict[str, dict[Kind, Path]] = defaultdict(dict)
    failures: list[Failure] = []
    ignored: list[str] = []
    for template, held in wanted_folders(layouts[0], kinds).items():
        top, below = _divided(root, template)
        if not top.is_dir():
            raise InputError(
                f"no folder {top}, where layout {layouts[0].name} has {', '.join(held)}; name the folder "
                f"above {template.split('/')[0]}, or give other folders with --template"
            )
        for folder, names, has_folders in _folders(top, failures):
            clip = _clip_of(folder.relative_to(top), below)
            is_empty = not names and not has_folders
            if clip and (is_empty or set(held) & set(kinds_of(names, layouts))):
                trees[encode_video_id(clip)] |= dict.fromkeys(held, folder)
            elif clip and not has_folders:
                reason, detail = misfit(names, layouts, is_empty=False, has_folders=False) or ("", "")
                if reason:
                    failures.append(Failure(source=str(folder), reason=reason, detail=detail))
                else:
                    ignored.append(f"{folder}: {detail}")
            # Between the folders of a clip it may be one of another kind.
            elif names and (clip or not below):
                ignored.append(f"{folder}: passed over: {counted(names)}")
    sources = [tree_source(video_id, found) for video_id, found in trees.items()]
    return Folders(
        sources=tuple(check_ids(sources)), failures=tuple(failures), ignored=tuple(ignored), trees=dict(trees)
    )


def wanted_folders(layout: Layout, kinds: Collection[Kind]) -> dict[str, tuple[Kind, ...]]:
    """Return the folder templates of a layout's wanted kinds, with the kinds in each."""
    found = {template: tuple(k for k in held if k in kinds) for template, held in layout.folders.items()}
    return {template: held for template, held in found.items() if held}


def trees_of(root: Path, layout: Layout, clip: str, kinds: Collection[Kind]) -> dict[Kind, Path]:
    """Return the folders of one clip by the kinds of files in them, those that exist."""
    places = {
        kind: root / template.replace(CLIP_FOLDER, clip)
        for template, held in wanted_folders(layout, kinds).items()
        for kind in held
    }
    return {kind: path for kind, path in places.items() if path.is_dir()}


def tree_source(video_id: str, trees: Mapping[Kind, Path], label: str | None = None) -> VideoSource:
    """Return a clip as a source: its folder of flow, or the only one, and the others beside it."""
    folders = list(dict.fromkeys(trees[kind] for kind in sorted(trees, key=lambda kind: kind == "img")))
    above = PurePath(video_id).parent.name
    return VideoSource(
        path=folders[0],
        video_id=video_id,
        label=above if label is None else label,
        beside=tuple(folders[1:]),
    )


def _divided(root: Path, template: str) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of all clips of a template, and the folders below each clip's."""
    before, _, after = template.partition(CLIP_FOLDER)
    return root / before.strip("/"), PurePath(after.strip("/")).parts


def _clip_of(shown: PurePath, below: tuple[str, ...]) -> str | None:
    """Return the clip that a folder below its tree's top belongs to, or None."""
    parts = shown.parts
    if below:
        if parts[-len(below) :] != below:
            return None
        parts = parts[: -len(below)]
    return "/".join(parts) or None


def _folders(top: Path, failures: list[Failure]) -> Iterator[tuple[Path, list[str], bool]]:
    """Yield each folder, its files' names, and whether there are folders in it; note what cannot be read."""
    unreadable: list[OSError] = []
    for folder, below, names in walk_folders(top, on_error=unreadable.append):
        yield folder, counted_names(names), bool(below)
    failures += [
        Failure(
            source=str(error.filename),
            reason="unreadable",
            detail=f"the folder cannot be read: {error.strerror}",
        )
        for error in unreadable
    ]
