"""Peak memory of one training step on the CPU, lstmrep.LSTM's against torch.nn.LSTM's, each in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

SETTABLE = os.access("/proc/self/clear_refs", os.W_OK)

# What the process's resident memory grows by at most, from before a step's forward pass to after its backward pass. The
# gradients are made in it. A small step comes first, for code and threads to be there.
MEASURE = """
import json, sys
import torch, lstmrep

library, dtype, *sizes = sys.argv[1:]
I, H, T, B = map(int, sizes)
kind = {"lstmrep": lstmrep.LSTM, "torch": torch.nn.LSTM}[library]
dtype = getattr(torch, dtype)
torch.set_num_threads(2)

def kibibytes(name):
    [line] = [line for line in open("/proc/self/status") if line.startswith(name)]
    return int(line.split()[1])

def step(I, H, T, B):
    module, x = kind(I, H, dtype=dtype), torch.randn(T, B, I, dtype=dtype, requires_grad=True)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # VmHWM, the peak, starts again from what is resident now
    before = kibibytes("VmRSS")
    module(x)[0].sum().backward()
    grown = kibibytes("VmHWM") - before
    return grown, sum(p.grad.nbytes for p in [x, *module.parameters()]) // 1024

step(8, 64, 20, 16)
print(json.dumps(step(I, H, T, B)))
"""


def measure(library: str, dtype: str, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Peak of a training step, and the part that its gradients take; both in KiB.

    Args:
        library: ``"lstmrep"`` | ``"torch"``.
        dtype: name of the torch dtype.
        sizes: I, H, T, B.
    """
    command = [sys.executable, "-c", MEASURE, library, dtype, *map(str, sizes)]
    variables = {name: value for name, value in os.environ.items() if name != "LSTMREP_POISON"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    peak, gradients = json.loads(done.stdout)
    return peak, gradients


@pytest.mark.skipif(not SETTABLE, reason="/proc/self/clear_refs cannot be written here: no peak of one step")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sizes", [(1024, 256, 100, 16), (512, 512, 20, 64)])
def test_a_training_step_takes_no_more_memory_than_torch(sizes, dtype):
    ours, gradients = measure("lstmrep", dtype, sizes)
    theirs, same = measure("torch", dtype, sizes)
    print(f"I, H, T, B = {sizes}, {dtype}: lstmrep {ours / 1024:.1f} MiB, torch {theirs / 1024:.1f} MiB")
    assert gradients == same
    assert min(ours, theirs) > gradients  # the measurement sees what must be there
    assert ours <= theirs
