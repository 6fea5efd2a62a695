"""Snippets of README and the pages run as they are; names, reasons, links and layout are complete."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import flowkit
import flowkit_cli
from docs import make_api
from flowkit import jobs
from flowkit.errors import NoSpaceError, VideoError
from flowkit.methods import flow_method
from flowkit.rawframes import export, importer
from tests.make import clips
from tests.make.small import run

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/read.md")
REGENERATE = "docs/api.md is out of date: run `python docs/make_api.py` and commit the page"


def snippets(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of the pages' snippets."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "videos" / "HandStand").mkdir(parents=True)
    clips.mjpeg_avi(folder / "videos" / "HandStand" / "clip_07.avi", clips.moving_texture(12))
    run(folder / "videos", folder / "out.h5")
    return folder


@pytest.mark.parametrize(
    ("page", "code"), [(page, code) for page in PAGES for code in snippets(page, "python")]
)
def test_python_snippets_run(page: str, code: str, folder: Path) -> None:
    if "import torch" in code:
        pytest.importorskip("torch")
    if "import fsspec" in code:
        pytest.importorskip("fsspec")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"{page}: {done.stderr}"


def test_every_page_with_snippets_has_some() -> None:
    assert [page for page in PAGES if len(snippets(page, "python")) < 3] == []


def test_the_training_snippet_imports_public_modules(folder: Path) -> None:
    pytest.importorskip("torch")
    (code,) = snippets("docs/train.md", "python")
    imports = re.findall(r"^(?:from|import) .+$", code, re.MULTILINE)
    assert len(imports) >= 2
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(imports)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_commands_and_the_function_of_the_page_on_methods_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, python = snippets("docs/methods.md", "python")
    fields, own = snippets("docs/methods.md", "bash")
    monkeypatch.chdir(folder)
    (folder / "mine.py").write_text(function)
    extract, compare, _ = fields.replace("out.h5", "fields.h5").splitlines()
    for command in (extract, compare, own):
        words = shlex.split(command, comments=True)
        program = f"import sys\nfrom flowkit_cli import main\nsys.argv = {words}\nmain()"
        run_python(program)
    run_python(python)
    with flowkit.open("shift.h5") as store:
        flow = store["HandStand/clip_07"].flow()
        assert '"window": "none"' in store.options.fields[0].tvl1_params
    # The texture moves (2, 1) px a frame; a JPEG's noise misleads phase correlation in single pairs.
    assert np.abs(np.median(flow, axis=(0, 2, 3)) - (2, 1)).max() < 0.5
    for name, methods in (
        ("fields.h5", ["TV-L1 preset fast", "dis preset fast", "mine:shift"]),
        ("both.h5", ["mine:shift", "dis preset fast"]),
    ):
        with flowkit.open(name) as store:
            assert [field.summary for field in store.options.fields] == methods


def run_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_on_methods_states_the_parameters_of_each_preset() -> None:
    page = (ROOT / "docs/methods.md").read_text().partition("\nCPU time")[0]
    rows = dict(re.findall(r"^\| `(\w+/\w+)`.*?\| (.*?) \|", page, re.MULTILINE))
    for name in ("dis/medium", "dis/fast", "farneback/samples", "farneback/defaults"):
        params = json.loads(flow_method(name).to_json())["params"]
        stated = re.findall(r"([a-z_]+) ([\d.]+)", rows[name].partition(":")[0])
        assert len(stated) == {"dis": 4, "farneback": 7}[name.partition("/")[0]]
        assert {key: float(value) for key, value in stated} == {key: params[key] for key, _ in stated}, name


def test_the_plain_snippet_gives_the_readers_flow(folder: Path) -> None:
    code = snippets("docs/read.md", "python")[0]
    assert "flowkit" not in code
    program = code + "\nimport sys, numpy\nnumpy.save('uv.npy', uv)\n"
    program += "assert not [name for name in sys.modules if name.startswith('flowkit')]\n"
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True)
    with flowkit.open(folder / "out.h5") as store:
        assert np.array_equal(np.load(folder / "uv.npy"), store["HandStand/clip_07"].flow(0, 5))


def test_the_cpp_snippet_reads_the_same_flow(folder: Path) -> None:
    compiler, config = shutil.which("g++"), shutil.which("pkg-config")
    if compiler is None or config is None:
        pytest.skip("needs g++ and pkg-config")
    asked = subprocess.run(
        [config, "--cflags", "--libs", "hdf5"], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        pytest.skip("needs HDF5's C headers")
    (code,) = snippets("docs/read.md", "cpp")
    (folder / "read.cpp").write_text(code)
    words = ["read.cpp", "-o", "read", *asked.stdout.split()]
    subprocess.run([compiler, "-Wall", "-Werror", *words], cwd=folder, check=True)
    said = subprocess.run(["./read"], cwd=folder, capture_output=True, text=True, check=True).stdout
    with flowkit.open(folder / "out.h5") as store:
        flow = store["HandStand/clip_07"].flow(3, 4)
    match = re.fullmatch(r"64 x 48, sum of u and v (-?[\d.]+) px\n", said)
    assert match
    assert abs(float(match[1]) - float(flow.sum(dtype=np.float64))) < 0.01


def written(pattern: str, *modules: str) -> set[str]:
    """Return the words that a pattern finds in the sources of modules."""
    sources = "".join((ROOT / "flowkit" / name).read_text() for name in modules)
    return set(re.findall(pattern, sources, re.DOTALL))


def unexplained(reasons: set[str], *pages: str) -> set[str]:
    text = "".join((ROOT / "docs" / page).read_text() for page in pages)
    return {reason for reason in reasons if f"`{reason}`" not in text}


def common_reasons() -> set[str]:
    """Return the reasons that every task may fail for."""
    errors = {error.reason for error in VideoError.__subclasses__()} | {NoSpaceError.reason}
    table = {reason for _, reason in jobs.REASONS}
    beside = written(r'(?:return|kind\.fail\(task,) "(\w+)"', "jobs.py")
    assert beside == {"worker_died", "timed_out", "internal_error"}
    return (errors | table | beside) - {VideoError.reason}


def test_every_reason_of_the_ledger_is_explained() -> None:
    changed = written(r'failed_video\(\w+, "(\w+)"', "extraction/store_run.py")
    assert changed == {"source_changed"}
    assert unexplained(common_reasons() | changed, "extract.md") == set()


def test_every_reason_of_an_import_and_of_an_export_is_explained() -> None:
    folders = written(
        r'(?:FolderError\(|return|wrong =)\s*"([a-z_]+)",',
        *(f"rawframes/{name}.py" for name in ("folders", "frame_files", "inspection", "import_worker")),
        *(f"rawframes/{name}.py" for name in ("array_clips", "encoding")),
    )
    assert {"missing_files", "uneven_counts", "size_mismatch", "decode_error", "several_folders"} <= folders
    own = {reason for _, reason in (*importer.REASONS, *export.REASONS)}
    own |= written(r'failed_unit\(unit, "(\w+)"', "rawframes/export.py")
    assert {"unopenable", "refused", "store_error", "write_error"} == own
    page = (ROOT / "docs/move-from-denseflow.md").read_text()
    assert "extract.md" in page
    # Those of all tasks are in the page that this one refers to.
    pages = ("move-from-denseflow.md", "move-flow.md")
    assert unexplained(folders | own - common_reasons(), *pages) == set()


def test_links_lead_to_files_and_headings() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]
    links = [
        (page, *target.partition("#")[::2])
        for page in pages
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text())
        if "://" not in target
    ]
    assert len(links) > 20
    for page, path, heading in links:
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {path}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
            assert heading in anchors, f"{page.name} links to {path}#{heading}"


def test_contributing_has_the_test_command_of_readme() -> None:
    command = (ROOT / "README.md").read_text().partition("<!-- test-command -->\n")[2].partition("```\n")[0]
    assert "pytest" in command
    assert command in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_first_command_of_readme_needs_no_pytorch() -> None:
    command = (ROOT / "README.md").read_text().partition("<!-- demo-command -->\n")[2].partition("```\n")[0]
    assert "pip install . && flowkit demo --no-train" in command
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [name for name in project["dependencies"] if "torch" in name]


def test_every_supported_python_is_tested_and_named() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    versions = [text.rpartition(" ")[2] for text in classifiers if "Python ::" in text]
    assert versions == ["3.11", "3.12", "3.13"]
    assert f"Python {versions[0]} to {versions[-1]}" in (ROOT / "README.md").read_text()
    assert f"for version in {' '.join(versions[1:])};" in (ROOT / ".ci" / "run").read_text()


def test_the_api_page_has_every_public_name_and_its_summary() -> None:
    written = (ROOT / "docs" / "api.md").read_text()
    for package in ("flowkit", "flowkit.datasets", "gating"):
        section = written.partition(f"## {package}\n")[2].partition("\n## ")[0]
        names = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert sorted(names) == sorted(importlib.import_module(package).__all__), REGENERATE
    assert written == make_api.page(), REGENERATE


def test_the_layout_in_the_architecture_page_is_the_tree() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    block = page.partition("<!-- layout -->\n```\n")[2].partition("```")[0]
    listed: dict[str, set[str]] = {}
    for line in block.splitlines():
        if not line.startswith(" "):
            folder = listed.setdefault(line.split()[0].rstrip("/"), set())
        else:
            # Names of modules stand before two spaces and what is said of them.
            folder |= set(line.strip().partition("  ")[0].split())
    tree = {
        str(init.parent.relative_to(ROOT)): {path.stem for path in init.parent.glob("*.py")}
        - {"__init__", "__main__"}
        for package in ("flowkit", "gating", "cli")
        for init in (ROOT / package).rglob("__init__.py")
    }
    modules = (name.replace("-", "_") for name in flowkit_cli.COMMANDS)
    commands = {f"{name}_" if name == "import" else name for name in modules}
    tree["cli"] -= commands
    assert listed == tree
