"""Reports: the table as text, files that give the same numbers again."""

import json
import math

import numpy as np
import pytest
import torch
from eval_stand_in import Fading, assert_same_scores

from lstmrep import eval as ev
from lstmrep.eval.report import Report, Row
from lstmrep.eval.score import COPY_LAST, FREE, FUTURE, RECONSTRUCTION, TEACHER, Settings

EPS = np.finfo(np.float64).eps
VALUES = 64


def _report(keep=0, **fields):
    g = torch.Generator().manual_seed(3)
    frames = torch.rand(7, 7, 1, 8, 8, generator=g)
    model = Fading(input_size=VALUES, conditional_future=True, **fields)
    return ev.evaluate(
        model, frames.split(3), steps=4, mean=frames.mean((0, 1)), keep=keep, description="noise, split test, seed 3"
    )


def _assert_same(rows, others):
    assert [(r.head, r.name) for r in rows] == [(r.head, r.name) for r in others]
    for row, other in zip(rows, others, strict=True):
        assert set(row.values) == set(other.values)
        for name, values in row.values.items():
            assert_same_scores(values, other.values[name], VALUES)


@pytest.mark.parametrize("output", ["bernoulli", "gaussian"])
def test_saved_frames_give_the_same_numbers(tmp_path, output):
    report = _report(output=output)
    assert report.save(tmp_path / "made") == tmp_path / "made"
    _assert_same(ev.recompute(tmp_path / "made").rows, report.rows)
    arrays = {name: np.load(tmp_path / "made" / f"{name}.npy") for name in report.arrays}
    assert set(arrays) == {"inputs", "trues", "preds", "preds_teacher", "reconstruction", "mean"}
    assert arrays["inputs"].shape == (7, 3, 1, 8, 8) and arrays["preds"].shape == arrays["trues"].shape == (
        7,
        4,
        1,
        8,
        8,
    )
    # With nothing but numpy, from the files.
    mse = np.square(arrays["preds"].astype(np.float64) - arrays["trues"]).sum((2, 3, 4))
    assert np.abs(mse - report.row(FUTURE, FREE).values["mse"]).max() <= 2 * VALUES * EPS * mse.max()


def test_load_reads_everything_back(tmp_path):
    report = _report()
    report.save(tmp_path)
    loaded = ev.load(tmp_path)
    for name in ("settings", "description", "clips", "input_frames", "trained", "steps", "parameters", "notes"):
        assert getattr(loaded, name) == getattr(report, name), name
    assert loaded.table() == report.table()
    for a, b in zip(report.rows, loaded.rows, strict=True):
        assert all((values == b.values[name]).all() for name, values in a.values.items())
    assert all((loaded.arrays[name] == array).all() for name, array in report.arrays.items())


def test_keep_limits_what_is_saved(tmp_path):
    """The means stay those of all clips; the kept clips' numbers are the report's own for them."""
    report = _report(keep=4)
    assert report.kept == 4 and report.clips == 7
    assert (report.arrays["preds"] == _report().arrays["preds"][:4]).all()
    report.save(tmp_path)
    again = ev.recompute(tmp_path)
    assert again.clips == 4
    _assert_same(again.rows, report.first(4))
    assert ev.load(tmp_path).table() == report.table()


def test_json_is_strict_and_has_means_and_curves(tmp_path):
    report = _report()
    report.save(tmp_path)

    def refuse(name):
        raise AssertionError(name)

    found = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert found["unit"] == "nats/frame" and found["description"] == "noise, split test, seed 3"
    rows = {(row["head"], row["name"]): row["metrics"] for row in found["rows"]}
    assert rows[FUTURE, FREE]["mse"]["mean"] == report.row(FUTURE, FREE).mean("mse")
    assert rows[FUTURE, FREE]["mse"]["per_frame"] == report.row(FUTURE, FREE).curve("mse").tolist()
    # The stand-in repeats the last input frame exactly.
    assert rows[RECONSTRUCTION, FREE]["psnr"]["per_frame"][0] == "inf"
    assert rows[RECONSTRUCTION, FREE]["psnr"]["standard_error"] is None


def test_table():
    row = Row(FUTURE, FREE, {"cross_entropy": np.array([[1.0, 3.0], [2.0, 4.0]]), "ssim": np.array([[0.5, 1.0]] * 2)})
    copied = Row(FUTURE, COPY_LAST, {"cross_entropy": np.array([[100.0, 100.0]] * 2)})
    report = Report([row, copied], Settings(), "glyphs, seed 7", 2, 3, 2, 2, 1500, 2_500_000, 12.25, "cpu", ["a note"])
    # Means of the two clips are 2 and 3: 2.5, and a standard error of sqrt(1/2)/sqrt(2) = .5.
    assert report.table().splitlines() == [
        "data    glyphs, seed 7",
        "clips   2; 3 frames in, 2 predicted",
        "model   1,500 parameters, 2.5 MFLOP a clip, 12.2 clips/s on cpu",
        "ssim    over a range of 2",
        "",
        "future, 2 frames             nats/frame    SSIM",
        "model, free-running         2.50 ± 0.50  0.7500",
        "copy last (clamp 0.0001)  100.00 ± 0.00       -",
        "",
        "a note",
    ]


def test_table_has_every_row_and_aligned_columns():
    report = _report()
    text = report.table()
    assert "noise, split test, seed 3" in text
    for block in text.split("\n\n")[1:]:
        assert len({len(line) for line in block.splitlines()}) == 1
    assert text.count(FREE) == 3 and text.count(TEACHER) == 1
    assert text.count("entropy of the targets") == 3
    assert "nan" not in text


def test_errors(tmp_path):
    report = _report()
    with pytest.raises(KeyError, match="no row 'magic' for the future; rows are reconstruction: model"):
        report.row(FUTURE, "magic")
    with pytest.raises(KeyError, match="has no 'lpips', it has cross_entropy"):
        report.row(FUTURE, FREE).mean("lpips")
    with pytest.raises(FileNotFoundError, match=r"pass a folder that Report\.save wrote"):
        ev.load(tmp_path)
    report.save(tmp_path)
    (tmp_path / "metrics.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="has the format 99, expected 1"):
        ev.load(tmp_path)
    assert math.isnan(report.row(RECONSTRUCTION, FREE).error("psnr"))
