"""The dispatch table: backend name -> its entries. Adding a backend is a line here and one in the planner."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lstmrep.backends import cpu, cuda, reference, triton
from lstmrep.backends.tensors import Backward, Forward, Gradients, Recurrence
from lstmrep.plan import Plan


class Backend(NamedTuple):
    """Entries of a backend; each fills the buffers of its last argument."""

    forward: Callable[[Plan, Recurrence, Forward], None]
    backward: Callable[[Plan, Recurrence, Backward], None]
    # Where the plan says so (Plan.gradients); none: library products form them.
    gradients: Callable[[Plan, Recurrence, Gradients], None] | None = None
    # Its backward may ask for plain gradients of biases and peepholes, and writes final ones of both or of none.
    plain_vectors: bool = True


TABLE: dict[str, Backend] = {
    "reference": Backend(reference.forward, reference.backward),
    "cpu": Backend(cpu.forward, cpu.backward, cpu.gradients, plain_vectors=False),
    "cuda": Backend(cuda.forward, cuda.backward),
    "triton": Backend(triton.forward, triton.backward),
}
