"""The command line: parses, makes one call, prints. `main` is the one place where errors become exit codes.

Exit 0 done, 1 failed, 2 wrong usage or bad input, 130 interrupted. An error is one line on stderr
(``--debug`` shows the traceback).
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import Abort, Exit, TyperException

from kinmer import __version__
from kinmer.cli import (
    analysis,
    clusters,
    db,
    encoders,
    evaluation,
    fitting,
    kin,
    maps,
    profiles,
    reporting,
    sweeps,
)
from kinmer.cli.options import set_quiet
from kinmer.cli.output import complain, prepare_streams, say
from kinmer.errors import KinmerError, UsageError
from kinmer.progress import show_progress

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(
    name="kinmer",
    help="Finds the kin of a DNA sequence: count, train, embed, index, search.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (profiles, fitting, encoders, kin, evaluation, sweeps, analysis, maps, reporting, clusters, db):
    room.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"kinmer {__version__}")
        raise Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")] = False,
) -> None:
    """Options of every command."""
    show_progress(not quiet)
    set_quiet(quiet)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line with `argv` (default: the process's own); ends the process with its exit code."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run one command and give its exit code."""
    # PyTorch's threads spin while they wait, which costs dearly where another job has the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    prepare_streams()
    debug = "--debug" in argv
    if not debug:
        warnings.simplefilter("ignore")
    try:
        _check_arguments(argv)
        outcome = typer.main.get_command(app).main(list(argv), prog_name="kinmer", standalone_mode=False)
    except Exit as stop:
        outcome = stop.exit_code
    except (KeyboardInterrupt, Abort):
        return _interrupted()
    except Exception as error:
        if debug:
            complain(traceback.format_exc().rstrip())
        return _explain(error)
    # Typer makes of Ctrl-C an exit of its own.
    if outcome == INTERRUPTED:
        return _interrupted()
    return outcome if isinstance(outcome, int) else 0


def _check_arguments(argv: Sequence[str]) -> None:
    for number, argument in enumerate(argv, 1):
        if not argument:
            raise UsageError(f"argument {number} is empty", check="is a variable of the shell not set?")
        if "\x00" in argument:
            raise UsageError(f"argument {number} holds a zero byte", "no path or value can")


def _interrupted() -> int:
    complain("interrupted · what was committed is kept · the same command goes on from there")
    return INTERRUPTED


def _explain(error: Exception) -> int:
    if isinstance(error, KinmerError):
        complain(f"error: {error}")
        return error.exit_code
    if isinstance(error, TyperException):
        # Where nothing follows the name of a group of commands, its help has been printed by now.
        what = " ".join(error.format_message().split()) or "no command is given"
        context = getattr(error, "ctx", None)
        complain(f"error: {what} · see {context.command_path if context else 'kinmer'} --help")
        return 2
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        complain(
            "error: the disk is full · what was committed is kept · make room and run the same command again"
        )
        return 1
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        complain(f"error: {place}{error.strerror or error}")
        return 1
    if isinstance(error, MemoryError):
        complain("error: out of memory · try fewer threads or a smaller batch")
        return 1
    what = " ".join(f"{type(error).__name__}: {error}".split())
    complain(f"error: {what} · this is a bug in kinmer · please report it with --debug")
    return 1
