"""The command on a GPU that a processor plays, and what it says of devices."""

import json
import sys

import numpy as np
import pytest
from gpu.fake_cupy import install

from xpnet import info, memory
from xpnet.data import arrays
from xpnet.devices.cuda.device import Cuda
from xpnet.settings import read_settings

SMALL = ["--data", "digits", "--hidden", 12, "--epochs", 2, "--lr", 0.02, "--device", "cuda", "--quiet", "--json"]


REGULARIZED = ["--dropout", 0.1, "--label-smoothing", 0.1, "--max-norm", 3, "--normalization"]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--eager"],
        ["--precision", "tf32"],
        ["--precision", "bf16"],
        [*REGULARIZED, "batch"],
        [*REGULARIZED, "layer", "--precision", "bf16"],
    ],
    ids=str,
)
def test_a_run_on_a_gpu(monkeypatch, command, options):
    install(monkeypatch)
    ended = command(*SMALL, *options)
    assert (ended.status, ended.err) == (0, "")
    assert ended.result["device"] == "cuda:0"
    assert ended.result["train_accuracy"] > 0.8
    again = command("--config", ended.folder / "config.toml", "--quiet", "--json")
    assert {**again.result, "seconds": 0, "samples_per_second": 0, "out": ""} == {
        **ended.result,
        "seconds": 0,
        "samples_per_second": 0,
        "out": "",
    }
    assert (ended.folder / "model.safetensors").read_bytes() == (again.folder / "model.safetensors").read_bytes()


def test_algorithms_are_timed_once_and_kept(monkeypatch, command, tmp_path):
    install(monkeypatch)
    table = tmp_path / "algorithms.json"
    assert command(*SMALL, "--autotune", table).status == 0
    written = table.read_bytes()
    known = json.loads(written)
    assert any("784" in key or "x64x12" in key for key in known), known
    ended = command(*SMALL, "--autotune", table)
    assert (ended.status, table.read_bytes()) == (0, written)
    own = ended.folder / "algorithms.json"
    assert own.read_bytes() == written
    assert read_settings(ended.folder / "config.toml")["autotune"] == str(own.absolute())


def test_a_run_repeated_into_its_own_folder_keeps_its_algorithms(monkeypatch, command, tmp_path):
    install(monkeypatch)
    folder = tmp_path / "run"
    assert command(*SMALL, "--autotune", tmp_path / "table.json", "--out", folder).status == 0
    written, model = (folder / "algorithms.json").read_bytes(), (folder / "model.safetensors").read_bytes()
    assert written == (tmp_path / "table.json").read_bytes()
    (tmp_path / "table.json").unlink()
    ended = command("--config", folder / "config.toml", "--out", folder, "--overwrite", "--quiet", "--json")
    assert (ended.status, ended.err) == (0, "")
    assert (folder / "algorithms.json").read_bytes() == written
    assert (folder / "model.safetensors").read_bytes() == model


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"a": "zz"}', '{"a": "' + "0" * 126 + '"}'])
def test_a_damaged_table_of_algorithms_is_refused(monkeypatch, command, tmp_path, content):
    install(monkeypatch)
    table = tmp_path / "algorithms.json"
    table.write_text(content)
    ended = command(*SMALL, "--autotune", table)
    assert ended.status == 2
    assert ended.err.startswith(f"xpnet: autotune: {table}")
    assert "delete it" in ended.err
    assert table.read_text() == content


def test_what_does_not_fit_ends_with_status_4_and_says_how_much(monkeypatch, command):
    install(monkeypatch, memory=memory.SMALL + 20_000)
    ended = command(*SMALL, "--batch-size", 1000)
    assert ended.status == 4
    assert "KiB of free memory, expected more than" in ended.err
    assert "make the batch or the hidden layers smaller" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_memory_that_runs_out_on_the_way_ends_with_status_4_and_saved_weights(monkeypatch, command):
    install(monkeypatch)

    def offer(keeper, row):
        raise MemoryError("1 GiB was asked for")

    monkeypatch.setattr("xpnet.training.Keeper.offer", offer)
    ended = command(*SMALL)
    assert ended.status == 4
    assert "the memory ran out (1 GiB was asked for); the last good weights are saved" in ended.err
    assert (ended.folder / "model.safetensors").exists()


def test_a_file_larger_than_the_card_is_streamed_from_where_it_lies(monkeypatch, command, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 40)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", (x[:, 0] > 0).astype(int))
    options = ["--data", "x.npy", "y.npy", *SMALL[2:]]
    monkeypatch.setattr(Cuda, "block_rows", 32)
    install(monkeypatch)
    whole = command(*options)
    monkeypatch.setattr(arrays, "MAPPED_ABOVE", 0)
    install(monkeypatch, memory=memory.SMALL + 90_000)
    streamed = command(*options)
    assert (streamed.status, streamed.err) == (0, ""), streamed.err
    assert not sys.modules["cupy"].free < 0
    for name in ("train_loss", "val_loss", "val_accuracy"):
        assert streamed.result[name] == pytest.approx(whole.result[name], rel=1e-5)
    assert (whole.folder / "model.safetensors").read_bytes() == (streamed.folder / "model.safetensors").read_bytes()


def test_reduced_precision_is_for_float32(monkeypatch, command):
    install(monkeypatch)
    ended = command(*SMALL, "--dtype", "float64", "--precision", "bf16")
    assert ended.status == 2
    assert ended.err == 'xpnet: precision: got "bf16" for float64, expected it with float32; leave one out.\n'


def test_info_tells_of_every_device(monkeypatch, capsys):
    assert info.main([]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in ("numpy", "every kernel is its reference", "cpu", "threads", "softmax_cross_entropy"):
        assert words in out


def test_info_says_why_a_gpu_cannot_be_used(monkeypatch, capsys):
    install(monkeypatch)
    monkeypatch.setitem(sys.modules, "nvmath.bindings.cublasLt", None)
    assert info.main([]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "cuda:0 cannot be used: nvmath-python cannot be imported" in out
    assert "CUDA driver: 13.0" in out
    assert "cuBLASLt: not found" in out


def test_info_tells_of_a_gpu(monkeypatch, capsys):
    install(monkeypatch)
    assert info.main([]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in (
        "cuda:0 (a processor that plays a GPU",
        "GiB free of",
        "hidden_forward",
        "adam_update",
        "cuBLASLt: 1",
    ):
        assert words in out


def test_info_refuses_what_it_does_not_know(capsys):
    assert info.main(["--unknown"]) == 2
    assert capsys.readouterr().err.startswith("xpnet: ")
