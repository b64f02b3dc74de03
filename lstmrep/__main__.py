"""``python -m lstmrep``: the command line."""

import sys

from lstmrep.cli import main

sys.exit(main())
