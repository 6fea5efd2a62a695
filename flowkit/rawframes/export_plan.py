"""The units of an export, each written whole: the folders of clips, or tar shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from flowkit.rawframes.clip_files import Recipe
from flowkit.rawframes.layouts.layout import CLIP_FOLDER, Kind
from flowkit.rawframes.lists import ListSplit, file_word, spelled_out
from flowkit.rawframes.tar import plan_shards
from flowkit.rawframes.trees import wanted_folders
from flowkit.validate import check_choice


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The clips of a unit, and the kinds of files in it where a clip has several folders."""

    video_ids: tuple[str, ...]
    kinds: tuple[Kind, ...] | None = None


def folder_groups(video_ids: Iterable[str], recipe: Recipe, *, safe_names: bool) -> dict[str, Group]:
    """Return the folders of each clip by their paths below the destination.

    Parameters
    ----------
    video_ids : iterable of str
        The clips.
    recipe : Recipe
        The files to make.
    safe_names : bool
        Spell spaces out.
    """
    folders = wanted_folders(recipe.layout, recipe.kinds) if recipe.layout.in_trees else {CLIP_FOLDER: None}
    return {
        template.replace(CLIP_FOLDER, spelled_out(video_id) if safe_names else video_id): Group(
            video_ids=(video_id,), kinds=kinds
        )
        for video_id in video_ids
        for template, kinds in folders.items()
    }


def shard_groups(
    video_ids: Sequence[str], splits: Iterable[ListSplit], *, split: str | None, clips: int
) -> dict[str, Group]:
    """Return the clips of each shard by its file name.

    Parameters
    ----------
    video_ids : sequence of str
        The clips that there are.
    splits : iterable of ListSplit
        Those of the store.
    split : str, optional
        The one whose subsets get shards of their own.
    clips : int
        Clips a shard, >= 1.

    Raises
    ------
    InvalidParameterError
        There is no such split.
    """
    subsets: Mapping[str, tuple[str, ...]] = {"clips": tuple(video_ids)}
    if split is not None:
        by_name = {one.name: one for one in splits}
        check_choice("split", split, by_name, where="of the store")
        subsets = by_name[split].subsets
    there = set(video_ids)
    return {
        name: Group(video_ids=ids)
        for subset, members in subsets.items()
        for name, ids in plan_shards(
            file_word(subset), [video_id for video_id in members if video_id in there], clips
        ).items()
    }
