"""How parameters start: each initializer, schemes by role and by name, forget biases, numbers from files."""

import math
import sys

import numpy as np
import pytest
import torch

import lstmrep
from lstmrep.nn import init

I, H = 5, 7
WIDE = 256  # enough numbers for a standard deviation to come out within 5 %


def _bias(module: lstmrep.LSTM) -> torch.Tensor:
    """[4, H]: what acts, the sum of torch's two vectors, by gate."""
    return (module.bias_ih_l0 + module.bias_hh_l0).detach().view(4, -1)


@pytest.mark.parametrize("hidden", [1, H])
def test_forget_bias(hidden):
    module = lstmrep.LSTM(I, hidden, 2, bidirectional=True, init={"bias": {"f": 5.0}})
    expected = torch.zeros(4, hidden)
    expected[1] = 5.0
    assert torch.equal(_bias(module), expected)
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        assert torch.equal(getattr(module, f"bias_ih_{suffix}").view(4, -1), expected)
        assert not getattr(module, f"bias_hh_{suffix}").any()


def test_bias_by_gate_and_whole():
    values = {"i": 1.0, "f": 2.0, "g": 3.0, "o": 4.0}
    module = lstmrep.LSTM(I, H, init={"bias": values})
    assert torch.equal(_bias(module), torch.tensor(list(values.values()))[:, None].expand(4, H))
    assert torch.equal(_bias(lstmrep.LSTM(I, H, init={"bias": init.constant(0.5)})), torch.full((4, H), 0.5))


def test_a_role_left_out_keeps_torchs_default():
    module = lstmrep.LSTM(I, WIDE, peephole=True, init={"weight_hh": init.constant(2.0)})
    assert (module.weight_hh_l0 == 2).all()
    bound = 1 / math.sqrt(WIDE)
    for name, p in module.named_parameters():
        if name != "weight_hh_l0":
            assert 0.9 * bound < p.abs().max() <= bound, name


@pytest.mark.parametrize("scale", [0.01, 3.0])
def test_uniform_and_normal(scale):
    module = lstmrep.LSTM(I, WIDE, init={"weight_hh": init.uniform(scale), "weight_ih": init.normal(scale)})
    uniform, normal = module.weight_hh_l0.detach(), module.weight_ih_l0.detach()
    assert uniform.abs().max() <= scale
    assert normal.abs().max() > scale
    # By distribution: standard deviation and kurtosis. Of n numbers the mean has the standard error s / sqrt(n) and the
    # standard deviation s * sqrt((kurtosis - 1) / 4n); the latter is 1 % of s or less here.
    for values, s, kurtosis in ((uniform, scale / math.sqrt(3), 9 / 5), (normal, scale, 3)):
        n = values.numel()
        assert abs(float(values.mean())) < 5 * s / math.sqrt(n)
        assert abs(float(values.std()) - s) < 5 * s * math.sqrt((kurtosis - 1) / (4 * n))


def test_fan_in():
    module = lstmrep.LSTM(
        I, WIDE, 2, proj_size=16, init={r: init.fan_in() for r in ("weight_ih", "weight_hh", "weight_hr")}
    )
    fans = {"weight_ih_l0": I, "weight_ih_l1": 16, "weight_hh_l0": 16, "weight_hr_l0": WIDE}
    for name, fan in fans.items():
        bound = 1 / math.sqrt(fan)
        assert 0.9 * bound < getattr(module, name).abs().max() <= bound, name


def test_named_schemes():
    torch.manual_seed(4)
    default = lstmrep.LSTM(I, H, peephole=True)
    torch.manual_seed(4)
    named = lstmrep.LSTM(I, H, peephole=True, init="torch")
    assert all(torch.equal(p, q) for p, q in zip(default.parameters(), named.parameters(), strict=True))
    paper = lstmrep.LSTM(4, WIDE, peephole=True, init="paper")
    assert not _bias(paper).any()
    assert not any(p.any() for name, p in paper.named_parameters() if name.startswith("weight_p"))
    assert 0.45 < paper.weight_ih_l0.abs().max() <= 1 / math.sqrt(4)
    assert paper.weight_hh_l0.abs().max() <= 1 / math.sqrt(WIDE)
    original = lstmrep.LSTM(4, WIDE, peephole=True, init="original")
    for name, bound in (("weight_ih_l0", 0.01), ("weight_hh_l0", 0.01), ("weight_pf_l0", 0.1)):
        assert 0.9 * bound < getattr(original, name).abs().max() <= bound, name
    assert not _bias(original).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_from_npz_and_npy(tmp_path, dtype):
    source = lstmrep.LSTM(I, H, 2, peephole=True, bidirectional=True, dtype=dtype)
    np.savez(tmp_path / "all.npz", **{n: p.detach().numpy() for n, p in source.named_parameters()})
    from_npz = init.from_file(tmp_path / "all.npz")
    roles = ("weight_ih", "weight_hh", "peephole")
    made = lstmrep.LSTM(I, H, 2, peephole=True, bidirectional=True, dtype=dtype, init=dict.fromkeys(roles, from_npz))
    for name, p in source.named_parameters():
        assert torch.equal(getattr(made, name), p) == (not name.startswith("bias")), name
    np.save(tmp_path / "one.npy", source.weight_hh_l0.detach().numpy())
    scheme = {
        "weight_hh": init.from_file(str(tmp_path / "one.npy")),
        "peephole": init.from_file(tmp_path / "all.npz", key="weight_po_l1"),
    }
    made = lstmrep.LSTM(I, H, peephole=True, dtype=dtype, init=scheme)
    assert torch.equal(made.weight_hh_l0, source.weight_hh_l0)
    assert torch.equal(made.weight_pi_l0, source.weight_po_l1)


@pytest.mark.parametrize("suffix", [".safetensors", ".h5"])
def test_from_tensor_files(tmp_path, suffix):
    path = tmp_path / f"all{suffix}"
    source = lstmrep.LSTM(I, H, peephole=True)
    tensors = {n: p.detach() for n, p in source.named_parameters()}
    if suffix == ".h5":
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        with h5py.File(path, "w") as archive:
            for name, t in tensors.items():
                archive[name] = t.numpy()
    else:
        pytest.importorskip("safetensors", reason="safetensors is not installed")
        from safetensors.torch import save_file

        save_file(tensors, path)
    made = lstmrep.LSTM(I, H, peephole=True, init=dict.fromkeys(init.ROLES[:2], init.from_file(path)))
    assert torch.equal(made.weight_ih_l0, source.weight_ih_l0)
    assert torch.equal(made.weight_hh_l0, source.weight_hh_l0)
    with pytest.raises(KeyError, match="no entry 'other'"):
        lstmrep.LSTM(I, H, init={"weight_hh": init.from_file(path, "other")})


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "w.h5").touch()
    with pytest.raises(ImportError, match="pip install h5py"):
        lstmrep.LSTM(I, H, init={"weight_hh": init.from_file(tmp_path / "w.h5")})


class TestErrors:
    def _make(self, **roles) -> None:
        lstmrep.LSTM(I, H, init=roles)

    def test_files(self, tmp_path):
        np.savez(tmp_path / "w.npz", weight_hh_l0=np.zeros((H, 4 * H), np.float32))
        np.save(tmp_path / "w.npy", np.zeros((4 * H, H + 1), np.float32))
        (tmp_path / "w.txt").write_text("1")
        cases = [
            (FileNotFoundError, "no file .*gone.npz", init.from_file(tmp_path / "gone.npz")),
            (KeyError, r"no entry 'other'.*one of \['weight_hh_l0'\]", init.from_file(tmp_path / "w.npz", "other")),
            (
                ValueError,
                r"'weight_hh_l0' in .* has shape \(7, 28\).* needs \(28, 7\)",
                init.from_file(tmp_path / "w.npz"),
            ),
            (ValueError, r"has shape \(28, 8\).*'weight_hh_l0' needs \(28, 7\)", init.from_file(tmp_path / "w.npy")),
            (ValueError, "suffix '.txt', expected .npy", init.from_file(tmp_path / "w.txt")),
        ]
        for kind, match, initializer in cases:
            with pytest.raises(kind, match=match) as caught:
                self._make(weight_hh=initializer)
            text = caught.value.args[0]
            assert text.endswith(".")
            assert "\n" not in text

    @pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
    @pytest.mark.parametrize("initializer", [init.uniform, init.normal], ids=["uniform", "normal"])
    def test_scales(self, initializer, scale):
        with pytest.raises(ValueError, match=f"argument 'scale' is {scale}"):
            initializer(scale)

    @pytest.mark.parametrize(
        ("kind", "match", "scheme"),
        [
            (ValueError, "scheme 'best' is not known; choose one of torch, paper, original", "best"),
            (ValueError, "role 'weights' is not known", {"weights": init.fan_in()}),
            (ValueError, r"bias gates are \['forget'\]", {"bias": {"forget": 1.0}}),
            (TypeError, "role 'weight_hh' is given a float", {"weight_hh": 0.1}),
            (TypeError, "role 'weight_hh' is given a dict", {"weight_hh": {"f": 1.0}}),
            (TypeError, "argument 'init' is a int", 3),
        ],
        ids=lambda v: v if isinstance(v, str) else "",
    )
    def test_schemes(self, kind, match, scheme):
        with pytest.raises(kind, match=match) as caught:
            lstmrep.LSTM(I, H, init=scheme)
        assert str(caught.value).endswith(".")
