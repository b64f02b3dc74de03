"""Accuracy of videos from a classifier's windows, by hand, and two streams that each see half of the cue."""

import csv
import json

import numpy as np
import pytest
import torch
from percept_files import features
from torch.testing import assert_close

import lstmrep
from lstmrep.data import Percepts, StoreWriter
from lstmrep.eval import VideoScores, fuse, score_videos
from lstmrep.train import fit


class Reader(torch.nn.Module):
    """A classifier that finds a window's class in its first frame, in column 2, and in column 3 how sure it is."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(1, 1)
        self.batch_first = True

    def forward(self, frames):
        sure = frames[:, 0, 3:4]
        told = torch.nn.functional.one_hot(frames[:, 0, 2].long(), 3) * sure + (1 - sure) / 3
        return lstmrep.ClassifierOutput(None, told[:, None], told)


# Of each video: its label, and what its windows are taken for, and how surely.
VIDEOS = {
    "long": (0, [(0, 0.9), (1, 0.2), (1, 0.5)]),  # two windows of three are wrong, the surer one is right
    "short": (1, []),
    "wrong": (2, [(1, 0.8)]),
    "right": (1, [(1, 0.1)]),
}


@pytest.fixture
def percepts(tmp_path):
    with StoreWriter(tmp_path / "s", 6, {}, labelled=True) as writer:
        for k, (name, (label, windows)) in enumerate(VIDEOS.items()):
            rows = features(k, max(1, 2 * len(windows)))
            for w, told in enumerate(windows):
                rows[2 * w, 2:4] = told
            writer.append(name, rows, label)
    return Percepts(tmp_path / "s", num_frames=2, stride=2, labels=True, everything=True)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_windows_are_pooled_by_video_and_a_short_one_moves_no_other(percepts, batch):
    model = Reader().train()
    found = score_videos(model, percepts, batch=batch)
    assert model.training
    assert found.videos == list(VIDEOS) and found.windows.tolist() == [3, 0, 1, 1]
    # (0.9 + 2 * 0.1/3 ... ) by hand: class 0 of "long" has 0.9 + (0.1 + 0.8 + 0.5) / 3, class 1 has 0.7 + the same.
    shared = (0.1 + 0.8 + 0.5) / 3
    assert_close(
        found.probabilities[0], torch.tensor([0.9 + shared, 0.7 + shared, shared]).double() / 3, check_dtype=False
    )
    assert found.predicted.tolist() == [0, -1, 1, 1]
    assert found.accuracy == 2 / 3 and found.clip_accuracy == 2 / 5 and found.majority == 1 / 3


def test_clips_without_videos_are_videos_of_their_own():
    data = lstmrep.data.make("moving_mnist", "test", source="glyphs", canvas=12, num_frames=3, labels="direction")
    torch.manual_seed(0)
    model = lstmrep.ActionClassifier(144, 8, 4)
    found = score_videos(model, data, clips=50, batch=16)
    frames, labels = data.batch(range(50))
    assert torch.equal(found.labels, labels) and found.videos[:2] == ["0", "1"]
    assert found.accuracy == found.clip_accuracy == float((model.eval().predict(frames) == labels).double().mean())


def test_what_is_saved(percepts, tmp_path):
    score_videos(Reader(), percepts).save(tmp_path / "out")
    with (tmp_path / "out" / "videos.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {"video": "short", "label": "1", "predicted": "-1", "windows": "0"}
    told = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert told["accuracy"] == 2 / 3 and told["without_windows"] == 1 and told["windows"] == 5
    assert np.load(tmp_path / "out" / "probabilities.npy").shape == (4, 3)
    table = (tmp_path / "out" / "confusion.csv").read_text().splitlines()
    assert table == ["class,0,1,2,accuracy", "0,1,0,0,1.0", "1,0,1,0,1.0", "2,0,1,0,0.0"]


def test_refused(percepts, tmp_path):
    with pytest.raises(ValueError, match="gives no labels; set labels in its settings"):
        score_videos(Reader(), Percepts(tmp_path / "s", num_frames=2, everything=True))
    with pytest.raises(ValueError, match="the clips have the class 2, and the model knows 2"):
        score_videos(lstmrep.ActionClassifier(6, 4, 2), percepts)


def scores(names, labels, probabilities, windows=None):
    count = len(names)
    return VideoScores(
        list(names),
        torch.tensor(labels),
        torch.tensor(probabilities, dtype=torch.float64),
        torch.ones(count, dtype=torch.int64) if windows is None else torch.tensor(windows),
        0.5,
        "s",
    )


def test_averages_go_by_the_videos_names():
    one = scores("abc", [0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])
    other = scores("cab", [1, 0, 1], [[0.2, 0.8], [0.6, 0.4], [0.0, 0.0]], windows=[2, 1, 0])
    found = fuse([one, other])
    assert_close(found.probabilities, torch.tensor([[0.75, 0.25], [0.0, 0.0], [0.45, 0.55]], dtype=torch.float64))
    assert found.predicted.tolist() == [0, -1, 1] and found.accuracy == 1 and found.clip_accuracy is None
    with pytest.raises(ValueError, match="one classifier was given, expected two or more"):
        fuse([one])
    with pytest.raises(ValueError, match="not all classifiers have the video c; score the same split"):
        fuse([one, scores("ab", [0, 1], [[0.9, 0.1], [0.4, 0.6]])])
    with pytest.raises(ValueError, match="not all classifiers have the video d"):
        fuse([one, scores("abcd", [0, 1, 1, 0], [[0.5, 0.5]] * 4)])
    with pytest.raises(ValueError, match="the classifiers' classes differ"):
        fuse([one, scores("abc", [0, 1, 0], [[0.5, 0.5]] * 3)])


def test_two_streams_that_each_see_half_of_the_cue(tmp_path):
    """Four classes; one stream tells the first bit of the class, the other the second: together they tell the class."""
    found = []
    for stream in (0, 1):
        with StoreWriter(tmp_path / f"s{stream}", 6, {}, labelled=True) as writer:
            for k in range(400):
                rows = np.random.default_rng([stream, k]).normal(size=(16, 6)).astype(np.float32)
                rows[:, 0] += 2 * (k % 4 >> stream & 1) - 1
                writer.append(f"v{k}", rows, k % 4)
        parts = {s: Percepts(tmp_path / f"s{stream}", split=s, labels=True) for s in ("train", "test")}
        torch.manual_seed(0)
        model = lstmrep.ActionClassifier(6, 8, 4)
        fit(model, parts["train"], steps=60, batch_size=32, lr=1e-2, progress=False)
        found.append(score_videos(model, parts["test"]))
    together = fuse(found).accuracy
    print("streams", [one.accuracy for one in found], "together", together)
    assert together >= max(one.accuracy for one in found) - 0.02
    assert together > 0.75 > max(one.accuracy for one in found), "one bit alone tells at most half of the class"
