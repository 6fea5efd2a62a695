"""Code asks a codec: no module outside the codecs' folder knows one by its name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flowkit.errors import InvalidParameterError
from flowkit.store.codecs import (
    DEFAULT_FLOW_CODEC,
    FLOW_CODECS,
    PLANE_CODEC,
    bounded_names,
    clipped_warning,
    flow_codec,
)

ROOT = Path(__file__).resolve().parents[3]
# <i8 is NumPy's int64; JPEG is a frame codec, too, and a kind of file.
NAMED = re.compile(r"(?<![<\w])(?:{})(?!\w)".format("|".join(FLOW_CODECS.keys() - {PLANE_CODEC})))
PRODUCT = [
    path
    for folder in ("flowkit", "gating", "cli")
    for suffix in ("py", "cu", "cuh")
    for path in sorted((ROOT / folder).rglob(f"*.{suffix}"))
    if ROOT / "flowkit" / "store" / "codecs" not in path.parents
]


def constants(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def choices_by_name(tree: ast.Module) -> Iterator[str]:
    """Yield what compares a codec with a name, or passes a name as a flow codec."""
    for node in ast.walk(tree):
        text = ast.unparse(node) if isinstance(node, ast.Compare | ast.keyword | ast.Match) else ""
        asks = "codec" in text.replace("frame_codec", "")
        if asks and constants(node) & FLOW_CODECS.keys():
            yield text


def test_there_is_something_to_search() -> None:
    assert len(PRODUCT) > 150
    assert NAMED.search("takes `i8`") and not NAMED.search('np.dtype("<i8")')  # noqa: PT018
    wrong = ast.parse('if options.flow_codec == "jpeg": make(flow_codec="i8", frame_codec="jpeg")')
    assert len(list(choices_by_name(wrong))) == 2


def test_no_product_file_names_a_codec() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in PRODUCT
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if NAMED.search(line)
    ]
    assert not found


def test_no_product_file_chooses_by_a_codecs_name() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {choice}"
        for path in PRODUCT
        if path.suffix == ".py"
        for choice in choices_by_name(ast.parse(path.read_text()))
    ]
    assert not found


@pytest.mark.parametrize("name", FLOW_CODECS)
def test_a_codec_has_what_its_line_says(name: str) -> None:
    codec = flow_codec(name, bound_px=15.0)
    assert codec.name == name
    assert codec.bounded == FLOW_CODECS[name].bounded == (name in bounded_names())
    assert codec.bound_px == (15.0 if codec.bounded else np.inf)
    assert FLOW_CODECS[name].help


@pytest.mark.parametrize("name", FLOW_CODECS)
def test_codes_survive_packing_and_hold_the_error_bound(name: str) -> None:
    codec, rng = flow_codec(name, bound_px=20.0), np.random.default_rng(0)
    flow = np.clip(rng.normal(0, 6, (2, 16, 24)), -20, 20).astype(np.float32)
    made = codec.quantizer.quantize(flow)
    # The table that decodes a range is float32: half a unit in the last place of 20 px.
    bound = made.scale / 2 + 2e-6
    error = np.abs(codec.to_px(made.codes, made.scale) - flow)
    assert np.count_nonzero(error > bound) == made.clipped <= flow.size // 1000
    packed = codec.encode_codes(made)
    assert packed == codec.encode(flow)
    back = codec.unpack(packed.chunks, (16, 24))
    assert back.dtype == codec.dtype
    assert codec.stores_planes or np.array_equal(back, made.codes)


def test_codecs_are_equal_where_their_bytes_mean_the_same() -> None:
    for name, entry in FLOW_CODECS.items():
        assert flow_codec(name, bound_px=20.0) == flow_codec(name)
        assert (flow_codec(name, bound_px=15.0) == flow_codec(name)) == (not entry.bounded)
        assert sum(flow_codec(name) == flow_codec(other) for other in FLOW_CODECS) == 1


def test_the_codec_of_imports_stores_planes() -> None:
    assert flow_codec(PLANE_CODEC).stores_planes
    assert not flow_codec(DEFAULT_FLOW_CODEC).stores_planes


def test_an_unknown_codec_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidParameterError, match=r"Invalid flow_codec \('zfp'\).* q8, i8, i16, jpeg"):
        flow_codec("zfp")


def test_a_warning_of_what_was_clipped_names_what_got_expected_and_remedy() -> None:
    assert clipped_warning("i16", 0.001, largest_px=600.0) == ""
    assert clipped_warning("i16", 0.00125, largest_px=600.04) == (
        "0.12% of the flow is beyond the range of --flow-codec i16 and was clipped (largest 600.0 px), "
        f"expected 0.1% at most; use --flow-codec {DEFAULT_FLOW_CODEC}"
    )
    assert clipped_warning("jpeg", 0.5, largest_px=99.0).endswith(
        f"use --flow-codec {DEFAULT_FLOW_CODEC} or a larger --bound"
    )
    assert (
        DEFAULT_FLOW_CODEC not in clipped_warning(DEFAULT_FLOW_CODEC, 0.5, largest_px=9.0).partition("; ")[2]
    )


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import flowkit.store.codecs", ("numpy", "h5py", "cv2")),
        ("from flowkit_cli import extract, recode", ("numpy", "h5py", "cv2")),
        ("from flowkit.store.codecs import *; [flow_codec(name) for name in FLOW_CODECS]", ("h5py",)),
    ],
)
def test_names_and_codecs_are_light(code: str, heavy: tuple[str, ...]) -> None:
    check = f"import sys; {code}; sys.exit(', '.join(set({heavy}) & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
