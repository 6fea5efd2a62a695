"""Who may import whom (docs: the layers of flowkit), read from the sources themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each of these may import only flowkit modules of its own set or of an earlier one.
RANKS: list[set[str]] = [
    {"flowkit.errors", "flowkit.atomic", "flowkit.tvl1.params", "flowkit.tvl1.pairs"},
    {"flowkit.store.ids", "flowkit.store.schema", "flowkit.jpeg", "flowkit.quantize", "flowkit.frames"},
    {"flowkit.tvl1.codes"},
    {"flowkit.video_source", "flowkit.video_clock", "flowkit.lists"},
    {
        "flowkit.video",
        "flowkit.video_av",
        "flowkit.video_cv",
        "flowkit.images",
        "flowkit.tvl1.reference",
        "flowkit.tvl1.reference_sampling",
        "flowkit.tvl1.reference_pyramid",
        "flowkit.tvl1.reference_steps",
    },
    {"flowkit.tvl1.opencv", "flowkit.tvl1.cpu", "flowkit.tvl1.cuda", "flowkit.tvl1.cuda_arrays"},
    {"flowkit.tvl1.backend"},
    {"flowkit.tvl1.flow", "flowkit.tvl1", "flowkit.tvl1.channel", "flowkit.tvl1.codes_solver"},
    {"flowkit.tvl1.server", "flowkit.tvl1.remote"},
    {"flowkit.inputs"},
    {
        "flowkit.stages",
        "flowkit.plan",
        "flowkit.sink",
        "flowkit.blackboard",
        "flowkit.extract_config",
    },
    {"flowkit.executor"},
    {"flowkit.pipeline"},
    {"flowkit.job"},
    {"flowkit.progress"},
    {"flowkit.extract"},
]

# Third parties and the only modules that may name them.
ROOMS: dict[str, tuple[str, ...]] = {
    "av": ("flowkit.video", "flowkit.synth", "flowkit.doctor"),  # a room includes its name_* files
    "cv2": (
        "flowkit.video",
        "flowkit.images",
        "flowkit.frames",
        "flowkit.jpeg",
        "flowkit.view",
        "flowkit.synth",
        "flowkit.tvl1.opencv",
        "flowkit.doctor",
    ),
    "cupy": ("flowkit.tvl1.cuda", "flowkit.doctor"),
    "h5py": ("flowkit.store", "flowkit.doctor"),
    "joblib": ("flowkit.executor",),
    "distributed": ("flowkit.executor",),
    "torch": ("gating", "flowkit.datasets"),
    "click": ("cli",),
    "tqdm": ("cli",),
}


def modules() -> dict[str, Path]:
    found = {}
    for package in ("flowkit", "cli", "gating"):
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def belongs(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith((room + ".", room + "_")) for room in rooms)


def test_third_parties_stay_in_their_rooms() -> None:
    strays = [
        f"{module} imports {name}"
        for module, path in modules().items()
        for name in imports(path)
        if name.split(".")[0] in ROOMS and not belongs(module, ROOMS[name.split(".")[0]])
    ]
    assert not strays


def test_lower_layers_import_only_lower_ones() -> None:
    rank = {name: level for level, names in enumerate(RANKS) for name in names}
    wrong = [
        f"{module} imports {name}"
        for module, path in modules().items()
        if module in rank
        for name in imports(path)
        if rank.get(name, -1) > rank[module]
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("flowkit.store", ("flowkit.video", "flowkit.tvl1", "flowkit.frames", "flowkit.extract")),
        ("flowkit.video", ("flowkit.store", "flowkit.tvl1", "flowkit.extract")),
        ("flowkit.tvl1", ("flowkit.store", "flowkit.video", "flowkit.extract")),
        ("flowkit.datasets", ("flowkit.video", "flowkit.tvl1", "flowkit.extract")),
        ("flowkit.store", ("flowkit.datasets",)),
        ("gating", ("flowkit.video", "flowkit.tvl1", "flowkit.synth", "cli")),
        ("flowkit", ("cli", "flowkit_cli", "gating", "click")),
    ],
)
def test_package_knows_nothing_of(package: str, forbidden: tuple[str, ...]) -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in modules().items()
        if belongs(module, (package,))
        for name in imports(path)
        if belongs(name, forbidden)
    ]
    assert not wrong


def test_importing_flowkit_loads_neither_torch_nor_cupy() -> None:
    code = (
        "import sys, flowkit; [getattr(flowkit, n) for n in flowkit.__all__];"
        "sys.exit(', '.join({'torch', 'cupy', 'click'} & set(sys.modules)) or 0)"
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
