"""Configs: files, overrides, round trips, one sentence for what is wrong, and the table of docs/configuration.md."""

import dataclasses
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lstmrep.train import Config, OptimizerConfig, TrainConfig, load
from lstmrep.train.config import from_dict
from lstmrep.train.settings import range_text

DOC = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"


def test_files_and_overrides(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[model]\nhidden_size = 64\n[optimizer]\nname = "sgd"\nlr = 1\n[train]\nmax_iters = 7\n')
    overrides = ["train.max_iters=50", "train.amp=bfloat16", "data.name = moving", "model.init=paper", "model.x=[1, 2]"]
    config = load(path, overrides)
    assert config.model == {"hidden_size": 64, "init": "paper", "x": [1, 2]}
    assert config.data == {"name": "moving"}
    assert config.optimizer == OptimizerConfig(name="sgd", lr=1.0)
    assert type(config.optimizer.lr) is float
    assert config.train == TrainConfig(max_iters=50, amp="bfloat16")
    assert load() == Config()


def test_the_defaults_of_the_released_code_where_there_are_some():
    train = TrainConfig()
    assert (train.seed, train.print_every, train.validate_every, train.save_every) == (42, 100, 500, 500)


@pytest.mark.parametrize("value", ['a "quote"\n\t\\ \x7f é 😀', [1, 2.5, "x"], {"f": 5.0}, True, -3, 1e-05, 1e22])
def test_what_is_saved_is_read_back(tmp_path, value):
    config = Config(model={"value": value, "odd key": 1, "none": None}, train=TrainConfig(max_iters=3, device="cuda:1"))
    config.save(tmp_path / "config.toml")
    again = load(tmp_path / "config.toml")
    assert again.model == {"value": value, "odd key": 1}
    assert (again.optimizer, again.train) == (config.optimizer, config.train)


def test_what_toml_cannot_hold(tmp_path):
    with pytest.raises(TypeError, match="is a object, which TOML cannot hold"):
        Config(model={"x": object()}).save(tmp_path / "c.toml")
    assert not list(tmp_path.iterdir())


def test_the_released_codes_files_are_anothers_matter(tmp_path, monkeypatch):
    path = tmp_path / "model.pbtxt"
    path.touch()
    reader = SimpleNamespace(load=lambda p: Config(model={"hidden_size": 2048, "path": str(p)}))
    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda n: reader if n.endswith("train.pbtxt") else real(n))
    assert load(path, ["model.hidden_size=8"]).model == {"hidden_size": 8, "path": str(path)}


@pytest.mark.parametrize(
    ("kind", "match", "override"),
    [
        (ValueError, "section 'trian' is not known; did you mean 'train'", "trian.seed=1"),
        (ValueError, "section 'zzz' is not known; known are model, data, optimizer, train", "zzz.seed=1"),
        (ValueError, "'train.max_iter' is not known; did you mean 'max_iters'", "train.max_iter=1"),
        (ValueError, "train.max_iters is -1, expected 0 or more", "train.max_iters=-1"),
        (TypeError, "train.max_iters is 1.5, expected a whole number", "train.max_iters=1.5"),
        (TypeError, "train.max_iters is True, expected a whole number", "train.max_iters=true"),
        (TypeError, "train.max_iters is '1e3x', expected a whole number", "train.max_iters=1e3x"),
        (TypeError, "train.tensorboard is 1, expected true or false", "train.tensorboard=1"),
        (TypeError, "train.device is 0, expected a text", "train.device=0"),
        (ValueError, "optimizer.lr is nan, expected a finite number", "optimizer.lr=nan"),
        (ValueError, "optimizer.lr is inf, expected a finite number", "optimizer.lr=inf"),
        (ValueError, "optimizer.momentum is 1.0, expected 0.0 or more and less than 1.0", "optimizer.momentum=1"),
        (ValueError, "optimizer.name is 'adm'; choose one of adam, adamw", "optimizer.name=adm"),
        (ValueError, "train.teacher_end is 1.5, expected 0.0 or more and 1.0 or less", "train.teacher_end=1.5"),
        (ValueError, "optimizer.decay_factor is 0.0, expected more than 0.0", "optimizer.decay_factor=0"),
        (ValueError, "override 'train.seed' is not of the form section.setting=value", "train.seed"),
        (ValueError, "override 'seed=1' is not of the form", "seed=1"),
    ],
)
def test_one_sentence_for_what_is_wrong(kind, match, override):
    with pytest.raises(kind, match=match) as caught:
        load(None, [override])
    text = str(caught.value)
    assert text.startswith("lstmrep.train.")
    assert text.endswith(".")
    assert "\n" not in text


def test_files_that_are_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*gone.toml"):
        load(tmp_path / "gone.toml")
    for name, content in (("cut.toml", b"[train\n"), ("bytes.toml", b"\xff\xfe")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is not a TOML file: ") as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match="section 'train' is 3, expected a table"):
        from_dict({"train": 3})
    with pytest.raises(TypeError, match="section 'train' is a dict, expected a TrainConfig"):
        Config(train={})


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11; before, tomli is asked for")
def test_no_package_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tomli", None)
    assert load(None, ["train.seed=3"]).train.seed == 3


def test_the_reference_table_is_the_dataclasses():
    rows = [line for line in DOC.read_text().splitlines() if line.startswith(("| `train.", "| `optimizer."))]
    expected = []
    for section, kind in (("optimizer", OptimizerConfig), ("train", TrainConfig)):
        for field in dataclasses.fields(kind):
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            meaning = field.metadata["meaning"]
            expected.append(f"| `{section}.{field.name}` | {default} | {range_text(field)} | {meaning} |")
    assert rows == expected
