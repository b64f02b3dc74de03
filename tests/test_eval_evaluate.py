"""Evaluation: what is fed and compared, on a stand-in by hand and on the composite model against its own losses."""

import math

import pytest
import torch
from eval_stand_in import Fading, assert_same_scores

from lstmrep import eval as ev
from lstmrep.eval.score import COPY_LAST, ENTROPY, FREE, FUTURE, LINEAR, MEAN_FRAME, MEAN_PIXEL, RECONSTRUCTION, TEACHER
from lstmrep.nn import CompositeModel

EPS = torch.finfo(torch.float64).eps


def _clips(clips=5, frames=5, shape=(1, 2, 2), seed=0):
    return torch.rand(clips, frames, *shape, generator=torch.Generator().manual_seed(seed))


def _names(report, head):
    return [row.name for row in report.rows if row.head == head]


@pytest.mark.parametrize("conditional_reconstruction", [False, True])
@pytest.mark.parametrize("conditional_future", [False, True])
def test_rows_and_feedings(conditional_reconstruction, conditional_future):
    """Teacher-forced numbers where a decoder is conditional; each prediction against its own target."""
    frames = _clips()
    model = Fading(conditional_reconstruction=conditional_reconstruction, conditional_future=conditional_future)
    report = ev.evaluate(model, frames.split(2), mean=frames.mean((0, 1)))
    assert (TEACHER in _names(report, RECONSTRUCTION)) == conditional_reconstruction
    assert (TEACHER in _names(report, FUTURE)) == conditional_future
    half = lambda x: x / 2 + 0.25  # noqa: E731
    last = frames[:, 2]
    expected = {
        (RECONSTRUCTION, FREE): ([last, half(last)], [frames[:, 2], frames[:, 1]]),
        (RECONSTRUCTION, TEACHER): ([last, half(last)], [frames[:, 2], frames[:, 1]]),
        (FUTURE, FREE): ([half(last), half(half(last))], [frames[:, 3], frames[:, 4]]),
        (FUTURE, TEACHER): ([half(last), half(frames[:, 3])], [frames[:, 3], frames[:, 4]]),
        (FUTURE, COPY_LAST): ([last, last], [frames[:, 3], frames[:, 4]]),
        (RECONSTRUCTION, COPY_LAST): ([last, last], [frames[:, 2], frames[:, 1]]),
        (FUTURE, MEAN_FRAME): ([frames.mean((0, 1)).expand(5, 1, 2, 2)] * 2, [frames[:, 3], frames[:, 4]]),
        (FUTURE, MEAN_PIXEL): ([frames.mean().expand(5, 1, 2, 2)] * 2, [frames[:, 3], frames[:, 4]]),
    }
    for row in report.rows:
        if (row.head, row.name) not in expected:
            assert row.name in (LINEAR, ENTROPY) or row.head == RECONSTRUCTION
            continue
        made, target = (torch.stack(x, 1) for x in expected[row.head, row.name])
        values = {
            "cross_entropy": ev.cross_entropy(made, target, clamp=1e-4 if row.name == COPY_LAST else 1e-10),
            "mse": ev.mse(made, target),
            "mae": ev.mae(made, target),
            "psnr": ev.psnr(made, target),
        }
        assert set(row.values) == set(values)
        if row.name == MEAN_PIXEL:
            # The mean of the mean frame and the mean of all frames are one number but for a float32 rounding or two.
            assert abs(row.mean("mse") - float(values["mse"].mean())) <= 4 * 2 * torch.finfo(torch.float32).eps
            continue
        for name, t in values.items():
            assert_same_scores(row.values[name], t.numpy(), 4)
    entropy = torch.from_numpy(report.row(FUTURE, ENTROPY).values["cross_entropy"])
    assert torch.equal(entropy, ev.entropy(frames[:, 3:]))
    assert all(row.mean("cross_entropy") >= float(entropy.mean()) for row in report.rows if row.head == FUTURE)


def test_means_errors_and_curves():
    row = ev.evaluate(Fading(), [_clips()]).row(FUTURE, FREE)
    values = torch.from_numpy(row.values["mse"])
    # Sums of 10 numbers in whatever order.
    assert abs(row.mean("mse") - float(values.mean())) <= 10 * EPS * float(values.mean())
    expected = values.mean(1).std() / math.sqrt(5)
    assert abs(row.error("mse") - float(expected)) <= 100 * EPS * float(values.max())
    assert row.curve("mse").shape == (2,)
    assert math.isnan(ev.evaluate(Fading(), [_clips(1)]).row(FUTURE, FREE).error("mse"))


@pytest.mark.parametrize("batches", [1, 2, 5])
def test_batches_do_not_matter(batches):
    frames = _clips()
    whole, parts = ev.evaluate(Fading(), [frames]), ev.evaluate(Fading(), frames.split(batches))
    for a, b in zip(whole.rows, parts.rows, strict=True):
        assert (a.head, a.name) == (b.head, b.name)
        for name, values in a.values.items():
            assert_same_scores(b.values[name], values, 4)


def test_horizon_beyond_training():
    """Frames past the trained horizon are compared with the true ones given; the teacher's row ends at the horizon."""
    frames = _clips(frames=3 + 6)
    model = Fading(conditional_future=True)
    report, short = ev.evaluate(model, [frames], steps=6), ev.evaluate(model, [frames[:, :5]])
    assert (report.trained, report.steps, report.input_frames) == (2, 6, 3)
    for name in (FREE, COPY_LAST, ENTROPY):
        assert report.row(FUTURE, name).frames == 6
        start = report.row(FUTURE, name).values["cross_entropy"][:, :2]
        assert_same_scores(start, short.row(FUTURE, name).values["cross_entropy"], 4)
    assert report.row(FUTURE, TEACHER).frames == 2
    made = model.predict(frames[:, :3], 6)
    assert torch.equal(torch.from_numpy(report.row(FUTURE, FREE).values["mse"]), ev.mse(made, frames[:, 3:]))
    titles = [block[0] for block in report.blocks()]
    assert titles == ["reconstruction, 2 frames", "future, frames 1 to 2, as trained", "future, frames 3 to 6, beyond"]
    beyond = report.table().split("beyond")[1]
    assert "free-running" in beyond and "teacher-forced" not in beyond


@pytest.mark.parametrize("head", [RECONSTRUCTION, FUTURE])
def test_one_head_only(head):
    model = Fading(**{"predict" if head == RECONSTRUCTION else "reconstruct": 0})
    report = ev.evaluate(model, [_clips()])
    assert {row.head for row in report.rows} == {head}
    assert ("preds" in report.arrays) == (head == FUTURE)
    assert ("reconstruction" in report.arrays) == (head == RECONSTRUCTION)


def test_modes_come_back():
    model = Fading(conditional_future=True).train()
    model.part.eval()
    ev.evaluate(model, [_clips()])
    assert model.modes == [(False, False, True)] * 2
    assert model.training and not model.part.training
    with pytest.raises(ValueError, match="clips have 3 frames"):
        ev.evaluate(model, [_clips(frames=3)])
    assert model.training and not model.part.training


def test_reports_what_is_left_out():
    notes = ev.evaluate(Fading(), [_clips()]).notes
    assert len(notes) == 2
    assert any(note.startswith("ssim: left out, frames are 2 by 2") for note in notes)
    assert any("pass mean=lstmrep.eval.mean_frame" in note for note in notes)
    report = ev.evaluate(
        Fading(output="gaussian", input_size=64), [_clips(shape=(1, 8, 8)) * 3], mean=torch.ones(1, 8, 8)
    )
    assert report.columns() == ["half_squared_error", "mse", "mae"]
    assert len(report.notes) == 1 and report.notes[0].startswith("ssim, psnr: left out, the targets reach from")
    report = ev.evaluate(Fading(), [_clips(shape=(4,))], metrics=("mae",))
    assert LINEAR not in _names(report, FUTURE)
    assert report.columns() == ["cross_entropy", "mae"]


def test_costs():
    report = ev.evaluate(Fading(), [_clips()])
    assert report.parameters == 10
    assert report.clips_per_second > 0
    assert "cpu" in report.device
    # Encoder: 3 steps read 4 numbers, 2 of them have a state of 3. Decoders: 2 steps from the state. 2 * 4 * 3 = 24 for
    # each number. Heads: 2 frames of 4 from 3 units each.
    assert report.flops_per_clip == 24 * (3 * 4 + 2 * 3) + 2 * (24 * 2 * 3 + 2 * (2 * 3 * 4))


def test_flops_of_layers_conditions_and_handovers():
    def flops(**fields):
        return ev.flops_per_clip(Fading(**fields).config, 3)

    gates, head = 24, 2 * (2 * 3 * 4)
    encoder = gates * (3 * 4 + 2 * 3)
    assert flops(predict=0) == encoder + gates * 2 * 3 + head
    # A conditional decoder reads one frame fewer than it makes; the copying hand-over takes one step fewer.
    assert flops(predict=0, conditional_reconstruction=True) == encoder + gates * (2 * 3 + 4) + head
    assert flops(reconstruct=0, handover="copy") == encoder + gates * 1 * 3 + head
    # A second layer reads the first one's 3 units at every step and has a state of its own.
    second = gates * (3 * 3 + 2 * 3) + gates * (2 * 3 + 2 * 3)
    assert flops(predict=0, num_layers=2) == flops(predict=0) + second


def test_low_precision_is_scored_against_the_frames_as_given():
    frames = _clips()
    report = ev.evaluate(Fading().to(torch.bfloat16), [frames])
    assert torch.equal(torch.from_numpy(report.arrays["trues"]), frames[:, 3:])
    assert torch.equal(torch.from_numpy(report.arrays["inputs"]), frames[:, :3])
    made = Fading().predict(frames[:, :3].to(torch.bfloat16)).float()
    assert torch.equal(torch.from_numpy(report.arrays["preds"]), made)


def test_batches_may_carry_labels():
    frames = _clips()
    plain, labelled = ev.evaluate(Fading(), [frames]), ev.evaluate(Fading(), [(frames, torch.arange(5))])
    assert plain.row(FUTURE, FREE).mean("mse") == labelled.row(FUTURE, FREE).mean("mse")


class TestCompositeModel:
    """On the model itself, in float64: what is reported is what its forward pass reports."""

    @pytest.mark.parametrize("output", ["bernoulli", "gaussian", "relu", "squash"])
    @pytest.mark.parametrize("batch_first", [True, False])
    def test_losses_are_the_models_own(self, output, batch_first):
        model = CompositeModel(
            64,
            8,
            reconstruct=3,
            predict=2,
            conditional_future=True,
            output=output,
            squash=1.5,
            batch_first=batch_first,
            dtype=torch.float64,
        ).eval()
        frames = _clips(4, 5, (1, 8, 8))
        report = ev.evaluate(model, frames.split(3))
        turned = (frames if batch_first else frames.transpose(0, 1)).double()
        free, forced = model(turned), model(turned, feeding="teacher")
        for head, row, own in (
            (RECONSTRUCTION, FREE, free.reconstruction_loss),
            (FUTURE, FREE, free.future_loss),
            (FUTURE, TEACHER, forced.future_loss),
        ):
            # Frames are rounded to float32 before they are scored. Of an untrained model probabilities lie within
            # (.1, .9), so that a rounding of one moves the loss by at most 10 roundings; a squared error of values
            # below 2 by less. A squashed target's rounding counts by its logit, below 3.
            assert abs(report.row(head, row).mean(report.loss) - own.item()) <= 64 * 13 * torch.finfo(torch.float32).eps
        if output in ("bernoulli", "squash"):
            for name in ("preds", "preds_teacher", "reconstruction"):
                made = report.arrays[name]
                assert made.min() > 0.1 and made.max() < 0.9

    def test_free_running_never_sees_the_future(self):
        model = CompositeModel(64, 8, reconstruct=3, predict=3, conditional_future=True)
        frames = _clips(4, 6, (1, 8, 8))
        noise = torch.cat([frames[:, :3], _clips(4, 3, (1, 8, 8), seed=1)], 1)
        a, b = ev.evaluate(model, [frames]), ev.evaluate(model, [noise])
        assert (a.arrays["preds"] == b.arrays["preds"]).all()
        assert (a.arrays["preds_teacher"] != b.arrays["preds_teacher"]).any()

    def test_ssim_and_horizon(self):
        model = CompositeModel(64, 8, reconstruct=2, predict=2)
        report = ev.evaluate(model, [_clips(3, 7, (1, 8, 8))], steps=5, ssim_range=1.0)
        made = torch.from_numpy(report.arrays["preds"])
        assert made.shape == (3, 5, 1, 8, 8)
        expected = ev.ssim(made, torch.from_numpy(report.arrays["trues"]), data_range=1.0)
        assert torch.equal(torch.from_numpy(report.row(FUTURE, FREE).values["ssim"]), expected)
        assert "over a range of 1" in report.table()


class TestErrors:
    def test_not_finite_is_one_sentence(self):
        frames = _clips()

        class Broken(Fading):
            def forward(self, given, *, feeding=None):
                out = super().forward(given, feeding=feeding)
                made = out.reconstruction if self.config.reconstruct else out.future
                if len(made) == 1:
                    made[0, 1] = math.inf
                return out

        with pytest.raises(
            ValueError, match=r"reconstruction of clip 4 \(free-running\) is not finite from frame 2 on"
        ):
            ev.evaluate(Broken(), frames.split(2))
        with pytest.raises(ValueError, match=r"the future of clip 4 .* the model has diverged"):
            ev.evaluate(Broken(reconstruct=0), frames.split(2))
        frames[3, 2] = math.nan
        with pytest.raises(ValueError, match="clip 3 holds values that are not finite; check the data"):
            ev.evaluate(Fading(), frames.split(2))

    def test_batches(self):
        with pytest.raises(ValueError, match="holds no clips"):
            ev.evaluate(Fading(), [])
        with pytest.raises(TypeError, match="divide 8-bit frames by 255"):
            ev.evaluate(Fading(), [torch.zeros(2, 5, 4, dtype=torch.uint8)])
        with pytest.raises(ValueError, match="clips have 3 frames, expected 4 or more: 2 to read and 2 to predict"):
            ev.evaluate(Fading(), [_clips(frames=3)])
        with pytest.raises(ValueError, match="one length and frame size"):
            ev.evaluate(Fading(), [_clips(), _clips(frames=6)])
        with pytest.raises(ValueError, match="argument 'target' reaches from"):
            ev.evaluate(Fading(), [_clips(seed=0) + torch.tensor([0.0, 0, 0, 0, 0.5])[:, None, None, None]])

    def test_arguments(self):
        with pytest.raises(ValueError, match="'steps' is 1, expected the 2 that the model predicts"):
            ev.evaluate(Fading(), [_clips()], steps=1)
        with pytest.raises(ValueError, match="built with predict=0"):
            ev.evaluate(Fading(predict=0), [_clips()], steps=3)
        with pytest.raises(ValueError, match="'metrics' names 'vgg', expected some of mse, mae, ssim, psnr, lpips"):
            ev.evaluate(Fading(), [_clips()], metrics=("vgg",))
        with pytest.raises(ValueError, match=r"'mean' has the shape \(2, 2\), frames have \(1, 2, 2\)"):
            ev.evaluate(Fading(), [_clips()], mean=torch.zeros(2, 2))
