"""Stages for the tests of ``make gpu-check``: one that passes and the ways in which one can go wrong."""

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import emulated
from gpu_stages import verdicts
from gpu_stages.record import SkipError


def passing(setup, record):
    record.fact("card", "A Card")
    with record.part("one and one"):
        assert 1 + 1 == 2
    with record.part("another planet"):
        raise SkipError("there is one planet")


def skipped(setup, record):
    with record.part("another planet"):
        raise SkipError("there is one planet")


def empty(setup, record):
    record.say("said something, checked nothing")


def raising(setup, record):
    with record.part("before"):
        pass
    raise ValueError("planted in the stage")


def raising_in_a_part(setup, record):
    with record.part("the planted part"):
        raise ValueError("planted in the part\nand more lines of it")
    with record.part("the part after it"):
        pass


def crashing(setup, record):
    with record.part("before the crash"):
        pass
    print("last words", flush=True)
    os.abort()


def leaving(setup, record):
    with record.part("before it leaves"):
        pass
    os._exit(0)


def _meets(name, other):
    """Comes to a folder, waits for the other to come, and leaves."""
    folder = Path(os.environ["GPU_CHECK_MEETING"])
    (folder / f"{name} came").touch()
    end = time.monotonic() + 60
    while not (folder / f"{other} came").exists():
        assert time.monotonic() < end, f"{other} did not come"
        time.sleep(0.01)
    (folder / f"{name} left").touch()


def first(setup, record):
    with record.part("meets the second"):
        _meets("first", "second")


def second(setup, record):
    with record.part("meets the first"):
        _meets("second", "first")


def alone(setup, record):
    with record.part("nobody else is there"):
        assert {p.name for p in Path(os.environ["GPU_CHECK_MEETING"]).glob("* left")} == {"first left", "second left"}


def hanging(setup, record):
    """Hangs together with a process of its own, which writes to its second argument for as long as it lives."""
    record.table("row", "of")
    record.row("a row", "before the hang")
    code = "import sys, time\nwhile True: print(end='x', flush=True, file=open(sys.argv[1], 'a')); time.sleep(0.05)"
    subprocess.Popen([sys.executable, "-c", code, os.environ["GPU_CHECK_TEST_FILE"]])
    time.sleep(600)


def with_a_corrupted_kernel(setup, record):
    """The stage ``trust`` itself, over a resident kernel whose first output is wrong by a half."""
    device = emulated.module()
    true_forward = device.cuda_resident_forward

    def spoilt(*arguments):
        true_forward(*arguments)
        (ctypes.c_float * 1).from_address(arguments[20])[0] += 0.5

    device.cuda_resident_forward = spoilt
    verdicts.run(setup, record)
