"""Features of frames: what an encoder sees, that nothing is computed twice, and that a kill costs one video."""

import gc
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn
from video_files import coordinates, moving_square, write_pictures, write_video

from lstmrep.cli import main
from lstmrep.data import (
    Excerpt,
    FeatureStore,
    FrameEncoder,
    VideoFrames,
    extract,
    extraction,
    projection,
    random_excerpts,
    vgg16,
)
from lstmrep.data.encoders import MEAN, STD
from lstmrep.data.excerpts import hours_of
from lstmrep.data.video import Video, count_frames, find_videos, frame_rate, read_frames
from lstmrep.nn import VGG16, vgg

pytest.importorskip("av", reason="PyAV is not installed")


class Counting(nn.Module):
    """Mean of every channel; counts the images that it was given."""

    def __init__(self):
        super().__init__()
        self.images = 0

    def forward(self, x):
        self.images += len(x)
        return x.mean((2, 3))


@pytest.fixture
def tree(tmp_path):
    """Six videos of two classes, in containers, pictures and arrays."""
    root = tmp_path / "videos"
    for k in range(2):
        write_video(root / "walk" / f"a{k}.mkv", moving_square(7 + k, seed=k))
        write_pictures(root / "walk" / f"b{k}", moving_square(5, seed=10 + k))
        (root / "run").mkdir(exist_ok=True)
        np.save(root / "run" / f"c{k}.npy", moving_square(6, seed=20 + k))
    return root


def sources(root, **how):
    return [VideoFrames.of(video, **how) for video in find_videos(root)]


class TestEncoder:
    def test_frames_are_cropped_scaled_and_normalised(self):
        frames = torch.from_numpy(coordinates(3, 9, 8))
        seen = FrameEncoder(nn.Identity(), "pixels", crop=(5, 4), mean=MEAN, std=STD)(frames).view(3, 3, 5, 4)
        middle = frames[:, 2:7, 2:6].permute(0, 3, 1, 2).double() / 255
        wanted = (middle - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        torch.testing.assert_close(seen.double(), wanted, check_dtype=False)

    def test_no_mode_and_no_gradient_of_the_caller_counts(self):
        encoder = FrameEncoder(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Dropout(0.5)), "linear")
        frames = torch.from_numpy(coordinates(5, 2, 2))
        out = encoder(frames)
        assert out.shape == (5, 4) and not out.requires_grad and torch.equal(out, encoder(frames))

    def test_too_small_or_of_other_channels(self):
        frames = torch.zeros(1, 6, 9, 3, dtype=torch.uint8)
        with pytest.raises(ValueError, match="frames are 6x9, smaller than the crop of 8x8; pass resize, or a smaller"):
            FrameEncoder(nn.Identity(), "pixels", crop=8)(frames)
        with pytest.raises(ValueError, match="frames have 3 channels, the encoder's mean 2"):
            FrameEncoder(nn.Identity(), "pixels", mean=(0.5, 0.5))(frames)

    def test_projections_are_those_of_their_seed(self):
        frames = np.asarray(moving_square(6))
        one, same, other = (projection(20, seed=s, resize=None).encode(frames, 4) for s in (1, 1, 2))
        assert one.shape == (6, 20) and np.array_equal(one, same) and not np.array_equal(one, other)
        assert (one >= 0).all() and (one == 0).any()

    def test_vgg_of_random_weights_gives_4096_values(self, tmp_path, monkeypatch):
        # Narrow convolutions: the file of the whole network is half a gigabyte.
        monkeypatch.setattr(vgg, "LAYERS", (4, 0, 4, 0))
        torch.manual_seed(0)
        torch.save(VGG16().state_dict(), tmp_path / "vgg.pth")
        encoder = vgg16(tmp_path / "vgg.pth", resize=40, crop=32)
        write_video(tmp_path / "v.mkv", moving_square(3, side=48))
        made = extract(sources(tmp_path / "v.mkv"), encoder, tmp_path / "s")
        assert made.store.size == 4096 and len(made.store.frames(0)) == 3
        assert "VGG-16 fc6 of 3 channels, weights vgg.pth with md5 " in encoder.description


class TestExtract:
    def test_every_frame_of_every_video(self, tree, tmp_path):
        found = find_videos(tree)
        made = extract(sources(tree), FrameEncoder(Counting(), "means"), tmp_path / "s", batch=4, labels=range(6))
        assert made.store.names == [v.name for v in found] == made.computed and not made.failed
        assert made.store.labels.tolist() == list(range(6))
        for k, video in enumerate(found):
            frames = torch.from_numpy(read_frames(video)).permute(0, 3, 1, 2).float()
            torch.testing.assert_close(torch.from_numpy(made.store.frames(k)), (frames / 255).mean((2, 3)))

    @pytest.mark.parametrize("batch", [1, 4, 100])
    def test_the_batch_does_not_matter(self, tree, tmp_path, batch):
        made = extract(sources(tree), FrameEncoder(Counting(), "means"), tmp_path / "s", batch=batch)
        whole = extract(sources(tree), FrameEncoder(Counting(), "means"), tmp_path / "t")
        torch.testing.assert_close(made.store.frames(0), whole.store.frames(0))
        assert made.store.num_frames.tolist() == [6, 6, 7, 8, 5, 5]

    def test_what_is_there_is_not_computed_again(self, tree, tmp_path):
        module = Counting()
        encoder = FrameEncoder(module, "means")
        extract(sources(tree), encoder, tmp_path / "s")
        assert module.images == 37
        again = extract(sources(tree), encoder, tmp_path / "s")
        assert module.images == 37 and not again.computed
        np.save(tree / "run" / "d.npy", moving_square(4))
        more = extract(sources(tree), encoder, tmp_path / "s")
        assert module.images == 41 and more.computed == ["run/d.npy"] == more.store.names[-1:]

    def test_a_video_that_cannot_be_read_stops_no_other(self, tree, tmp_path):
        (tree / "walk" / "a1.mkv").write_bytes(b"no video")
        made = extract(sources(tree), FrameEncoder(Counting(), "means"), tmp_path / "s")
        assert list(made.failed) == ["walk/a1.mkv"] and "cannot be decoded" in made.failed["walk/a1.mkv"]
        assert len(made.store) == 5
        with pytest.raises(ValueError, match=r"none of 1 videos could be read: .*a1\.mkv cannot be decoded"):
            extract(sources(tree / "walk" / "a1.mkv"), FrameEncoder(Counting(), "means"), tmp_path / "t")

    def test_an_error_of_the_encoder_is_the_callers(self, tree, tmp_path):
        class Broken(nn.Module):
            def forward(self, x):
                raise RuntimeError("out of memory")

        with pytest.raises(RuntimeError, match="out of memory"):
            extract(sources(tree), FrameEncoder(Broken(), "broken"), tmp_path / "s")

    def test_parts_of_videos(self, tree, tmp_path):
        video = find_videos(tree / "walk" / "a1.mkv")[0]
        whole = extract([VideoFrames.of(video)], FrameEncoder(Counting(), "m"), tmp_path / "a").store.frames(0)
        part = VideoFrames.of(Excerpt(video, 2, 5, 25.0), every=2)
        made = extract([part], FrameEncoder(Counting(), "m"), tmp_path / "b").store
        assert made.names == ["a1.mkv@2-6"] and np.array_equal(made.frames(0), whole[2:7:2])

    def test_refused(self, tree, tmp_path):
        twice = sources(tree) + sources(tree)
        with pytest.raises(ValueError, match=r"two videos are called run/c0\.npy; pass folders whose files differ"):
            extract(twice, FrameEncoder(Counting(), "m"), tmp_path / "s")
        with pytest.raises(ValueError, match="argument 'labels' has 1 entries for 6 videos"):
            extract(sources(tree), FrameEncoder(Counting(), "m"), tmp_path / "s", labels=[1])
        extract(sources(tree), FrameEncoder(Counting(), "m"), tmp_path / "s")
        with pytest.raises(ValueError, match=r"was written with encoder = 'm; .* and now it is 'n; "):
            extract(sources(tree), FrameEncoder(Counting(), "n"), tmp_path / "s")

    def test_decoding_ends_with_its_use(self):
        ended = []

        def endless():
            try:
                while True:
                    yield 1
            finally:
                ended.append(True)

        with extraction._ahead(endless()) as things:
            assert next(things) == 1
        gc.collect()
        assert ended


class TestPartsOfVideos:
    """Frames by number, wherever the key frames are: of a codec with few of them and frames between that look ahead."""

    @pytest.fixture
    def video(self, tmp_path):
        import av

        path = tmp_path / "v.mp4"
        codec = next((c for c in ("libx264", "mpeg4") if c in av.codecs_available), None)
        if codec is None:
            pytest.skip("PyAV has no encoder of H.264 or MPEG-4")
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options={"g": "30", "bf": "2"})
            stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
            for frame in moving_square(100):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        return Video(path, "file", "v.mp4")

    @pytest.mark.parametrize("first", [0, 1, 29, 30, 31, 77, 99])
    @pytest.mark.parametrize(("count", "step"), [(None, 1), (4, 1), (3, 5)])
    def test_the_frames_asked_for(self, video, first, count, step):
        whole = read_frames(video)
        assert len(whole) == count_frames(video) == 100
        wanted = whole[first::step][:count]
        assert np.array_equal(read_frames(video, first=first, count=count, step=step), wanted)

    def test_beyond_the_end(self, video):
        with pytest.raises(ValueError, match=r"v\.mp4 has no frame"):
            read_frames(video, first=100)
        assert frame_rate(video) == 25


class TestExcerpts:
    def test_ten_seconds_at_thirty_frames_for_some_hours(self, tmp_path):
        root = tmp_path / "long"
        root.mkdir()
        for name, frames in (("a", 20_000), ("b", 5_000), ("short", 299)):
            np.save(root / f"{name}.npy", np.zeros((frames, 2, 2), np.uint8))
        drawn = random_excerpts(root, hours=5.001)
        assert len(drawn) == 1801 and {e.count for e in drawn} == {300}
        assert hours_of(drawn) == pytest.approx(1801 * 10 / 3600)
        ends = {"a.npy": 20_000, "b.npy": 5_000}
        assert all(e.first >= 0 and e.first + e.count <= ends[e.video.name] for e in drawn)
        # Uniform over where an excerpt may begin: of n draws a share p lies within four deviations of np.
        starts = [e.first if e.video.name == "a.npy" else 19_701 + e.first for e in drawn]
        for low, high in ((0, 6_000), (6_000, 19_701), (19_701, 24_402)):
            p, n = (high - low) / 24_402, len(drawn)
            assert abs(sum(low <= s < high for s in starts) - n * p) < 4 * (n * p * (1 - p)) ** 0.5
        assert drawn[:10] == random_excerpts(root, excerpts=10)
        assert drawn[:10] != random_excerpts(root, excerpts=10, seed=1)

    def test_a_files_own_rate_counts(self, tmp_path):
        write_video(tmp_path / "v.mkv", moving_square(60), rate=10)
        (one,) = random_excerpts(tmp_path, seconds=2, excerpts=1)
        assert one.count == 20 and one.rate == 10 and hours_of([one]) == 2 / 3600

    def test_refused(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros((10, 2, 2), np.uint8))
        with pytest.raises(ValueError, match=r"no video of .* is 10 seconds long; pass fewer seconds"):
            random_excerpts(tmp_path, hours=1)
        for both in ({}, {"hours": 1, "excerpts": 2}):
            with pytest.raises(ValueError, match="pass one of 'hours' and 'excerpts'"):
                random_excerpts(tmp_path, **both)


def contents(root):
    return {path.name: path.read_bytes() for path in root.iterdir()}


class TestCommand:
    def test_a_tree_of_classes(self, tree, tmp_path, capsys):
        words = [str(tree), "--encoder", "projection", "--size", "8", "--labels", "--out", str(tmp_path / "s")]
        assert main(["extract", *words, "--h5", str(tmp_path / "f.h5")]) == 0
        store = FeatureStore(tmp_path / "s")
        assert store.about["classes"] == ["run", "walk"] and store.labels.tolist() == [0, 0, 1, 1, 1, 1]
        assert "6 videos, 37 frames of 8 values; 6 videos in" in capsys.readouterr().out
        assert (tmp_path / "f.h5").is_file()
        assert main(["extract", *words]) == 0
        assert "; 0 videos in" in capsys.readouterr().out

    def test_excerpts(self, tree, tmp_path, capsys):
        words = ["--encoder", "projection", "--size", "4", "--seconds", "0.1", "--excerpts", "5"]
        assert main(["extract", str(tree), *words, "--out", str(tmp_path / "s")]) == 0
        assert "excerpts  5 of 0.1 s" in capsys.readouterr().out
        store = FeatureStore(tmp_path / "s")
        assert all("@" in name for name in store.names) and set(store.num_frames) <= {2, 3}

    def test_a_video_left_out_is_said(self, tree, tmp_path, capsys):
        (tree / "walk" / "a1.mkv").write_bytes(b"no video")
        assert main(["extract", str(tree), "--encoder", "projection", "--out", str(tmp_path / "s")]) == 1
        assert "left out  walk/a1.mkv: " in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ([], r"vgg16 needs --weights FILE, .* To try the way without, pass --encoder projection"),
            (["--encoder", "projection", "--every", "0"], "--every is 0, expected 1 or more"),
        ],
    )
    def test_mistakes(self, tree, tmp_path, capsys, words, said):
        assert main(["extract", str(tree), "--out", str(tmp_path / "s"), *words]) == 2
        assert re.search(said, capsys.readouterr().err)

    def test_labels_need_folders(self, tmp_path, capsys):
        np.save(tmp_path / "a.npy", moving_square(3))
        words = ["extract", str(tmp_path), "--encoder", "projection", "--labels", "--out", str(tmp_path / "s")]
        assert main(words) == 2
        assert "--labels needs a folder for every class, and a.npy lies in none" in capsys.readouterr().err

    def test_killed_and_started_again(self, tree, tmp_path):
        """SIGKILL at whatever moment some videos are there; the second start ends with the bytes of an unharmed one."""
        words = [str(tree), "--encoder", "projection", "--size", "8", "--labels", "--out"]
        assert main(["extract", *words, str(tmp_path / "whole")]) == 0
        out = tmp_path / "killed"
        # Slow enough to be caught between two videos.
        slow = (
            "import sys, time; from lstmrep.data import store; own = store.StoreWriter.append\n"
            "def append(*a, **k): own(*a, **k); time.sleep(0.5)\n"
            "store.StoreWriter.append = append; from lstmrep.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        child = subprocess.Popen([sys.executable, "-c", slow, "extract", *words, str(out)], stdout=subprocess.DEVNULL)
        listed = out / "num_frames.txt"
        while not (listed.is_file() and listed.read_text().count("\n") >= 2):
            assert child.poll() is None
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL and listed.read_text().count("\n") < 6
        assert main(["extract", *words, str(out)]) == 0
        assert contents(out) == contents(tmp_path / "whole")
