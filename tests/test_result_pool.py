"""Large results on the CPU come from a pool of blocks, and behave as any tensor does."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import lstmrep
from lstmrep import native
from lstmrep.backends import memory
from lstmrep.testing.memory import peak_bytes

pytestmark = pytest.mark.skipif(bool(native.reason()), reason=f"no native module, no pool: {native.reason()}")

CPU = torch.device("cpu")
MIB = 1 << 20
SMAPS = Path("/proc/self/smaps_rollup")


@pytest.fixture(autouse=True)
def pool():
    """The native module, with an empty pool."""
    native.module().clear_pool()
    yield native.module()
    native.module().clear_pool()


def floats(count):
    return memory.empty((count,), torch.float32, CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_a_pooled_tensor_is_as_torch_would_make_it(dtype, pool):
    made, same = memory.empty((3, 1, 1000, 128), dtype, CPU), torch.empty((3, 1, 1000, 128), dtype=dtype)
    assert (made.shape, made.stride(), made.dtype, made.device) == (same.shape, same.stride(), same.dtype, same.device)
    assert made.is_leaf and not made._is_view() and made.data_ptr() % 64 == 0
    made.copy_(torch.randn(same.shape))
    del made
    assert pool.clear_pool() >= same.nbytes, "the block waits"


def test_small_results_are_torchs_own(pool):
    floats(memory.POOLED // 4 - 1)
    assert pool.clear_pool() == 0


def test_a_block_comes_back_with_its_last_tensor(pool):
    first = floats(MIB)
    address, view = first.data_ptr(), first[5:]
    del first
    assert pool.clear_pool() == 0, "a view still holds it"
    del view
    again = floats(MIB)
    assert again.data_ptr() == address
    assert floats(MIB).data_ptr() != address, "a block in use is not handed out"


def test_a_block_serves_sizes_of_which_it_wastes_little(pool):
    address = floats(MIB).data_ptr()
    assert floats(MIB // 2).data_ptr() != address
    assert floats(MIB * 9 // 10).data_ptr() == address
    assert floats(MIB + 4096).data_ptr() != address


def test_what_waits_is_bounded(pool):
    blocks = [memory._pooled((64 * MIB,), torch.float32) for _ in range(5)]  # 256 MiB each, never touched
    newest = blocks[-1].data_ptr()
    while blocks:
        del blocks[0]
    assert memory._pooled((64 * MIB,), torch.float32).data_ptr() == newest, "of equal blocks the last"
    assert 768 * MIB <= pool.clear_pool() <= 1024 * MIB


# Of a process of its own: the system may take what others have offered at any time.
OFFERED = """
import re
from pathlib import Path

import torch

from lstmrep import native
from lstmrep.backends import memory

for count in (4, 7):
    blocks = [memory._pooled((4 << 20,), torch.float32).zero_() for _ in range(count)]  # of 16 MiB each
    blocks.clear()
    print(*re.findall(r"^LazyFree: +([0-9]+) kB", Path("/proc/self/smaps_rollup").read_text(), re.M))
print(native.module().clear_pool())
"""


@pytest.mark.skipif(not SMAPS.exists(), reason="no /proc/self/smaps_rollup: what was offered cannot be seen")
def test_the_system_may_take_what_waits_beyond_the_kept_part(pool):
    if not pool.offer_pages(0, 0):
        pytest.skip("the system takes no offers of pages")
    made = subprocess.run([sys.executable, "-c", OFFERED], capture_output=True, text=True, timeout=120, check=True)
    few, more, waiting = map(int, made.stdout.split())
    assert few == 0, "four blocks are what is kept"
    assert more == (7 - 4) * 16 << 10
    assert waiting == 7 * 16 * MIB


def test_blocks_come_back_from_any_thread(pool):
    held = [floats(MIB)]
    address = held[0].data_ptr()
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert floats(MIB).data_ptr() == address


def test_threads_that_take_and_drop_at_once_never_share_a_block(pool):
    wrong = []

    def work(mark):
        for _ in range(200):
            mine = floats(MIB // 8)
            mine.fill_(mark)
            if not bool((mine == mark).all()):
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(float(k),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_child_of_a_fork_has_a_pool_of_its_own(pool):
    held = floats(MIB).fill_(1.0)
    waiting = floats(MIB).data_ptr()
    child = os.fork()
    if child == 0:  # whose OpenMP threads are not there: no poison
        fine = memory._pooled((MIB,), torch.float32).data_ptr() == waiting
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert bool((held == 1.0).all())


def training(layer, x):
    h, _ = layer(x)
    return torch.autograd.grad(h.sum(), list(layer.parameters()))


@pytest.mark.parametrize("sizes", [(256, 256, 20, 16), (1024, 512, 4, 1)], ids=str)  # directly, and the usual way
def test_steps_of_one_size_take_the_same_blocks_again(sizes, pool):
    inputs, hidden, steps, rows = sizes
    layer, x = lstmrep.LSTM(inputs, hidden, backend="cpu"), torch.randn(steps, rows, inputs)
    training(layer, x)
    first = pool.clear_pool()
    assert first >= layer.weight_ih_l0.nbytes, "gradients come from the pool"
    for _ in range(3):
        training(layer, x)
    assert pool.clear_pool() == first


def test_a_profiler_sees_all_that_a_step_takes(pool):
    layer, x = lstmrep.LSTM(256, 256, backend="cpu"), torch.randn(20, 16, 256)
    training(layer, x)
    pool.clear_pool()
    assert peak_bytes(lambda: training(layer, x)) > layer.weight_ih_l0.nbytes + layer.weight_hh_l0.nbytes
    assert pool.clear_pool() == 0


def test_gradients_that_are_held_keep_their_values(pool):
    layer, x = lstmrep.LSTM(256, 256, backend="cpu"), torch.randn(20, 16, 256)
    held = training(layer, x)
    copies = [g.clone() for g in held]
    other = training(layer, 2 * x)
    assert not any(torch.equal(a, b) for a, b in zip(held, other, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(held, copies, strict=True))


def test_a_gradient_does_what_any_gradient_does(tmp_path, pool):
    layer, x = lstmrep.LSTM(256, 256, backend="cpu"), torch.randn(20, 16, 256)
    layer(x)[0].sum().backward()
    grad = layer.weight_ih_l0.grad
    expected = grad.clone()
    layer(x)[0].sum().backward()  # accumulates in place
    assert torch.equal(grad, 2 * expected)
    assert torch.equal(copy.deepcopy(grad), grad) and torch.equal(pickle.loads(pickle.dumps(grad)), grad)
    torch.save(grad, tmp_path / "grad.pt")
    assert torch.equal(torch.load(tmp_path / "grad.pt"), grad)
    assert grad.numpy().ctypes.data == grad.data_ptr()
    assert torch.equal(grad.share_memory_(), 2 * expected) and grad.is_shared()
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    torch.optim.SGD(layer.parameters(), 0.1).step()
    layer.zero_grad(set_to_none=False)
    assert not grad.any()


@pytest.mark.parametrize(("dtype", "sizes", "said"), [(9, [4], "dtype"), (0, [4, 0], "sizes"), (0, [-1], "sizes")])
def test_bad_sizes_are_told(dtype, sizes, said, pool):
    with pytest.raises(ValueError, match=said):
        pool.pooled_tensor(dtype, sizes)


def test_too_little_memory_is_told(pool):
    waits = floats(MIB)
    del waits
    with pytest.raises(RuntimeError, match=f"no memory for a result of {1 << 52} bytes"):
        pool.pooled_tensor(0, [1 << 50])
    assert pool.clear_pool() == 0, "what waited was tried first"


def test_a_capsule_that_no_one_takes_gives_its_block_back(pool):
    capsule = pool.pooled_tensor(0, [MIB])
    assert pool.clear_pool() == 0
    del capsule
    assert pool.clear_pool() == 4 * MIB
