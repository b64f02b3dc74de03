"""What a person sees: lines as the released code prints them, a bar with the time left, TensorBoard events."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from lstmrep.optional import package
from lstmrep.train import measures
from lstmrep.train.history import Record


class Log:
    """Lines go to standard output; the bar to standard error, where that is a terminal and tqdm is installed.

    Args:
        total: updates of the run.
        done: those before this start.
        show: False is silent but for ``say``.
        events: folder for TensorBoard, or none.

    Raises:
        ImportError: TensorBoard is asked for and not installed.
    """

    def __init__(self, total: int, done: int, show: bool, events: Path | None) -> None:
        self.show = show
        self.bar = _bar(total, done) if show and sys.stderr.isatty() else None
        self.writer: Any = None
        if events is not None:
            package("tensorboard", "lstmrep.train.Trainer", "train")
            writer = package("torch.utils.tensorboard", "lstmrep.train.Trainer", "train").SummaryWriter
            self.writer = writer(str(events), purge_step=done + 1)

    def say(self, text: str) -> None:
        """A sentence, shown above the bar."""
        if self.bar is not None:
            self.bar.write(text)
        else:
            print(text, flush=True)

    def record(self, record: Record) -> None:
        """The line of a record, and its values as events."""
        if self.show:
            self.say(record_line(record))
        if self.writer is not None:
            for name, value in record.items():
                if name != "step":
                    self.writer.add_scalar(name, value, int(record["step"]))

    def advance(self, loss: float) -> None:
        """One more update is done."""
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            self.bar.update(1)

    def close(self) -> None:
        """Leave the bar as it stands and write the last events."""
        if self.bar is not None:
            self.bar.close()
        if self.writer is not None:
            self.writer.close()


def record_line(record: Record) -> str:
    """``Step 100 Dec 213.17694 Fut 345.98576``, then ``VDec ... VFut ...`` free-running, ``TDec ...`` teacher-forced.

    A classifier's is ``Step 100 Loss 4.61512 Acc 0.01562 VLoss ... VAcc ...``.
    """
    parts = [measures.line(record, kind) for kind in ("", "valid", "teacher")]
    return " ".join([f"Step {int(record['step'])}", *(part for part in parts if part)])


def _bar(total: int, done: int) -> Any:
    with contextlib.suppress(ImportError):
        return package("tqdm", "lstmrep.train.Trainer", "train").tqdm(total=total, initial=done, unit="step")
    return None
