"""Frames of videos: what is found, what is read, and what is said of what cannot be."""

import sys

import numpy as np
import pytest
from video_files import coordinates, moving_square, write_pictures, write_video

from lstmrep.data.video import FrameCache, Video, count_frames, find_videos, grey, read_frames, target_size

pytest.importorskip("av", reason="PyAV is not installed")
pytest.importorskip("PIL", reason="pillow is not installed")


def only(root):
    (video,) = find_videos(root)
    return video


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder of every kind of video, and of what is none."""
    root = tmp_path_factory.mktemp("videos")
    frames = coordinates(12, 20, 24)
    write_video(root / "run" / "v10.mkv", frames)
    write_video(root / "run" / "v2.mkv", frames[:5])
    write_pictures(root / "stills" / "deep", frames)
    np.save(root / "grey.npy", frames[..., 0])
    (root / "notes.txt").write_text("no video")
    return root


def test_all_videos_of_a_folder_in_the_order_of_their_numbers(tree):
    found = find_videos(tree)
    assert [(v.name, v.kind) for v in found] == [
        ("grey.npy", "array"),
        ("run/v2.mkv", "file"),
        ("run/v10.mkv", "file"),
        ("stills/deep", "pictures"),
    ]
    assert [count_frames(v) for v in found] == [12, 5, 12, 12]
    assert [v.name for v in find_videos([tree / "stills" / "deep", tree / "run"])] == ["deep", "v2.mkv", "v10.mkv"]


def test_every_kind_gives_the_same_frames(tree, tmp_path):
    frames = coordinates(12, 20, 24)
    np.save(tmp_path / "color.npy", frames)
    for video in (tree / "run" / "v10.mkv", tree / "stills" / "deep", tmp_path / "color.npy"):
        read = read_frames(only(video))
        assert read.dtype == np.uint8 and np.array_equal(read, frames), video
    assert np.array_equal(read_frames(only(tree / "grey.npy")), np.repeat(frames[..., :1], 3, axis=-1))


def test_grey_values_are_those_of_pillow(tree):
    from PIL import Image

    frames = moving_square(3)
    wanted = np.stack([np.asarray(Image.fromarray(f).convert("L")) for f in frames])
    assert np.abs(grey(frames)[..., 0].astype(int) - wanted).max() <= 1  # it truncates, this rounds
    assert read_frames(only(tree / "run" / "v2.mkv"), color=False).shape == (5, 20, 24, 1)


@pytest.mark.parametrize(
    ("resize", "expected"),
    [(None, (20, 30)), (10, (10, 15)), (40, (40, 60)), ((7, 9), (7, 9))],
    ids=str,
)
def test_frames_are_resized_by_their_shorter_side_or_to_a_size(resize, expected, tmp_path):
    assert target_size(20, 30, resize) == expected
    assert target_size(30, 20, resize) == (expected[::-1] if not isinstance(resize, tuple) else resize)
    flat = np.full((4, 20, 30, 3), 90, np.uint8)
    np.save(tmp_path / "flat.npy", flat)
    write_pictures(tmp_path / "flat", flat)
    for video in (tmp_path / "flat.npy", tmp_path / "flat", write_video(tmp_path / "flat.mkv", flat)):
        made = read_frames(only(video), resize=resize)
        assert made.shape == (4, *expected, 3) and np.abs(made.astype(int) - 90).max() <= 1, video


def test_a_smaller_picture_is_the_mean_of_areas(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", frames)
    means = frames.reshape(2, 4, 2, 6, 2, 3).mean((2, 4))
    assert np.abs(read_frames(only(tmp_path / "noise.npy"), resize=(4, 6)) - means).max() <= 1


def test_the_usual_codecs_are_read(tmp_path):
    """Lossy, so only near."""
    frames = moving_square(10, 64)
    for name, codec in (("a.mp4", "mpeg4"), ("a.avi", "mpeg4")):
        video = only(write_video(tmp_path / name, frames, codec, "yuv420p"))
        read = read_frames(video)
        assert count_frames(video) == len(read) == 10
        assert np.abs(read.astype(int) - frames).mean() < 25, name


def test_frames_used_last_are_kept(tree, monkeypatch):
    from lstmrep.data import video as module

    read, asked = module.read_frames, []
    monkeypatch.setattr(module, "read_frames", lambda v, **how: asked.append(v.name) or read(v, **how))
    one, two, three = find_videos([tree / "run", tree / "stills"])
    cache = FrameCache(1, None, True)
    cache.most = 2 * 12 * 20 * 24 * 3
    for video in (one, three, one, two, one):  # the third goes when the second comes
        cache(video)
    assert asked == ["v2.mkv", "deep", "v10.mkv"]
    cache(three)
    assert asked[-1] == "deep" and len(asked) == 4
    nothing = FrameCache(0, None, True)
    assert np.array_equal(nothing(one), nothing(one)) and asked[-2:] == ["v2.mkv", "v2.mkv"]


class TestWhatCannotBeRead:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no .*none\.mp4; pass a video"):
            find_videos(tmp_path / "none.mp4")
        with pytest.raises(FileNotFoundError, match=r"no video in .*; expected files \(\.avi, "):
            find_videos(tmp_path)

    def test_a_file_that_is_no_video(self, tmp_path):
        (tmp_path / "text.mp4").write_text("words " * 100)
        for read in (count_frames, read_frames):
            with pytest.raises(ValueError, match=r"text\.mp4 cannot be decoded \(.*; get it again, or leave it out\."):
                read(only(tmp_path))

    def test_a_file_with_sound_alone(self, tmp_path):
        import av

        with av.open(str(tmp_path / "sound.mkv"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        with pytest.raises(ValueError, match=r"sound\.mkv has no video stream; pass a video"):
            read_frames(only(tmp_path))

    def test_pictures_of_two_sizes(self, tmp_path):
        write_pictures(tmp_path / "a", coordinates(2, 8, 8))
        write_pictures(tmp_path / "b", coordinates(3, 8, 9))
        (tmp_path / "b" / "frame2.png").rename(tmp_path / "a" / "frame2.png")
        with pytest.raises(ValueError, match=r"has frames of \(8, 8, 3\), \(8, 9, 3\), expected frames of one size"):
            read_frames(only(tmp_path / "a"))
        assert read_frames(only(tmp_path / "a"), resize=(4, 4)).shape == (3, 4, 4, 3)

    def test_half_a_picture(self, tmp_path):
        folder = write_pictures(tmp_path / "a", coordinates(1, 64, 64))
        data = (folder / "frame0.png").read_bytes()
        (folder / "frame0.png").write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match=r"frame0\.png is not a whole picture"):
            read_frames(only(folder))

    def test_an_array_of_something_else(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros((3, 4, 5, 2), np.uint8))
        np.save(tmp_path / "b.npy", np.zeros((3, 4, 5)))
        for video in find_videos(tmp_path):
            with pytest.raises(ValueError, match=r"expected uint8 \[N, H, W\] or \[N, H, W, 3\]"):
                read_frames(video)

    def test_without_pyav_one_sentence(self, tree, monkeypatch):
        monkeypatch.setitem(sys.modules, "av", None)
        with pytest.raises(ImportError, match=r"needs the package av; run pip install av, .* extra \[video\]"):
            read_frames(only(tree / "run" / "v2.mkv"))
        with pytest.raises(ValueError, match="argument 'kind' is 'tape'"):
            read_frames(Video(tree, "tape", "tape"))
