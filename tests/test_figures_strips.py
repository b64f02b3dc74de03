"""Filmstrips, long roll-outs, other numbers of digits: pictures against arrays, tables against the model itself."""

import numpy as np
import pytest
import torch

import lstmrep
from lstmrep import data, figures
from lstmrep.cli import evaluate, main, runs

Image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from figure_files import at, column, nats, pixels, shown, table  # noqa: E402

T, P = 8, 8


@pytest.fixture(scope="module")
def toy(toy_run):
    return runs.load_run(toy_run)


def clips_of(config, n, split="test", **changes):
    return runs.make_data(config, split, **changes).batch(range(n))


def words(*arguments):
    return [str(a) for a in arguments]


class TestFilmstrip:
    @pytest.fixture(scope="class")
    @staticmethod
    def made(toy, tmp_path_factory):
        model, config = toy
        torch.manual_seed(1)
        models = {
            "trained": model,
            "new, deep": lstmrep.CompositeModel(144, 9, 2, reconstruct=5, predict=P, conditional_future=True).eval(),
            "autoencoder": lstmrep.CompositeModel(144, 9, reconstruct=T, predict=0).eval(),
        }
        clips = clips_of(config, 3)
        return models, clips, figures.filmstrip(models, clips, tmp_path_factory.mktemp("strip"), scale=3)

    def test_every_frame_is_in_its_place(self, made):
        models, clips, figure = made
        picture, grid = pixels(figure.paths[0]), figure.grids["filmstrip"]
        assert picture.shape[:2] == grid.size(3 * 4, T + P)[::-1]
        for k, clip in enumerate(clips):
            for t in range(T + P):
                assert (at(picture, grid, 4 * k, t) == shown(clip[t], 3)).all(), (k, t)
            for row, model in enumerate(models.values(), 1):
                with torch.no_grad():
                    out = model(clips if model.config.predict else clips[:, :T])
                told = out.reconstruction[k].flip(0)
                for t, frame in enumerate(told, T - len(told)):
                    assert (at(picture, grid, 4 * k + row, t) == shown(frame, 3)).all(), (k, row, t)
                if model.config.predict:
                    for t in range(P):
                        assert (at(picture, grid, 4 * k + row, T + t) == shown(out.future[k, t], 3)).all()
        assert grid.box(4, 0)[1] - grid.box(3, 0)[3] > grid.box(1, 0)[1] - grid.box(0, 0)[3], "clips stand apart"

    def test_the_table_is_the_loss_of_each_frame(self, made):
        models, clips, figure = made
        lines = table(figure.paths[1])
        assert list(lines[0]) == ["model", "clip", "head", "frame", "cross_entropy"]
        assert len(lines) == 3 * (T + P + 5 + P + T)
        for label, model in models.items():
            with torch.no_grad():
                out = model(clips if model.config.predict else clips[:, :T])
            for head, frames in (("reconstruction", out.reconstruction), ("future", out.future)):
                own = [line for line in lines if (line["model"], line["head"]) == (label, head)]
                if frames is None:
                    assert not own
                    continue
                frames = frames.flip(1) if head == "reconstruction" else frames
                numbers = list(range(1 - frames.shape[1], 1)) if head == "reconstruction" else list(range(1, P + 1))
                assert [int(line["frame"]) for line in own] == 3 * numbers
                truth = clips[:, [n + T - 1 for n in numbers]]
                by_hand = torch.from_numpy(nats(frames, truth)).flatten()
                torch.testing.assert_close(torch.from_numpy(column(own, "cross_entropy")), by_hand)

    def test_errors(self, toy, tmp_path):
        model, config = toy
        clips = clips_of(config, 1)
        for arguments, sentence in (
            (({}, clips), "argument 'models' is empty"),
            (({"a": model}, clips.flatten(2)), "data that are no images cannot be shown"),
            (({"a": model}, clips.expand(-1, -1, 2, -1, -1)), "data that are no images cannot be shown"),
            (
                ({"a": model, "b": lstmrep.CompositeModel(144, 3, output="relu")}, clips),
                "'a' has output='bernoulli' and 'b' 'relu'; compare models that agree in it",
            ),
        ):
            with pytest.raises(ValueError, match=sentence):
                figures.filmstrip(*arguments, tmp_path)
        assert not list(tmp_path.iterdir())


class TestRollout:
    STEPS = 60

    @pytest.fixture(scope="class")
    @staticmethod
    def made(toy, tmp_path_factory):
        model, config = toy
        clips = clips_of(config, 20, num_frames=T + TestRollout.STEPS)
        mean = torch.cat(list(evaluate.batches(runs.make_data(config, "train"), 100, 50))).mean((0, 1))
        out = tmp_path_factory.mktemp("rollout")
        return (
            model,
            clips,
            mean,
            figures.rollout(model, clips, out, steps=TestRollout.STEPS, every=4, shown=2, mean=mean),
        )

    def test_the_table_is_the_loss_of_each_step(self, made):
        model, clips, mean, figure = made
        lines = table(figure.folder / "rollout.csv")
        assert column(lines, "step").tolist() == list(range(1, self.STEPS + 1))
        assert [line["trained"] for line in lines] == ["true"] * P + ["false"] * (self.STEPS - P)
        predicted, truth = model.predict(clips[:, :T], self.STEPS), clips[:, T:]
        assert torch.isfinite(predicted).all()
        for name, frames in (("model", predicted), ("mean_pixel", mean.mean().expand_as(truth))):
            torch.testing.assert_close(
                torch.from_numpy(column(lines, name)), torch.from_numpy(nats(frames, truth).mean(0))
            )
        assert {"mean_frame", "copy_last", "linear_motion", "entropy_of_the_targets"} <= set(lines[0])

    def test_every_fourth_frame_is_in_its_place(self, made):
        model, clips, _, figure = made
        picture, grid = pixels(figure.folder / "rollout.png"), figure.grids["rollout"]
        numbers = [-4, 0, *range(4, self.STEPS + 1, 4)]
        assert picture.shape[:2] == grid.size(4, len(numbers))[::-1]
        with torch.no_grad():
            told = model(clips[:, : T + P]).reconstruction.flip(1)
        made = torch.cat([told, model.predict(clips[:, :T], self.STEPS)], 1)
        for k in range(2):
            for place, n in enumerate(numbers):
                assert (at(picture, grid, 2 * k, place) == shown(clips[k, n + T - 1], 2)).all()
                assert (at(picture, grid, 2 * k + 1, place) == shown(made[k, n + T - 1], 2)).all()
        # The trained horizon, between +8 and +12.
        x = grid.box(0, numbers.index(12))[0] - (grid.gap + 1) // 2
        assert (picture[4:-4, x] == (138, 138, 138)).all()

    def test_the_film_has_every_frame_and_the_curve_is_there(self, made):
        folder = made[3].folder
        assert Image.open(folder / "rollout.gif").n_frames == T + self.STEPS
        assert Image.open(folder / "rollout-curve.png").size == (864, 432)
        assert [p.name for p in made[3].paths] == ["rollout.png", "rollout-curve.png", "rollout.gif", "rollout.csv"]
        assert made[3].found[1].startswith("the model is worse than the mean frame first at step ")

    def test_errors(self, toy, tmp_path):
        model, config = toy
        clips = clips_of(config, 1)
        with pytest.raises(ValueError, match="clips have 16 frames, expected 68 or more"):
            figures.rollout(model, clips, tmp_path)
        with pytest.raises(ValueError, match="argument 'every' is 0"):
            figures.rollout(model, clips, tmp_path, every=0)
        with pytest.raises(ValueError, match="has no future head"):
            figures.rollout(lstmrep.CompositeModel(144, 3, predict=0), clips, tmp_path)


class TestDigits:
    @pytest.fixture(scope="class")
    @staticmethod
    def made(toy_run, tmp_path_factory):
        out = tmp_path_factory.mktemp("digits")
        assert main(words("figures", "digits", "--checkpoint", toy_run, "--clips", 60, "--out", out)) == 0
        return out, table(out / "digits.csv")

    def test_losses_by_number(self, made, toy):
        model, config = toy
        found = {(int(line["digits"]), line["head"], line["prediction"]): float(line["loss"]) for line in made[1]}
        for n in (1, 2, 3):
            clips = clips_of(config, 60, num_digits=n)
            with torch.no_grad():
                out = model(clips)
            for head, frames, truth in (
                ("reconstruction", out.reconstruction.flip(1), clips[:, :T]),
                ("future", out.future, clips[:, T:]),
            ):
                by_hand = torch.tensor(nats(frames, truth).mean())
                torch.testing.assert_close(torch.tensor(found[n, head, "model, free-running"]).double(), by_hand)
                if n > 1:
                    inside = found[1, head, "model, free-running"]
                    assert found[n, head, "model, free-running"] > inside, "out of domain is worse"
                assert found[n, head, "mean pixel"] > 0

    def test_the_baseline_knows_the_number(self, made, toy):
        _, config = toy
        found = {line["digits"]: float(line["loss"]) for line in made[1] if line["prediction"] == "mean pixel"}
        for n in (1, 3):
            train = torch.cat(list(evaluate.batches(runs.make_data(config, "train", num_digits=n), 1000, 100)))
            level = train.double().mean().float()
            truth = clips_of(config, 60, num_digits=n)[:, T:]
            by_hand = float(nats(level.expand_as(truth), truth).mean())
            # The level is a float32; its rounding moves each pixel's logarithm by no more than eps over the level.
            assert abs(found[str(n)] - by_hand) <= 144 * torch.finfo(torch.float32).eps / float(level)

    def test_strips_of_each_number(self, toy, tmp_path):
        model, config = toy
        clips = {n: clips_of(config, 3, num_digits=n) for n in (1, 2)}
        figure = figures.digits(model, clips, tmp_path, shown=2, trained=(1, 1))
        picture, grid = pixels(tmp_path / "digits.png"), figure.grids["digits"]
        assert picture.shape[:2] == grid.size(8, T + P)[::-1]
        for j, n in enumerate((1, 2)):
            with torch.no_grad():
                out = model(clips[n])
            made = torch.cat([out.reconstruction.flip(1), out.future], 1)
            for k in range(2):
                for t in range(T + P):
                    assert (at(picture, grid, 4 * j + 2 * k, t) == shown(clips[n][k, t], 2)).all()
                    assert (at(picture, grid, 4 * j + 2 * k + 1, t) == shown(made[k, t], 2)).all()
        assert any(line.startswith("future: out of domain ") for line in figure.found)
        assert any("1 digit (trained)  2 digits" in line for line in figure.found)

    def test_errors(self, toy, toy_run, tmp_path, capsys):
        with pytest.raises(ValueError, match="argument 'clips' is empty"):
            figures.digits(toy[0], {}, tmp_path)
        np.save(tmp_path / "clips.npy", np.zeros((4, 16, 12, 12), np.uint8))
        other = ["data.name=sequence_file"]
        assert main(words("figures", "digits", "--checkpoint", toy_run, "--out", tmp_path / "x", *other)) == 2
        said = capsys.readouterr().err
        assert "the data are sequence_file; only moving_mnist has a number of digits" in said and said.count("\n") == 1


def test_the_first_clips_and_the_next_ones(toy_run, tmp_path):
    """--seed S takes clips S * N to S * N + N - 1."""
    losses = {}
    for seed, clips in ((0, 4), (1, 2)):
        arguments = ("--clips", clips, "--seed", seed, "--out", tmp_path / str(seed))
        assert main(words("figures", "filmstrip", "--checkpoint", f"toy={toy_run}", *arguments)) == 0
        lines = table(tmp_path / str(seed) / "filmstrip.csv")
        losses[seed] = [line["cross_entropy"] for line in lines if line["head"] == "future"]
    first = torch.tensor([float(x) for x in losses[0]]).view(4, P)
    torch.testing.assert_close(torch.tensor([float(x) for x in losses[1]]).view(2, P), first[2:])


def test_other_data_by_words(toy_run, tmp_path, capsys):
    arguments = ("--checkpoint", toy_run, "--clips", 3, "--steps", 20, "--out", tmp_path, "data.num_digits=2")
    assert main(words("figures", "rollout", *arguments)) == 0
    text = capsys.readouterr().out
    assert f"saved     {tmp_path / 'rollout.gif'}" in text and "step 20:" in text
    model, config = runs.load_run(toy_run)
    clips = data.make(
        "moving_mnist",
        "test",
        **{k: v for k, v in config.data.items() if k != "name"} | {"num_digits": 2} | {"num_frames": 28},
    ).batch(range(3))
    by_hand = torch.from_numpy(nats(model.predict(clips[:, :T], 20), clips[:, T:]).mean(0))
    torch.testing.assert_close(torch.from_numpy(column(table(tmp_path / "rollout.csv"), "model")), by_hand)
