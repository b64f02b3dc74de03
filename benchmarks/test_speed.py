"""The default problems of bench_lstm.py under pytest-benchmark, for its history and comparisons:

    pytest benchmarks --benchmark-only --benchmark-group-by=group

Each is held against float64 before its clock starts.  Unlike bench_lstm.py the contenders do not take turns.
"""

import os

import pytest
import torch
from lstm_bench.contenders import contenders
from lstm_bench.gate import Gate
from lstm_bench.problems import INFERENCE, TRAINING, chosen, toy
from lstm_bench.rows import admit
from lstm_bench.ways import ways
from lstm_bench.workload import Workload

TOY = bool(os.environ.get("BENCH_TOY"))  # tiny sizes: shows that the suite works
PROBLEMS = list(dict.fromkeys(map(toy, chosen(full=False)))) if TOY else chosen(full=False)
DTYPES = (torch.float32, torch.bfloat16)
CONTENDERS = ("baseline", "lstmrep")


@pytest.mark.parametrize("who", CONTENDERS)
@pytest.mark.parametrize("passes", [INFERENCE, TRAINING])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_speed(problem, dtype, passes, who, benchmark):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    work = Workload(problem, dtype, device)
    one = list(contenders(work, ways(device)[:1], compiled=False))[CONTENDERS.index(who)]
    refusal = admit(one, Gate(work))
    assert refusal is None, refusal.note
    benchmark.group = f"{problem.name}, {work.dtype_name}, {passes}"
    benchmark.extra_info["contender"] = one.label

    run = work.passing(one.module, passes)

    def call():
        with one.inside():
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()

    benchmark(call)
