"""Models in a folder: the same numbers come back, and every broken file gives one sentence."""

import json

import pytest
import torch

import lstmrep


def composite(**options):
    torch.manual_seed(0)
    return lstmrep.CompositeModel(12, 8, 2, **{"reconstruct": 3, "predict": 2, "conditional_future": True} | options)


def classifier(**options):
    torch.manual_seed(0)
    return lstmrep.ActionClassifier(12, 8, 5, **options)


@pytest.mark.parametrize("make", [composite, classifier])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip(make, dtype, tmp_path):
    model = make(dtype=dtype).eval()
    model.save_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    assert again.config == model.config and not again.training
    frames = torch.rand(3, 6, 12).to(dtype)
    assert torch.equal(again.predict(frames), model.predict(frames))
    assert all(p.requires_grad and p.is_leaf for p in again.parameters())
    assert {n: t.dtype for n, t in again.state_dict().items()} == {n: t.dtype for n, t in model.state_dict().items()}


def test_arguments_can_be_replaced(tmp_path):
    composite().save_pretrained(tmp_path)
    again = lstmrep.CompositeModel.from_pretrained(tmp_path, backend="reference", predict=7)
    assert again.config.backend == "reference" and again.predict(torch.rand(1, 4, 12)).shape[1] == 7


def test_a_failed_write_leaves_the_old_model(tmp_path, monkeypatch):
    composite().save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def broken(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        composite().save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def spoil_json(folder):
    path = folder / "config.json"
    path.write_text(path.read_text()[:40])


def spoil_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def rewrite(**entries):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (lambda f: (f / "config.json").unlink(), FileNotFoundError, "no file .*config.json; pass a folder"),
        (lambda f: (f / "model.safetensors").unlink(), FileNotFoundError, "no file .*model.safetensors"),
        (spoil_json, ValueError, "config.json is not JSON .* truncated or another file"),
        (spoil_weights, ValueError, "model.safetensors cannot be read .* truncated or another kind of file"),
        (rewrite(model="ActionClassifier"), ValueError, "does not describe a CompositeModel"),
        (rewrite(colour=3), ValueError, "has the unknown entry 'colour'"),
        (rewrite(hidden_size=9), ValueError, r"tensor 'encoder.weight_ih_l0' .* has shape \(32, 12\), .* \(36, 12\)"),
        (rewrite(num_layers=3), ValueError, "has no tensor 'encoder.weight_ih_l2'; it is of another model"),
        (rewrite(predict=0), ValueError, "has the tensor 'future.head.bias', which the model lacks"),
        (rewrite(future_weight=float("inf")), ValueError, "argument 'future_weight' is inf, expected a finite number"),
    ],
    ids=range(10),
)
def test_broken_folders(spoil, error, sentence, tmp_path):
    composite().save_pretrained(tmp_path)
    spoil(tmp_path)
    with pytest.raises(error, match=sentence):
        lstmrep.CompositeModel.from_pretrained(tmp_path)
