"""Datasets by name: one mapping of settings makes disjoint train, valid and test data."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from lstmrep import data
from lstmrep.data import ClipDataset, MovingMNIST, SequenceFile, load_digits, make, names

SPLITS = ("train", "valid", "test")


def test_names():
    assert names() == ("moving_mnist", "sequence_file", "video_patches", "percepts")
    assert set(data.__all__) <= set(dir(data))


class TestMovingMNIST:
    def test_splits_share_neither_digits_nor_clips(self):
        made = {split: make("moving_mnist", split, seed=3, num_digits=[1, 2], canvas=[64, 64]) for split in SPLITS}
        rows = [{image.numpy().tobytes() for image in d.digits.images} for d in made.values()]
        assert [len(d.digits) for d in made.values()] == [1297, 250, 250]
        assert not (rows[0] & rows[1] or rows[0] & rows[2] or rows[1] & rows[2])
        starts = torch.cat([d.clips(range(50)).positions[:, 0] for d in made.values()])
        assert len(starts.reshape(-1, 2).unique(dim=0)) == 3 * 50 * 2
        for split, dataset in made.items():
            assert isinstance(dataset, MovingMNIST) and isinstance(dataset, ClipDataset)
            assert f"split {split}" in dataset.description and "seed 3" in dataset.description

    def test_glyphs_share_an_alphabet_and_no_clips(self):
        made = [make("moving_mnist", split, source="glyphs", canvas=12, num_digits=1) for split in SPLITS]
        assert all(torch.equal(d.digits.images, made[0].digits.images) for d in made)
        starts = torch.cat([d.clips(range(50)).positions[:, 0] for d in made])
        assert len(starts.reshape(-1, 2).unique(dim=0)) == 150
        assert all(d.frame_shape == (1, 12, 12) for d in made)

    def test_settings_reach_their_place(self):
        made = make("moving_mnist", "test", digit_size=10, digit_seed=4, step=[0.1, 0.2], labels="direction", length=6)
        own = MovingMNIST(
            load_digits("sklearn", "test", size=10, seed=4), step=(0.1, 0.2), labels="direction", length=6
        )
        assert made.description == own.description and len(made) == 6
        for a, b in zip(made.batch([0, 5]), own.batch([0, 5]), strict=True):
            assert torch.equal(a, b)
        assert make("moving_mnist", "train").digits.size == (28, 28)
        assert make("moving_mnist", "train", source="glyphs", digit_size=7).digits.size == (7, 7)


class TestSequenceFile:
    @pytest.fixture
    def path(self, tmp_path):
        np.save(tmp_path / "clips.npy", np.arange(4 * 12, dtype=np.uint8).reshape(4, 12, 1, 1))
        return tmp_path / "clips.npy"

    def test_one_file_is_a_test_set(self, path):
        made = make("sequence_file", "test", path=path)
        assert isinstance(made, SequenceFile) and len(made) == 12
        with pytest.raises(ValueError, match="one sequence_file is a test set, and split is 'train'"):
            make("sequence_file", "train", path=path)

    def test_parts_of_one_file(self, path):
        settings = {"path": str(path), "clips": {"train": [0, 7], "valid": [7, 9], "test": [9, 12]}}
        made = [make("sequence_file", split, **settings) for split in SPLITS]
        assert [len(d) for d in made] == [7, 2, 3]
        assert torch.equal(torch.cat([d.batch(range(len(d))) for d in made]), SequenceFile(path).batch(range(12)))
        assert "split valid" in made[1].description
        with pytest.raises(ValueError, match="'clips' gives clips 6 to 6 to both train and valid"):
            make("sequence_file", "test", path=path, clips={"train": (0, 7), "valid": (6, 9), "test": (9, 12)})

    def test_a_file_for_each_split(self, path, tmp_path):
        np.save(tmp_path / "other.npy", np.zeros((4, 5, 1, 1), np.uint8))
        settings = {"path": {"train": path, "valid": tmp_path / "other.npy"}}
        assert [len(make("sequence_file", split, **settings)) for split in ("train", "valid")] == [12, 5]
        with pytest.raises(ValueError, match="'path' of sequence_file has no 'test', only train, valid"):
            make("sequence_file", "test", **settings)


@pytest.mark.parametrize(
    ("match", "name", "split", "settings"),
    [
        ("'name' is 'mnist', expected one of 'moving_mnist', 'sequence_file'", "mnist", "train", {}),
        ("'split' is 'dev'", "moving_mnist", "dev", {}),
        (
            "'speed' of moving_mnist is not known; known are source, .*step.*length",
            "moving_mnist",
            "train",
            {"speed": 1},
        ),
        ("'digits' of moving_mnist is not known", "moving_mnist", "train", {"digits": 2}),
        ("'rest' of moving_mnist is not known", "moving_mnist", "train", {"rest": 2}),
        ("'seed' of sequence_file is not known; known are path, clips, md5", "sequence_file", "test", {"seed": 1}),
        ("'path' of sequence_file is missing", "sequence_file", "test", {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_errors(match, name, split, settings):
    with pytest.raises(ValueError, match=match) as caught:
        make(name, split, **settings)
    text = str(caught.value)
    assert text.startswith("lstmrep.data.make: ") and text.endswith(".") and "\n" not in text


def test_importing_loads_no_optional_package():
    code = "import sys, lstmrep.data; print([m for m in ('sklearn', 'h5py', 'torchvision') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
