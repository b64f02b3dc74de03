"""The command line, ``python -m lstmrep COMMAND`` or ``lstmrep COMMAND``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import lstmrep


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: words of the command line; default: those of the process.

    Returns:
        Exit status: 0, or 2 for a usage error.
    """
    parser = argparse.ArgumentParser(
        prog="lstmrep",
        description="Fused LSTM kernels with peephole connections.",
        epilog="example: python -m lstmrep info",
    )
    parser.add_argument("--version", action="version", version=f"lstmrep {lstmrep.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("info", help="what was built, what can run here, and why not the rest")
    parser.parse_args(arguments)
    print(lstmrep.show_config())
    return 0
