"""The command line: one subcommand per stage of the study, each usable without Snakemake."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import signal
import sys
from types import ModuleType
from typing import NoReturn

from smoothdescent import __version__
from smoothdescent.errors import UserError
from smoothdescent.write_faults import WRITE_FAULTS

# The module of a command is imported only when the command is called: a figure needs no torch.
COMMANDS = {
    "prepare-data": ("smoothdescent.data.prepare", "decode a data set into one file"),
    "make-labels": ("smoothdescent.data.labels", "split and corrupt the training labels"),
    "train": ("smoothdescent.training.command", "train runs, keep their snapshots and histories"),
    "measure": ("smoothdescent.sharpness.command", "measure the sharpness of one checkpoint"),
    "measure-runs": ("smoothdescent.sharpness.run_command", "measure the snapshots of runs"),
    "tables": ("smoothdescent.tables.command", "gather an experiment's tables"),
    "figure": ("smoothdescent.figures.command", "draw one figure of the paper"),
    "verdict": ("smoothdescent.verdict.command", "decide the paper's findings"),
    "explore": ("smoothdescent.explore.command", "write the interactive page of a study"),
    "compare": ("smoothdescent.compare.command", "put studies side by side"),
    "crate": ("smoothdescent.crate.command", "pack a finished study as an RO-Crate"),
    "config": ("smoothdescent.config.command", "print or write the configuration in force"),
    "status": ("smoothdescent.plan.status", "say how far the runs of a study have come"),
    "partial": ("smoothdescent.plan.partial", "tables, figures and verdict of a running study"),
    "plan": ("smoothdescent.plan.command", "print what is still to be done and what it will cost"),
    "orphans": ("smoothdescent.orphans", "list SLURM jobs that a killed Snakemake left behind"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with status 2 and one sentence if the input is at fault."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # A backend that a notebook has set for its own process may not exist here; none is needed.
    os.environ["MPLBACKEND"] = "agg"
    try:
        run(arguments)
    except UserError as error:
        fail(str(error))
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        what = WRITE_FAULTS.get(error.errno, error.strerror)
        fail(f"cannot use {error.filename or 'a file or folder'}: {what}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in {"", "smoothdescent", *sys.stdlib_module_names}:
            raise
        fail(f"`smoothdescent {arguments[0]}` needs {package}: pip install 'smoothdescent[study]'")
    except ImportError as error:
        # Shared libraries are loaded by the system, whose error number does not come through.
        if os.strerror(errno.EMFILE) not in str(error):
            raise
        fail(f"cannot load a library: {WRITE_FAULTS[errno.EMFILE]}")
    except MemoryError:
        fail("there is not enough memory for this")
    except KeyboardInterrupt:  # a training saves before it ends, and says so
        print("smoothdescent: interrupted; what is finished stays", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def run(arguments: list[str]) -> None:
    """Run the command that the first argument names."""
    module, parsed = parse(arguments)
    module.run(parsed)


def parse(arguments: list[str]) -> tuple[ModuleType, argparse.Namespace]:
    """Return the module of the command that the first argument names, and its options."""
    parser = argparse.ArgumentParser(prog="smoothdescent", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", metavar="command", required=True)
    module = None
    for name, (path, summary) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary)
        if arguments[:1] == [name]:
            module = importlib.import_module(path)
            subparser.description = module.__doc__
            subparser.formatter_class = argparse.RawDescriptionHelpFormatter
            module.add_arguments(subparser)
    parsed = parser.parse_args(arguments)
    assert module is not None  # parse_args has left the program for any other first word
    return module, parsed


def fail(message: str) -> NoReturn:
    """Print one sentence to standard error and exit with status 2."""
    with contextlib.suppress(OSError):  # the log may be on the disk that is full
        print(f"smoothdescent: error: {message}", file=sys.stderr)
    sys.exit(2)
