"""Write docs/api.md: the public names, each with the first line of its docstring.

    python docs/make_api.py

Reads the sources alone, so that it needs neither PyTorch nor a GPU.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
PACKAGES = {
    "flowkit": "The library.",
    "flowkit.datasets": "Splits, sampling and batches of clips; its PyTorch classes need `[train]`.",
    "gating": "The trainer; needs `[train]`.",
}
HEAD = """# API

The public names of the three packages, with the first lines of their docstrings; `help(flowkit.extract)`
shows the rest. All other names may change. Made by `python docs/make_api.py`: change the docstrings, not
this page.
"""

Home: TypeAlias = tuple[str, str]
"""A module, and the name of a class, function or constant there."""


def page() -> str:
    """Return the content of docs/api.md."""
    return "\n".join([HEAD, *(line for package in PACKAGES for line in section(package))])


def section(package: str) -> Iterator[str]:
    """Yield the lines of one package: a heading, and a row for each public name."""
    yield f"## {package}\n\n{PACKAGES[package]}\n\n| name | | defined in |\n|---|---|---|"
    for name in public_names(package):
        module, original = home((package, name))
        text = summary(module, original).replace("|", "\\|")
        yield f"| `{name}` | {text} | `{source_of(module).relative_to(ROOT)}` |"
    yield ""


def public_names(package: str) -> list[str]:
    """Return the package's `__all__`, functions last."""
    for node in parsed(package).body:
        if isinstance(node, ast.Assign) and names_of(node) == ["__all__"]:
            names: list[str] = ast.literal_eval(node.value)
            return sorted(names, key=str.islower)
    raise LookupError(f"{package} has no __all__")


def home(name: Home) -> Home:
    """Follow `from … import` statements to the module that defines a name."""
    for node in ast.walk(parsed(name[0])):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name[1]:
                    return home((node.module, alias.name))
    return name


def summary(module: str, name: str) -> str:
    """Return the first line of the docstring of a class, function or constant."""
    body = parsed(module).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            text = ast.get_docstring(node)
        elif name in names_of(node) and isinstance(following, ast.Expr):
            text = ast.literal_eval(following.value)
        else:
            continue
        if text:
            return str(text).strip().splitlines()[0]
    raise LookupError(f"{module}.{name} has no docstring")


def names_of(node: ast.stmt) -> list[str]:
    """Return the names that an assignment binds."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return [target.id for target in targets if isinstance(target, ast.Name)]


@functools.cache
def parsed(module: str) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(source_of(module).read_text(encoding="utf-8"))


def source_of(module: str) -> Path:
    """Return the source file of a module."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
