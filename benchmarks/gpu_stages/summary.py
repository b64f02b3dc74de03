"""The table of the README from a report of gpu-check: of each size the kernel that the planner chooses.

PYTHONPATH=benchmarks python -m gpu_stages.summary benchmarks/results/gpu-check-...md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

from gpu_stages.timing import STEPS
from lstmrep.plan import Card, Machine, Problem, plan
from lstmrep.planner.cards import card_for

COLUMNS = ["dtype, sizes", "kernel"]
for passes in ("inference", "forward+backward"):
    COLUMNS += [f"{passes}, called", "replayed", "peepholes"]
LAYER, EAGER = "torch.nn.LSTM (cuDNN)", "eager cell"


class Key(NamedTuple):
    """What a row of the report's times is of."""

    dtype: str
    hidden: int
    batch: int
    peephole: bool
    passes: str
    what: str


def times(text: str) -> dict[Key, tuple[float, float]]:
    """The medians of a report in milliseconds, called and replayed."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if len(cells) == 8 and re.fullmatch(r"[\d.]+ \(.*\)", cells[6]):
            dtype, h, b, peephole, passes, what, called, replayed = cells
            key = Key(dtype, int(h), int(b), peephole == "yes", passes, what)
            found[key] = float(called.split()[0]), float(replayed.split()[0])
    return found


def card_of(text: str) -> Card:
    """The card that a report is of."""
    facts = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE))

    def number(key: str) -> int:
        return int(re.sub(r"\D", "", facts[key]))

    return card_for(facts["card"], number("SMs"), number("shared memory a CTA may have"), number("L2"))


def table(text: str) -> str:
    """Lines of Markdown."""
    found, machine = times(text), Machine(gpu="card", card=card_of(text))
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    for dtype, h, b in dict.fromkeys((k.dtype, k.hidden, k.batch) for k in found):
        problem = Problem(hidden_size=h, steps=STEPS, batch=b, input_size=h, dtype=dtype, device="cuda", training=True)
        forward, backward = (how.kernel for how in plan(problem, machine).cuda)
        assert forward == backward, "the report forces one kernel for both passes"
        cells = [f"{dtype}, H = {h}, B = {b}", forward]
        for passes in ("inference", "forward+backward"):
            plain, cudnn = (found[dtype, h, b, False, passes, who] for who in (f"lstmrep {forward}", LAYER))
            mine, eager = (found[dtype, h, b, True, passes, who] for who in (f"lstmrep {forward}", EAGER))
            cells += [f"{a:.3g} ms, {a / c:.2f}" for a, c in zip(plain, cudnn, strict=True)]
            cells.append(", ".join(f"{a / c:.2f}" for a, c in zip(mine, eager, strict=True)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text(encoding="utf-8")))
