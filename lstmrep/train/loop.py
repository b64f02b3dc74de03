"""The loop of a run on one process: updates, records, validations, checkpoints, when to stop, where to go on.

What is on the disk after any step is enough to go on from the newest checkpoint to the same bits: the history is cut
to the checkpoint's records, data and random numbers are functions of the step.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lstmrep.files import write_text
from lstmrep.train import checkpoint as files
from lstmrep.train import optimizers
from lstmrep.train.batches import Batches, length_of, on_device, stream
from lstmrep.train.config import Config
from lstmrep.train.distributed import Group
from lstmrep.train.guard import all_finite, refuse
from lstmrep.train.history import History, Record
from lstmrep.train.log import Log
from lstmrep.train.sampler import StepSampler
from lstmrep.train.signals import StopSignals
from lstmrep.train.update import Update
from lstmrep.train.validate import items, validate

FINISHED, PATIENCE, INTERRUPTED = "finished", "patience", "interrupted"


@dataclass
class Progress:
    """What a run carries from step to step besides tensors; JSON holds it exactly."""

    step: int = 0
    records: int = 0
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    count: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)


class Loop:
    """One run of a trainer.

    Args:
        model: moved to the group's device.
        data, valid: datasets; ``valid`` may be none.
        config: of the run.
        out: folder for what is written, or none.
        group: the processes; the first one writes.
        signals: wishes to stop.
        show: print lines and the bar.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        valid: Any,
        config: Config,
        out: Path | None,
        group: Group,
        signals: StopSignals,
        show: bool,
    ) -> None:
        self.model, self.data, self.valid, self.config = model.to(group.device), data, valid, config
        self.train, self.out, self.group, self.signals = config.train, out, group, signals
        self.writes = out is not None and group.rank == 0
        self.show = show and group.rank == 0
        self.sampler = StepSampler(
            length_of(data), self.train.batch_size, self.train.seed, rank=group.rank, world=group.world
        )
        if valid is not None:
            items(valid, self.train)
        self.folder = files.Folder((out or Path()) / "checkpoints", self.train.keep_checkpoints)
        self.history = History(out / "history.jsonl" if out is not None and self.writes else None)
        self.optimizer = optimizers.build(config.optimizer, self.model)
        self.progress = Progress()

    def run(self, resume: bool | str | Path) -> str:
        """Train to the end, or to a reason to stop before; returns the reason.

        Raises:
            NotFiniteError: a number is not finite.
            CheckpointError, ValueError: what is to be resumed cannot be.
        """
        resumed = self._resume(resume)
        update = Update(self.model, self.optimizer, self.config, self.group)
        if self.progress.scaler:
            update.scaler.load_state_dict(self.progress.scaler)
        if self.writes and self.out is not None:
            write_text(self.out / "config.toml", self.config.to_toml())
            self._start_history()
        events = self.out / "tensorboard" if self.train.tensorboard and self.writes and self.out else None
        log = Log(self.train.max_iters, self.progress.step, self.show, events)
        try:
            if resumed is not None and self.show:
                log.say(f"Resumed from {resumed} at step {self.progress.step}.")
            reason = self._steps(update, log)
            if self.progress.step not in (self.folder.steps() if self.writes else []):
                self._save(update)
            if reason == INTERRUPTED and self.show:
                log.say(self._farewell())
            return reason
        finally:
            log.close()

    def _steps(self, update: Update, log: Log) -> str:
        train, progress = self.train, self.progress
        if self._out_of_patience():
            return PATIENCE
        first = progress.step
        source = stream(
            Batches(self.data, train.seed),
            self.sampler.steps(first, train.max_iters),
            workers=train.workers,
            prefetch=train.prefetch,
            pin=self.group.device.type == "cuda",
        )
        self.model.train()
        for step, batch in zip(itertools.count(first), source):
            batch = on_device(batch, self.group.device)
            values, stop, bad = update(step, batch, self.signals.requested)
            if bad:
                raise refuse(step + 1, bad, self._last_good())
            progress.step = step + 1
            self._count(values)
            log.advance(values["loss"])
            record = self._record(update)
            if record:
                self.history.append(record)
                progress.records += 1
                if self.show or log.writer is not None:
                    log.record(record)
            if train.save_every and progress.step % train.save_every == 0:
                self._save(update)
            if stop:
                return INTERRUPTED
            if self._out_of_patience():
                return PATIENCE
        return FINISHED

    def _farewell(self) -> str:
        step = self.progress.step
        if self.out is None:
            return f"Stopped after step {step}; nothing was saved, since no folder 'out' was given."
        return (
            f"Stopped after step {step}, saved in {self.folder.file(step)}; go on with Trainer.fit(resume=True), or "
            "with --resume on the command line."
        )

    def _count(self, values: dict[str, float]) -> None:
        p = self.progress
        p.count += 1
        for name, value in values.items():
            p.sums[name] = p.sums.get(name, 0.0) + value

    def _record(self, update: Update) -> Record:
        """What this step adds to the curve: the mean loss since the last record, a validation, both or nothing."""
        train, p = self.train, self.progress
        record: Record = {}
        if p.step % train.print_every == 0:
            record = {name: total / p.count for name, total in p.sums.items()}
            record["lr"] = self.optimizer.param_groups[0]["lr"]
            p.count, p.sums = 0, {}
        if self.valid is not None and train.validate_every and p.step % train.validate_every == 0:
            found = validate(update, self.valid, train, self.group)
            self.model.train()
            record.update(found)
            self._judge(found, update)
        return {"step": p.step, **record} if record else {}

    def _judge(self, found: dict[str, float], update: Update) -> None:
        p, name = self.progress, f"valid_{self.train.monitor}"
        if name not in found:
            raise ValueError(
                f"lstmrep.train.Config: train.monitor is '{self.train.monitor}', which this model's validation does "
                "not have; choose loss."
            )
        # Compared so that smaller is better.
        value = -found[name] if self.train.monitor == "accuracy" else found[name]
        if math.isfinite(value) and (p.best is None or value < p.best):
            p.best, p.best_step, p.waited = value, p.step, 0
            if self.writes:
                self._check_weights()
                files.write(self.folder.best, files.Checkpoint(files.take(self.model), self._state(update)))
        else:
            p.waited += 1

    def _out_of_patience(self) -> bool:
        return bool(self.train.patience) and self.progress.waited >= self.train.patience

    def _state(self, update: Update) -> dict[str, Any]:
        self.progress.scaler = update.scaler.state_dict()
        return {**dataclasses.asdict(self.progress), "config": self.config.to_dict(), "torch": torch.__version__}

    def _check_weights(self) -> None:
        for name, tensor in self.model.state_dict().items():
            if not all_finite([tensor]):
                raise refuse(self.progress.step, f"parameter '{name}'", self._last_good(), "it was not saved")

    def _save(self, update: Update) -> None:
        if self.writes:
            self._check_weights()
            self.history.sync()
            tensors = files.take(self.model, self.optimizer)
            self.folder.save(self.progress.step, files.Checkpoint(tensors, self._state(update)))

    def _last_good(self) -> str:
        steps = self.folder.steps() if self.out is not None else []
        return str(self.folder.file(steps[-1])) if steps else ""

    def _start_history(self) -> None:
        found = self.history.start(self.progress.records)
        if found < self.progress.records:
            print(f"{self.history.path} has {found} of {self.progress.records} records; the curve has a gap.")
            self.progress.records = found

    def _resume(self, resume: bool | str | Path) -> Path | None:
        """Take over a checkpoint; returns its file, or none where the run starts at step 0."""
        if resume is False:
            if self.out is not None and self.folder.steps():
                raise FileExistsError(
                    f"lstmrep.train.Trainer: {self.out} holds a run already; go on with it by resume=True, or give "
                    "another 'out'."
                )
            return None
        if self.out is None:
            raise ValueError("lstmrep.train.Trainer: there is nothing to resume without a folder; give 'out'.")
        found = files.read(resume) if isinstance(resume, (str, Path)) else self._newest()
        if found is None:
            return None
        self._check_same(found)
        files.give(found, self.model, self.optimizer)
        known = {f.name for f in dataclasses.fields(Progress)}
        self.progress = Progress(**{k: v for k, v in found.state.items() if k in known})
        if self.writes:
            self.folder.drop_after(self.progress.step)
        return found.path

    def _newest(self) -> files.Checkpoint | None:
        """The first process looks, the others read what it found."""
        found, step = None, -1
        if self.group.rank == 0:
            self.folder.clean()
            try:
                found = self.folder.newest()
                step = found.state["step"] if found is not None else -1
            except files.CheckpointError:
                self.group.agreed(-2)
                raise
        step = self.group.agreed(step)
        if step == -2:
            raise files.CheckpointError(f"lstmrep.train.checkpoint: no checkpoint in {self.folder.path} can be used.")
        return found if found is not None or step < 0 else files.read(self.folder.file(step))

    def _check_same(self, found: files.Checkpoint) -> None:
        """Settings that decide what a step means must be those of the run that is resumed."""
        before, now = found.state["config"], self.config.to_dict()
        for section, name in (("train", "batch_size"), ("train", "seed"), ("optimizer", "name")):
            if before[section][name] != now[section][name]:
                raise ValueError(
                    f"lstmrep.train.Trainer: {found.path} was written with {section}.{name} = "
                    f"{before[section][name]!r}, and now it is {now[section][name]!r}; a run goes on only as it began."
                )
