"""The cpu backend's threads as a process sees them: one OpenMP, how many run, pools that end, fork.

Each in a process of its own, which prints what it saw as JSON. Poison is off there: filling is torch's work, on its own
threads.
"""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

import lstmrep
from lstmrep import machine
from lstmrep.plan import Problem
from lstmrep.testing import assert_same_bits
from lstmrep.testing.cases import Case, run

SECONDS = 120
RUNTIMES = re.compile(r"\S*/lib(?:gomp|omp|iomp5)\b[^/\s]*\.so\S*")
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, which only Linux has")

# What every process starts from: a layer of which one step pays for several threads.
START = """
import json, os, sys, threading, time
import torch, lstmrep
from lstmrep.ops import lstm

module = lstmrep.LSTM(64, 256)
x = torch.randn(20, 16, 64)
weights, state = torch.randn(4 * 256, 256), torch.randn(1, 16, 256)

def step():
    module(x)[0].sum().backward()

def kernel():  # no product of torch's
    with torch.no_grad():
        return lstm(None, [], [weights], h0=state, steps=200)

def tasks():
    return set(os.listdir("/proc/self/task"))
"""


def _process(code: str, **variables: str) -> dict:
    """What a new Python process prints last, after ``START`` and ``code``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "LSTMREP_POISON"))}
    done = subprocess.run(
        [sys.executable, "-c", START + code],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _runtimes(maps: str) -> set[str]:
    """The OpenMP libraries of a /proc/PID/maps."""
    return set(RUNTIMES.findall(maps))


POOLS = """
torch.set_num_threads(2)
ran_on = set()
module.weight_hh_l0.register_hook(lambda g: ran_on.add(threading.get_native_id()))
step()
seen = {"maps": open("/proc/self/maps").read(), "first": len(tasks())}
for _ in range(20):
    step()
seen["repeated"] = len(tasks())
seen["backward_on_the_caller"] = ran_on == {threading.get_native_id()}

def settled():  # a task that was joined or left its pool may still be ending
    deadline = time.monotonic() + 10
    while len(tasks()) > seen["first"] and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(tasks())

go = threading.Event()
def work(ready):
    step()
    ready.release()
    go.wait()

ready = threading.Semaphore(0)
threads = [threading.Thread(target=work, args=(ready,)) for _ in range(3)]
for t in threads:
    t.start()
for _ in threads:
    ready.acquire()
seen["three_live"] = len(tasks())
go.set()
for t in threads:
    t.join()
for _ in range(20):
    t = threading.Thread(target=step)
    t.start()
    t.join()
seen["ended"] = settled()
torch.set_num_threads(5)
step()
time.sleep(0.3)  # torch makes a small pool of its own anew
seen["with_5"] = len(tasks())
for _ in range(20):
    step()
seen["with_5_repeated"] = len(tasks())
torch.set_num_threads(2)
step()
seen["with_2"] = settled()
print(json.dumps(seen))
"""


@ON_LINUX
def test_one_openmp_and_pools_that_end_with_their_thread():
    seen = _process(POOLS)
    assert len(_runtimes(seen["maps"])) == 1, _runtimes(seen["maps"])
    assert seen["repeated"] == seen["first"]
    assert seen["backward_on_the_caller"]
    assert seen["three_live"] == seen["first"] + 3 * 2  # each with one more thread of its pool
    assert seen["ended"] == seen["first"]
    assert seen["with_5_repeated"] == seen["with_5"] >= seen["first"] + 3
    assert seen["with_2"] == seen["first"]


def test_a_second_openmp_would_be_seen():
    line = "7f00-7f01 r-xp 00000000 08:01 42    {}\n"
    two = ["/a/torch/lib/libgomp-a34b3233.so.1", "/usr/lib/libgomp.so.1", "/b/libiomp5.so", "/c/libomp.so"]
    others = ["/usr/lib/libcomp.so", "/usr/lib/libompi.so", "/a/libgomp/none.txt"]
    assert _runtimes("".join(line.format(path) for path in [*two, two[0], *others])) == set(two)


# Threads that ran for a good part of a long call of the kernel alone.
BUSY = """
if ASKED:
    torch.set_num_threads(ASKED)
module(x)
[plan] = lstmrep.explain(module, x)

def nanoseconds():
    return {t: int(open(f"/proc/self/task/{t}/schedstat").read().split()[0]) for t in tasks()}

kernel()
time.sleep(0.2)  # OpenMP's idle threads look around for a while before they sleep
before = nanoseconds()
kernel()
spent = [now - before.get(task, 0) for task, now in nanoseconds().items()]
busy = sum(s > max(spent) / 10 for s in spent)
print(json.dumps({"torch": torch.get_num_threads(), "planned": plan.threads, "busy": busy}))
"""


@ON_LINUX
@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="this kernel keeps no /proc/PID/schedstat")
@pytest.mark.parametrize(
    ("asked", "variables", "planned", "busy"),
    [
        (1, {}, 1, 1),
        (2, {}, 2, 2),
        (5, {}, 5, 5),
        (0, {"OMP_NUM_THREADS": "1"}, 1, 1),  # of a number above that of cores, torch takes less
        (2, {"OMP_NUM_THREADS": "1"}, 2, 2),
        (5, {"OMP_THREAD_LIMIT": "2"}, 5, 2),  # the runtime grants fewer than were asked for
    ],
)
def test_as_many_threads_run_as_were_asked_for(asked, variables, planned, busy):
    seen = _process(BUSY.replace("ASKED", str(asked)), **variables)
    assert seen == {"torch": planned, "planned": planned, "busy": busy}


@pytest.fixture
def threads():
    """torch.set_num_threads, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("T", "B", "H"), [(7, 5, 150), (6, 40, 96), (3, 1, 1100)])
def test_more_threads_than_cores_change_no_bit(T, B, H, dtype, threads):
    """By units, by rows, and with W_hh where it lies. Products of torch's are left out, the input's and those of the
    matrices' gradients: on some processors they cut their sums by the number of threads."""
    case = Case(N=2, T=T, B=B, H=H, input="gates", reverse=(False, True), dtype=dtype)
    name = str(dtype).removeprefix("torch.")
    problem = Problem(H, steps=T, batch=B, recurrences=2, input_size=0, dtype=name, peephole=True, training=True)
    results = []
    for n in (1, 5):
        threads(n)
        plan = lstmrep.plan(problem, machine.current("cpu"))
        assert (plan.backend, plan.threads) == ("cpu", n)
        made = run(case, "cpu")
        results.append({key: t for key, t in made.items() if not key.startswith("d_w_hh")})
    assert (plan.packed, plan.by_rows) == (H < 1100, H == 96)
    assert {"h", "h_n", "c_n", "d_x", "d_bias", "d_peephole", "d_h0", "d_c0"} == set(results[0])
    assert_same_bits(*results)


# How the child of a fork ended, or that it did not.
FORK = """
torch.set_num_threads(2)
def parent(): PARENT
def child(): CHILD
parent()
want = kernel()
pid = os.fork()
if pid == 0:
    child()
    same = all((a.numpy() == b.numpy()).all() for a, b in zip(kernel(), want))  # torch.equal may start threads
    os._exit(0 if same else 3)
deadline = time.monotonic() + 20
ended, status = 0, 0
while not ended and time.monotonic() < deadline:
    ended, status = os.waitpid(pid, os.WNOHANG)
    time.sleep(0.02)
if not ended:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
parent()  # whose pool is whole
print(json.dumps("hangs" if not ended else os.waitstatus_to_exitcode(status)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    "child",
    [
        "kernel()",
        "t = threading.Thread(target=step); t.start(); t.join()",
        "torch.set_num_threads(1); step()",  # as a DataLoader's worker does
        "os.waitstatus_to_exitcode(os.waitpid(os.fork() or (kernel(), os._exit(0)), 0)[1]) and os._exit(4)",
    ],
    ids=["kernel", "step_in_a_thread", "one_thread", "kernel_in_a_child_of_the_child"],
)
@pytest.mark.parametrize("parent", ["step()", "kernel()"])
def test_a_forked_child_ends(parent, child):
    code = FORK.replace("PARENT", parent).replace("CHILD", child)
    assert _process(code) == 0


FRESH = """
torch.set_num_threads(2)
receive, send = os.pipe()
if os.fork() == 0:
    before = len(tasks())
    kernel()
    os.write(send, str(len(tasks()) - before).encode())
    os._exit(0)
print(json.dumps(int(os.read(receive, 9))))
"""


@ON_LINUX
def test_a_child_of_a_process_that_formed_no_team_has_its_threads():
    assert _process(FRESH) == 1  # besides the one that called
