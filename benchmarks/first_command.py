"""Time README's first command as a new user runs it: a fresh clone, a fresh environment, the demo.

    python -m benchmarks.first_command [--turns 3]

The clone is of the commit checked out; packages come from where pip takes them, with its cache. Beside each
turn stands what the same machine takes for the environment and flowkit's dependencies alone: no command that
installs flowkit by pip is faster.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path

from benchmarks.record import ROOT, write_result


def first_command() -> str:
    """Return the command of README's first block."""
    found = re.search(r"<!-- demo-command -->\n```bash\n(.*)\n```", (ROOT / "README.md").read_text())
    assert found is not None, "README.md has no demo-command"
    return found[1]


def floor() -> str:
    """Return the command's first parts with flowkit's dependencies in place of flowkit."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    dependencies = shlex.join(project["dependencies"])
    environment, activation, *_ = first_command().split(" && ")
    return f"{environment} && {activation} && pip install {dependencies}"


def run_once(command: str) -> dict[str, float]:
    """Run each part of a command in a fresh clone; return its seconds, by part."""
    # As from a shell of the user's, not from this environment.
    outside = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    own = os.environ.get("VIRTUAL_ENV")
    places = outside["PATH"].split(os.pathsep)
    outside["PATH"] = os.pathsep.join(place for place in places if not own or own not in place)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "flowkit"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        timed = " && ".join(f'{part} && date +%s.%N >> "$TIMES"' for part in command.split(" && "))
        times = Path(folder) / "times"
        began = time.time()
        environment = {**outside, "TIMES": str(times)}
        subprocess.run(["bash", "-c", timed], cwd=clone, env=environment, check=True, capture_output=True)
        ends = [began, *map(float, times.read_text().split())]
    parts = command.split(" && ")
    seconds = {part: round(ends[k + 1] - ends[k], 2) for k, part in enumerate(parts)}
    return {**seconds, "all": round(ends[-1] - began, 2)}


def main() -> None:
    """Time the command a few times and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    command = first_command()
    turns, floors = [], []
    for _ in range(args.turns):
        turns.append(run_once(command))
        floors.append(run_once(floor()))
        print(turns[-1], floors[-1], sep="\n")
    result = {"command": command, "seconds": turns, "seconds_of_the_dependencies_alone": floors}
    print(write_result("first-command", result))


if __name__ == "__main__":
    main()
