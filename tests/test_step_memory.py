"""Memory of calls on the CPU: the peak of a training step, against torch.nn.LSTM's, and what stays after a call."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import lstmrep
from lstmrep import native
from lstmrep.backends import memory

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
@pytest.mark.parametrize("sizes", [(1024, 256, 100, 16), (512, 512, 20, 64), (512, 1024, 10, 16)])  # the last: packs
def test_a_training_step_takes_no_more_memory_than_torch(sizes, dtype):
    ours, gradients = measure("lstmrep", dtype, sizes)
    theirs, same = measure("torch", dtype, sizes)
    print(f"I, H, T, B = {sizes}, {dtype}: lstmrep {ours / 1024:.1f} MiB, torch {theirs / 1024:.1f} MiB")
    assert gradients == same
    assert min(ours, theirs) > gradients  # the measurement sees what must be there
    assert ours <= theirs


def kept_after(call):
    """Bytes of scratch that a new thread keeps after a call, and those of them that the system may take; its result.

    The thread ends with it, so that it leaves nothing that would count in another call.
    """
    found = []

    def run():
        made = call()
        offered = re.findall(r"^LazyFree: +(\d+) kB", SMAPS.read_text(), re.M) if SMAPS.exists() else []
        found.append((sum(b.nbytes for b in memory._kept.buffers.values()), 1024 * sum(map(int, offered)), made))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


SMAPS = Path("/proc/self/smaps_rollup")
OFFERS = native.module().offer_pages(0, 0) if not native.reason() else False
PACK = 4 * 1024 * 1024 * 4  # bytes of one packed W_hh


@pytest.fixture
def layer(monkeypatch):
    """A layer whose pack is larger than what a thread keeps for good, and its input."""
    monkeypatch.setattr(memory, "POISON", False)
    assert PACK > memory.KEPT
    return lstmrep.LSTM(8, 1024, backend="cpu"), torch.randn(3, 8, 8)


def inference(module, x):
    with torch.no_grad():
        return module(x)[0]


def training(module, x):
    h, _ = module(x)
    return torch.cat([h.flatten(), *(g.flatten() for g in torch.autograd.grad(h.sum(), list(module.parameters())))])


@pytest.mark.skipif(not OFFERS, reason="the system takes no offers of pages: nothing is kept")
@pytest.mark.parametrize("call", [inference, training])
def test_scratch_of_a_large_call_stays_and_is_offered(layer, call):
    module, x = layer
    expected = kept_after(lambda: call(module, x))[2]
    kept, offered, made = kept_after(lambda: [call(module, x) for _ in range(2)])
    print(f"kept {kept} bytes, of which the system may take {offered}")
    assert kept > PACK
    assert offered > PACK // 2 or not SMAPS.exists()
    assert all(torch.equal(found, expected) for found in made)


@pytest.mark.parametrize("call", [inference, training])
def test_scratch_that_cannot_be_offered_is_not_kept(layer, call, monkeypatch):
    module, x = layer
    expected = kept_after(lambda: call(module, x))[2]
    monkeypatch.setattr(native.module(), "offer_pages", lambda address, size: False)
    kept, _, made = kept_after(lambda: call(module, x))
    assert kept <= 2 * memory.KEPT
    assert torch.equal(made, expected)


@pytest.mark.parametrize("call", [inference, training])
def test_every_use_of_what_is_kept_offers_it_again(layer, call, monkeypatch):
    module, x = layer
    offers = []
    monkeypatch.setattr(native.module(), "offer_pages", lambda address, size: offers.append((address, size)) or True)

    def again():
        training(module, x)  # its backward pass takes the most
        held = memory._kept.buffers["kernel"]
        offers.clear()
        call(module, x)
        return held.data_ptr()

    kept, _, address = kept_after(again)
    assert kept > PACK
    assert len(offers) >= (1 if call is inference else 2), "of the forward and the backward pass"
    assert all(at == address and memory.KEPT < size <= kept for at, size in offers)


@pytest.mark.skipif(not OFFERS, reason="the system takes no offers of pages: nothing is kept")
def test_large_gate_gradients_that_no_one_else_reads_stay_and_are_offered(monkeypatch):
    monkeypatch.setattr(memory, "POISON", False)
    layer, x = lstmrep.LSTM(8, 256, backend="cpu"), torch.randn(160, 16, 8)
    size, offers, real = x.shape[0] * x.shape[1] * 4 * 256 * 4, [], native.module().offer_pages
    assert size > memory.KEPT
    monkeypatch.setattr(native.module(), "offer_pages", lambda at, size: offers.append((at, size)) or real(at, size))

    def call():
        made = [training(layer, x) for _ in range(2)]
        return made, memory._kept.buffers.get("d_gates")

    expected = kept_after(lambda: training(layer, x))[2]
    offers.clear()
    made, buffer = kept_after(call)[2]
    if buffer is None:
        pytest.skip("with this instruction set torch.mm forms gradients of this size, from fresh gate gradients")
    assert offers.count((buffer.data_ptr(), size)) == 2
    assert all(torch.equal(found, expected) for found in made)
