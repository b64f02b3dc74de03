"""The command line, ``python -m lstmrep COMMAND`` or ``lstmrep COMMAND``. One file a command.

A mistake of the user's ends with one sentence and exit status 2; ``--traceback`` shows where it was raised.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import lstmrep

# Command -> its module, which is imported when it runs: `info` must work where packages of `train` are missing.
COMMANDS = {
    "info": ("lstmrep.cli.info", "what was built, what can run here, and why not the rest"),
    "demo": ("lstmrep.cli.demo", "train on real digits for about a minute, evaluate, write a gallery"),
    "extract": ("lstmrep.cli.extract", "features of the frames of videos, such as fc6, into a folder"),
    "train": ("lstmrep.cli.train", "train a composite model or a classifier from a configuration"),
    "eval": ("lstmrep.cli.evaluate", "score a trained model beside the baselines"),
    "transfer": ("lstmrep.cli.transfer", "accuracy by labels a class, from pretrained encoders and from none"),
    "predict": ("lstmrep.cli.predict", "continue clips of a file"),
    "flow": ("lstmrep.cli.flow", "optical flow of a folder of videos"),
    "figures": ("lstmrep.cli.figures", "the paper's figures from trained models, with their numbers"),
}
# Arguments of commands that are lists of settings.
WORDS = ("config", "changes")
EPILOG = """examples:
  python -m lstmrep info
  python -m lstmrep demo
  python -m lstmrep train mnist_small --out runs/digits model.hidden_size=256
  python -m lstmrep train --resume --out runs/digits
  python -m lstmrep eval runs/digits
  python -m lstmrep predict runs/digits --input clips.npy --steps 30 --output future.npy"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: words of the command line; default: those of the process.

    Returns:
        Exit status: 0; 1 where a command says that its aim was missed; 2 for a mistake; 130 when interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="lstmrep",
        description="LSTM kernels with peephole connections, and the composite model built from them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lstmrep {lstmrep.__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        made = commands.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        importlib.import_module(module).add_arguments(made)
    given = _parse(parser, arguments)
    try:
        status: int = importlib.import_module(COMMANDS[given.command][0]).run(given)
    except KeyboardInterrupt:
        print("lstmrep: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the lines, such as head, has seen enough; what is left to flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, KeyError, OSError, ImportError, RuntimeError) as error:
        if given.traceback:
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {text}", file=sys.stderr)
        return 2
    return status


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, with settings before, between and after the options.

    argparse fills a list of words from the first unbroken row of them and does not know the later ones.
    """
    given, rest = parser.parse_known_args(arguments)
    words = next((getattr(given, name) for name in WORDS if hasattr(given, name)), None)
    if rest and (words is None or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if words is not None:
        words.extend(rest)
    return given
