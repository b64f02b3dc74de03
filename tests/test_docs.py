"""README and docs: their Python runs, the files and links they name exist."""

import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_python_blocks_run(page, capsys):
    scope: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(compile(block, str(page), "exec"), scope)
    if page.name == "README.md":
        assert "backend   cpu" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_and_quoted_paths_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"`((?:lstmrep|csrc|tests|docs|benchmarks|triton_kernels)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_readme_has_the_two_commands_that_ci_runs():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("pip install")] == [
        'pip install ".[bench]" && python benchmarks/bench_lstm.py',
        'pip install ".[test,files]" && pytest',
    ]
    assert (ROOT / ".ci" / "run").read_text().count("README.md") == 2


def test_figures_of_the_readme_are_those_of_the_run_that_it_names():
    from lstm_bench import report

    text = (ROOT / "README.md").read_text()
    (named,) = re.findall(r"\]\((benchmarks/results/bench-[^)]+)\)", text)
    rows = report.read_csv((ROOT / named).with_name("bench.csv"))
    assert "\n".join(report.summary(rows)) in text
    assert not [r for r in rows if r.wrong or r.note] and {r.rounds for r in rows} <= set(range(5, 41))
    assert "- machine: AMD EPYC, cpu, avx512_bf16, 2 threads;" in (ROOT / named).read_text()


def test_figures_of_the_readme_are_those_of_the_report_that_it_names():
    from gpu_stages import summary

    text = (ROOT / "README.md").read_text()
    (named,) = set(re.findall(r"\]\((benchmarks/results/gpu-check-[^)]+)\)", text))
    reported = (ROOT / named).read_text()
    assert summary.table(reported) in text
    assert "\nPASSED: 7 stages passed, 0 failed, 0 skipped." in reported and "# GPU check: NVIDIA H200\n" in reported


def test_what_explain_prints_in_the_readme_is_what_it_prints(capsys, library_gradients):
    import torch

    import lstmrep

    (shown,) = re.findall(r"```text\n(problem .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    rnn = lstmrep.LSTM(128, 256, num_layers=2, batch_first=True, peephole=True)
    lstmrep.explain(rnn, torch.randn(16, 20, 128))
    printed = capsys.readouterr().out

    def anywhere(text: str) -> list[str]:  # the instruction set and the threads are the machine's
        return re.sub(r"(amx|avx\w+|baseline), \d+ of \d+ threads( by rows)?", "ISA", text).splitlines()

    assert anywhere(shown) == anywhere(printed)[: shown.count("\n")]


def test_docstring_examples_run():
    """The example of every public docstring that has one."""
    import doctest

    import torch

    import lstmrep
    import lstmrep.nn.classifier
    import lstmrep.nn.composite
    import lstmrep.nn.init
    import lstmrep.nn.lstm

    names = {"torch": torch, "lstmrep": lstmrep, "model": lstmrep.LSTM(2, 3), "x": torch.randn(2, 1, 2)}
    ran = 0
    modules = lstmrep.nn.lstm, lstmrep.nn.composite, lstmrep.nn.classifier, lstmrep.nn.init, lstmrep.launches
    for module in modules:
        finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        for test in finder.find(module, extraglobs=names):
            runner.run(test)
            ran += len(test.examples)
        assert runner.failures == 0
    assert ran >= 13


def hours_row(words: list[str]) -> str:
    """A row of the table of modelled hours, from the library's own models."""
    from lstmrep.cli import runs
    from lstmrep.cli.train import STATE
    from lstmrep.duration import training_step
    from lstmrep.footprint import footprint

    config, _ = runs.read_config(words[:1], words[1:])
    told = {"preset", "input_size"} & set(config.model)
    config = runs.resolve(config, None if told else runs.make_data(config, "train"))
    model = runs.make_model(config, device="meta")
    train, frames, state = config.train, config.data.get("num_frames", 20), STATE[config.optimizer.name]
    took = training_step(model, train.batch_size, frames, "H100 SXM", optimizer_tensors=state)
    memory = footprint(model, train.batch_size, frames, state).total
    hours = took.hours(train.max_iters)
    return f"| `{' '.join(words)}` | {1e3 * took.step:.1f} | {hours:.{1 if hours >= 1 else 2}f} | {memory / 1e6:,.0f} |"


def test_the_table_of_hours_is_what_the_models_say():
    text = (ROOT / "docs" / "reproduce.md").read_text()
    table = text.split("| configuration | ms a step |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) > 5
    for row in table:
        words = re.match(r"\| `([^`]+)` \|", row)
        assert words and row == hours_row(words[1].split())


def test_every_configuration_that_comes_along_is_in_the_table():
    from lstmrep.cli import runs

    text = (ROOT / "docs" / "configuration.md").read_text()
    table = text.split("| name | what it trains | data |")[1].split("\n\n")[0]
    first = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert sorted(re.findall(r"`(\w+)`", " ".join(first))) == runs.shipped()
