"""Clips from files: the fixed test file, other layouts, md5, workers, the class that stands for torchvision's."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lstmrep.data import SequenceFile, fixed
from lstmrep.data.torchvision_compatible import MovingMNIST

T, N = 20, 23


@pytest.fixture(scope="module")
def array() -> np.ndarray:
    """(T, N, H, W) bytes, every pixel telling its clip and frame."""
    values = np.random.default_rng(0).integers(0, 256, (T, N, 6, 4), dtype=np.uint8)
    values[:, :, 0, 0] = np.arange(T)[:, None]
    values[:, :, 0, 1] = np.arange(N)
    return values


@pytest.fixture
def path(tmp_path, array):
    np.save(tmp_path / "mnist_test_seq.npy", array)
    return tmp_path / "mnist_test_seq.npy"


@pytest.fixture(scope="module")
def clips(array) -> torch.Tensor:
    return (torch.from_numpy(array).float() / 255).transpose(0, 1).unsqueeze(2)


class TestFixedFile:
    def test_clips_by_the_second_axis_divided_by_255(self, path, clips):
        data = SequenceFile(path)
        assert (len(data), data.num_frames, data.frame_shape, data.infinite) == (N, T, (1, 6, 4), False)
        assert torch.equal(data.batch(range(N)), clips)
        assert torch.equal(data[7], clips[7]) and data[7].dtype == torch.float32
        assert torch.equal(data[-1], clips[-1])
        assert torch.equal(torch.stack(list(data)), clips)
        # Time is the first axis of a clip, whatever it was in the file.
        assert torch.equal((data[7][:, 0, 0, 0] * 255).round(), torch.arange(T).float())
        assert ((data[7][:, 0, 0, 1] * 255).round() == 7).all()

    def test_the_published_shape(self, tmp_path):
        # Sparse on the disk: nothing but its header and its last frame are written.
        path = tmp_path / "mnist_test_seq.npy"
        whole = np.lib.format.open_memmap(path, "w+", np.uint8, (20, 10000, 64, 64))
        whole[19, 9999] = 255
        del whole
        data = SequenceFile(path)
        assert (len(data), data.num_frames, data.frame_shape) == (10_000, 20, (1, 64, 64))
        last = data[9999]
        assert torch.equal(last[19], torch.ones(1, 64, 64)) and not last[:19].any()
        assert len(pickle.dumps(data)) < 10_000

    def test_axes_are_never_swapped_unasked(self, tmp_path, path, array, clips):
        swapped = tmp_path / "swapped.npy"
        np.save(swapped, array.swapaxes(0, 1))
        with pytest.raises(ValueError, match=r"has shape \(23, 20, 6, 4\), longer along its first axis") as caught:
            SequenceFile(swapped)
        assert "pass layout='nthw'" in str(caught.value) and str(caught.value).endswith(".")
        assert torch.equal(SequenceFile(swapped, layout="nthw").batch(range(N)), clips)
        as_told = SequenceFile(swapped, layout="tnhw")
        assert (as_told.num_frames, len(as_told)) == (N, T)
        assert torch.equal(SequenceFile(path, layout="tnhw").batch(range(N)), clips)

    def test_md5(self, path, monkeypatch):
        own = hashlib.md5(path.read_bytes()).hexdigest()
        SequenceFile(path, md5=own)
        with pytest.raises(ValueError, match=f"has the MD5 sum {own}, expected be083ec986bfe91a449d63653c411eb2"):
            SequenceFile(path, md5=True)
        monkeypatch.setattr(fixed, "MD5", own)
        SequenceFile(path, md5=True)
        # Not asked for, not checked.
        monkeypatch.setattr(fixed, "check_md5", None)
        SequenceFile(path)

    def test_part_of_a_file(self, path, clips):
        data = SequenceFile(path, clips=(5, 9), split="valid")
        assert len(data) == 4
        assert torch.equal(data.batch([0, 3, -1]), clips[[5, 8, 8]])
        assert "split valid" in data.description and "clips 5 to 8" in data.description
        for index in (4, -5):
            with pytest.raises(IndexError, match=f"index {index} is outside the set, expected -4 to 3"):
                data[index]

    def test_the_description_is_one_line(self, path):
        text = SequenceFile(path).description
        for part in ("mnist_test_seq.npy", "split test", "clips 0 to 22", "20 frames of 1x6x4", "layout tnhw", "seed"):
            assert part in text
        assert "\n" not in text

    def test_workers_and_pickles(self, path, clips):
        data = SequenceFile(path)
        shared = torch.cat(list(DataLoader(data, batch_size=5, num_workers=2)))
        assert torch.equal(shared, clips)
        assert torch.equal(pickle.loads(pickle.dumps(data))[3], clips[3])

    def test_what_is_changed_in_memory_stays_there(self, path):
        before = path.read_bytes()
        SequenceFile(path)[0].fill_(1)
        assert path.read_bytes() == before


class TestOtherLayouts:
    @pytest.fixture
    def colored(self) -> np.ndarray:
        return np.random.default_rng(1).integers(0, 256, (9, 5, 3, 4, 2)).astype(np.float32)

    def test_clips_of_five_dimensions(self, tmp_path, colored):
        np.save(tmp_path / "patches.npy", colored)
        data = SequenceFile(tmp_path / "patches.npy")
        assert (len(data), data.num_frames, data.frame_shape) == (9, 5, (3, 4, 2))
        assert torch.equal(data.batch(range(9)), torch.from_numpy(colored) / 255)

    def test_rows(self, tmp_path, colored):
        np.save(tmp_path / "patches.npy", colored.reshape(9, -1))
        data = SequenceFile(tmp_path / "patches.npy", frame_shape=(3, 4, 2))
        assert (len(data), data.num_frames, data.layout) == (9, 5, "rows")
        assert torch.equal(data.batch([4, 0]), torch.from_numpy(colored)[[4, 0]] / 255)
        for given, match in (
            (None, r"'frame_shape' is None, expected \(C, H, W\)"),
            ((3, 4), r"'frame_shape' is \(3, 4\), expected \(C, H, W\)"),
            ((3, 7, 2), "rows of .* have 120 values, expected a multiple of a frame's 42 = 3 x 7 x 2"),
        ):
            with pytest.raises(ValueError, match=match):
                SequenceFile(tmp_path / "patches.npy", frame_shape=given)

    def test_floats_of_0_to_1_are_not_divided_again(self, tmp_path, colored):
        np.save(tmp_path / "unit.npy", colored / 255)
        with pytest.raises(ValueError, match=r"the first clip .* reaches .*pass white=1 for values of 0 to 1"):
            SequenceFile(tmp_path / "unit.npy")
        data = SequenceFile(tmp_path / "unit.npy", white=1)
        assert torch.equal(data.batch(range(9)), torch.from_numpy(colored / np.float32(255)))
        np.save(tmp_path / "bytes.npy", colored)
        with pytest.raises(ValueError, match="pass white=1 for values of 0 to 1, white=255"):
            SequenceFile(tmp_path / "bytes.npy", white=1)


class TestFileErrors:
    @pytest.mark.parametrize(
        "reader", [SequenceFile, lambda p: MovingMNIST(p.parent.parent)], ids=["file", "compatible"]
    )
    def test_files(self, tmp_path, reader, array):
        path = tmp_path / "MovingMNIST" / "mnist_test_seq.npy"
        path.parent.mkdir()

        def assert_sentence(kind, match):
            with pytest.raises(kind, match=match) as caught:
                reader(path)
            text = str(caught.value)
            assert text.startswith("lstmrep.data.") and text.endswith(".") and "\n" not in text

        assert_sentence(FileNotFoundError, "no file .*mnist_test_seq.npy; put it there, nothing is downloaded")
        np.save(path, array)
        path.write_bytes(path.read_bytes()[:-100])
        assert_sentence(ValueError, "mnist_test_seq.npy is not a whole .npy file")
        path.write_bytes(b"")
        assert_sentence(ValueError, "is not a whole .npy file")
        path.write_bytes(b"<html>")
        assert_sentence(ValueError, "is not a whole .npy file")
        np.save(path, np.array(["a"]))
        assert_sentence(ValueError, "is not one array of numbers")
        np.save(path, array[0])
        assert_sentence(ValueError, r"\(23, 6, 4\), expected")

    @pytest.mark.parametrize(
        ("match", "given"),
        [
            ("'layout' is 'nhwt', expected one of 'tnhw', 'nthw', 'ntchw', 'rows'", {"layout": "nhwt"}),
            (r"has shape \(20, 23, 6, 4\), expected 2 dimensions for layout='rows'", {"layout": "rows"}),
            ("'frame_shape' is .* expected None for layout='tnhw'", {"frame_shape": (1, 6, 4)}),
            (r"'clips' is \(5, 24\), expected \(first, end\) with 0 <= first < end <= 23", {"clips": (5, 24)}),
            ("'clips' is .*3, 3", {"clips": (3, 3)}),
            ("'split' is 'all'", {"split": "all"}),
            ("'white' is 0", {"white": 0}),
        ],
        ids=lambda v: v if isinstance(v, str) else "",
    )
    def test_arguments(self, path, match, given):
        with pytest.raises(ValueError, match=match) as caught:
            SequenceFile(path, **given)
        assert str(caught.value).startswith("lstmrep.data.SequenceFile: ") and str(caught.value).endswith(".")

    def test_no_clip(self, tmp_path):
        np.save(tmp_path / "none.npy", np.zeros((20, 0, 4, 4), np.uint8))
        with pytest.raises(ValueError, match="holds no clip"):
            SequenceFile(tmp_path / "none.npy", layout="tnhw")


class TestTorchvisionCompatible:
    """Against what torchvision documents of its class: bytes (T, 1, H, W), split_ratio counts frames."""

    @pytest.fixture
    def root(self, tmp_path, array):
        (tmp_path / "MovingMNIST").mkdir()
        np.save(tmp_path / "MovingMNIST" / "mnist_test_seq.npy", array)
        return tmp_path

    CASES = [
        ({}, slice(None)),
        ({"split": "train"}, slice(None, 10)),
        ({"split": "test"}, slice(10, None)),
        ({"split": "train", "split_ratio": 3}, slice(None, 3)),
        ({"split": "test", "split_ratio": 19}, slice(19, None)),
        ({"split_ratio": 3}, slice(None)),
        ({"download": True}, slice(None)),
    ]

    @pytest.mark.parametrize(("given", "frames"), CASES, ids=str)
    def test_items(self, root, array, given, frames):
        data = MovingMNIST(root, **given)
        expected = torch.from_numpy(array[frames]).transpose(0, 1).unsqueeze(2)
        assert len(data) == N
        assert torch.equal(data.data, expected)
        for index in (0, 7, N - 1, -1):
            clip = data[index]
            assert clip.dtype == torch.uint8 and clip.is_contiguous() and torch.equal(clip, expected[index])
        assert torch.equal(torch.stack(list(data)), expected)
        assert torch.equal(next(iter(DataLoader(data, batch_size=4, num_workers=1))), expected[:4])

    def test_equals_torchvisions_class(self, root):
        datasets = pytest.importorskip("torchvision.datasets", reason="torchvision is not installed")
        # Not download=True, which reaches for the network.
        for given in [given for given, _ in self.CASES if "download" not in given]:
            ours, theirs = MovingMNIST(root, **given), datasets.MovingMNIST(str(root), **given)
            assert len(ours) == len(theirs)
            for index in (*range(N), -1):
                assert ours[index].dtype == theirs[index].dtype and torch.equal(ours[index], theirs[index]), given

    def test_transform(self, root, array):
        data = MovingMNIST(root, "train", 4, transform=lambda clip: (clip.shape, int(clip[0, 0, 0, 1])))
        assert data[9] == ((4, 1, 6, 4), 9)

    def test_arguments_by_position(self, root):
        assert MovingMNIST(str(root), "test", 15, False, None)[0].shape == (5, 1, 6, 4)

    def test_an_item_is_a_copy(self, root):
        data = MovingMNIST(root)
        before = data[2].clone()
        data[2].zero_()
        assert torch.equal(data[2], before)

    def test_pickles_without_its_clips(self, root):
        data = MovingMNIST(root, "test")
        packed = pickle.dumps(data)
        assert len(packed) < 2000
        assert torch.equal(pickle.loads(packed)[3], data[3])

    def test_no_download(self, tmp_path):
        for download, match in ((False, "nothing is downloaded"), (True, "download=True downloads nothing here")):
            with pytest.raises(FileNotFoundError, match=f"no file .*mnist_test_seq.npy.*{match}") as caught:
                MovingMNIST(tmp_path, download=download)
            assert str(caught.value).endswith(".")

    @pytest.mark.parametrize(
        ("kind", "match", "given"),
        [
            (ValueError, "'split' is 'valid', expected one of None, 'train', 'test'", {"split": "valid"}),
            (ValueError, "'split_ratio' is 0, expected 1 or more", {"split_ratio": 0}),
            (ValueError, "'split_ratio' is 20, expected 1 to 19, frames of", {"split": "train", "split_ratio": 20}),
            (TypeError, "'split_ratio' is 0.5, expected an integer", {"split_ratio": 0.5}),
        ],
    )
    def test_errors(self, root, kind, match, given):
        with pytest.raises(kind, match=match):
            MovingMNIST(root, **given)
