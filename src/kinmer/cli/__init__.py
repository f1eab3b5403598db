"""The command line: parses, makes one call, prints. `main` is the one place where errors become exit codes.

Exit 0 done, 1 failed, 2 wrong usage or bad input, 130 interrupted. An error is one line on stderr
(``--debug`` shows the traceback).
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, Exit, TyperException

from kinmer._version import __version__
from kinmer.cli import analyze, db, encoders, evaluation, explore, find, tools
from kinmer.cli.options import Group, set_quiet
from kinmer.cli.output import complain, prepare_streams, say
from kinmer.errors import KinmerError, UsageError
from kinmer.progress import show_progress

__all__ = ["app", "main"]

INTERRUPTED = 130
# Options of all commands, which stand before the command's name.
GENERAL = ("--debug", "--quiet", "-q", "--version", "--install-completion", "--show-completion")
# Parameters that name what is written; all other paths are read.
OUTPUTS = ("output", "table", "ids_file", "folder", "download", "rebuild")

app = typer.Typer(
    name="kinmer",
    cls=Group,
    help="Finds the kin of a DNA sequence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (find, db, explore, analyze, encoders, evaluation, tools):
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
    # Of what is imported hardly anything ever goes. To look through it often, and again at the end, where it
    # goes with the process, is a quarter of the CPU of a short search.
    gc.set_threshold(50_000)
    code = run(sys.argv[1:] if argv is None else argv)
    gc.freeze()
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run one command and give its exit code."""
    # PyTorch and OpenBLAS threads spin while they wait, which costs dearly where another job has the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    # Typer's pydantic would look through all that is installed for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    prepare_streams()
    debug = "--debug" in argv
    if not debug:
        warnings.simplefilter("ignore")
    _end_as_by_ctrl_c()
    try:
        _check_arguments(argv)
        command = typer.main.get_command(app)
        _guard_inputs(command)
        outcome = command.main(list(argv), prog_name="kinmer", standalone_mode=False)
    except Exit as stop:
        outcome = stop.exit_code
    except (KeyboardInterrupt, Abort):
        return _interrupted()
    except Exception as error:
        if debug and not isinstance(error, TyperException):
            complain(traceback.format_exc().rstrip())
        return _explain(error)
    # Typer makes of Ctrl-C an exit of its own.
    if outcome == INTERRUPTED:
        return _interrupted()
    return outcome if isinstance(outcome, int) else 0


def _end_as_by_ctrl_c() -> None:
    """What ends a batch job or closes a terminal lets commands clean up, as Ctrl-C does.

    What is ignored stays so, as with nohup.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _guard_inputs(command: Any) -> None:
    """No command writes its output over what it reads: see `kinmer.folders.check_output`."""
    for one in getattr(command, "commands", {}).values():
        _guard_inputs(one)
    call = command.callback
    if call is None or hasattr(command, "commands"):
        return

    def guarded(**given: Any) -> Any:
        from kinmer.folders import guarded_inputs

        paths: list[str | Path] = []
        for name, value in given.items():
            values = value if isinstance(value, list | tuple) else [value]
            if name not in OUTPUTS:
                paths += [one for one in values if isinstance(one, Path | str)]
        with guarded_inputs(paths):
            return call(**given)

    command.callback = guarded


def _check_arguments(argv: Sequence[str]) -> None:
    for number, argument in enumerate(argv, 1):
        if not argument:
            raise UsageError(f"argument {number} is empty", check="is a variable of the shell not set?")
        if "\x00" in argument:
            raise UsageError(f"argument {number} holds a zero byte", "no path or value can")


def _interrupted() -> int:
    complain("interrupted · what was saved is kept · the same command resumes")
    return INTERRUPTED


def _explain(error: Exception) -> int:
    if isinstance(error, KinmerError):
        complain(f"error: {error}")
        return error.exit_code
    if isinstance(error, TyperException):
        # Where nothing follows the name of a group of commands, its help has been printed by now.
        what = " ".join(error.format_message().split()) or "no command is given"
        what = what.replace(": Value error, ", ": ")
        context = getattr(error, "ctx", None)
        option = getattr(error, "option_name", "")
        if context and option in GENERAL:
            command = context.command_path.removeprefix("kinmer ")
            complain(f"error: {option} stands before the command · write kinmer {option} {command} …")
            return 2
        complain(f"error: {what} · see {context.command_path if context else 'kinmer'} --help")
        return 2
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        complain(
            "error: the disk is full · what was saved is kept · make room and run the same command again"
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
    complain(
        f"error: {what} · this is a bug in kinmer · please report it with the output of kinmer --debug …"
    )
    return 1
