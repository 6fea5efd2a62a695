"""The `flowkit` command; installs as `flowkit_cli`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    raise SystemExit("not written yet")
