"""What the way from module to kernel costs: ``lstmrep.LSTM`` against the bare native call, on a case with little work.

    python benchmarks/bench_overhead.py [--rounds N]

Rounds alternate between the measured calls; medians over all rounds, in microseconds.  torch.nn.LSTM runs in the same
rounds for comparison.  CPU only.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

import lstmrep
from lstmrep import native

SIZES = {"I": 16, "H": 16, "T": 4, "B": 1}
CALLS_A_ROUND = 200


def bare_call(module: lstmrep.LSTM, x: torch.Tensor) -> Callable[[], object]:
    """The native call for one forward pass over ready buffers: what no wrapper can be faster than."""
    h, t, b = SIZES["H"], SIZES["T"], SIZES["B"]
    kernels = native.module()
    gates_x = torch.randn(1, t, b, 4 * h)
    bias, w = torch.randn(1, 4 * h), module.weight_hh_l0.detach()
    out, h_n, c_n = torch.empty(1, t, b, h), torch.empty(1, b, h), torch.empty(1, b, h)
    workspace = torch.empty(kernels.cpu_workspace_bytes(0, 1, t, b, h, 0, 1, True, False, False), dtype=torch.uint8)
    pointers = [p.data_ptr() for p in (gates_x, bias, w, out, h_n, c_n, workspace)]

    def call() -> object:
        gx, bs, ww, o, hn, cn, ws = pointers
        how, sizes, none = (0, 0, 1, True, False), (1, t, b, h), (0, 0, 0)
        given = [], False, [bs], [ww], [], []
        kernels.cpu_forward(*how, *sizes, 0, gx, 0, (0, 0, 0), *given, *none, [False], o, hn, cn, 0, 0, ws)
        return out, h_n, c_n, gates_x, bias, workspace

    return call


def measure(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median microseconds of each call; one round runs each of them in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(CALLS_A_ROUND):
                call()
            times[name].append((time.perf_counter() - start) / CALLS_A_ROUND * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25, help=f"rounds of {CALLS_A_ROUND} calls")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    x = torch.randn(SIZES["T"], SIZES["B"], SIZES["I"])
    plain = lstmrep.LSTM(SIZES["I"], SIZES["H"], backend="cpu")
    peephole = lstmrep.LSTM(SIZES["I"], SIZES["H"], backend="cpu", peephole=True)
    torch_lstm = plain.to_torch()

    def without_grad(module: torch.nn.Module) -> Callable[[], object]:
        def call() -> object:
            with torch.no_grad():
                return module(x)

        return call

    def training(module: torch.nn.Module) -> Callable[[], object]:
        return lambda: module(x)[0].sum().backward()

    bare = bare_call(plain, x)
    calls: dict[str, Callable[[], object]] = {
        "native call": bare,
        "LSTM, no grad": without_grad(plain),
        "LSTM with peepholes, no grad": without_grad(peephole),
        "torch.nn.LSTM, no grad": without_grad(torch_lstm),
        "LSTM, forward + backward": training(plain),
        "torch.nn.LSTM, forward + backward": training(torch_lstm),
    }
    measure(calls, 2)
    medians = measure(calls, rounds)
    sizes = ", ".join(f"{k}={v}" for k, v in SIZES.items())
    print(f"{sizes}, float32, 1 thread, {platform.processor() or platform.machine()}, torch {torch.__version__}")
    print(f"median of {rounds} alternating rounds of {CALLS_A_ROUND} calls, microseconds")
    for name, value in medians.items():
        print(f"  {name:36s} {value:8.1f}")
    print(f"  {'module over native, no grad':36s} {medians['LSTM, no grad'] - medians['native call']:8.1f}")


if __name__ == "__main__":
    main()
