from __future__ import annotations

import ast
from pathlib import Path

import flowkit.typing

PACKAGE = Path(flowkit.typing.__file__).parent


def aliases(path: Path) -> dict[str, str]:
    """Return the array types that a module names, by name."""
    return {
        ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0]): ast.unparse(
            node.value
        )
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Subscript)
        and ast.unparse(node.value.value) == "NDArray"
    }


def test_shared_array_types_are_named_in_one_place() -> None:
    shared = aliases(PACKAGE / "typing.py")
    assert "Flow" in shared
    again = [
        f"{path.relative_to(PACKAGE)}: {name} = {value}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != PACKAGE / "typing.py"
        for name, value in aliases(path).items()
        if value in shared.values()
    ]
    assert not again
