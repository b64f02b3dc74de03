"""The models that come with the library: whole, small, and worth what is recorded of them."""

import json
import shutil

import pytest
import torch

import lstmrep
from lstmrep import zoo
from lstmrep.cli import main, runs
from lstmrep.eval import cross_entropy
from lstmrep.testing.compare import assert_within
from lstmrep.testing.tolerance import budget, moved

pytest.importorskip("safetensors", reason="safetensors is not installed")
MOST_BYTES = 1_500_000


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A zoo of its own to damage."""
    shutil.copytree(zoo.folder("toy-glyphs"), tmp_path / "toy-glyphs")
    monkeypatch.setattr(zoo, "_root", lambda: tmp_path)
    return tmp_path / "toy-glyphs"


@pytest.mark.parametrize("name", zoo.names())
def test_a_model_loads_in_eval_mode_and_predicts(name):
    model = zoo.load(name)
    assert isinstance(model, lstmrep.CompositeModel) and not model.training
    assert sum(p.numel() for p in model.parameters()) == zoo.manifest(name)["parameters"]
    frames = torch.rand(2, 8, 1, 12, 12)
    assert model.predict(frames, 20).shape == (2, 20, 1, 12, 12)
    assert zoo.load(name, backend="reference").config.backend == "reference"
    assert sum(p.stat().st_size for p in zoo.folder(name).iterdir()) < MOST_BYTES


@pytest.mark.parametrize("name", zoo.names())
def test_the_manifest_says_how_it_was_trained(name):
    made, (_, config) = zoo.manifest(name), runs.load_run(zoo.folder(name))
    words = made["training"]["command"].split()
    assert words[:4] == ["python", "-m", "lstmrep", "train"]
    told, _ = runs.read_config([words[4]], [w for w in words[5:] if "=" in w])
    told = runs.resolve(told, runs.make_data(told, "train"))
    assert told == config and config.train.seed == made["training"]["seed"]
    assert config.train.max_iters == made["training"]["steps"]
    assert set(made["training"]["versions"]) == {"lstmrep", "torch", "python"}


@pytest.mark.parametrize("name", zoo.names())
def test_the_recorded_cross_entropy_is_reproduced(name):
    """By the backend of this machine, within what the reference errs in float32 when every number moves by a rounding;
    the recorded number is held to the same."""
    said, (_, config) = zoo.manifest(name)["evaluation"], runs.load_run(zoo.folder(name))
    data = runs.make_data(config, said["split"])
    assert data.description == said["data"]
    clips = data.batch(range(said["clips"]))
    state = zoo.load(name).state_dict()

    def nats(model, frames):
        with torch.inference_mode():
            out = model(frames, feeding="own")
        seen = frames.shape[1] - model.config.predict
        told = {"reconstruction": frames[:, :seen].flip(1), "future": frames[:, seen:]}
        return {head: cross_entropy(getattr(out, head).float(), target).mean(0) for head, target in told.items()}

    def run(dtype, order):
        model = zoo.load(name, backend="reference").to(dtype)
        model.load_state_dict({key: moved(t, dtype, order) for key, t in state.items()})
        return nats(model, moved(clips, dtype, order).clamp(0, 1))

    allowed = budget(run, torch.float32)
    print(allowed)
    assert_within(nats(zoo.load(name), clips), allowed)
    recorded = {head: torch.tensor(curve, dtype=torch.float64) for head, curve in said["per_frame"].items()}
    assert_within(recorded, allowed)
    for head, value in said["cross_entropy"].items():
        torch.testing.assert_close(recorded[head].mean().item(), value)
        assert value < said["mean_frame"][head], head


def test_the_command_line_takes_its_folder_for_a_run(tmp_path, capsys):
    assert main(["eval", str(zoo.folder("toy-glyphs")), "--clips", "4", "--gallery", "0", "--out", str(tmp_path)]) == 0
    assert "model, free-running" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["config.json", "config.toml", "model.safetensors"])
def test_a_damaged_file_is_refused(copy, file):
    path = copy / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=f"{file} has the SHA-256 .* it is damaged or another file, install lstmrep"):
        zoo.load("toy-glyphs")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"no file .*{file}; install lstmrep again"):
        zoo.load("toy-glyphs")


def test_a_truncated_file_is_refused(copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="it is damaged or another file"):
        zoo.load("toy-glyphs")


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(ValueError, match=r"argument 'name' is 'mnist', expected one of toy-glyphs\."):
        zoo.load("mnist")


def test_every_file_is_in_the_manifest():
    for name in zoo.names():
        there = {p.name for p in zoo.folder(name).iterdir()}
        assert there == {zoo.MANIFEST, *json.loads((zoo.folder(name) / zoo.MANIFEST).read_text())["files"]}
