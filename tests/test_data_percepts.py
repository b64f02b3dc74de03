"""Windows of features: which there are, what is in them, and that no short video moves another's place."""

import numpy as np
import pytest
import torch
from percept_files import FRAMES, features, hmdb51, original_folder, ucf101
from torch.utils.data import DataLoader

from lstmrep import data
from lstmrep.data import Percepts, StoreWriter
from lstmrep.eval import pooled_accuracy

LABELS = (2, 0, 1, 0, 2)


@pytest.fixture
def folder(tmp_path):
    return original_folder(tmp_path / "features", labels=LABELS)


@pytest.mark.parametrize("length", [1, 3, 16, 17])
@pytest.mark.parametrize("stride", [1, 8])
def test_windows_are_counted_and_cut_as_in_the_original(folder, length, stride):
    percepts = Percepts(folder, num_frames=length, stride=stride, everything=True)
    wanted = [
        features(k, n)[first : first + length]
        for k, n in enumerate(FRAMES)
        for first in range(0, n - length + 1, stride)
    ]
    assert len(percepts) == sum((n - length) // stride + 1 for n in FRAMES if n >= length) == len(wanted)
    assert np.array_equal(percepts.batch(range(len(percepts))).numpy(), np.stack(wanted))
    assert torch.equal(percepts[-1], torch.from_numpy(wanted[-1]))


def test_a_short_video_has_no_window_and_moves_no_other(folder):
    """In the released code every later video is scored by the windows of the one after it."""
    percepts = Percepts(folder, everything=True, labels=True)
    assert percepts.short == ["1"] and percepts.videos == list("01234")
    frames, labels = percepts.batch(range(len(percepts)))
    assert torch.equal(frames[:, 0, 0].long(), torch.from_numpy(percepts.video))
    assert torch.equal(labels, torch.tensor(LABELS)[frames[:, 0, 0].long()])
    perfect = torch.nn.functional.one_hot(labels, 3).float()
    pooled = pooled_accuracy(perfect, torch.from_numpy(percepts.video), torch.from_numpy(percepts.labels))
    assert pooled.accuracy == 1 and pooled.videos == 4 and pooled.without_clips.tolist() == [1]


def test_many_folders_are_one_after_the_other(tmp_path):
    one = original_folder(tmp_path / "all")
    parts = []
    for k, n in enumerate(FRAMES):
        part = tmp_path / f"part{k}"
        part.mkdir()
        np.save(part / "features.npy", features(k, n))
        (part / "num_frames.txt").write_text(f"{n}\n")
        parts.append(part)
    together, apart = Percepts(one, everything=True, stride=3), Percepts(parts, everything=True, stride=3)
    assert torch.equal(together.batch(range(len(together))), apart.batch(range(len(apart))))
    np.save(parts[0] / "features.npy", features(0, 20, size=5))
    with pytest.raises(ValueError, match=r"features of \[5, 6\] values, expected one size"):
        Percepts(parts)


@pytest.mark.parametrize("kind", ["npy", "h5"])
def test_a_list_of_files_is_one_after_the_other(tmp_path, kind):
    """The released code's unlabelled features: a file for each video, named in a list."""
    together = Percepts(original_folder(tmp_path / "all"), everything=True, stride=3)
    folder = tmp_path / "files"
    folder.mkdir()
    for k, n in enumerate(FRAMES):
        if kind == "h5":
            h5py = pytest.importorskip("h5py", reason="h5py is not installed")
            with h5py.File(folder / f"v{k}.h5", "w") as file:
                file["hidden6"] = features(k, n)
        else:
            np.save(folder / f"v{k}.npy", features(k, n))
    (folder / "list.txt").write_text("".join(f"v{k}.{kind}\n" for k in range(len(FRAMES))))
    (folder / "num_frames.txt").write_text("\n".join(map(str, FRAMES)))
    apart = Percepts(folder, features_file="list.txt", everything=True, stride=3)
    assert torch.equal(together.batch(range(len(together))), apart.batch(range(len(apart))))
    assert apart.videos[1] == f"v1.{kind}" and apart.short == [f"v1.{kind}"]
    loaded = torch.cat(list(DataLoader(apart, batch_size=4, num_workers=2)))
    assert torch.equal(loaded, together.batch(range(len(together))))
    (folder / "num_frames.txt").write_text("\n".join(map(str, (21, *FRAMES[1:]))))
    wrong = Percepts(folder, features_file="list.txt", everything=True, stride=3)
    with pytest.raises(
        ValueError, match=r"v0\..* has the shape \(20, 6\), expected as many rows as its number of frames"
    ):
        wrong[0]
    (folder / "list.txt").write_text("v0.npy\n")
    with pytest.raises(ValueError, match=r"list\.txt lists 1 files for 5 videos"):
        Percepts(folder, features_file="list.txt", everything=True)
    (folder / "list.txt").write_text("gone.npy\n" * 5)
    with pytest.raises(FileNotFoundError, match=r"no file .*gone\.npy; check the list of files"):
        Percepts(folder, features_file="list.txt", everything=True)


def test_splits_divide_the_videos(tmp_path):
    root = original_folder(tmp_path / "s", frames=[16] * 30)
    parts = {s: Percepts(root, split=s).videos for s in ("train", "valid", "test")}
    assert sorted(v for part in parts.values() for v in part) == sorted(map(str, range(30)))
    assert [len(part) for part in parts.values()] == [24, 3, 3]
    assert parts["train"] != Percepts(root, split="train", seed=1).videos


NAMES = [f"{kind}/v_{kind}_g{g:02d}_c{c:02d}.avi" for kind in ("Yoga", "Archery") for g in (1, 2, 3) for c in (1, 2)]


@pytest.fixture
def named(tmp_path):
    """A store of two classes in another order than the lists', and UCF-101's lists: group 3 is for testing."""
    with StoreWriter(tmp_path / "store", 6, {}) as writer:
        for k, name in enumerate(reversed(NAMES)):
            writer.append(name, features(k, 16 + k))
    test = [name for name in NAMES if "_g03_" in name]
    train = [name for name in NAMES if "_g03_" not in name]
    return tmp_path / "store", ucf101(tmp_path / "lists", train, test, ("Yoga", "Archery"))


def test_official_lists_say_what_is_in_which_split_and_of_which_class(named):
    store, lists = named
    for split, groups in (("train", "12"), ("test", "3")):
        percepts = Percepts(store, split=split, annotations=lists, valid_share=0, labels=True)
        assert sorted(percepts.videos) == sorted(n for n in NAMES if n.split("_g0")[1][0] in groups)
        assert [("Yoga", "Archery")[label] for label in percepts.labels] == [v.split("/")[0] for v in percepts.videos]
        frames, labels = percepts.batch(range(len(percepts)))
        told = [("Yoga", "Archery").index(NAMES[::-1][int(v)].split("/")[0]) for v in frames[:, 0, 0]]
        assert labels.tolist() == told and percepts.num_classes == 2
    valid = Percepts(store, split="valid", annotations=lists, labels=True)
    assert len({v.rsplit("_c", 1)[0] for v in valid.videos}) == 2, "a recording of every class"


def test_hmdb51_by_its_lists(tmp_path):
    with StoreWriter(tmp_path / "store", 6, {}) as writer:
        for k, name in enumerate(["wave/b_wave_0.avi", "run/a_run_0.avi", "run/c_run_0.avi"]):
            writer.append(name, features(k, 16))
    tags = {"wave": {"b_wave_0.avi": 2}, "run": {"a_run_0.avi": 1, "c_run_0.avi": 2}}
    lists = hmdb51(tmp_path / "lists", tags)
    test = Percepts(tmp_path / "store", split="test", annotations=lists, labels=True)
    assert dict(zip(test.videos, test.labels.tolist(), strict=True)) == {"wave/b_wave_0.avi": 1, "run/c_run_0.avi": 0}


def test_few_of_every_class(named):
    store, lists = named
    settings = {"annotations": lists, "valid_share": 0, "labels": True, "per_class": 2}
    few = [Percepts(store, resampling=r, **settings) for r in range(4)]
    assert all(one.labels.tolist() == [1, 1, 0, 0] for one in few), "Archery lies first in the store"
    assert len({tuple(one.videos) for one in few}) > 1
    assert few[2].videos == Percepts(store, resampling=2, **settings).videos
    whole = Percepts(store, split="test", **settings)
    assert len(whole.videos) == 4, "tests are never thinned out"
    with pytest.raises(ValueError, match="argument 'per_class' is 5, and class 0 has 4 examples"):
        Percepts(store, **{**settings, "per_class": 5})


def test_listed_videos_alone(named, tmp_path):
    store, lists = named
    kept = [NAMES[0], NAMES[7], NAMES[5]]
    (tmp_path / "ids.txt").write_text("\n".join(kept))
    found = [
        Percepts(store, split=s, annotations=lists, valid_share=0, ids=tmp_path / "ids.txt") for s in ("train", "test")
    ]
    assert [sorted(one.videos) for one in found] == [sorted(kept[:2]), [kept[2]]]


def test_by_name_and_in_workers(folder):
    percepts = data.make("percepts", "train", root=folder, everything=True, labels=True, stride=4)
    loader = DataLoader(percepts, batch_size=3, num_workers=2)
    wanted = percepts.batch(range(len(percepts)))
    assert all(torch.equal(torch.cat(got), want) for got, want in zip(zip(*loader, strict=True), wanted, strict=True))
    assert percepts.description == (
        "Percepts: features, all videos; 5 videos, 1 too short, 11 windows of 16 frames of 6, stride 4; seed 0"
    )
    with pytest.raises(ValueError, match="setting 'root' of percepts is missing"):
        data.make("percepts", "train")


def test_hdf5_in_workers(tmp_path):
    pytest.importorskip("h5py", reason="h5py is not installed")
    percepts = Percepts(original_folder(tmp_path / "s", h5=True), everything=True)
    wanted = percepts.batch(range(len(percepts)))
    assert torch.equal(torch.cat(list(DataLoader(percepts, batch_size=7, num_workers=2))), wanted)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_frames": 41}, "no video of split 'train' of .* has the 41 frames of a window; pass fewer num_frames"),
        ({"num_frames": 0}, "argument 'num_frames' is 0, expected 1 or more"),
        ({"stride": 0}, "argument 'stride' is 0, expected 1 or more"),
        ({"split": "dev"}, "argument 'split' is 'dev'"),
    ],
)
def test_refused(folder, settings, said):
    with pytest.raises(ValueError, match=said):
        Percepts(folder, **settings)


def test_labels_that_there_are_not(tmp_path):
    root = original_folder(tmp_path / "s")
    with pytest.raises(ValueError, match=r"argument 'labels' is True and .* has none; extract with labels, or pass"):
        Percepts(root, labels=True)
    with pytest.raises(ValueError, match=r"argument 'per_class' is 2, and .* has no labels"):
        Percepts(root, per_class=2)
