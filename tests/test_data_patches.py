"""Crops of videos: the same place in consecutive frames, inside the frame, in each split its own."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from video_files import coordinates, moving_square, write_video

from lstmrep.cli import main
from lstmrep.data import VideoPatches, make

pytest.importorskip("av", reason="PyAV is not installed")


def told(clips):
    """The frame, row and column that each pixel says: ``[3, B, T, h, w]`` integers."""
    return (clips * 255).round().long().movedim(2, 0)


@pytest.fixture
def videos(tmp_path):
    """Twelve of 40 frames of 50x60."""
    for k in range(12):
        frames = coordinates(40, 50, 60)
        np.save(tmp_path / f"v{k}.npy", frames)
    return tmp_path


def test_one_place_in_consecutive_frames_inside_the_frame(videos):
    data = VideoPatches(videos, size=(16, 20), num_frames=7, stride=3)
    assert (data.frame_shape, data.num_frames, data.infinite, len(data)) == ((3, 16, 20), 7, True, 10_000)
    clips = data.batch(range(200))
    assert clips.shape == (200, 7, 3, 16, 20) and clips.dtype == torch.float32
    frame, row, column = told(clips)
    assert (frame == frame[..., :1, :1]).all() and (frame.diff(dim=1) == 3).all()
    assert (row == row[:, :1]).all() and (column == column[:, :1]).all(), "the crop does not move"
    assert (row.diff(dim=2) == 1).all() and (column.diff(dim=3) == 1).all()
    assert int(row.max()) <= 49 and int(column.max()) <= 59 and int(frame.max()) <= 39


def test_every_window_and_corner_comes_up(tmp_path):
    np.save(tmp_path / "a.npy", coordinates(10, 6, 5))
    data = VideoPatches(tmp_path, size=4, num_frames=3, divide="time")
    frame, row, column = (x[:, 0, 0, 0] for x in told(data.batch(range(4000))))
    # Time: 8 of the 10 frames are for training, so 6 windows; 3 x 2 corners.
    found, counts = torch.stack([frame, row, column], 1).unique(dim=0, return_counts=True)
    assert len(found) == 6 * 3 * 2 and int(frame.max()) == 5
    assert counts.min() > 4000 / 36 / 2 and counts.max() < 4000 / 36 * 2


def test_a_clip_is_a_function_of_seed_split_and_index(videos):
    data = VideoPatches(videos, size=8, num_frames=5, seed=3)
    clips = data.batch([4, 9, 4])
    assert torch.equal(clips[0], clips[2]) and torch.equal(clips[1], data[9])
    assert torch.equal(VideoPatches(videos, size=8, num_frames=5, seed=3).batch([9, 4]), clips[[1, 0]])
    assert not torch.equal(VideoPatches(videos, size=8, num_frames=5, seed=4).batch([9, 4]), clips[[1, 0]])
    loader = DataLoader(data, batch_size=3, num_workers=2)
    assert torch.equal(next(iter(loader)), data.batch([0, 1, 2]))
    assert len(pickle.dumps(data)) < 20_000, "a worker gets no frames"


def test_splits_divide_the_videos(videos):
    made = {s: VideoPatches(videos, size=8, num_frames=5, split=s, seed=1) for s in ("train", "valid", "test")}
    names = [{v.name for v in d._videos} for d in made.values()]
    assert [len(n) for n in names] == [10, 1, 1] and len(set.union(*names)) == 12
    for split, data in made.items():
        assert f"split {split} by video; {len(names[0]) if split == 'train' else 1} videos" in data.description
    other = VideoPatches(videos, size=8, num_frames=5, split="test", seed=2)
    others = {next(iter({v.name for v in VideoPatches(videos, size=8, split="test", seed=s, num_frames=5)._videos}))
              for s in range(8)}  # fmt: skip
    assert len(others) > 2 and other.description.endswith("seed 2")


def test_splits_divide_the_time_of_few_videos(tmp_path):
    np.save(tmp_path / "a.npy", coordinates(100, 8, 8))
    np.save(tmp_path / "short.npy", coordinates(20, 8, 8))
    spans = {}
    for split in ("train", "valid", "test"):
        data = VideoPatches(tmp_path, size=8, num_frames=4, split=split)
        frame = told(data.batch(range(300)))[0]
        spans[split] = (int(frame.min()), int(frame.max()))
        assert "by time" in data.description
    assert spans == {"train": (0, 79), "valid": (80, 89), "test": (90, 99)}, "the short one has no window but to train"


def test_no_clip_has_frames_of_two_scenes(tmp_path):
    dark, bright = np.zeros((30, 8, 8, 3), np.uint8), np.full((14, 8, 8, 3), 200, np.uint8)
    np.save(tmp_path / "a.npy", np.concatenate([dark, bright, dark]))
    data = VideoPatches(tmp_path, size=8, num_frames=10, cut=0.5, divide="time")
    clips = data.batch(range(200))
    assert (clips == clips[:, :1]).all()
    assert (clips[:, 0, 0, 0, 0].unique() * 255).round().tolist() == [0, 200]
    over = VideoPatches(tmp_path, size=8, num_frames=10, divide="time").batch(range(200))
    assert not (over == over[:, :1]).all(), "unasked, scenes are not looked for"


def test_grey_and_resized(videos):
    data = VideoPatches(videos, size=10, num_frames=4, color=False, resize=25)
    assert data.frame_shape == (1, 10, 10) and data.batch([0, 1]).shape == (2, 4, 1, 10, 10)
    assert "resize 25" in data.description


def test_by_name_and_what_is_refused(videos, tmp_path):
    made = make("video_patches", "valid", root=str(videos), size=[8, 9], num_frames=5)
    assert torch.equal(made.batch([1]), VideoPatches(videos, size=(8, 9), num_frames=5, split="valid").batch([1]))
    with pytest.raises(ValueError, match="setting 'root' of video_patches is missing"):
        make("video_patches", "train")
    with pytest.raises(ValueError, match="has the 50 frames of a clip; the longest has 40"):
        VideoPatches(videos, num_frames=50)
    with pytest.raises(ValueError, match="are 50x60, smaller than the crop of 51x51; pass resize"):
        VideoPatches(videos, size=51, num_frames=4).batch([0])
    with pytest.raises(ValueError, match="argument 'divide' is 'size'"):
        VideoPatches(videos, divide="size")
    with pytest.raises(ValueError, match="argument 'resize' is '9', expected one number or two"):
        VideoPatches(videos, resize="9")
    with pytest.raises(IndexError, match="index -1 is outside the set"):
        VideoPatches(videos, num_frames=4)[-1]


def test_a_video_shorter_than_it_promised(videos, monkeypatch):
    from lstmrep.data import patches

    monkeypatch.setattr(patches, "count_frames", lambda video: 60)
    with pytest.raises(ValueError, match=r"v\d+\.npy decodes to 40 frames, fewer than its packets promised"):
        VideoPatches(videos, num_frames=41).batch(range(50))


def test_a_user_trains_on_a_folder_of_videos(tmp_path, capsys):
    """Train, evaluate, gallery: the last batch of the evaluation is a short one."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    for k in range(3):
        write_video(tmp_path / "videos" / f"v{k}.mp4", moving_square(60, 48, k), "mpeg4", "yuv420p")
    run = tmp_path / "run"
    settings = [
        "model.hidden_size=16",
        "model.input_size=432",
        "model.reconstruct=3",
        "model.predict=2",
        "data.num_frames=5",
        "data.size=12",
    ]
    settings += [f"data.root={tmp_path / 'videos'}", "train.max_iters=6", "train.batch_size=4", "train.save_every=3"]
    settings += ["train.validate_every=3", "train.validation_batches=1"]
    assert main(["train", "patches_small", *settings, "--out", str(run)]) == 0
    assert "VideoPatches: videos, split train by time; 3 videos" in capsys.readouterr().out
    assert main(["eval", str(run), "--clips", "10", "--gallery", "2", "--out", str(tmp_path / "eval")]) == 0
    text = capsys.readouterr().out
    assert "half SE/frame" in text and "copy last" in text and "split test by time" in text
    assert (tmp_path / "eval" / "index.html").exists()


@pytest.mark.parametrize(("name", "parameters"), [("patches_small", "5,516,544"), ("patches_paper", "88,129,536")])
def test_the_configurations_plan_without_training(name, parameters, tmp_path, capsys):
    np.save(tmp_path / "a.npy", coordinates(240, 40, 40))
    assert main(["train", name, f"data.root={tmp_path}", "--dry-run"]) == 0
    assert f"CompositeModel, {parameters} parameters" in capsys.readouterr().out
