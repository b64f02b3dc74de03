"""LPIPS where it is and where it is not: never a number without its network, and the network's weights from a file.

The package is not among the tests' own; a small one of the same shape stands in for it.
"""

import importlib.util
import sys
import types

import pytest
import torch
from torch import nn

import lstmrep
from lstmrep import eval as ev
from lstmrep.eval import perceptual

D = 32


class Trunk(nn.Module):
    """As the package names AlexNet's parts: slices of torchvision's numbered features."""

    def __init__(self):
        super().__init__()
        self.slice1 = nn.Sequential()
        self.slice1.add_module("0", nn.Conv2d(3, 4, 5, stride=2))


class LPIPS(nn.Module):
    def __init__(self, net, pnet_rand, verbose):
        super().__init__()
        assert (net, pnet_rand, verbose) == ("alex", True, False), "anything else downloads, or prints"
        self.net = Trunk()

    def forward(self, a, b, normalize):
        assert normalize and a.shape[1] == 3 and a.dtype == torch.float32 and a.min() >= 0 and a.max() <= 1
        return (self.net.slice1(a) - self.net.slice1(b)).square().mean((1, 2, 3), keepdim=True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of torch's, and no network kept from another test."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    perceptual._network.cache_clear()
    yield tmp_path / "hub" / "checkpoints"
    perceptual._network.cache_clear()


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=LPIPS))


@pytest.fixture
def missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(1)
    made = nn.Conv2d(3, 4, 5, stride=2).state_dict()
    torch.save(
        {f"features.0.{k}": t for k, t in made.items()} | {"classifier.1.bias": torch.zeros(2)}, tmp_path / "a.pth"
    )
    return tmp_path / "a.pth"


def frames(seed, channels=1, side=D):
    return torch.rand(2, 3, channels, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
def test_values_are_the_networks_with_the_weights_of_the_file(installed, weights, channels):
    p, t = frames(0, channels), frames(1, channels)
    got = ev.lpips(p, t, weights=weights)
    assert got.shape == (2, 3) and got.dtype == torch.float64
    given = torch.load(weights, weights_only=True)
    conv = nn.functional.conv2d
    for b in range(2):
        for f in range(3):
            a, c = (
                conv(x[b, f].expand(3, -1, -1), given["features.0.weight"], given["features.0.bias"], stride=2)
                for x in (p, t)
            )
            torch.testing.assert_close(got[b, f].float(), (a - c).square().mean())
    assert not ev.lpips(p, p, weights=weights).any()


def test_the_weights_are_found_in_torchs_cache(installed, weights, cache):
    p, t = frames(0), frames(1)
    expected = ev.lpips(p, t, weights=weights)
    with pytest.raises(FileNotFoundError, match=r"no alexnet-owt-\*.pth in .*checkpoints; pass torchvision's file"):
        ev.lpips(p, t)
    cache.mkdir(parents=True)
    (cache / "alexnet-owt-7be5be79.pth").write_bytes(weights.read_bytes())
    assert torch.equal(ev.lpips(p, t), expected)


def evaluate(**options):
    torch.manual_seed(0)
    model = lstmrep.CompositeModel(D * D, 4, reconstruct=0, predict=1)
    return ev.evaluate(model, [frames(2)], metrics=("mse", "lpips"), **options)


def test_a_report_has_it_where_it_is(installed, weights, tmp_path):
    report = evaluate(lpips_weights=weights)
    assert report.columns() == ["cross_entropy", "mse", "lpips"] and "LPIPS" in report.table()
    assert not any("lpips" in note for note in report.notes)
    row = report.row("future", "model, free-running")
    assert row.values["lpips"].shape == (2, 1) and (row.values["lpips"] > 0).all()
    report.save(tmp_path / "saved")
    again = ev.recompute(tmp_path / "saved", lpips_weights=weights)
    assert (again.row("future", "copy last").values["lpips"] == report.row("future", "copy last").values["lpips"]).all()


def test_a_report_without_the_package_says_so(missing, weights):
    report = evaluate(lpips_weights=weights)
    assert report.columns() == ["cross_entropy", "mse"]
    assert "lpips: left out, this needs the package lpips; run pip install lpips, or install lstmrep" in report.table()
    with pytest.raises(ImportError, match=r"lstmrep.eval.lpips: this needs the package lpips; .* extra \[lpips\]"):
        ev.lpips(frames(0), frames(1), weights=weights)


def test_a_report_without_the_weights_says_so(installed, tmp_path):
    assert "lpips: left out, no alexnet-owt-*.pth in " in evaluate().table()
    assert f"lpips: left out, no file {tmp_path / 'none.pth'}" in evaluate(lpips_weights=tmp_path / "none.pth").table()


def test_files_that_are_no_alexnet_are_refused(installed, weights, tmp_path):
    p = frames(0)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"text.pth is no file of weights \(\w+\); get it again"):
        ev.lpips(p, p, weights=tmp_path / "text.pth")
    torch.save({"features.0.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth has no fitting tensor 'features.0.weight'; pass torchvision's"):
        ev.lpips(p, p, weights=tmp_path / "other.pth")


def test_frames_that_have_none(installed, weights):
    small = frames(0, side=12)
    with pytest.raises(ValueError, match="frames are 12 by 12, LPIPS needs 31 by 31 or more"):
        ev.lpips(small, small, weights=weights)
    with pytest.raises(ValueError, match=r"LPIPS needs images \[C, H, W\] with C 1 or 3"):
        ev.lpips(frames(0, 2), frames(0, 2), weights=weights)


def test_the_package_itself(tmp_path):
    """With random weights in place of AlexNet's: the names of the real package's parts are those that are mapped."""
    for name in ("lpips", "torchvision"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    from torchvision.models import alexnet

    torch.save(alexnet(weights=None).state_dict(), tmp_path / "alexnet.pth")
    p, t = frames(0, 3), frames(1, 3)
    assert (ev.lpips(p, t, weights=tmp_path / "alexnet.pth") > 0).all()
