"""Small extractions in one process, for the tests of extract and of its pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowkit.executor import InlineExecutor
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import ExtractReport, extract
from flowkit.extraction.sources import find_sources
from flowkit.resize_rule import ResizeRule
from tests.make import clips

NATIVE = ResizeRule(mode="native")
SMALL = ExtractConfig(resize=NATIVE, jobs=1)


def run(videos: Path, store: Path, config: ExtractConfig = SMALL, **options: object) -> ExtractReport:
    sources = find_sources([videos])
    with InlineExecutor() as executor:
        return extract(sources, store, config=config, executor=executor, **options)  # type: ignore[arg-type]


def still_mkv(path: Path, n: int) -> Path:
    return clips.lossless_mkv(path, np.repeat(clips.moving_texture(1), n, axis=0))
