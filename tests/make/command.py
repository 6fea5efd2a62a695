"""The command line in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def command_line(*words: object) -> list[str]:
    return [sys.executable, "-c", "import flowkit_cli; flowkit_cli.main()", *map(str, words)]


def flowkit_says(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command_line(*words), capture_output=True, text=True, check=False, timeout=120, **options
    )
