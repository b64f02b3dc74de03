"""Optical flow: known motion is found, bytes keep it, stacks are in order, a folder gives back what it was given."""

import json
import sys

import numpy as np
import pytest
from video_files import moving_texture, write_pictures, write_video

from lstmrep.data import flow
from lstmrep.data.flow import FlowSettings, FlowVideo, find_flow, from_bytes, optical_flow, read_flow, stack, to_bytes
from lstmrep.data.video import find_videos, grey, read_frames

pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
pytest.importorskip("skimage", reason="scikit-image is not installed")
pytest.importorskip("av", reason="PyAV is not installed")
pytest.importorskip("PIL", reason="pillow is not installed")

SHIFTS = [(0, 0), (3, 0), (-4, 0), (0, 2), (0, -5), (3, -2), (-2, 4)]


def numbered(fields, height=3, width=4, dtype=np.float32):
    """``[M, H, W, 2]``, each channel full of its number in the row u1, v1, u2, v2, ..."""
    numbers = np.arange(2 * fields, dtype=dtype).reshape(fields, 1, 1, 2)
    return np.broadcast_to(numbers, (fields, height, width, 2)).copy()


class TestMotion:
    @pytest.mark.parametrize("method", flow.METHODS)
    @pytest.mark.parametrize("shift", SHIFTS, ids=str)
    def test_a_known_shift_is_found_within_half_a_pixel(self, method, shift):
        found = optical_flow(moving_texture(3, shift), method)
        assert found.dtype == np.float32 and found.shape == (2, 64, 80, 2)
        interior = found[:, 12:-12, 12:-12]
        median = np.median(interior, axis=(1, 2))
        assert (np.abs(median - np.array(shift)) < 0.5).all(), median
        assert np.linalg.norm(interior - np.array(shift), axis=-1).mean() < 0.5

    @pytest.mark.parametrize("method", flow.METHODS)
    def test_a_field_depends_on_its_two_frames_alone(self, method):
        frames = np.concatenate([moving_texture(2, (4, 1)), moving_texture(2, (-1, 2), seed=1)])
        whole = optical_flow(frames, method)
        for k in range(3):
            assert np.array_equal(whole[k], optical_flow(frames[k : k + 2], method)[0])

    def test_colours_are_made_grey(self):
        frames = moving_texture(2, (2, 1))
        assert np.array_equal(optical_flow(frames), optical_flow(grey(frames)))

    def test_of_many_frames_one_field_is_held(self, monkeypatch):
        asked = []
        monkeypatch.setattr(flow, "_dis", lambda: lambda before, after: asked.append(1) or np.zeros((20, 20, 2)))
        fields = flow.flow_fields(np.zeros((50, 20, 20, 1), np.uint8))
        assert not asked
        next(fields)
        assert len(asked) == 1

    @pytest.mark.parametrize("method", flow.METHODS)
    def test_the_smallest_frames(self, method):
        assert np.isfinite(optical_flow(moving_texture(2, (1, 0), 16, 16), method)).all()
        assert np.isfinite(optical_flow(moving_texture(2, (1, 0), 16, 45), method)).all()


class TestBytes:
    @pytest.mark.parametrize("bound", [20.0, 1.0, 15.5])
    def test_the_error_is_half_a_step_at_most(self, bound):
        values = np.linspace(-bound, bound, 4001, dtype=np.float32)
        data = to_bytes(values, bound)
        assert data.dtype == np.uint8 and set(data) == set(range(1, 256))
        back = from_bytes(data, bound)
        step = bound / 127
        assert back.dtype == np.float32
        assert np.abs(back - values).max() <= step / 2 + bound * np.finfo(np.float32).eps
        assert np.array_equal(to_bytes(back, bound), data)

    def test_no_motion_is_exact(self):
        zero = np.zeros(3, np.float32)
        assert (to_bytes(zero) == 128).all() and (from_bytes(to_bytes(zero)) == 0).all()

    def test_what_is_longer_is_cut_off(self):
        flow = np.array([-1e6, -20.1, -20, 20, 20.1, 1e6], np.float32)
        assert to_bytes(flow).tolist() == [1, 1, 1, 255, 255, 255]
        assert np.array_equal(np.abs(from_bytes(to_bytes(flow))), np.full(6, 20, np.float32))


class TestStacks:
    @pytest.mark.parametrize("length", [1, 2, 10, 12])
    @pytest.mark.parametrize("dtype", [np.float32, np.uint8])
    def test_shape_and_order_of_the_channels(self, length, dtype):
        frames = 13
        stacks = stack(numbered(frames - 1, dtype=dtype), length)
        assert stacks.shape == (frames - length, 2 * length, 3, 4) and stacks.dtype == dtype
        for k, one in enumerate(stacks):
            assert one[:, 0, 0].tolist() == list(range(2 * k, 2 * (k + length)))
            assert (one == one[:, :1, :1]).all()

    def test_rows_and_columns_stay(self):
        fields = np.random.default_rng(0).standard_normal((5, 3, 4, 2)).astype(np.float32)
        stacks = stack(fields, 3)
        for k in range(3):
            wanted = [fields[k + j, ..., c] for j in range(3) for c in range(2)]
            assert np.array_equal(stacks[k], np.stack(wanted))

    def test_stacks_share_their_memory(self):
        stacks = stack(numbered(30), 10)
        assert np.shares_memory(stacks[0], stacks[9]) and not np.shares_memory(stacks[0], stacks[10])
        assert not stacks.flags.writeable

    def test_of_a_network_bytes_are_turned_at_last(self):
        flow = np.random.default_rng(0).uniform(-20, 20, (6, 3, 4, 2)).astype(np.float32)
        data = to_bytes(flow)
        assert np.array_equal(from_bytes(stack(data, 4)), stack(from_bytes(data), 4))


class TestPicture:
    @pytest.mark.parametrize(
        ("direction", "colour"),
        [((1, 0), [255, 0, 0]), ((0, 1), [128, 255, 0]), ((-1, 0), [0, 255, 255]), ((0, -1), [128, 0, 255])],
        ids=["right", "down", "left", "up"],
    )
    def test_directions_have_their_colours(self, direction, colour):
        field = np.zeros((2, 3, 2), np.float32)
        field[1] = 5 * np.array(direction)
        picture = flow.flow_image(field)
        assert picture.dtype == np.uint8 and picture.shape == (2, 3, 3)
        assert (picture[0] == 255).all() and picture[1, 0].tolist() == colour

    def test_longer_is_more_colourful(self):
        field = np.zeros((1, 4, 2), np.float32)
        field[0, :, 0] = [0, 1, 2, 4]
        assert flow.flow_image(field, largest=2)[0, :, 1].tolist() == [255, 128, 0, 0]
        assert (flow.flow_image(np.zeros((2, 2, 2), np.float32)) == 255).all()


class TestFolder:
    def test_what_was_written_is_read(self, tmp_path):
        rng = np.random.default_rng(0)
        made = {name: rng.uniform(-9, 9, (n, 6, 5, 2)) for name, n in (("a/v10.avi", 3), ("a/v9.avi", 1), ("b", 4))}
        settings = FlowSettings(bound=8, resize=(6, 5))
        for name, fields in made.items():
            path = flow.write_flow(tmp_path / "flow", name, iter(fields), settings, count=len(fields))
            assert path == tmp_path / "flow" / f"{name}.npy"
        assert flow.read_settings(tmp_path / "flow") == settings
        found = find_flow(tmp_path / "flow")
        assert [one.name for one in found] == ["a/v9.avi", "a/v10.avi", "b"]
        for one in found:
            data, bound = read_flow(one)
            assert bound == 8 and np.array_equal(data, to_bytes(made[one.name], 8))
            assert np.array_equal(np.load(one.path), data)

    def test_names_and_order_are_those_of_the_videos(self, tmp_path):
        frames = moving_texture(3, (1, 0), 20, 24)
        for name in ("g2/v10.mkv", "g2/v9.mkv", "g10/v1.mkv"):
            write_video(tmp_path / "videos" / name, frames)
        write_pictures(tmp_path / "videos" / "g1.x", frames)
        np.save(tmp_path / "videos" / "g3.npy", frames[..., 0])
        videos = find_videos(tmp_path / "videos")
        for video in reversed(videos):
            flow.compute_flow(video, tmp_path / "flow", FlowSettings())
        found = find_flow(tmp_path / "flow")
        assert [one.name for one in found] == [video.name for video in videos]
        for one, video in zip(found, videos, strict=True):
            assert np.array_equal(read_flow(one)[0], to_bytes(optical_flow(read_frames(video)))), video.name

    def test_a_writer_that_was_stopped_leaves_no_flow(self, tmp_path):
        def stopped():
            yield np.zeros((4, 4, 2))
            raise RuntimeError("stopped")

        flow.write_flow(tmp_path, "a", np.zeros((1, 4, 4, 2)), FlowSettings())
        with pytest.raises(
            TypeError, match=r"argument 'fields' has no len\(\); pass the number of its fields as count"
        ):
            flow.write_flow(tmp_path, "b", stopped(), FlowSettings())
        with pytest.raises(RuntimeError, match="stopped"):
            flow.write_flow(tmp_path, "b", stopped(), FlowSettings(), count=2)
        killed = tmp_path / ".b.mp4.abcd_123.npy"
        killed.write_bytes(b"half")
        assert [one.name for one in find_flow(tmp_path)] == ["a"]
        flow.remove_left_behind(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "flow.json"]

    def test_other_settings_are_refused(self, tmp_path):
        fields = np.zeros((1, 4, 4, 2))
        flow.write_flow(tmp_path, "a", fields, FlowSettings())
        before = (tmp_path / "flow.json").read_text()
        for other, said in (
            (FlowSettings("tvl1"), "method dis, not tvl1;"),
            (FlowSettings(bound=10, resize=32), "bound 20.0, not 10.0, resize None, not 32;"),
        ):
            with pytest.raises(ValueError, match=f"has flow with {said} pass the folder's settings, or another folder"):
                flow.write_flow(tmp_path, "b", fields, other)
        assert (tmp_path / "flow.json").read_text() == before and len(find_flow(tmp_path)) == 1

    def test_arrays_of_unknown_settings_are_refused(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros(3))
        with pytest.raises(ValueError, match=r"has \.npy files but no flow\.json"):
            flow.claim_folder(tmp_path, FlowSettings())


SMALL = np.zeros((2, 20, 20, 1), np.uint8)
ONE = np.zeros((1, 4, 4, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda at: optical_flow(SMALL, "brox"), "argument 'method' is 'brox', expected one of 'dis', 'tvl1'."),
        (lambda at: optical_flow(SMALL[:1]), "argument 'frames' has 1 frame, expected 2 or more"),
        (lambda at: optical_flow(SMALL[..., 0]), "uint8 of shape (2, 20, 20), expected uint8 [N, H, W, 3] or"),
        (lambda at: optical_flow(SMALL / 255), "is float64 of shape"),
        (lambda at: optical_flow(SMALL[:, :, :15]), "frames are 20x15, expected 16x16 or larger"),
        (lambda at: to_bytes(ONE, 0), "argument 'bound' is 0, expected more than 0"),
        (lambda at: to_bytes(ONE, -1), "argument 'bound' is -1, expected 0 or more"),
        (lambda at: to_bytes(ONE * np.nan), "values that are not finite"),
        (lambda at: from_bytes(ONE), "argument 'data' is float32, expected uint8"),
        (lambda at: stack(ONE, 2), "argument 'length' is 2, but there are 1 fields"),
        (lambda at: stack(ONE, 0), "argument 'length' is 0, expected 1 or more"),
        (lambda at: stack(ONE[0], 1), "the shape (4, 4, 2), expected [N - 1, H, W, 2]"),
        (lambda at: flow.flow_image(ONE), "expected [H, W, 2], one field"),
        (lambda at: FlowSettings(resize=0), "argument 'resize' is 0, expected 1 or more"),
        (lambda at: flow.write_flow(at, "a", ONE, FlowSettings(), count=2), "a has 1 fields, expected 2"),
        (lambda at: flow.write_flow(at, "a", ONE[..., 0], FlowSettings()), "field 0 of a has the shape (4, 4)"),
    ],
    ids=range(16),
)
def test_mistakes(call, sentence, tmp_path):
    with pytest.raises(ValueError) as raised:
        call(tmp_path)
    assert sentence in str(raised.value) and str(raised.value).startswith("lstmrep.data.")
    assert not list(tmp_path.rglob("*.npy")), "nothing half-written"


class TestDamage:
    def test_no_folder_and_no_flow(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no .*flow\.json; pass a folder that"):
            find_flow(tmp_path)
        flow.claim_folder(tmp_path, FlowSettings())
        with pytest.raises(FileNotFoundError, match=r"no flow in .* yet; run python -m lstmrep flow VIDEOS --out"):
            find_flow(tmp_path)

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"version": 1, "bund": 3}', '{"version": 1, "bound": "x"}'])
    def test_settings_that_are_none(self, text, tmp_path):
        (tmp_path / "flow.json").write_text(text)
        with pytest.raises(ValueError, match=r"flow\.json is damaged \(.*\); write the folder again"):
            find_flow(tmp_path)

    def test_a_later_version(self, tmp_path):
        (tmp_path / "flow.json").write_text(json.dumps({"version": 2, "method": "dis", "bound": 20}))
        with pytest.raises(ValueError, match="is of version 2, expected 1"):
            find_flow(tmp_path)

    def test_a_file_that_is_no_flow(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros((2, 3, 4, 3), np.uint8))
        with pytest.raises(ValueError, match=r"a\.npy has uint8 of shape \(2, 3, 4, 3\), expected uint8 \[N - 1, H, W"):
            read_flow(FlowVideo(tmp_path / "a.npy", "a", 20))
        (tmp_path / "a.npy").write_bytes(b"no array")
        with pytest.raises(ValueError, match=r"a\.npy is not a whole \.npy file"):
            read_flow(FlowVideo(tmp_path / "a.npy", "a", 20))


@pytest.mark.parametrize(
    ("module", "needed", "call"),
    [
        ("cv2", "opencv-python-headless", lambda: optical_flow(SMALL)),
        ("skimage.registration", "scikit-image", lambda: optical_flow(SMALL, "tvl1")),
        ("skimage.color", "scikit-image", lambda: flow.flow_image(ONE[0])),
    ],
)
def test_without_its_package_one_sentence(module, needed, call, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs the package {needed}; run pip install {needed}, .* extra \[flow\]"):
        call()
