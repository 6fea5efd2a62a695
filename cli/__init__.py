"""The `flowkit` command; installs as `flowkit_cli`.

Commands load when they are run, so that `flowkit --help` answers at once.
"""

from __future__ import annotations

import importlib
import keyword
import os
import resource
import signal
import sys
import threading
import warnings
from types import FrameType

import click

from .streams import Streams, echo

COMMANDS = {
    "extract": "Turn videos into one store of frames and TV-L1 flow.",
    "status": "Tell how far an extraction is, running or dead.",
    "info": "Show the contents of a store, or of one video.",
    "verify": "Check every checksum of a store; --repair drops broken videos.",
    "train": "Train two streams on a store, and a gate that weighs them per video.",
    "fuse": "Put two streams that other tools computed through every fusion and the gate.",
    "eval": "Score a finished run again with other segments and crops, and compare all fusions.",
    "predict": "Classify stored clips or raw videos, with the gate's weights.",
    "features": "Write features of stored clips or raw videos: of clips, segments or windows.",
    "export-model": "Write a run as one file for PyTorch alone, with preprocessing and fusion.",
    "report": "Make one page of a run: tables, matrices, gates, and the clips won and lost.",
    "view": "Draw one video's flow, or report on a whole store with --html.",
    "compare": "Measure how far two sources of flow are apart.",
    "flow": "Compute the flow between two images.",
    "export": "Write a store as raw frames (TSN, denseflow, mmaction2, .flo, KITTI, .npy) or webdataset.",
    "import": "Bring folders of raw frames, or flow of any method, into a store.",
    "merge": "Join stores of equal options into one.",
    "subset": "Write some videos of a store as a store of their own.",
    "relabel": "Write a store with other labels.",
    "recode": "Write a store with another flow codec, or without frames.",
    "synth": "Make a labelled set of small videos with true flow.",
    "doctor": "Show what is installed, what would be used, and why.",
    "demo": "Run the whole path once on made-up videos; the results stay in ./flowkit-demo.",
}
"""The commands and their one-line help (the module `flowkit_cli.<name>` holds each, with `_` for `-`)."""


_PROCESSES_A_CORE = 16
"""Below so many processes a core the limit of processes is a small one."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = f"{name}_" if keyword.iskeyword(name) else name
        command: click.Command = importlib.import_module(f"{__name__}.{module}").command
        for option in command.params:
            if isinstance(option, click.Option):
                # FLOWKIT_EXTRACT_FRAMES for --frames, whatever the parameter is called inside.
                flag = max(option.opts, key=len).lstrip("-").replace("-", "_")
                option.envvar = f"FLOWKIT_{name}_{flag}".upper()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from flowkit._version import __version__

        echo(f"flowkit {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version)
def group() -> None:
    """Videos in, TV-L1 optical flow out: one HDF5 store that trains models.

    Every option can be set from the environment: FLOWKIT_EXTRACT_JOBS=4 is
    `flowkit extract --jobs 4`.
    """


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    echo(f"flowkit: warning: {message}", err=True)


def _show_thread_error(failed: threading.ExceptHookArgs) -> None:
    # Of a thread that cannot start another the executor takes note; that it happened is said there.
    if not str(failed.exc_value).startswith("can't start new thread"):
        threading.__excepthook__(failed)


def main() -> None:
    """Run the command line; an error of flowkit's or the system's is one line and status 2."""
    # First of all: a file that is opened while a stream is closed would take its place.
    streams = Streams()
    # PyTorch's threads otherwise spin while they wait: on busy cores that makes a step 4 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # OpenBLAS ends a process by SIGINT, which would read as Ctrl-C, where it may not start its threads.
    if 0 <= resource.getrlimit(resource.RLIMIT_NPROC)[0] < _PROCESSES_A_CORE * (os.cpu_count() or 1):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    threading.excepthook = _show_thread_error
    # SIGTERM (a cluster's scheduler, a closing terminal) is treated as Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.showwarning = _show_warning
    sys.exit(streams.finish(_run()))


def _run() -> int:
    """Run the command that the command line names; return the exit status."""
    from flowkit.errors import FlowkitError, GpuError, SystemLimitError

    try:
        status = group.main(standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        echo("interrupted", err=True)
        return 130
    except (FlowkitError, OSError) as error:
        # OSError (a full disk, a read-only folder) is shown without a traceback.
        echo(f"flowkit: {SystemLimitError.of(error) or error}", err=True)
        if isinstance(error, GpuError):
            # The driver's exit handlers would wait for a kernel that hangs.
            sys.stdout.flush()
            os._exit(2)
        return 2
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        echo(
            "flowkit: this command needs PyTorch, which is not installed; pip install '.[train]' installs it "
            "(README, Start, has the CPU build)",
            err=True,
        )
        return 2
    except (RuntimeError, ImportError) as error:
        if (limit := SystemLimitError.of(error)) is None:
            raise
        echo(f"flowkit: {limit}", err=True)
        return 2
