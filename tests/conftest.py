"""Settings of the whole suite: fresh buffers start as NaN, torch uses two threads, every test starts from a seed.

Triton's kernels run in its interpreter.  Kernels on CUDA are not checked against stepwise unless a test asks for it, so
that tests count the launches of their own calls, and verdicts never go to the user's cache.  LSTMREP_TEST_DEVICE=cuda
runs tests/test_cuda_kernels.py, tests/test_triton_kernels.py and the contract of the cuda backend on the real card
(tests/emulated_device.py).
"""

import atexit
import importlib
import os
import shutil
import tempfile

import pytest
import torch

os.environ["LSTMREP_POISON"] = "1"
if os.environ.get("LSTMREP_TEST_DEVICE") != "cuda":
    # Read when triton is first imported; tests that compile start processes without it.
    os.environ["TRITON_INTERPRET"] = "1"
os.environ["LSTMREP_VERIFY"] = "never"
os.environ["LSTMREP_CACHE_DIR"] = tempfile.mkdtemp(prefix="lstmrep-tests-")
atexit.register(shutil.rmtree, os.environ["LSTMREP_CACHE_DIR"], ignore_errors=True)


def pytest_configure(config):
    asked = os.environ.get("LSTMREP_TEST_DEVICE", "emulated")
    if asked not in ("emulated", "cuda"):
        raise pytest.UsageError(f"LSTMREP_TEST_DEVICE={asked!r} is not known; choose one of emulated, cuda.")
    if asked == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("LSTMREP_TEST_DEVICE=cuda, but there is no CUDA device that torch can use.")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _threads():
    torch.set_num_threads(2)


@pytest.fixture
def library_gradients(monkeypatch):
    """The plan of a machine where library products form the gradients of x and of the matrices."""
    from lstmrep.ops.plans import reset_plans

    plan = importlib.import_module("lstmrep.plan")
    monkeypatch.setattr(plan, "CPU_GRADIENTS_ISAS", ())
    monkeypatch.setattr(plan, "CPU_GRADIENTS_SMALL", 0)
    reset_plans()
    yield
    reset_plans()


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    """The folder of the configuration `toy`, trained as it stands, once for all tests that look at a trained model."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from lstmrep.cli import runs
    from lstmrep.cli.train import train

    folder = tmp_path_factory.mktemp("figures") / "toy"
    config, _ = runs.read_config(["toy"], ["train.save_every=0"])
    result = train(config, folder)
    assert result.step == 1200 and result.stopped == "finished"
    return folder
