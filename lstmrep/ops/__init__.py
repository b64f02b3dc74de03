"""One torch op for a whole sequence."""

from lstmrep.ops.functional import lstm

__all__ = ["lstm"]
