"""Count files, their sizes, the names in them, and the files that one run passes.

    python -m benchmarks.structure [--root CHECKOUT] [--trace] [--save]

`--trace` runs a small extraction and a small training with the checkout's own environment
(CHECKOUT/.venv, else this one) and lists the files of which a function ran: the way of a frame from
file to packed store, and of a clip to accuracy. Imports, class bodies and the command line do not count.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from benchmarks.record import ROOT, JsonObject, write_result

PACKAGES = ("flowkit", "gating", "cli")
SMALL, LARGE = 30, 400
CODEC = re.compile(r"\b(?:i8|i16)\b")
QUESTION = re.compile(r"(?:What|How|Which|Where|Whether|Who)\b")
TELL = re.compile(r"\b(?:tell|tells|told)\b", re.IGNORECASE)
RUN_FILES = {"trial.json", "results.json", "judgement.json", "fused.npz", "log.jsonl", "last.pt", "best.pt"}
# The modules that write atomically, in the old layout and in today's.
ATOMIC = ("flowkit/store/commit.py", "flowkit/atomic.py")

# Notes each file once, when one of its functions is called the n-th time, in this process and its workers.
_HOOK = """
import collections, os, sys, threading
log, root, seen = os.environ["STRUCTURE_LOG"], os.environ["STRUCTURE_ROOT"] + "/", set()
calls, least = collections.Counter(), int(os.environ["STRUCTURE_CALLS"])
def profile(frame, event, arg):
    code = frame.f_code
    if event == "call" and code.co_flags & 1 and code.co_filename not in seen:
        calls[code] += 1
        if calls[code] < least:
            return
        seen.add(code.co_filename)
        if code.co_filename.startswith(root):
            with open(log, "a") as file:
                file.write(code.co_filename[len(root):] + "\\n")
sys.setprofile(profile)
threading.setprofile(profile)
"""


def product_files(root: Path) -> dict[str, str]:
    """Return the text of each product .py file by its path below the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", *(f"{package}/*.py" for package in PACKAGES)],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return {path: (root / path).read_text() for path in sorted(listed)}


def counts(root: Path) -> JsonObject:
    """Return the numbers that need no run."""
    files = product_files(root)
    lines = {path: len(text.splitlines()) for path, text in files.items()}
    kernels = subprocess.run(
        ["git", "ls-files", "flowkit/*.cu", "flowkit/*.cuh"], cwd=root, capture_output=True, text=True
    ).stdout.splitlines()
    texts = files | {path: (root / path).read_text() for path in kernels}
    return {
        "product files": len(files),
        "median lines": {
            package: statistics.median(n for path, n in lines.items() if path.startswith(package + "/"))
            for package in ("flowkit", "gating")
        },
        f"files over {LARGE} lines": sorted(path for path, n in lines.items() if n > LARGE),
        f"files under {SMALL} lines with one caller": _small(files, lines),
        "files directly in": {
            package: sum(path.count("/") == 1 and path.startswith(package) for path in files)
            for package in ("flowkit", "gating")
        },
        "files that name i8 or i16": sorted(path for path, text in texts.items() if CODEC.search(text)),
        "docstrings that open with a question word": sum(
            bool(QUESTION.match(text)) for file in files.values() for text in _docstrings(file)
        ),
        "lines with tell, tells, told": sum(
            bool(TELL.search(line)) for file in files.values() for line in file.splitlines()
        ),
        "uses of Any": sum(len(re.findall(r"\bAny\b", file)) for file in files.values()),
        "modules without a test file of their name": _untested(root, files),
        "files that write atomically by hand": sorted(
            path for path, text in files.items() if path not in ATOMIC and _renames(text)
        ),
        "files that name a file of a run's folder": sorted(
            path
            for path, text in files.items()
            if not path.startswith("cli/") and RUN_FILES & set(_strings(text))
        ),
    }


def _small(files: dict[str, str], lines: dict[str, int]) -> list[str]:
    callers: dict[str, set[str]] = defaultdict(set)
    for path, text in files.items():
        for name in _imports(text):
            callers[name].add(path)
    return [
        path
        for path, n in lines.items()
        if n < SMALL
        and not path.startswith("cli/")
        and Path(path).name not in ("__init__.py", "__main__.py")
        and len(callers[path.removesuffix(".py").replace("/", ".")] - {path}) <= 1
    ]


def _docstrings(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def _untested(root: Path, files: dict[str, str]) -> list[str]:
    """Return the modules (commands apart) that no test_<name>.py of the same folder of tests names."""
    tests = subprocess.run(
        ["git", "ls-files", "tests/*.py"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = set(tests)
    missing = []
    for path in files:
        package, _, inner = path.partition("/")
        folder, _, name = inner.rpartition("/")
        if package == "cli" or name.startswith("_"):
            continue
        above = "tests/gating/" if package == "gating" else "tests/"
        if f"{above}{folder}/test_{name}".replace("//", "/") not in found:
            missing.append(path)
    return missing


def _imports(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _renames(text: str) -> bool:
    """Return True if a module renames files itself or names a temporary."""
    return bool(re.search(r"os\.(?:rename|replace)\(|temporary\.replace\(|\.tmp[\"']", text))


def _strings(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.rpartition("/")[2]


def traced(root: Path) -> dict[str, list[str]]:
    """Return the files that ran in an extraction and in a training of a few clips."""
    own = root / ".venv" / "bin" / "flowkit"
    flowkit = [str(own)] if own.exists() else [sys.executable, "-m", "flowkit_cli"]
    clips, frames = 6, 40
    made = ("--clips", str(clips), "--classes", "2", "--frames", str(frames), "--groups", "3")
    quick = ("--rgb-epochs", "1", "--flow-epochs", "1", "--gate-epochs", "1", "--test-segments", "2")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([*flowkit, "synth", "videos", *made], cwd=folder, check=True, capture_output=True)
        extract = [*flowkit, "extract", "videos", "out.h5", "--jobs", "1"]
        each_frame = _files_of([*extract[:-3], "each.h5", "--jobs", "1"], root, folder, clips * frames)
        return {
            "extract, once a frame": each_frame,
            "extract": _files_of(extract, root, folder),
            "train": _files_of(
                [*flowkit, "train", "out.h5", "--folds", "3", "--fold", "0", "--preset", "tiny", *quick],
                root,
                folder,
            ),
        }


def _files_of(command: list[str], root: Path, folder: Path, calls: int = 1) -> list[str]:
    """Return the files of which one function was called so often in one process of a command."""
    hook, log = folder / "hook", folder / "files.log"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(_HOOK)
    log.unlink(missing_ok=True)
    variables = {"STRUCTURE_LOG": str(log), "STRUCTURE_ROOT": str(root), "PYTHONPATH": str(hook)}
    variables["STRUCTURE_CALLS"] = str(calls)
    subprocess.run(command, cwd=folder, env={**os.environ, **variables}, check=True, capture_output=True)
    return sorted({path for path in log.read_text().split() if path.startswith(("flowkit/", "gating/"))})


def main() -> None:
    """Print the numbers, and keep them if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout that is counted")
    parser.add_argument("--trace", action="store_true", help="run an extraction and a training, too")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME-<date>.json")
    options = parser.parse_args()
    root = options.root.resolve()
    found = counts(root)
    if options.trace:
        for name, files in traced(root).items():
            found[f"files of which a function ran: {name}"] = {"count": len(files), "files": files}
    print(json.dumps(found, indent=1))
    if options.save:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
        write_result(options.save, {"counted": commit.stdout.strip(), **found})


if __name__ == "__main__":
    main()
