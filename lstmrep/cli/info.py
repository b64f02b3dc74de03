"""``lstmrep info``."""

from __future__ import annotations

import argparse

import lstmrep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""
    parser.epilog = "example: python -m lstmrep info"


def run(given: argparse.Namespace) -> int:
    """Print the configuration."""
    print(lstmrep.show_config())
    return 0
