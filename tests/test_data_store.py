"""Stores of features: the released code's layout, written so that a kill loses one video and nothing else."""

import json
import re

import numpy as np
import pytest
from percept_files import FRAMES, features, original_folder

from lstmrep.data import FeatureStore, StoreWriter
from lstmrep.data.store import selected

ABOUT = {"encoder": "none"}
LABELS = (2, 0, 1, 0, 2)


def written(root, dtype="float32", stop=None):
    with StoreWriter(root, 6, ABOUT, dtype=dtype, labelled=True) as writer:
        for k, frames in enumerate(FRAMES):
            if k == stop:
                raise KeyboardInterrupt
            if f"v{k}" not in writer.names:
                writer.append(f"v{k}", features(k, frames), LABELS[k])
    return root


def contents(root):
    return {path.name: path.read_bytes() for path in root.iterdir()}


def test_what_is_written_is_read(tmp_path):
    store = FeatureStore(written(tmp_path / "s"))
    assert len(store) == 5 and store.size == 6 and store.names == [f"v{k}" for k in range(5)]
    assert store.labels.tolist() == list(LABELS) and store.num_frames.tolist() == list(FRAMES)
    for k, n in enumerate(FRAMES):
        assert np.array_equal(store.frames(k), features(k, n))
    assert np.array_equal(store.frames(4, 7, 5), features(4, 40)[7:12])
    with pytest.raises(IndexError, match="frames 18 to 20 of video 0 are asked for, it has 20"):
        store.frames(0, 18, 3)


def test_the_array_is_one_that_numpy_reads(tmp_path):
    written(tmp_path / "s")
    every = np.concatenate([features(k, n) for k, n in enumerate(FRAMES)])
    assert np.array_equal(np.load(tmp_path / "s" / "features.npy"), every)
    written(tmp_path / "half", dtype="float16")
    assert np.array_equal(np.load(tmp_path / "half" / "features.npy"), every.astype(np.float16))
    read = FeatureStore(tmp_path / "half").frames(2)
    assert read.dtype == np.float32 and np.array_equal(read, features(2, 17).astype(np.float16))


@pytest.mark.parametrize("h5", [False, True], ids=["npy", "h5"])
def test_folders_of_the_released_code(tmp_path, h5):
    if h5:
        pytest.importorskip("h5py", reason="h5py is not installed")
    store = FeatureStore(original_folder(tmp_path / "s", labels=LABELS, h5=h5))
    assert store.names == list("01234") and store.labels.tolist() == list(LABELS)
    assert np.array_equal(store.frames(4), features(4, 40))
    assert FeatureStore(original_folder(tmp_path / "t", h5=h5)).labels is None


def test_as_h5_for_the_released_code(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    FeatureStore(written(tmp_path / "s")).save_h5(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5") as file:
        assert np.array_equal(file["hidden6"][:], np.load(tmp_path / "s" / "features.npy"))


# What a kill leaves, in the order in which a video is written.
TORN = {
    "nothing of it": {},
    "some rows": {"features.npy": b"\x01" * 100},
    "all rows": {"features.npy": features(2, 17).tobytes()},
    "half a label": {"features.npy": features(2, 17).tobytes(), "labels.txt": b"1"},
    "a label": {"features.npy": features(2, 17).tobytes(), "labels.txt": b"1\n", "names.txt": b"v"},
    "a name": {"features.npy": features(2, 17).tobytes(), "labels.txt": b"1\n", "names.txt": b"v2\n"},
    "half a number": {
        "features.npy": features(2, 17).tobytes(),
        "labels.txt": b"1\n",
        "names.txt": b"v2\n",
        "num_frames.txt": b"1",
    },
}


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN)
def test_a_killed_writer_is_gone_on_with_to_the_same_bytes(tmp_path, torn):
    whole = contents(written(tmp_path / "whole"))
    root = tmp_path / "torn"
    writer = StoreWriter(root, 6, ABOUT, labelled=True)
    writer.__enter__()
    for k in (0, 1):
        writer.append(f"v{k}", features(k, FRAMES[k]), LABELS[k])
    writer._file.close()
    for name, more in torn.items():
        with (root / name).open("ab") as file:
            file.write(more)
    with pytest.raises(ValueError, match="is not written to its end; go on with the command that began it"):
        FeatureStore(root)
    assert contents(written(root)) == whole


def test_an_error_leaves_the_videos_before_it(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "s", stop=2)
    assert contents(written(tmp_path / "s")) == contents(written(tmp_path / "whole"))


class TestRefused:
    def test_a_store_that_was_made_otherwise(self, tmp_path):
        before = contents(written(tmp_path / "s"))
        for about, dtype, said in (
            ({"encoder": "another"}, "float32", "encoder = 'none', and now it is 'another'"),
            (ABOUT, "float16", "dtype = 'float32', and now it is 'float16'"),
        ):
            with pytest.raises(ValueError, match=said):
                StoreWriter(tmp_path / "s", 6, about, dtype=dtype, labelled=True)
        assert contents(tmp_path / "s") == before

    def test_a_folder_of_another_origin(self, tmp_path):
        original_folder(tmp_path / "s")
        with pytest.raises(ValueError, match="holds features of another origin; pass another folder"):
            StoreWriter(tmp_path / "s", 6, ABOUT)

    def test_an_array_that_was_lost(self, tmp_path):
        written(tmp_path / "s")
        (tmp_path / "s" / "features.npy").write_bytes(b"")
        with pytest.raises(ValueError, match="has 0 bytes, fewer than the 5 videos listed need; remove the folder"):
            written(tmp_path / "s")

    @pytest.mark.parametrize(
        ("name", "rows", "label", "said"),
        [
            ("v0", features(0, 4), 1, "expected a name of its own on one line"),
            ("a\nb", features(0, 4), 1, "expected a name of its own on one line"),
            ("w", features(0, 4, size=7), 1, r"features of w have shape \(4, 7\), expected \[frames, 6\]"),
            ("w", features(0, 4), None, "video w has the label None, and the store's labelled=True"),
            ("w", np.full((4, 6), np.nan), 1, "features of w are not finite in float32; nothing of it was written"),
        ],
    )
    def test_a_video(self, tmp_path, name, rows, label, said):
        with StoreWriter(tmp_path / "s", 6, ABOUT, labelled=True) as writer:
            writer.append("v0", features(0, 20), 2)
            with pytest.raises(ValueError, match=said):
                writer.append(name, rows, label)
        assert len(FeatureStore(tmp_path / "s")) == 1

    @pytest.mark.parametrize(
        ("change", "error", "said"),
        [
            (lambda r: (r / "features.npy").unlink(), FileNotFoundError, r"no features\.npy or features\.h5"),
            (lambda r: (r / "num_frames.txt").unlink(), FileNotFoundError, r"no file .*num_frames\.txt"),
            (lambda r: (r / "num_frames.txt").write_text("1 x"), ValueError, "not a list of whole numbers"),
            (lambda r: (r / "num_frames.txt").write_text("-1"), ValueError, "has the number -1, expected 0 or more"),
            (lambda r: (r / "num_frames.txt").write_text("1 2 3 4 5"), ValueError, "has 96 frames and .* counts 15"),
            (lambda r: (r / "labels.txt").write_text("1\n2\n"), ValueError, "5 videos by .* and 2 labels"),
            (lambda r: (r / "store.json").write_text("{"), ValueError, "is not JSON"),
            (lambda r: np.save(r / "features.npy", np.zeros(3)), ValueError, r"expected floats \[frames, D\]"),
        ],
    )
    def test_files_that_do_not_belong_together(self, tmp_path, change, error, said):
        change(written(tmp_path / "s"))
        with pytest.raises(error, match=said):
            FeatureStore(tmp_path / "s")

    def test_hdf5_of_something_else(self, tmp_path):
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        root = original_folder(tmp_path / "s")
        (root / "features.npy").rename(root / "old")
        (root / "features.h5").write_text("no hdf5")
        with pytest.raises(ValueError, match="is not a whole hdf5 file"):
            FeatureStore(root)
        with h5py.File(root / "features.h5", "w") as file:
            file["a"], file["b"] = np.zeros((96, 2)), np.zeros((96, 2))
        with pytest.raises(ValueError, match="has the arrays a, b, and none named 'hidden6'; pass the name"):
            FeatureStore(root)
        assert FeatureStore(root, dataset="b").size == 2


def test_lists_of_videos(tmp_path):
    (tmp_path / "ids").write_text("v3\n1\n\n v0 \n")
    names = [f"v{k}" for k in range(5)]
    assert selected(tmp_path / "ids", names) == [3, 1, 0]
    (tmp_path / "ids").write_text("v9\n")
    with pytest.raises(ValueError, match="lists 'v9', and no video is called so; 5 are known"):
        selected(tmp_path / "ids", names)
    with pytest.raises(FileNotFoundError, match=r"no file .*none"):
        selected(tmp_path / "none", names)


def test_how_it_was_made_stands_with_it(tmp_path):
    told = json.loads((written(tmp_path / "s") / "store.json").read_text())
    assert told == {"format": 1, "size": 6, "dtype": "float32", "labelled": True, "encoder": "none", "complete": True}
    assert re.fullmatch(rb"\x93NUMPY\x01\x00v\x00\{.*\} *\n", (tmp_path / "s" / "features.npy").read_bytes()[:128])
