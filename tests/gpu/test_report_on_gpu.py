"""A report of a training on a GPU that a processor plays: its arrays are fetched, and the parts of its step timed."""

from gpu.fake_cupy import fake_gpu

from xpnet import run
from xpnet.config import Config
from xpnet.task import prepare


def test_a_run_on_a_gpu_has_a_report(tmp_path):
    told = []
    config = Config(epochs=1, train_size=300, hidden=(8,), plot=False, quiet=True, out=str(tmp_path / "run"))
    result = run.run(prepare(config, fake_gpu()), tell=told.append)
    assert (result.status, told) == (0, [])
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for heading in ("Time of a training step", "Weights of the first layer", "Most confident mistakes"):
        assert heading in page
