"""Checkpoints: round trips, one sentence for each way to be unusable, whole or not at all, which ones are kept."""

import json
import struct
import sys
import zlib

import pytest
import torch
from torch import nn
from train_runs import Endless, config, die_in_write, killed_run, processes, same_parameters, small

from lstmrep.train import CheckpointError, Trainer, load_weights
from lstmrep.train import checkpoint as files

pytest.importorskip("safetensors", reason="safetensors is not installed")


def _trained(steps: int = 2) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def _written(path, **state):
    model, optimizer = _trained()
    files.write(path, files.Checkpoint(files.take(model, optimizer), state))
    return model, optimizer


def test_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    model, optimizer = _written(path, step=7, x=0.1 + 0.2, words={"ä": [1, None]})
    found = files.read(path)
    assert found.state == {"step": 7, "x": 0.1 + 0.2, "words": {"ä": [1, None]}}
    other, theirs = _trained(0)
    files.give(found, other, theirs)
    assert same_parameters(model, other)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert set(optimizer.state[p]) == set(theirs.state[q]) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(optimizer.state[p][k], theirs.state[q][k]) for k in optimizer.state[p])
    assert set(files.read(path, "model.").tensors) == {f"model.{name}" for name in model.state_dict()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int64, torch.bool], ids=str)
def test_dtypes_shapes_and_shared_memory(tmp_path, dtype):
    t = torch.arange(6).view(2, 3).to(dtype)
    tensors = {"a": t, "tied": t, "scalar": t[1, 1], "turned": t.t(), "none": t[:0]}
    files.write(tmp_path / "a.safetensors", files.Checkpoint(tensors))
    found = files.read(tmp_path / "a.safetensors").tensors
    assert {k: (v.dtype, v.shape) for k, v in found.items()} == {k: (v.dtype, v.shape) for k, v in tensors.items()}
    assert all(torch.equal(found[k], tensors[k]) for k in tensors)


def _sentence(kind, match, act):
    with pytest.raises(kind, match=match) as caught:
        act()
    text = str(caught.value)
    assert text.startswith("lstmrep.train")
    assert text.endswith(".")
    assert "\n" not in text


def test_truncated_at_every_part(tmp_path):
    path = tmp_path / "a.safetensors"
    _written(path, step=7)
    whole = path.read_bytes()
    for size in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        _sentence(CheckpointError, r"a\.safetensors cannot be read, it is truncated", lambda: files.read(path))


def test_every_damaged_byte_of_a_tensor_is_found_and_named(tmp_path):
    path = tmp_path / "a.safetensors"
    _written(path)
    whole = path.read_bytes()
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    places = json.loads(whole[8:start])
    for name, place in places.items():
        if name != "__metadata__":
            for at in (place["data_offsets"][0], place["data_offsets"][1] - 1):
                damaged = bytearray(whole)
                damaged[start + at] ^= 4
                path.write_bytes(damaged)
                _sentence(CheckpointError, rf"a\.safetensors is damaged: tensor '{name}'", lambda: files.read(path))


def test_foreign_files(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "model.safetensors")
    match = r"model\.safetensors is a safetensors file, but no training checkpoint"
    _sentence(CheckpointError, match, lambda: files.read(tmp_path / "model.safetensors"))
    torch.save({"x": torch.zeros(2)}, tmp_path / "old.pt")
    _sentence(CheckpointError, r"old\.pt cannot be read", lambda: files.read(tmp_path / "old.pt"))
    _sentence(FileNotFoundError, r"no file .*gone", lambda: files.read(tmp_path / "gone"))


def test_checkpoints_of_other_models_change_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    _written(path)
    found = files.read(path)
    wide = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    before = {k: v.clone() for k, v in wide.state_dict().items()}
    _sentence(
        CheckpointError, r"'model.0.weight' has shape \(4, 3\), this model needs", lambda: files.give(found, wide)
    )
    assert all(torch.equal(v, before[k]) for k, v in wide.state_dict().items())
    more = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2))
    _sentence(CheckpointError, r"has no tensor 'model.2.weight'", lambda: files.give(found, more))
    _sentence(CheckpointError, r"has a tensor 'model.1.bias', which", lambda: files.give(found, more[:1]))
    model, _ = _trained()
    frozen = torch.optim.Adam(model[0].parameters())
    _sentence(CheckpointError, r"'optimizer.1.*' of a parameter that is not", lambda: files.give(found, model, frozen))


def test_newest_that_can_be_used(tmp_path):
    folder, said = files.Folder(tmp_path), []
    assert folder.newest() is None
    for step in (5, 10, 15):
        _written(folder.file(step), step=step)
    assert folder.newest(said.append).state["step"] == 15
    assert not said
    folder.file(15).write_bytes(folder.file(15).read_bytes()[:-3])
    assert folder.newest(said.append).state["step"] == 10
    assert len(said) == 1
    assert "step-00000015.safetensors cannot be read" in said[0]
    for step in (5, 10):
        folder.file(step).write_bytes(b"")
    _sentence(CheckpointError, "no checkpoint in .* can be used", lambda: folder.newest(said.append))


@pytest.mark.parametrize(("keep", "kept"), [(0, [2, 4, 6, 8]), (1, [8]), (3, [4, 6, 8])])
def test_the_oldest_go(tmp_path, keep, kept):
    settings = config(8, save_every=2, keep_checkpoints=keep)
    Trainer(small(), Endless(), settings, out=tmp_path, progress=False).fit()
    assert files.Folder(tmp_path / "checkpoints").steps() == kept


@pytest.mark.parametrize("point", ["replace", "fsync", "unlink"])
def test_a_writer_killed_in_the_middle_leaves_good_checkpoints(tmp_path, point):
    process = processes().Process(target=die_in_write, args=(tmp_path, point))
    process.start()
    process.join()
    assert process.exitcode == -9
    folder = files.Folder(tmp_path / "checkpoints")
    steps = folder.steps()
    assert steps, "some were written before the kill"
    for step in steps:
        assert files.read(folder.file(step)).state["step"] == step
    (folder.path / ".tmpVN1H6a").touch()  # what safetensors leaves when it is killed itself
    trainer, _ = killed_run(tmp_path)
    assert trainer.fit(resume=True).step == 300
    assert not [p.name for p in folder.path.iterdir() if p.name.startswith(".")], "nothing half written is left"


def test_weights_for_evaluation(tmp_path):
    settings = config(6, save_every=3, validate_every=2, validation_batches=1, lr=0.3)
    model = small()
    result = Trainer(model, Endless(), settings, valid=Endless(), out=tmp_path, progress=False).fit()
    last, best = small(2), small(2)
    assert load_weights(last, tmp_path, "last").state["step"] == 6
    assert same_parameters(last, model)
    assert load_weights(best, tmp_path).state["step"] == result.best_step
    assert load_weights(best, tmp_path / "checkpoints" / "step-00000003.safetensors").state["step"] == 3
    _sentence(ValueError, "argument 'which' is 'first'", lambda: load_weights(best, tmp_path, "first"))
    _sentence(FileNotFoundError, "no checkpoint in", lambda: load_weights(best, tmp_path / "checkpoints"))


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        files.write(tmp_path / "a.safetensors", files.Checkpoint({}))


def test_nothing_is_pickled(tmp_path):
    path = tmp_path / "a.safetensors"
    _written(path, step=1)
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    sums = json.loads(header["__metadata__"][files.FORMAT])["checksums"]
    model = files.read(path).part("model")
    assert sums["model.0.weight"] == zlib.crc32(model["0.weight"].numpy().tobytes())
