"""VGG-16 to fc6: torchvision's names and sizes, what each file that is not of it leads to, and the numbers."""

import pytest
import torch
from torch.nn import functional

from lstmrep.nn import VGG16, vgg

CHANNELS = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512)]
CHANNELS += [(512, 512)] * 5
# Numbers of the convolutions within torchvision's `features`.
PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


@pytest.fixture
def small(monkeypatch):
    """A network of the same kind whose file is kilobytes, not half a gigabyte."""
    monkeypatch.setattr(vgg, "LAYERS", (4, 0, 8, 8, 0))
    monkeypatch.setattr(vgg, "FC6", 5)
    torch.manual_seed(0)
    return VGG16()


def later(state):
    """What a whole classifier of torchvision's has besides."""
    rest = {"classifier.3.weight": torch.zeros(5, 5), "classifier.3.bias": torch.zeros(5)}
    return {**state, **rest, "classifier.6.weight": torch.zeros(9, 5), "classifier.6.bias": torch.zeros(9)}


def test_names_and_sizes_are_torchvisions():
    with torch.device("meta"):
        made = VGG16()
    wanted = {}
    for place, (before, width) in zip(PLACES, CHANNELS, strict=True):
        wanted |= {f"features.{place}.weight": (width, before, 3, 3), f"features.{place}.bias": (width,)}
    wanted |= {"classifier.0.weight": (4096, 512 * 7 * 7), "classifier.0.bias": (4096,)}
    assert {name: tuple(t.shape) for name, t in made.state_dict().items()} == wanted
    assert made(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 4096)
    with torch.device("meta"):
        assert VGG16(20).features[0].weight.shape == (64, 20, 3, 3)


def test_numbers(small):
    x = torch.randn(2, 3, 28, 28)
    s = small.state_dict()
    y = functional.max_pool2d(functional.conv2d(x, s["features.0.weight"], s["features.0.bias"], padding=1).relu(), 2)
    y = functional.conv2d(y, s["features.3.weight"], s["features.3.bias"], padding=1).relu()
    y = functional.conv2d(y, s["features.5.weight"], s["features.5.bias"], padding=1).relu()
    y = functional.max_pool2d(y, 2)
    y = functional.linear(y.flatten(1), s["classifier.0.weight"], s["classifier.0.bias"]).relu()
    torch.testing.assert_close(small(x), y)
    assert (y == 0).any() and (y > 0).any()


@pytest.mark.parametrize("kind", ["pth", "wrapped", "safetensors"])
def test_weights_of_a_file(small, tmp_path, kind):
    state = later(small.state_dict())
    path = tmp_path / f"vgg.{'safetensors' if kind == 'safetensors' else 'pth'}"
    if kind == "safetensors":
        pytest.importorskip("safetensors.torch", reason="safetensors is not installed").save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if kind == "wrapped" else state, path)
    read = VGG16.from_file(path)
    assert all(torch.equal(t, small.state_dict()[name]) for name, t in read.state_dict().items())
    assert len(read.state_dict()) == len(small.state_dict()) and not read.training
    assert not any(p.requires_grad for p in read.parameters())


def test_input_channels_are_the_files(small, tmp_path):
    torch.save(VGG16(20).state_dict(), tmp_path / "flow.pth")
    assert VGG16.from_file(tmp_path / "flow.pth")(torch.randn(1, 20, 28, 28)).shape == (1, 5)


def test_files_of_something_else(small, tmp_path):
    path = tmp_path / "vgg.pth"
    with pytest.raises(FileNotFoundError, match=r"no file .*vgg\.pth; pass the weights of a VGG-16"):
        VGG16.from_file(path)
    state = small.state_dict()
    for content, said in (
        ({"fc.weight": torch.zeros(2, 2)}, "has no convolution 'features.0.weight'"),
        ({k: t for k, t in state.items() if k != "features.5.bias"}, "has no tensor 'features.5.bias'"),
        (
            {**state, "features.5.bias": torch.zeros(9)},
            r"'features.5.bias' in .* has shape \(9,\), the model's has \(8",
        ),
        ({**state, "extra": torch.zeros(1)}, "has the tensor 'extra', which the model lacks"),
        ([1, 2], "holds a list, expected a state_dict"),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=said):
            VGG16.from_file(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"cannot be read \(.*\); it is truncated or another kind of file"):
        VGG16.from_file(path)
    with pytest.raises(ValueError, match="argument 'channels' is 0"):
        VGG16(0)
