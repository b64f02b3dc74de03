"""Configurations of the released code (``.pbtxt``) as sections of a config, with a note on all that finds no place.

The schema is that code's ``config.proto``: messages ``Model``, ``LSTM``, ``Param`` and ``Data``.  Two dialects are told
apart: the released code, and its authors' earlier code, whose files say ``rms_prop`` or ``LSTM_BIAS``.  Numbers of a
checkpoint are read by ``lstmrep.nn.original``, not here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lstmrep.train import textformat
from lstmrep.train.pbtxt_fields import REPEATED, WHO, Fields, open_fields
from lstmrep.train.pbtxt_model import read_model
from lstmrep.train.pbtxt_training import Dataset

SECTIONS = ("model", "data", "optimizer", "train")
LABELLED, UNLABELLED = "LABELLED", "UNLABELLED"
# Files of features, of which training and validation have their own.
FEATURES, LISTS = "features_file", ("num_frames_file", "labels_file")


class Loaded(dict[str, Any]):
    """``model``, ``data``, ``optimizer``, ``train`` and ``notes`` of a file."""

    @property
    def notes(self) -> list[str]:
        """What the file says and the sections do not, a sentence each."""
        return self["notes"]  # type: ignore[no-any-return]

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The four sections alone, as ``lstmrep.train.Config`` takes them."""
        return {name: dict(self[name]) for name in SECTIONS}


def parse(text: str) -> dict[str, Any]:
    """The fields of a file as they stand.

    Args:
        text: protobuf text format.

    Returns:
        Fields by name; ``lstm``, ``lstm_dec``, ``lstm_future`` and ``timestamp`` are lists, blocks are dictionaries.

    Raises:
        ValueError: the text is not of this format; one sentence with line and column.
    """
    return textformat.parse(text, REPEATED)


def load(path: str | Path, data: str | Path | None = None, valid: str | Path | None = None) -> Loaded:
    """Read a model file, with its dataset files if given, or a dataset file alone.

    Args:
        path: a model file, or a dataset file.
        data: the training dataset's file, for a model file. The batch size is in there.
        valid: the validation dataset's file, likewise.

    Returns:
        A dictionary of ``model`` (arguments of ``lstmrep.CompositeModel``, or with ``num_classes`` of
        ``lstmrep.ActionClassifier``), ``data`` (of ``lstmrep.data.make``), ``optimizer``, ``train`` (fields of
        ``lstmrep.train.Config``) and ``notes``, a list of sentences on what has no place in these.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file is not of this format, a value is not of its field's type, or the model cannot be built here
            (layers of different sizes); the message names file and field.

    Source: ``config.proto`` of the released code.
    """
    top = open_fields(path)
    notes: list[str] = []
    sections: dict[str, Any] = {name: {} for name in SECTIONS}
    if top.has("lstm"):
        stated = None if data is None else _dataset(open_fields(data), "train", notes)
        read_model(top, stated, sections, notes)
    elif data is not None or valid is not None:
        raise ValueError(
            f"{WHO}: {path} has no field 'lstm' and is no model file; pass dataset files as data and valid."
        )
    else:
        stated = _dataset(top, None, notes)
    if stated is not None:
        sections["data"] = dict(stated.settings)
        if stated.batch:
            sections["train"]["batch_size"] = stated.batch
    if valid is not None:
        _add_valid(sections, _dataset(open_fields(valid), "valid", notes), notes)
    return Loaded(**sections, notes=notes)


def _dataset(top: Fields, split: str | None, notes: list[str]) -> Dataset:
    kind = top.take("dataset_type", LABELLED)
    batch, frames = top.take("batch_size", 0), top.take("num_frames", 1)
    size, file = top.take("image_size", 0), top.take("data_file", "")
    settings: dict[str, Any] = {}
    if kind == "BOUNCING_MNIST":
        if size < 1:
            raise top.wrong("image_size", f"is {size}, expected 1 or more for {kind}")
        settings = {"name": "moving_mnist", "source": "mnist", "num_frames": frames, "canvas": size}
        settings |= {"num_digits": top.take("num_digits", 0), "step": top.take("step_length", 0.0)}
        notes.append("The original's digits are MNIST: set data.root to the folder of its files, or data.source.")
        if file:
            notes.append(f"data_file is {file}: digits are read from MNIST's own files here.")
        top.note_rest(notes, "does not act on BOUNCING_MNIST")
    elif kind == "VIDEO_PATCH":
        if size < 1:
            raise top.wrong("image_size", f"is {size}, expected 1 or more for {kind}")
        colors = top.take("num_colors", 0) or 1
        where: Any = file if split is None else {split: file}
        settings = {"name": "sequence_file", "path": where, "layout": "rows", "frame_shape": [colors, size, size]}
        top.note_rest(notes, "does not act on VIDEO_PATCH")
    elif kind in (LABELLED, UNLABELLED) and file:
        settings = {"name": "percepts", "root": ".", "num_frames": frames, "stride": top.take("stride", 1)}
        settings |= {"labels": kind == LABELLED, "everything": True, "dataset": top.take("dataset_name", "hidden6")}
        lists = LISTS if kind == LABELLED else LISTS[:1]
        for field, found in ((FEATURES, file), *((name, top.take(name, "")) for name in lists)):
            settings[field] = found if split is None else {split: found}
        top.take("randomize", False)  # training draws windows in an order of its own, validation never does
        top.note_rest(notes, f"does not act on {kind} here")
    else:
        said = ", ".join(f"{name}={value!r}" for name, value in top.values.items())
        notes.append(f"A dataset of type {kind} ({said}) has no name in lstmrep.data.make: build it and pass it.")
    return Dataset(settings, batch, frames)


def _add_valid(sections: dict[str, Any], valid: Dataset, notes: list[str]) -> None:
    """Both sets in one section where they are files of one kind."""
    data = sections["data"]
    files = {"sequence_file": ("path",), "percepts": (FEATURES, *LISTS)}.get(data.get("name", ""), ())
    rest = [{k: v for k, v in settings.items() if k not in files} for settings in (data, valid.settings)]
    if files and rest[0] == rest[1]:
        for name in set(files) & set(data):
            data[name] |= valid.settings[name]
    elif valid.settings and valid.settings != data:
        notes.append(f"The validation set is another dataset, {valid.settings}: build it and pass it as valid.")
    batch = sections["train"].get("batch_size", valid.batch)
    if valid.batch != batch:
        notes.append(f"The validation set's batch_size is {valid.batch}: here it is {batch} for both.")
