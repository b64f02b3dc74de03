"""Activity, features, comparison and labels: the numbers written are those of the model or of a hand."""

import math

import numpy as np
import pytest
import torch

import lstmrep
from lstmrep import figures
from lstmrep.cli import main, runs
from lstmrep.figures.features import axes

Image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from figure_files import at, column, nats, pixels, shown, table  # noqa: E402

GATES = ("input gate", "forget gate", "cell input", "output gate")


def words(*arguments):
    return [str(a) for a in arguments]


@pytest.fixture(scope="module")
def toy(toy_run):
    return runs.load_run(toy_run)


@pytest.fixture(scope="module")
def drawn_gates(toy_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("gates")
    assert main(words("figures", "gates", "--checkpoint", toy_run, "--units", 10, "--clips", 5, "--out", out)) == 0
    return out


class TestGates:
    def test_the_trained_predictor_goes_on_and_the_untrained_one_stops(self, drawn_gates):
        steps = table(drawn_gates / "gates-steps.csv")
        assert column(steps, "step").tolist() == list(range(1, 100))
        assert float(steps[58]["trained"]) > 50 * float(steps[58]["untrained"])

    def test_the_tables_are_the_activity(self, drawn_gates, toy):
        model, config = toy
        inputs = runs.make_data(config, "test").batch(range(5))[:, :8]
        found = figures.activity(model, inputs, 100)
        lines = [line for line in table(drawn_gates / "gates.csv") if line["model"] == "trained"]
        units = sorted({int(line["unit"]) for line in lines})
        assert len(units) == 10 and len(lines) == 10 * 100
        for name in "cifgoh":
            written = torch.from_numpy(column(lines, name).reshape(10, 100).T).float()
            assert torch.equal(written, getattr(found, name)[:, 0, units]), name
        by_hand = [(found.h[t] - found.h[t - 1]).double().abs().mean() for t in range(1, 100)]
        written = torch.from_numpy(column(table(drawn_gates / "gates-steps.csv"), "trained"))
        torch.testing.assert_close(written, torch.stack(by_hand))

    def test_every_unit_has_the_peak_of_its_spectrum(self, drawn_gates, toy):
        model, config = toy
        inputs = runs.make_data(config, "test").batch(range(5))[:, :8]
        h = figures.activity(model, inputs, 100).h[8:, 0].double().numpy()
        lines = [line for line in table(drawn_gates / "gates-units.csv") if line["model"] == "trained"]
        for line in lines:
            x = h[:, int(line["unit"])]
            # The transform by its definition.
            t = np.arange(len(x))
            power = [abs(((x - x.mean()) * np.exp(-2j * np.pi * k * t / len(x))).sum()) ** 2 for k in range(1, 47)]
            peak = int(np.argmax(power))
            torch.testing.assert_close(float(line["period"]), len(x) / (peak + 1))
            torch.testing.assert_close(float(line["share"]), power[peak] / sum(power))
            torch.testing.assert_close(float(line["amplitude"]), float(x.std()))

    def test_the_picture_and_the_untrained_model(self, drawn_gates, toy, tmp_path):
        assert Image.open(drawn_gates / "gates.png").size == (1500, 800)
        model, config = toy
        inputs = runs.make_data(config, "test").batch(range(2))[:, :8]
        before = torch.get_rng_state()
        for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
            figures.gates(model, inputs, tmp_path / folder, steps=12, units=500, seed=seed)
        assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers stay"
        a, b, c = ((tmp_path / folder / "gates.csv").read_text() for folder in "abc")
        assert a == b != c and len({line["unit"] for line in table(tmp_path / "a" / "gates.csv")}) == 96

    @pytest.mark.parametrize("options", [{"conditional_future": True}, {"num_layers": 2, "handover": "copy"}])
    def test_other_predictors(self, options, tmp_path):
        model = lstmrep.CompositeModel(12, 7, reconstruct=2, predict=3, batch_first=False, **options).eval()
        figure = figures.gates(model, torch.rand(2, 4, 1, 3, 4), tmp_path, steps=9, layer=0)
        assert len(figure.tables["gates"]) == 2 * 7 * 9 and "steps " in figure.found[1]

    def test_errors(self, toy, tmp_path):
        inputs = torch.rand(1, 8, 1, 12, 12)
        with pytest.raises(ValueError, match="argument 'steps' is 1, expected 2 or more"):
            figures.gates(toy[0], inputs, tmp_path, steps=1)
        with pytest.raises(ValueError, match="argument 'layer' is 3, the model has 1"):
            figures.gates(toy[0], inputs, tmp_path, layer=3)
        with pytest.raises(ValueError, match="has no future head"):
            figures.gates(lstmrep.CompositeModel(144, 3, predict=0), inputs, tmp_path)
        assert not list(tmp_path.iterdir())


def tile_by_hand(weights, frame):
    w = weights.detach().double().numpy().reshape(frame)
    return 0.5 + 0.5 * w / np.abs(w).max()


class TestFeatures:
    @pytest.mark.parametrize("colour", [False, True])
    def test_input_tiles_are_rows_in_the_order_of_their_norm(self, colour, toy, tmp_path):
        model = lstmrep.CompositeModel(60, 9) if colour else toy[0]
        frame = (3, 4, 5) if colour else (1, 12, 12)
        figure = figures.input_features(model, tmp_path, frame, top=7, columns=4, scale=3)
        picture, lines = pixels(tmp_path / "input_features.png"), table(tmp_path / "input_features.csv")
        weights = model.encoder.weight_ih_l0
        H = model.config.hidden_size
        last = figure.grids["input_features/output gate"].box(1, 3)
        assert picture.shape[0] >= last[3] and picture.shape[1] >= last[2]
        for k, gate in enumerate(GATES):
            own = [line for line in lines if line["gate"] == gate]
            rows = weights[k * H : (k + 1) * H]
            norms = rows.detach().double().norm(dim=1)
            assert [int(line["rank"]) for line in own] == list(range(7))
            torch.testing.assert_close(torch.from_numpy(column(own, "norm")), norms.sort(descending=True).values[:7])
            for place, line in enumerate(own):
                unit = int(line["unit"])
                torch.testing.assert_close(torch.tensor(float(line["norm"])).double(), norms[unit])
                found = at(picture, figure.grids[f"input_features/{gate}"], place // 4, place % 4)
                assert (found == shown(tile_by_hand(rows[unit], frame), 3)).all(), (gate, place)

    def test_output_tiles_are_columns(self, toy, toy_run, tmp_path):
        assert main(words("figures", "output_features", "--checkpoint", toy_run, "--out", tmp_path)) == 0
        model = toy[0]
        picture, lines = pixels(tmp_path / "output_features.png"), table(tmp_path / "output_features.csv")
        figure = figures.output_features(model, tmp_path / "again", (1, 12, 12))
        for name, decoder in (("reconstruction decoder", model.reconstruction), ("future predictor", model.future)):
            own = [line for line in lines if line["decoder"] == name]
            assert len(own) == 96, "all units, where there are fewer than 200"
            assert (np.diff(column(own, "norm")) <= 0).all()
            for place, line in enumerate(own):
                weights = decoder.head.weight[:, int(line["unit"])]
                found = at(picture, figure.grids[f"output_features/{name}"], place // 20, place % 20)
                assert (found == shown(tile_by_hand(weights, (1, 12, 12)), 2)).all(), (name, place)

    def test_the_means_printed_are_those_of_the_tables(self, toy, tmp_path):
        model = toy[0]
        of = {name: getattr(figures, f"{name}_features")(model, tmp_path, (1, 12, 12)) for name in ("input", "output")}
        for line, name in zip(of["output"].found, ("input", "output"), strict=False):
            lines = table(tmp_path / f"{name}_features.csv")
            length, width, ratio = (column(lines, key).mean() for key in ("length", "width", "elongation"))
            assert line.startswith(f"{name} features, all ")
            assert line.endswith(f"mean length {length:.2f}, width {width:.2f} pixels, elongation {ratio:.2f}")

    def test_strips_and_blobs(self):
        w = torch.zeros(5, 2, 12, 15, dtype=torch.float64)
        w[0, 0, 4, 3:12] = -2.0  # a strip of 9 pixels
        w[1, 1, 3:6, 2:5] = 0.5  # a blob of 3 by 3
        w[2, :, 2:12, 7] = 1.0  # a strip of 10, in both channels
        w[3, 0, range(9), range(9)] = 1.0  # along the diagonal
        length, width = axes(w)
        elongation = length / width
        # Moments of a row of n pixels that each have an extent: n^2 / 12.
        expected = torch.tensor([9.0, 3.0, 10.0], dtype=torch.float64) / math.sqrt(12)
        torch.testing.assert_close(length[:3], expected)
        torch.testing.assert_close(elongation[:3], torch.tensor([9.0, 1.0, 10.0], dtype=torch.float64))
        # On the diagonal pixels lie sqrt(2) apart.
        torch.testing.assert_close(float(length[3]), math.sqrt(2 * (81 - 1) / 12 + 1 / 12))
        assert length[4].isnan(), "no weights, no shape"

    def test_errors(self, toy, tmp_path):
        model = toy[0]
        for frame, sentence in (
            ((144,), "features that are no images cannot be shown"),
            ((2, 9, 8), "features that are no images cannot be shown"),
            ((1, 12, 11), "a product of 132, and the model has frames of 144 values"),
        ):
            for draw in (figures.input_features, figures.output_features):
                with pytest.raises(ValueError, match=sentence):
                    draw(model, tmp_path, frame)
        with pytest.raises(ValueError, match="argument 'top' is 0"):
            figures.input_features(model, tmp_path, (1, 12, 12), top=0)
        assert not list(tmp_path.iterdir())


class TestComparison:
    @pytest.fixture(scope="class")
    @staticmethod
    def small(tmp_path_factory):
        """Runs of two steps: a conditional one of two layers, an autoencoder, one that reads fewer frames."""
        folder = tmp_path_factory.mktemp("runs")
        quick = ["train.max_iters=2", "train.batch_size=4", "train.save_every=0", "train.validate_every=0"]
        for name, changes in (
            ("deep", ["model.num_layers=2", "model.hidden_size=8", "model.conditional_future=true"]),
            ("auto", ["model.hidden_size=8", "model.predict=0", "data.num_frames=8"]),
            ("short", ["model.hidden_size=8", "model.reconstruct=6", "data.num_frames=14"]),
            ("other", ["model.hidden_size=8", "data.num_digits=2"]),
            ("horizon", ["model.hidden_size=8", "model.predict=6", "data.num_frames=14"]),
        ):
            assert main(words("train", "toy", *quick, *changes, "--out", folder / name)) == 0
        return folder

    def test_one_command_one_table(self, small, toy_run, tmp_path, capsys):
        models = [f"trained={toy_run}", small / "deep", f"autoencoder={small / 'auto'}"]
        given = [word for model in models for word in ("--checkpoint", model)]
        assert main(words("figures", "comparison", *given, "--clips", 120, "--out", tmp_path)) == 0
        text, lines = capsys.readouterr().out, table(tmp_path / "comparison.csv")
        names = ["trained", "deep", "autoencoder", "mean pixel", "mean frame", "copy last", "linear motion"]
        assert [line["name"] for line in lines] == [*names, "entropy of the targets"]
        assert [line["kind"] for line in lines] == ["model"] * 3 + ["baseline"] * 5
        assert all(f"\n{name} " in text for name in names) and "120 clips, 8 frames in" in text
        assert "split test; seed 0; 16 frames" in text
        assert Image.open(tmp_path / "comparison.png").size == (1200, 416)
        own = {line["name"]: line for line in lines}
        assert own["autoencoder"]["future"] == "" and own["trained"]["future_teacher"] == ""
        assert [own["deep"][k] for k in ("layers", "units", "conditional_future")] == ["2", "8", "true"]
        clips = runs.make_data(runs.load_run(toy_run)[1], "test").batch(range(120))
        for label, folder in (("trained", toy_run), ("deep", small / "deep"), ("autoencoder", small / "auto")):
            model, _ = runs.load_run(folder)
            assert int(own[label]["parameters"]) == sum(p.numel() for p in model.parameters())
            read = clips if model.config.predict else clips[:, :8]
            with torch.no_grad():
                free, forced = model(read), model(read, feeding="teacher")
            expected = {"reconstruction": nats(free.reconstruction.flip(1), clips[:, :8])}
            if model.config.predict:
                expected["future"] = nats(free.future, clips[:, 8:])
            if model.config.conditional_future:
                expected["future_teacher"] = nats(forced.future, clips[:, 8:])
            for key, losses in expected.items():
                torch.testing.assert_close(float(own[label][key]), float(losses.mean()))
                if key != "future_teacher":
                    error = losses.mean(1).std(ddof=1) / math.sqrt(120)
                    torch.testing.assert_close(float(own[label][f"{key}_error"]), float(error))

    @pytest.mark.parametrize(
        ("other", "sentence"),
        [
            ("short", "'toy' reads 8 frames and 'short' 6; compare models that read alike"),
            ("other", "'toy' and 'other' have different data (MovingMNIST: "),
            ("horizon", "lstmrep.figures.comparison, future: 'toy' has predict=8 and 'horizon' 6"),
        ],
    )
    def test_models_that_do_not_agree(self, other, sentence, small, toy_run, tmp_path, capsys):
        given = words("--checkpoint", toy_run, "--checkpoint", small / other, "--clips", 4, "--out", tmp_path / "out")
        assert main(["figures", "comparison", *given]) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_in_python(self, toy, tmp_path):
        model = toy[0]
        batches = [torch.rand(3, 16, 1, 12, 12), torch.rand(2, 16, 1, 12, 12)]
        figure = figures.comparison({"a": model, "b": model}, batches, tmp_path)
        a, b = figure.tables["comparison"][:2]
        assert {**a, "name": ""} == {**b, "name": ""} and "5 clips" in figure.found[-1]
        with pytest.raises(ValueError, match="argument 'models' is empty"):
            figures.comparison({}, batches, tmp_path)


CSV = """task,encoder,labels,resampling,accuracy
motion,none,4,0,0.25
motion,none,4,1,0.35
motion,none,16,0,0.5
motion,composite,4,0,0.5
motion,composite,4,1,0.75
motion,composite,4,2,0.7
"""


class TestLabels:
    def test_means_and_deviations(self, tmp_path, capsys):
        (tmp_path / "a.csv").write_text(CSV)
        (tmp_path / "b.csv").write_text(
            CSV.splitlines()[0] + "\nmotion,composite,all,0,0.9\nmotion,composite,16,0,0.8\n"
        )
        files = [tmp_path / "a.csv", tmp_path / "b.csv"]
        assert main(words("figures", "labels", "--results", *files, "--out", tmp_path)) == 0
        lines = table(tmp_path / "labels.csv")
        assert list(lines[0])[:5] == ["encoder", "labels", "mean", "std", "resamplings"]
        found = [(line["encoder"], line["labels"], line["resamplings"]) for line in lines]
        composite = [("composite", "4", "3"), ("composite", "16", "1"), ("composite", "all", "1")]
        assert found == [("none", "4", "2"), ("none", "16", "1"), *composite]
        # (.25 + .35) / 2; sqrt(.05^2 + .05^2); sqrt((.15^2 + .1^2 + .05^2) / 2)
        torch.testing.assert_close(column(lines, "mean").tolist(), [0.3, 0.5, 0.65, 0.8, 0.9])
        torch.testing.assert_close(float(lines[0]["std"]), math.sqrt(0.005))
        torch.testing.assert_close(float(lines[2]["std"]), math.sqrt(0.0175))
        torch.testing.assert_close(float(lines[2]["standard_error"]), math.sqrt(0.0175 / 3))
        assert lines[1]["std"] == "" == lines[4]["standard_error"], "one resampling has no deviation"
        text = capsys.readouterr().out
        assert "random initialisation" in text and "0.300 ± 0.071" in text and "bars: standard deviation" in text
        assert "0.800" in text and "resamplings: 1 to 3" in text
        assert Image.open(tmp_path / "labels.png").size == (650, 400)

    def test_lines_in_python_and_a_panel_a_task(self, tmp_path):
        line = {"task": "a", "encoder": "none", "labels": 4, "resampling": 0, "accuracy": 0.5}
        figure = figures.labels([line, {**line, "task": "b"}], tmp_path)
        assert [row["task"] for row in figure.tables["labels"]] == ["a", "b"]
        assert Image.open(tmp_path / "labels.png").size == (1150, 400)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "has no column 'task', expected task,encoder,labels,resampling,accuracy"),
            (CSV.replace("accuracy", "acuracy"), "has no column 'accuracy'"),
            (CSV.splitlines()[0] + "\n", "argument 'results' holds no lines"),
            (CSV.replace("0.35", "35"), "results.csv, line 3, has the accuracy '35', expected a share from 0 to 1"),
            (CSV.replace("0.35", "?"), "has the accuracy '?'"),
            (CSV.replace("none,16", "none,few"), "has labels 'few', expected a whole number of 1 or more, or 'all'"),
            (CSV.replace("4,2,0.7", "4,1,0.7"), "has resampling 1 of motion, composite, 4 labels a second time"),
            (CSV.replace("4,2,0.7", "4,2"), "has no 'accuracy'"),
            (None, "no file "),
        ],
        ids=range(9),
    )
    def test_mistakes(self, text, sentence, tmp_path, capsys):
        path = tmp_path / "results.csv"
        if text is not None:
            path.write_text(text)
        assert main(words("figures", "labels", "--results", path, "--out", tmp_path / "out")) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gates", "--checkpoint", "/nowhere"], "no trained model in /nowhere; pass a folder"),
        (["filmstrip", "--checkpoint", "a=/nowhere"], "no trained model in /nowhere; pass a folder"),
        (["rollout", "--checkpoint", "RUN", "--clips", "0"], "--clips is 0, expected 1 or more"),
        (["rollout", "--checkpoint", "RUN", "--seed", "-1"], "--seed is -1, expected 0 or more"),
        (["rollout", "--checkpoint", "RUN", "--steps", "4"], "argument 'steps' is 4, expected the 8"),
        (["rollout", "--checkpoint", "RUN", "model.x=1"], "'model.x=1' is not of the form data.setting=value"),
        (["filmstrip", "--checkpoint", "RUN", "--checkpoint", "RUN"], "two models are called 'toy'"),
        (["filmstrip", "--checkpoint", "RUN", "data.canvas=10"], "144"),
    ],
    ids=range(8),
)
def test_mistakes(arguments, sentence, toy_run, tmp_path, capsys):
    arguments = [str(toy_run) if word == "RUN" else word for word in arguments]
    assert main(["figures", *arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.startswith("error: ") and said.count("\n") == 1, said
    assert not (tmp_path / "out").exists()


def test_an_unknown_figure_and_a_classifier(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["figures", "film"])
    assert ended.value.code == 2 and "invalid choice: 'film'" in capsys.readouterr().err
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    lstmrep.ActionClassifier(144, 4, 3).save_pretrained(tmp_path / "classifier")
    assert main(words("figures", "gates", "--checkpoint", tmp_path / "classifier", "--out", tmp_path / "out")) == 2
    assert "holds a ActionClassifier; figures are of composite models" in capsys.readouterr().err


def test_a_folder_with_a_model_alone_needs_data(toy_run, tmp_path, capsys):
    given = words("figures", "input_features", "--checkpoint", toy_run / "model", "--out", tmp_path)
    assert main(given) == 2
    assert "the folder has no config.toml and so no data" in capsys.readouterr().err
    assert main([*given, "data.source=glyphs", "data.canvas=12"]) == 0
    assert (tmp_path / "input_features.png").is_file()
