"""Parts of ``make gpu-check`` that only a real card reaches, run with stand-ins for what torch.cuda does.

They show that the parts' own logic holds and that each can fail; what a card does they do not show.
"""

import json
import os
import subprocess
import xml.etree.ElementTree as ElementTree
from collections import Counter
from contextlib import nullcontext

import emulated
import pytest
import torch
from emulated_device import NEEDS_EMULATOR, ON_CARD
from gpu_stages import card, launch_counts, setup, streams, suite
from gpu_stages.record import Record, SkipError
from lstm_bench.timing import milliseconds

from lstmrep import machine, native
from lstmrep.launches import Launches
from lstmrep.testing.cases import Case

pytestmark = [
    pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason()),
    pytest.mark.skipif(ON_CARD, reason=NEEDS_EMULATOR),
]

CASE = Case(N=2, T=3, B=3, I=4, H=8, reverse=(False, True))


class _WithStreams(setup.Setup):
    """The emulated device, as if it had streams."""

    streams = True


HERE = _WithStreams(emulated=True)


class _Stream:
    def wait_stream(self, other):
        pass

    def synchronize(self):
        pass


class _Graph:
    """Captures the last call made while it is open; a replay does it again into the same results."""

    how = "right"

    def __init__(self):
        self.call = self.results = None

    def replay(self):
        if self.how == "does nothing":
            return
        if self.how == "keeps the inputs":
            with torch.no_grad():
                for mine, kept in zip(self.call.leaves.values(), self.kept, strict=True):
                    mine.copy_(kept)
        for mine, made in zip(self.results.values(), self.true_call(self.call).values(), strict=True):
            mine.copy_(made)


@pytest.fixture
def streams_of_torch(monkeypatch):
    """torch.cuda's streams and graphs, on the CPU."""
    true_call, opened = setup.Call.__call__, []

    class Capture:
        def __init__(self, graph):
            self.graph = graph

        def __enter__(self):
            opened.append(self.graph)

        def __exit__(self, *error):
            opened.clear()

    def watched(self):
        results = true_call(self)
        for graph in opened:
            graph.call, graph.results, graph.true_call = self, results, true_call
            graph.kept = [t.detach().clone() for t in self.leaves.values()]
        return results

    monkeypatch.setattr(setup.Call, "__call__", watched)
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", _Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capture)


@pytest.mark.parametrize("how", ["right", "does nothing", "keeps the inputs"])
def test_a_graph_is_replayed_on_other_numbers(how, streams_of_torch, monkeypatch):
    monkeypatch.setattr(_Graph, "how", how)
    with HERE.forced("stepwise"):
        if how == "right":
            streams.graph_part(HERE, CASE)
        else:
            with pytest.raises(AssertionError, match="not the same bits"):
                streams.graph_part(HERE, CASE)


@pytest.mark.parametrize("late", [False, True])
def test_a_kernel_that_does_not_wait_for_its_stream_shows(late, streams_of_torch, monkeypatch):
    """A launch on another stream would read what the tensors held before the work of this stream."""
    if late:
        true_copy, asleep = torch.Tensor.copy_, []

        def copy_too_late(self, other, *more):
            return self if asleep and self.requires_grad else true_copy(self, other, *more)

        monkeypatch.setattr(torch.cuda, "_sleep", asleep.append)
        monkeypatch.setattr(torch.Tensor, "copy_", copy_too_late)
    with HERE.forced("stepwise"):
        if late:
            with pytest.raises(AssertionError, match="not the same bits"):
                streams.side_stream_part(HERE, CASE)
        else:
            streams.side_stream_part(HERE, CASE)


def test_two_threads_whose_bits_differ_show(monkeypatch):
    true_call, calls = setup.Call.__call__, Counter()

    def now_and_then_wrong(self):
        results = true_call(self)
        calls["all"] += 1
        if calls["all"] == 5:
            results["h"] = results["h"] + 1
        return results

    monkeypatch.setattr(setup.Call, "__call__", now_and_then_wrong)
    plain = setup.Setup(emulated=True)
    with plain.forced("stepwise"), pytest.raises(AssertionError, match="h: not the same bits"):
        streams.two_threads_part(plain, CASE)


def test_a_clock_of_events_gives_milliseconds_a_call(monkeypatch):
    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = len(ran)

        def synchronize(self):
            pass

        def elapsed_time(self, end):
            return 3.0 * (end.at - self.at)

    ran = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert milliseconds(torch.device("cuda"), lambda: ran.append(1), 10) == 3.0
    assert len(ran) == 10


@pytest.mark.filterwarnings("ignore:CUDA is not available, disabling CUDA profiling:UserWarning")
def test_a_profiler_without_kernels_is_a_reason_to_skip(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    with pytest.raises(SkipError, match=r"torch\.profiler recorded no kernel"):
        launch_counts.profiled(lambda: torch.ones(3) + 1)


def test_a_launch_that_is_not_counted_fails(monkeypatch, tmp_path):
    device = emulated.module()
    true_take = device.take_launches
    monkeypatch.setattr(device, "take_launches", lambda: [*true_take(), "one more"])
    record = Record(tmp_path / "record.json")
    launch_counts.run(setup.Setup(emulated=True), record)
    failures = json.loads((tmp_path / "record.json").read_text())["failures"]
    expected = "LSTM, stepwise, forward: own launches: AssertionError: counted 3 launches of this library, 4 were seen"
    assert expected in failures


def test_a_kernel_is_forced_on_a_card_by_the_variable_that_users_have(monkeypatch):
    name = "LSTMREP_CUDA_KERNEL"
    seen = lambda: machine.current("cuda").cuda_kernel  # noqa: E731
    for before in (None, "cta_resident"):
        if before:
            monkeypatch.setenv(name, before)
        with setup.Setup().forced("stepwise") as module:
            assert module is native.module() and seen() == "stepwise"
        assert os.environ.get(name) == before
        with pytest.raises(ValueError, match="inside"), setup.Setup().forced("stepwise"):
            raise ValueError("inside")
        assert os.environ.get(name) == before


def test_differences_of_counts_are_listed_with_names():
    counted = Launches()
    counted.torch.update(mm=2, add=1)
    counted.memset = 1
    seen = launch_counts.Seen(Counter({"lstmrep::forward": 1, "gemm": 2, "splitKreduce": 2}), 0, 0)
    lines = launch_counts.differences(counted, seen)
    assert lines == [
        "counted 3 (2 mm, 1 add), seen 4 (2 gemm, 2 splitKreduce)",
        "1 fills with zero counted, 0 seen",
    ]
    same = launch_counts.Seen(Counter({"lstmrep::forward": 1, "gemm": 2, "elementwise": 1}), 0, 1)
    assert launch_counts.differences(counted, same) == []


def test_what_pytest_left_is_judged(tmp_path):
    def judged(cases, code):
        record = Record(tmp_path / "record.json")
        suite.judge(record, code, list(ElementTree.fromstring(f"<s>{cases}</s>").iter("testcase")))
        return json.loads((tmp_path / "record.json").read_text())["lines"]

    right = '<testcase classname="a" name="right"/>'
    left_out = '<testcase classname="a" name="b"><skipped message="there is  one card"/></testcase>'
    wrong = '<testcase classname="a" name="wrong"><failure message="h: error 1&#10;more"/></testcase>'
    lines = judged(right + left_out + left_out, 0)
    assert lines == ["1 tests passed, 0 failed, 2 were skipped.", "  - skipped 2: there is one card"]
    with pytest.raises(AssertionError, match="1 of 2 tests failed, the first of them a::wrong: h: error 1"):
        judged(right + wrong, 1)
    for cases, code in (("", 5), (left_out, 0), (right, 3)):
        with pytest.raises(AssertionError, match=f"pytest ended with exit code {code}"):
            judged(cases, code)


def test_clocks_are_told_by_nvidia_smi_or_why_not(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    values = ", ".join(f"value {k}" for k in range(len(card.QUERY.split(","))))
    for script, expected in (
        (f"echo '{values}'", ("nvidia-smi persistence_mode", "value 2")),
        ("echo 'Driver/library version mismatch'; exit 18", ("nvidia-smi", "nvidia-smi: exit code 18")),
        ("echo nonsense", ("nvidia-smi", "nonsense")),
        ("true", ("nvidia-smi", "printed nothing")),
    ):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert expected in card.clocks(0)
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert card.clocks(0) == [("nvidia-smi", "no nvidia-smi")]


def test_make_has_the_target():
    made = subprocess.run(
        ["make", "-n", "gpu-check", "PYTHON=python3"], cwd=suite.ROOT, capture_output=True, text=True, check=True
    )
    assert made.stdout.strip() == "python3 benchmarks/gpu_check.py"
