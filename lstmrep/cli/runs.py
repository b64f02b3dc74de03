"""What commands share: a configuration's model and data, and the folder of a run.

A run's folder holds ``config.toml``, ``history.jsonl``, ``checkpoints/`` and, when training has ended, ``model/`` as
``from_pretrained`` reads it.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstmrep.nn import ActionClassifier, CompositeModel, FrameClassifier

if TYPE_CHECKING:
    from lstmrep.data import ClipDataset
    from lstmrep.train import Config

CONFIGS = "configs"
MODEL = "model"
Model = CompositeModel | ActionClassifier | FrameClassifier
CLASSES: tuple[type[Model], ...] = (CompositeModel, ActionClassifier, FrameClassifier)
FROM_ENCODER = ("input_size", "hidden_size", "num_layers", "peephole", "cell")


def shipped() -> list[str]:
    """Names of the configurations that come with the library."""
    folder = resources.files("lstmrep") / CONFIGS
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def read_config(names: Sequence[str], overrides: Sequence[str]) -> tuple[Config, list[str]]:
    """A configuration and remarks on it.

    Args:
        names: one shipped name or ``.toml`` file, or a ``.pbtxt`` model file and up to two dataset files.
        overrides: ``section.setting=value``.

    Raises:
        FileNotFoundError, TypeError, ValueError: one sentence names what is wrong.
    """
    from lstmrep.train import config, pbtxt

    notes: list[str] = []
    if names and names[0].endswith(".pbtxt"):
        if len(names) > 3:
            raise ValueError(
                f"lstmrep train: {len(names)} files, expected a model's, its data and its validation data."
            )
        loaded = pbtxt.load(*names)
        notes = loaded.notes
        return config.with_overrides(loaded.to_dict(), overrides), notes
    if len(names) != 1:
        raise ValueError(
            f"lstmrep train: {len(names)} configurations, expected one: {', '.join(shipped())}, or a file."
        )
    name = names[0]
    if name in shipped():
        with resources.as_file(resources.files("lstmrep") / CONFIGS / f"{name}.toml") as path:
            return config.load(path, overrides), notes
    if not name.endswith(".toml"):
        raise FileNotFoundError(
            f"lstmrep train: no configuration '{name}'; choose one of {', '.join(shipped())}, or name a .toml or "
            ".pbtxt file."
        )
    return config.load(name, overrides), notes


def with_changes(command: str, config: Config | None, changes: Sequence[str]) -> Config:
    """The configuration of a run with other data.

    Args:
        command: who asks, for messages.
        config: of the run, or none for a folder that has only a model.
        changes: ``data.setting=value``; another ``data.name`` puts the run's data settings aside.

    Raises:
        ValueError: a change is of another form, or nothing says what the data are.
    """
    from lstmrep.train import config as configs

    for change in changes:
        if not change.startswith("data.") or "=" not in change:
            raise ValueError(f"{command}: '{change}' is not of the form data.setting=value.")
    if config is None and not changes:
        raise ValueError(
            f"{command}: the folder has no config.toml and so no data; name some, as in data.source=sklearn."
        )
    tables = {} if config is None else config.to_dict()
    changed = configs.with_overrides(tables, changes)
    if config is not None and kind_of_data(changed) != kind_of_data(config):
        return configs.with_overrides({**tables, "data": {}}, changes)
    return changed


def kind_of_data(config: Config) -> str:
    """Which data; settings of one kind mean nothing to another."""
    return str(config.data.get("name", "moving_mnist"))


def make_data(config: Config, split: str, **changes: Any) -> ClipDataset:
    """The dataset of a configuration for a split."""
    from lstmrep import data

    settings = {**config.data, **changes}
    return data.make(settings.pop("name", "moving_mnist"), split, **settings)


def resolve(config: Config, data: ClipDataset | None) -> Config:
    """The configuration with sizes filled in: the encoder's to start from, else the data's where they are left out."""
    model = dict(config.model)
    if "encoder" in model:
        model |= encoder_sizes(model["encoder"])
    elif data is not None and "preset" not in model:
        model.setdefault("input_size", math.prod(data.frame_shape))
    return dataclasses.replace(config, model=model)


def make_model(config: Config, device: str | None = None) -> Model:
    """The model of a configuration: with ``num_classes`` a classifier, of single frames where there is no LSTM's size.

    Args:
        config: its ``model`` section: arguments of the class, ``preset``, and for a classifier ``encoder``, the run
            whose encoder it starts from, and ``freeze``, which trains the softmax alone.
        device: of the parameters; on ``"meta"`` nothing is loaded.

    Raises:
        FileNotFoundError, ValueError: a setting is missing or not known, or there is no such encoder.
    """
    from lstmrep.train.settings import nearest

    settings = dict(config.model)
    preset = settings.pop("preset", None)
    encoder, freeze = settings.pop("encoder", None), settings.pop("freeze", False)
    kind: type[Model] = CompositeModel
    if "num_classes" in settings:
        kind = ActionClassifier if "hidden_size" in settings or preset is not None else FrameClassifier
    known = [name for name in inspect.signature(kind).parameters if name != "dtype"]
    for name in settings:
        if name not in known:
            raise ValueError(f"lstmrep train: setting 'model.{name}' is not known; {nearest(name, known)}.")
    if preset is None:
        for name in ("input_size", "hidden_size"):
            if name in known and name not in settings:
                raise ValueError(f"lstmrep train: setting 'model.{name}' is missing; give it, or model.preset.")
    if (encoder is not None or freeze) and kind is not ActionClassifier:
        raise ValueError(
            f"lstmrep train: setting 'model.{'freeze' if encoder is None else 'encoder'}' is for a classifier with an "
            "LSTM; give model.num_classes too, or leave it out."
        )
    if freeze and encoder is None:
        raise ValueError(
            "lstmrep train: setting 'model.freeze' is true and there is no model.encoder to keep as it is."
        )
    settings.setdefault("device", device)
    model = kind(**settings) if preset is None else kind.from_preset(preset, **settings)  # type: ignore[union-attr]
    if encoder is not None and device != "meta":
        assert isinstance(model, ActionClassifier)
        model.load_encoder(_encoder(encoder), freeze=bool(freeze))
    return model


def encoder_sizes(folder: str | Path) -> dict[str, Any]:
    """What a classifier shares with the encoder of a run: sizes, peepholes and the cell.

    Raises:
        FileNotFoundError: there is no model; the message says how to come by one.
    """
    told = json.loads((_model_folder(folder) / "config.json").read_text(encoding="utf-8"))
    return {name: told[name] for name in FROM_ENCODER if name in told}


def _encoder(folder: str | Path) -> CompositeModel:
    """The model that a classifier starts from."""
    source, _ = load_run(folder)
    if not isinstance(source, CompositeModel):
        raise ValueError(
            f"lstmrep train: model.encoder is {folder}, which holds a {type(source).__name__}; name the folder of a "
            "composite model's run."
        )
    return source


def load_run(folder: str | Path) -> tuple[Model, Config | None]:
    """The trained model of a run's folder, or of one that ``save_pretrained`` wrote, and the run's configuration.

    Raises:
        FileNotFoundError, ValueError: there is no model; the message says how to come by one.
    """
    path = _model_folder(folder)
    name = json.loads((path / "config.json").read_text(encoding="utf-8")).get("model")
    kind: type[Model] = next((one for one in CLASSES if one.__name__ == name), CompositeModel)
    return kind.from_pretrained(path), run_config(folder)


def run_config(folder: str | Path) -> Config | None:
    """The configuration of a run's folder; none where the folder has only a model."""
    from lstmrep.train import load

    path = Path(folder) / "config.toml"
    return load(path) if path.is_file() else None


def _model_folder(folder: str | Path) -> Path:
    """Where the files of a run's model are."""
    folder = Path(folder)
    path = folder / MODEL if (folder / MODEL).is_dir() else folder
    if not (path / "config.json").is_file():
        hint = (
            f"training has not ended; go on with python -m lstmrep train --resume --out {folder}"
            if (folder / "config.toml").is_file()
            else "pass a folder that lstmrep train or save_pretrained wrote"
        )
        raise FileNotFoundError(f"lstmrep: no trained model in {folder}; {hint}.")
    return path
