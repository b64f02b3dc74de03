"""The loop: validation without a trace, numbers that are not finite, clipping, early stop, precision, lines printed."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from train_runs import Classifier, D, Endless, T, config, same_parameters, small

from lstmrep.train import Config, NotFiniteError, Result, TrainConfig, Trainer, fit, read_history
from lstmrep.train.distributed import Group
from lstmrep.train.optimizers import build
from lstmrep.train.update import Update


def _fit(model, settings, **options) -> Result:
    return Trainer(model, options.pop("data", Endless()), settings, progress=False, **options).fit()


def _training_part(result: Result) -> list:
    return [{k: v for k, v in r.items() if not k.startswith(("valid", "teacher"))} for r in result.history]


class TestValidation:
    def test_leaves_the_curve_unchanged(self):
        plain, validated = small(), small()
        expected = _fit(plain, config(8))
        result = _fit(validated, config(8, validate_every=2, validation_batches=2), valid=Endless())
        assert _training_part(result) == expected.history
        assert same_parameters(plain, validated)
        assert [r["step"] for r in result.history if "valid_loss" in r] == [2, 4, 6, 8]

    def test_is_free_running_and_teacher_forced_where_conditional(self):
        model = small()
        record = _fit(model, config(1, validate_every=1, batch_size=16), valid=Endless()).history[0]
        model.eval()
        frames = Endless().batch(range(40))
        # Batches of 16, 16 and 8, weighted by their sizes: one mean over 40, up to the roundings of the three.
        for kind, options in (("valid", {}), ("teacher", {"feeding": "teacher"})):
            for name in ("loss", "reconstruction_loss", "future_loss"):
                mean = getattr(model(frames, **options), name).item()
                bound = 40 * T * D * torch.finfo(torch.float32).eps * mean
                assert abs(record[f"{kind}_{name}"] - mean) <= bound, (kind, name)
        assert record["valid_loss"] != record["teacher_loss"]
        model.config.conditional_future = False
        record = _fit(model, config(1, validate_every=1), valid=Endless()).history[0]
        assert not any(name.startswith("teacher") for name in record)

    def test_a_classifier_has_an_accuracy(self, capsys):
        frames = torch.randn(30, T, D)
        labels = frames.mean(1).argmax(1)
        settings = {"print_every": 10, "validate_every": 10, "monitor": "accuracy", "device": "cpu"}
        result = fit(Classifier(), (frames, labels), steps=20, lr=0.1, valid=(frames, labels), **settings)
        assert result.history[-1]["accuracy"] > 0.5
        assert result.best == max(r["valid_accuracy"] for r in result.history)
        line = capsys.readouterr().out.splitlines()[-1]
        r = result.history[-1]
        assert line == (
            f"Step 20 Loss {r['loss']:.5f} Acc {r['accuracy']:.5f} "
            f"VLoss {r['valid_loss']:.5f} VAcc {r['valid_accuracy']:.5f}"
        )

    def test_early_stop(self):
        model = small()
        settings = config(50, lr=0.0, validate_every=2, validation_batches=1, patience=3)
        result = _fit(model, settings, valid=Endless())
        # The weights stay, so the first validation is the best and three more are no better.
        assert (result.stopped, result.step, result.best_step) == ("patience", 8, 2)
        assert result.best == result.history[1]["valid_loss"]

    def test_refusals(self):
        for match, train, given in [
            ("patience is 2 and nothing is validated", {"patience": 2}, {}),
            ("tensorboard is true and there is no folder", {"tensorboard": True}, {}),
            ("teacher_steps is 3 and the model does not draw", {"teacher_steps": 3}, {"model": nn.Linear(2, 2)}),
            ("monitor is 'accuracy', which", {"monitor": "accuracy", "validate_every": 1}, {"valid": Endless()}),
            ("'valid' has no sequences", {"validate_every": 1}, {"valid": torch.zeros(0, T, D)}),
        ]:
            with pytest.raises(ValueError, match=match):
                _fit(given.pop("model", small()), config(1, **train), **given)


class TestNotFinite:
    @pytest.mark.parametrize(
        ("what", "match"),
        [
            ("batch", "step 7: the batch itself is not finite"),
            ("gradient", "step 7: the gradient of 'head.weight' is not finite"),
            ("parameter", "step 7: parameter 'inner.bias' is not finite"),
            ("loss", "step 7: 'future_loss' is not finite"),
        ],
    )
    @pytest.mark.parametrize("clip_value", [0.0, 1.0])
    def test_stops_and_keeps_the_last_good_checkpoint(self, tmp_path, what, match, clip_value):
        model, seen = small(), {"n": 0}

        def inject(frames):
            frames = frames.clone()
            if what == "batch":
                frames[1, 1, 1] = math.nan
            elif what == "gradient":
                model.head.weight.register_hook(lambda g: torch.full_like(g, math.inf))
            elif what == "parameter":
                model.inner.bias.data[2] = math.nan
            else:
                model.forward = lambda x, real=model.forward: SimpleNamespace(
                    **{**vars(real(x)), "future_loss": torch.tensor(math.nan)}
                )
            seen["n"] += 1
            return frames

        settings = config(12, save_every=3, keep_checkpoints=1, clip_value=clip_value)
        whole = _fit(small(), config(6, save_every=3, clip_value=clip_value), out=tmp_path / "whole")
        with pytest.raises(NotFiniteError, match=match) as caught:
            _fit(model, settings, data=Endless(at={4 * 6: inject}), out=tmp_path / "run")
        assert seen["n"] == 1
        text = str(caught.value)
        last = tmp_path / "run" / "checkpoints" / "step-00000006.safetensors"
        assert f"the last good checkpoint is {last}" in text
        assert text.endswith(".")
        assert [p.name for p in last.parent.iterdir()] == [last.name]
        assert read_history(tmp_path / "run") == whole.history
        fresh = small(seed=2)
        Trainer(fresh, Endless(), settings, out=tmp_path / "run", progress=False).fit(resume=True)
        again = small()
        _fit(again, config(12, clip_value=clip_value))
        assert same_parameters(fresh, again), "without the injection the run goes on as if nothing had been"

    def test_weights_that_are_not_finite_are_not_saved(self, tmp_path):
        model = small()

        class Breaks(torch.optim.SGD):
            def step(self, closure=None):
                model.head.bias.data[0] = math.nan

        trainer = Trainer(model, Endless(), config(3, save_every=1), out=tmp_path, progress=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lstmrep.train.optimizers.build", lambda c, m: Breaks(m.parameters()))
            with pytest.raises(
                NotFiniteError, match=r"step 1: parameter 'head.bias'.*not saved.*no checkpoint was written yet"
            ):
                trainer.fit()
        assert not (tmp_path / "checkpoints").exists()


class TestClipping:
    @pytest.mark.parametrize("bound", [0.01, 0.5])
    @pytest.mark.parametrize("kind", ["clip_norm", "clip_value"])
    def test_after_it_the_gradient_is_in_bounds(self, kind, bound):
        model = small()
        settings = config(1, "sgd", **{kind: bound})
        update = Update(model, build(settings.optimizer, model), settings, Group())
        update(0, Endless().batch(range(4)) * 3, False)
        gradients = torch.cat([p.grad.flatten() for p in model.parameters()]).double()
        if kind == "clip_value":
            assert gradients.abs().max() == torch.tensor(bound)
        else:
            # Each element is rounded once when it is scaled, and the scale itself a few times.
            assert float(gradients.norm()) <= bound * (1 + 8 * torch.finfo(torch.float32).eps)
            assert float(gradients.norm()) > 0.99 * bound, "the clip acted"

    def test_a_small_gradient_is_left_alone(self):
        plain, clipped = small(), small()
        expected = _fit(plain, config(3))
        assert _fit(clipped, config(3, clip_norm=1e9, clip_value=1e9)).history == expected.history
        assert same_parameters(plain, clipped)


class TestPrecision:
    def test_bfloat16_on_the_cpu(self):
        full, half = small(), small()
        a, b = _fit(full, config(3)), _fit(half, config(3, amp="bfloat16"))
        assert a.history != b.history
        assert all(p.dtype == torch.float32 for p in half.parameters())
        assert all(math.isfinite(r["loss"]) for r in b.history)

    def test_what_is_not_possible_is_told(self):
        with pytest.raises(ValueError, match=r"'float16' and the device is cpu.*choose bfloat16 or none"):
            _fit(small(), config(1, amp="float16"))
        with pytest.raises(ValueError, match=r"train.device is 'tpu9', expected auto, cpu, cuda"):
            _fit(small(), config(1, device="tpu9"))
        with pytest.raises(ValueError, match=r"needs CUDA device \d+, but torch sees"):
            _fit(small(), config(1, device=f"cuda:{torch.cuda.device_count()}"))

    def test_deterministic_is_set_back(self):
        seen = []
        data = Endless(at={0: lambda f: seen.append(torch.are_deterministic_algorithms_enabled()) or f})
        _fit(small(), config(1, deterministic=True), data=data)
        assert seen == [True]
        assert not torch.are_deterministic_algorithms_enabled()


class TestPrinting:
    def test_lines(self, capsys):
        trainer = Trainer(small(), Endless(), config(4, print_every=2, validate_every=4), valid=Endless())
        result = trainer.fit()
        first, last = capsys.readouterr().out.splitlines()
        r = result.history
        assert first == f"Step 2 Dec {r[0]['reconstruction_loss']:.5f} Fut {r[0]['future_loss']:.5f}"
        assert last == (
            f"Step 4 Dec {r[1]['reconstruction_loss']:.5f} Fut {r[1]['future_loss']:.5f} "
            f"VDec {r[1]['valid_reconstruction_loss']:.5f} VFut {r[1]['valid_future_loss']:.5f} "
            f"TDec {r[1]['teacher_reconstruction_loss']:.5f} TFut {r[1]['teacher_future_loss']:.5f}"
        )

    def test_a_record_is_the_mean_since_the_one_before(self):
        every = _fit(small(), config(4)).history
        pairs = _fit(small(), config(4, print_every=2)).history
        assert [r["loss"] for r in pairs] == [
            (a["loss"] + b["loss"]) / 2 for a, b in zip(*[iter(every)] * 2, strict=True)
        ]

    @pytest.mark.parametrize("tqdm", ["there", "missing"])
    def test_on_a_terminal(self, monkeypatch, capsys, tqdm):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        if tqdm == "missing":
            monkeypatch.setitem(sys.modules, "tqdm", None)
        else:
            pytest.importorskip("tqdm", reason="tqdm is not installed")
        Trainer(small(), Endless(), config(3)).fit()
        said = capsys.readouterr()
        assert [line.split()[:2] for line in said.out.splitlines() if line] == [["Step", str(k)] for k in (1, 2, 3)]
        assert ("3/3" in said.err) == (tqdm == "there")

    def test_tensorboard(self, tmp_path):
        pytest.importorskip("tensorboard", reason="tensorboard is not installed")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        result = _fit(small(), config(3, tensorboard=True), out=tmp_path)
        events = EventAccumulator(str(tmp_path / "tensorboard"))
        events.Reload()
        assert [e.step for e in events.Scalars("loss")] == [1, 2, 3]
        assert [e.value for e in events.Scalars("loss")] == [
            torch.tensor(r["loss"], dtype=torch.float32).item() for r in result.history
        ]

    def test_tensorboard_missing(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorboard", None)
        with pytest.raises(ImportError, match="pip install tensorboard"):
            _fit(small(), config(1, tensorboard=True), out=tmp_path)


class TestFit:
    def test_on_a_tensor(self):
        frames = Endless().batch(range(10))
        model = small(dropout=0.0).eval()
        before = torch.get_rng_state()
        result = fit(model, frames, steps=60, batch_size=5, lr=0.02, print_every=20, progress=False)
        assert result.history[-1]["loss"] < result.history[0]["loss"]
        assert torch.equal(torch.get_rng_state(), before), "the caller's generator is as it was"
        assert not model.training, "and so is the model's mode"
        other = small(dropout=0.0)
        assert fit(other, frames, steps=60, batch_size=5, lr=0.02, print_every=20, progress=False) == result
        assert same_parameters(model, other)

    @pytest.mark.parametrize(
        ("kind", "match", "data", "options"),
        [
            (TypeError, "'print_evry' is not known; did you mean 'print_every'", Endless(), {"print_evry": 1}),
            (TypeError, r"'data' is torch.uint8, expected float32 in \[0, 1\]", torch.zeros(2, T, D).byte(), {}),
            (ValueError, r"'data' has shape \(2, 3\), expected frames", torch.zeros(2, 3), {}),
            (
                ValueError,
                r"labels of shape \(3,\), expected one a sequence, \(2,\)",
                (torch.zeros(2, T, D), torch.zeros(3)),
                {},
            ),
            (TypeError, "'data' is a tuple, expected frames, or", (1, 2, 3), {}),
            (TypeError, "'data' is a int, expected a dataset", 3, {}),
            (ValueError, "optimizer.name is 'adamm'; choose", Endless(), {"optimizer": "adamm"}),
            (ValueError, "train.max_iters is -1", Endless(), {"steps": -1}),
        ],
    )
    def test_one_sentence(self, kind, match, data, options):
        with pytest.raises(kind, match=match) as caught:
            fit(small(), data, **options)
        assert str(caught.value).endswith(".")

    def test_trainer_arguments(self):
        with pytest.raises(TypeError, match="'model' is a int, expected a module"):
            Trainer(3, Endless())
        with pytest.raises(TypeError, match=r"'config' is a dict, expected a lstmrep.train.Config"):
            Trainer(small(), Endless(), {})
        with pytest.raises(TypeError, match="returned a Tensor without a scalar loss"):
            _fit(nn.Linear(D, 1), config(1))

    @pytest.mark.parametrize("kind", ["tensor", "mapping"])
    def test_other_ways_to_return_a_loss(self, kind):
        class Plain(nn.Linear):
            def forward(self, x):
                loss = super().forward(x).square().mean()
                return loss if kind == "tensor" else {"loss": loss}

        torch.manual_seed(0)
        result = _fit(Plain(D, 1), config(3))
        assert len(result.history) == 3
        assert set(result.history[0]) == {"step", "loss", "lr"}

    def test_teacher_probability_follows_its_schedule(self):
        model, seen = small(), []
        model.inner.register_forward_pre_hook(lambda *_: seen.append(model.teacher_probability))
        settings = Config(
            train=TrainConfig(max_iters=5, batch_size=2, teacher_start=0.0, teacher_end=1.0, teacher_steps=4)
        )
        _fit(model, settings)
        assert sorted(set(seen)) == [0.0, 0.25, 0.5, 0.75, 1.0]
        assert seen == sorted(seen)
