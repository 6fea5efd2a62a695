"""Who may import whom, read from the sources themselves: every module has a rank by its folder."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowkit
import gating

ROOT = Path(__file__).resolve().parent.parent

# A module has the rank of the longest name here that it is or lies below, and imports only modules of
# its own line or of an earlier one.
RANKS: tuple[tuple[str, ...], ...] = (
    ("flowkit._version", "flowkit._lazy", "flowkit.errors"),
    ("flowkit.typing", "flowkit.validate", "flowkit.atomic", "flowkit.untrusted_json", "flowkit.remote"),
    (
        *("flowkit.frames", "flowkit.resize_rule"),
        "flowkit.jpeg",
        "flowkit.quantize",
        "flowkit.distribution",
    ),
    ("flowkit.flow_files",),
    ("flowkit.workers",),
    ("flowkit.executor",),
    ("flowkit.dask_executor",),
    ("flowkit.video", "flowkit.tvl1.params", "flowkit.tvl1.engine"),
    ("flowkit.tvl1.reference",),
    ("flowkit.tvl1.cpu", "flowkit.tvl1.opencv", "flowkit.tvl1.cuda"),
    ("flowkit.tvl1.backend",),
    ("flowkit.tvl1", "flowkit.tvl1.flow"),
    ("flowkit.tvl1.server",),
    ("flowkit.methods",),
    ("flowkit.store.record",),
    ("flowkit.store.codecs",),
    ("flowkit.store.schema",),
    ("flowkit.store.hdf5_file", "flowkit.store.parts_folder"),
    (
        *("flowkit.store.index", "flowkit.store.addresses"),
        *("flowkit.store.checked_hdf5", "flowkit.store.refusals", "flowkit.store.heap_text"),
    ),
    ("flowkit.store.metadata", "flowkit.store.file_crc", "flowkit.store.video_table"),
    ("flowkit.store.open_file",),
    ("flowkit.store.inventory",),
    ("flowkit.store.read",),
    ("flowkit.store.write",),
    ("flowkit.store", "flowkit.store.tools"),
    ("flowkit.datasets",),
    ("flowkit.jobs",),
    ("flowkit.extraction",),
    ("flowkit.synth", "flowkit.rawframes", "flowkit.comparison", "flowkit.doctor"),
    ("flowkit.html", "flowkit.view"),
    ("flowkit",),  # the package's own `__init__`, whose names load on first use; no other module
    ("gating.errors", "gating.events", "gating.statistics"),
    ("gating.config", "gating.train_config", "gating.distributed"),
    ("gating.run_folder", "gating.arrays", "gating.models"),
    ("gating.data",),
    ("gating.training", "gating.metrics", "gating.fusions"),
    ("gating.evaluation",),
    ("gating.trial",),
    ("gating.frozen",),
    ("gating.fusing",),
    ("gating.load", "gating.compatibility", "gating.announcement", "gating.auto_preset"),
    ("gating.extension", "gating.model_graph"),
    ("gating.run", "gating.rescoring", "gating.prediction", "gating.model_export"),
    ("gating.backbone_features",),
    ("gating.report",),
    ("gating",),  # its `__init__`
    ("cli",),
)
PACKAGES_THEMSELVES = ("flowkit", "gating")

# Folders that know nothing of one another: extraction alone joins them.
STRANGERS = ("flowkit.video", "flowkit.tvl1", "flowkit.store")
# What a folder may not use although its rank would let it.
FORBIDDEN = {
    "flowkit.store": ("flowkit.frames", "flowkit.resize_rule", "flowkit.methods"),
    "flowkit.datasets": ("flowkit.video", "flowkit.tvl1", "flowkit.methods"),
    "flowkit.methods": ("flowkit.video",),
    "flowkit.jobs": STRANGERS,
    "flowkit.executor": STRANGERS,
}

# What the trainer may use of flowkit: shared parts and the reading side; the report draws, and
# predicting raw videos extracts them first.
GATING_USES = {
    "gating": (
        *("flowkit._lazy", "flowkit._version", "flowkit.errors", "flowkit.typing", "flowkit.validate"),
        *(
            "flowkit.untrusted_json",
            "flowkit.atomic",
            "flowkit.remote",
            "flowkit.quantize",
            "flowkit.datasets",
            "flowkit.store.read",
        ),
        *("flowkit.store.record", "flowkit.store.schema", "flowkit.store.codecs"),
    ),
    "gating.report": ("flowkit.html", "flowkit.view"),
    "gating.compatibility": ("flowkit.extraction.config", "flowkit.tvl1.params", "flowkit.resize_rule"),
    "gating.backbone_features": ("flowkit.extraction", "flowkit.jobs", "flowkit.executor"),
    "gating.prediction": (
        *("flowkit.extraction", "flowkit.tvl1.params", "flowkit.frames", "flowkit.jobs", "flowkit.executor"),
    ),
}

# Third parties and the only modules that may name them.
ROOMS: dict[str, tuple[str, ...]] = {
    "av": ("flowkit.video", "flowkit.synth", "flowkit.doctor"),
    "cv2": (
        *("flowkit.video", "flowkit.frames", "flowkit.jpeg", "flowkit.view", "flowkit.synth"),
        *("flowkit.tvl1.opencv", "flowkit.methods", "flowkit.doctor"),
    ),
    "cupy": ("flowkit.tvl1.cuda", "flowkit.doctor"),
    "h5py": (
        *("flowkit.store", "flowkit.doctor"),
        *("gating.frozen", "gating.fusing", "gating.backbone_features"),
    ),
    "joblib": ("flowkit.workers.slot",),
    "distributed": ("flowkit.workers.cluster", "flowkit.workers.remote"),
    "jinja2": ("flowkit.html",),
    "fsspec": ("flowkit.remote",),
    "torch": ("gating", "flowkit.datasets.torch"),
    "click": ("cli",),
    "tqdm": ("cli",),
}


def modules() -> dict[str, Path]:
    """Return each product module's file by its dotted name."""
    found = {}
    for package in ("flowkit", "cli", "gating"):
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()
# `from flowkit import X` is an import of the module that X lives in.
HOMES = {
    f"{package.__name__}.{name}": home.partition(":")[0]
    for package in (flowkit, gating)
    for name, home in package._HOMES.items()
}


def imported(path: Path) -> Iterator[str]:
    """Yield the module of each import of a file; names of a package resolve to their homes."""
    package = path.relative_to(ROOT).parts[0]
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package if node.level else "", node.module or ""]))
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield HOMES.get(full, full if full in MODULES else base)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            yield from (str(word.value) for word in node.args if isinstance(word, ast.Constant))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            full = f"{node.value.id}.{node.attr}"
            if full in HOMES:
                yield HOMES[full]


IMPORTS = {name: set(imported(path)) for name, path in MODULES.items()}


def belongs(module: str, rooms: tuple[str, ...]) -> bool:
    """Return whether a module is one of these, or lies below one."""
    return any(module == room or module.startswith(room + ".") for room in rooms)


def rank_of(module: str) -> int | None:
    """Return the rank of the longest listed name that a module is or lies below."""
    known = {name: rank for rank, names in enumerate(RANKS) for name in names}
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        # The packages' own names stand for their `__init__` alone: a new module needs a rank.
        if name in known and (name == module or name not in PACKAGES_THEMSELVES):
            return known[name]
    return None


def test_every_module_has_a_rank() -> None:
    assert [name for name in MODULES if rank_of(name) is None] == []


def test_every_listed_name_exists() -> None:
    assert [name for names in RANKS for name in names if name not in MODULES] == []


def test_modules_import_only_their_own_rank_and_lower_ones() -> None:
    wrong = []
    for module, names in IMPORTS.items():
        if module in PACKAGES_THEMSELVES:
            continue
        own = rank_of(module)
        assert own is not None
        for name in names:
            other = rank_of(name) if name.split(".")[0] in ("flowkit", "gating", "cli") else None
            if other is not None and other > own and name != "flowkit":
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_video_tvl1_and_store_know_nothing_of_each_other() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for own in STRANGERS
        if belongs(module, (own,))
        for name in names
        if belongs(name, tuple(other for other in STRANGERS if other != own))
    ]
    assert wrong == []


def test_folders_keep_from_what_their_rank_would_allow() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for own, forbidden in FORBIDDEN.items()
        if belongs(module, (own,))
        for name in names
        if belongs(name, forbidden)
    ]
    assert wrong == []


def test_the_trainer_uses_the_reading_side_alone() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        if belongs(module, ("gating",))
        for name in names
        if name.startswith("flowkit.")
        and not any(belongs(module, (user,)) and belongs(name, rooms) for user, rooms in GATING_USES.items())
    ]
    assert wrong == []


def test_flowkit_knows_neither_trainer_nor_command_line() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        if belongs(module, ("flowkit",))
        for name in names
        if belongs(name, ("gating", "cli", "flowkit_cli", "click"))
    ]
    assert wrong == []


def test_third_parties_stay_in_their_rooms() -> None:
    strays = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in names
        if name.split(".")[0] in ROOMS and not belongs(module, ROOMS[name.split(".")[0]])
    ]
    assert strays == []


@pytest.mark.parametrize("package", ["flowkit", "gating"])
def test_a_module_without_a_rank_is_noticed(package: str) -> None:
    assert rank_of(f"{package}.somewhere") is None
    assert rank_of(f"{package}.somewhere.deeper") is None


def test_an_import_from_the_package_counts_as_one_of_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    source = tmp_path / "gating" / "x.py"
    source.parent.mkdir()
    source.write_text("from flowkit import tvl1_flow\nimport flowkit\nflowkit.extract\n")
    assert set(imported(source)) == {"flowkit", "flowkit.tvl1.flow", "flowkit.extraction.run"}


def test_importing_flowkit_loads_neither_torch_nor_cupy() -> None:
    code = (
        "import sys, flowkit; [getattr(flowkit, n) for n in flowkit.__all__];"
        "sys.exit(', '.join({'torch', 'cupy', 'click', 'jinja2'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_has_the_name_of_a_public_function() -> None:
    """`flowkit.extract` stays the function, whatever has been imported before."""
    pytest.importorskip("torch")
    code = (
        "import importlib, pkgutil, flowkit, gating\n"
        "for package in (flowkit, gating):\n"
        "    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not found.name.endswith(('__main__', '_native')):\n"
        "            importlib.import_module(found.name)\n"
        "for package in (flowkit, gating):\n"
        "    for name in package.__all__:\n"
        "        value = getattr(package, name)\n"
        "        assert type(value).__name__ != 'module', (package.__name__, name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_package_is_shipped() -> None:
    """A plain install must hold what an editable one does."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    packages = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for folder in ("flowkit", "gating")
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert packages | {"flowkit_cli"} == listed
