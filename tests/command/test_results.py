"""What a run prints and writes, and that it can be repeated."""

import json
import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from safetensors.numpy import load_file
from scipy import sparse

import xpnet
from xpnet.config import Config
from xpnet.settings import read_settings

FILES = {"config.toml", "history.csv", "model.safetensors", "curves.png", "result.json", "checkpoints", ".lock"}
TIMES = {"seconds", "samples_per_second"}

# The line of --json


def own_npz(x, y):
    np.savez("own.npz", X=x[:40], y=y[:40], X_test=x[40:], y_test=y[40:])
    return ["own.npz"], "test", x[40:], y[40:]


def own_regression(x, y):
    return own_npz(x, np.sin(x[:, 0]))


def own_labels(x, y):
    return own_npz(x, np.stack([y == 0, x[:, 1] > 1], axis=1).astype(int))


def own_text(x, y):
    return own_npz(x, np.array(["ant", "bee", "cat"])[y])


def one_pair_of_npy(x, y):
    np.save("x.npy", x.astype("float32"))
    np.save("y.npy", y)
    return ["x.npy", "y.npy"], "train", x.astype("float32"), y


def two_pairs_of_npy(x, y):
    for name, array in {"x": x[:40], "y": y[:40], "x-test": x[40:], "y-test": y[40:]}.items():
        np.save(f"{name}.npy", array)
    return ["x.npy", "y.npy", "x-test.npy", "y-test.npy"], "test", x[40:], y[40:]


def pair_of_idx(x, y):
    images = np.clip(x * 80 + 40, 0, 255).astype("uint8")[:, np.newaxis]
    for name, array in {"images-idx3-ubyte": images, "labels-idx1-ubyte": y.astype("uint8")}.items():
        with open(name, "wb") as file:
            file.write(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())
    return ["images-idx3-ubyte", "labels-idx1-ubyte"], "train", images, y


def csr_with_npy(x, y):
    x = np.where(x > 0.5, x, 0)
    sparse.save_npz("x.npz", sparse.csr_matrix(x))
    np.save("y.npy", y)
    return ["x.npz", "y.npy"], "train", sparse.csr_matrix(x), y


OWN = [own_npz, own_regression, own_labels, own_text, one_pair_of_npy, two_pairs_of_npy, pair_of_idx, csr_with_npy]
BUNDLED = {"digits": "test", "xor": "train", "sine": "train"}


def check_line(ended, part, x, y):
    """The line has every key, and its scores on a part are those that the saved model has on the raw samples."""
    assert ended.out.count("\n") == 1
    result = ended.result
    metric = "mse" if y.dtype.kind == "f" else "accuracy"
    scores = {f"{part_}_{name}" for part_ in ("train", "val", "test") for name in ("loss", "accuracy", metric)}
    assert result.keys() >= {"device", "epochs", "steps", *scores, *TIMES, "out"}
    assert result["seconds"] > 0
    assert result["samples_per_second"] > 0
    for other in {"val", "test"} - {part}:
        assert {result[f"{other}_{name}"] for name in ("loss", "accuracy", metric)} == {None}

    predicted = xpnet.load(ended.folder / "model.safetensors").predict(x)
    if metric == "mse":
        assert result[f"{part}_mse"] == pytest.approx(np.mean((predicted - y) ** 2), rel=1e-5)
        assert result[f"{part}_accuracy"] is None
    else:
        right = (predicted == y).all(axis=1) if y.ndim == 2 else predicted == y
        assert result[f"{part}_accuracy"] == pytest.approx(right.mean(), abs=1e-12)
    assert result[f"{part}_loss"] is not None


@pytest.mark.parametrize("make", OWN)
def test_json_tells_of_own_files_what_the_saved_model_does(quiet_json, blobs, make):
    data, part, x, y = make(*blobs)
    ended = quiet_json("--data", *data, "--epochs", 3, "--val-size", 0, "--hidden", 5)
    check_line(ended, part, x, y)
    assert ended.result["epochs"] == 3


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_json_tells_of_a_regularized_run_what_the_saved_model_does(quiet_json, blobs, normalization):
    data, part, x, y = own_npz(*blobs)
    options = ["--normalization", normalization, "--dropout", 0.3, "--label-smoothing", 0.1, "--hidden", 9, 8]
    ended = quiet_json("--data", *data, "--epochs", 20, "--val-size", 0, *options)
    check_line(ended, part, x, y)
    p = xpnet.load(ended.folder / "model.safetensors").predict_proba(x)
    assert ended.result["test_loss"] == pytest.approx(-np.log(p[np.arange(len(y)), y]).mean(), rel=1e-5)


def test_counts_are_learnt_by_the_poisson_loss(quiet_json, blobs):
    y = np.floor(np.exp(blobs[0][:, 0]))
    np.savez("counts.npz", X=blobs[0], y=y)
    ended = quiet_json("--data", "counts.npz", "--loss", "poisson", "--epochs", 100, "--val-size", 0, "--no-plot")
    predicted = xpnet.load(ended.folder / "model.safetensors").predict(blobs[0])
    deviance = y * np.log(np.maximum(y, 1e-30) / predicted) - y + predicted
    assert ended.result["train_loss"] == pytest.approx(deviance.mean(), rel=1e-5)
    assert np.corrcoef(predicted, y)[0, 1] > 0.9


def test_a_list_in_a_configuration_may_be_one_value(quiet_json, tmp_path):
    (tmp_path / "c.toml").write_text("[settings]\nhidden = [5, 4]\ndropout = 0.25\nepochs = 1\nplot = false\n")
    assert quiet_json("--config", "c.toml").settings["dropout"] == [0.25]


@pytest.mark.parametrize(("name", "part"), BUNDLED.items())
def test_json_tells_of_bundled_data_what_the_saved_model_does(quiet_json, name, part):
    dataset = xpnet.data.load(name)
    x, y = (dataset.x_test, dataset.y_test) if part == "test" else (dataset.x, dataset.y)
    y = y if dataset.classes is None else np.array(dataset.classes)[y]
    ended = quiet_json("--data", name, "--steps", 30, "--val-size", 0)
    check_line(ended, part, x, y.ravel())
    assert ended.result["steps"] == 30


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_json_tells_of_real_data_what_the_saved_model_does(quiet_json, real, name):
    options = real(name)
    ended = quiet_json("--data", name, *options, "--steps", 20, "--train-size", 2000, "--val-size", 0, "--no-plot")
    dataset = xpnet.data.load(name, folder=options[1])
    check_line(ended, "test", dataset.x_test, np.array(dataset.classes)[dataset.y_test])
    assert ended.result["test_accuracy"] > 0.1


GROWING = ["--epochs", 8, "--schedule", "exponential", "--decay", 5, "--no-plot"]
"""A learning rate that is at last far too large: the last epoch is not the best."""


def val_accuracies(ended):
    return [float(row["val_accuracy"]) for row in ended.rows]


def test_validation_scores_are_those_of_the_best_epoch(quiet_json):
    ended = quiet_json(*GROWING)
    assert ended.result["val_accuracy"] == max(val_accuracies(ended)) > val_accuracies(ended)[-1]


def test_keep_last_saves_the_weights_of_the_last_epoch(quiet_json):
    ended = quiet_json(*GROWING, "--final-weights", "last")
    assert ended.result["val_accuracy"] == val_accuracies(ended)[-1] < max(val_accuracies(ended))


def test_early_stopping_ends_after_so_many_epochs_without_improvement(quiet_json):
    ended = quiet_json(*GROWING, "--early-stopping", 2)
    accuracies = val_accuracies(ended)
    assert ended.result["stopped"] == "early stopping"
    assert len(accuracies) == accuracies.index(max(accuracies)) + 3 < 8


def test_determinism_says_what_it_costs_and_changes_nothing_on_a_cpu(command):
    one, other = (command("--epochs", 1, "--device", "cpu", *more, "--json") for more in ([], ["--deterministic"]))
    assert "deterministic costs nothing" in other.out
    models = [(ended.folder / "model.safetensors").read_bytes() for ended in (one, other)]
    assert models[0] == models[1]


def test_json_is_the_last_of_many_lines_without_quiet(command):
    ended = command("--data", "xor", "--val-size", 0, "--epochs", 2, "--json")
    assert ended.result["epochs"] == 2
    assert len(ended.out.splitlines()) > 5


# The folder


def test_run_folder_holds_settings_history_model_and_curves(quiet_json):
    ended = quiet_json("--epochs", 3)
    assert str(ended.folder) == os.path.join("runs", "digits")
    assert {file.name for file in ended.folder.iterdir()} == FILES
    assert [row["epoch"] for row in ended.rows] == ["1", "2", "3"]
    assert list(ended.rows[0]) == [
        *("epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy"),
        *("lr", "seconds", "samples_per_second"),
    ]
    assert Config(**{key: tuple(v) if isinstance(v, list) else v for key, v in ended.settings.items()}).epochs == 3
    height, width, _ = imread(ended.folder / "curves.png").shape
    assert min(height, width) > 300


def test_history_of_regression_has_squared_errors(quiet_json):
    rows = quiet_json("--data", "sine", "--epochs", 2).rows
    assert [float(row["train_mse"]) > 0 and float(row["val_mse"]) > 0 for row in rows] == [True, True]


def test_no_plot_leaves_the_curves_out(quiet_json):
    assert {file.name for file in quiet_json("--epochs", 1, "--no-plot").folder.iterdir()} == FILES - {"curves.png"}


def test_a_report_lies_beside_them_and_can_be_left_out(quiet_json):
    ended = quiet_json("--epochs", 1, "--report")
    assert {file.name for file in ended.folder.iterdir()} == FILES | {"report.html"}
    assert ended.settings["report"] is True
    assert {file.name for file in quiet_json("--epochs", 1, "--no-report").folder.iterdir()} == FILES


def test_history_has_a_row_for_each_evaluation_after_so_many_steps(quiet_json):
    rows = quiet_json("--steps", 50, "--eval-every", "20steps", "--no-plot").rows
    assert [row["step"] for row in rows] == ["20", "40", "50"]
    assert all(row["val_loss"] for row in rows)


def test_second_run_takes_another_folder_and_leaves_the_first_alone(quiet_json):
    first = quiet_json("--epochs", 1, "--no-plot")
    before = {file: file.read_bytes() for file in first.folder.rglob("*.*")}
    second = quiet_json("--epochs", 2, "--no-plot")
    assert (first.folder.name, second.folder.name) == ("digits", "digits-2")
    assert {file: file.read_bytes() for file in first.folder.rglob("*.*")} == before
    assert quiet_json("--epochs", 1, "--no-plot", "--name", "mine").folder.name == "mine"


def test_out_that_holds_something_is_refused_unless_it_may_be_overwritten(command, quiet_json, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "history.csv").write_text("precious", encoding="utf-8")
    ended = command("--epochs", 1, "--out", "full", "--no-plot")
    assert ended.status == 2
    assert re.fullmatch(r"xpnet: out: full .*--overwrite.*\n", ended.err)
    assert (tmp_path / "full" / "history.csv").read_text(encoding="utf-8") == "precious"
    assert os.listdir("full") == ["history.csv"]
    ended = quiet_json("--epochs", 1, "--out", "full", "--no-plot", "--overwrite")
    assert len(ended.rows) == 1
    assert not (tmp_path / "runs").exists()


def test_out_makes_the_folders_above_it(quiet_json, tmp_path):
    assert quiet_json("--epochs", 1, "--out", tmp_path / "a" / "b", "--no-plot").folder == tmp_path / "a" / "b"


@pytest.mark.parametrize("name", ["a$^$b", "100% [bold] & <b>"])
def test_names_are_taken_as_they_are(command, tmp_path, name):
    assert command("--data", "xor", "--val-size", 0, "--epochs", 1, "--name", name).status == 0
    assert {file.name for file in (tmp_path / "runs" / name).iterdir()} == FILES


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "..", "."])
def test_name_that_is_no_folder_of_its_own_is_refused(command, tmp_path, name):
    ended = command("--data", "xor", "--val-size", 0, "--epochs", 1, "--name", name)
    assert ended.status == 2
    assert ended.err.startswith("xpnet: name: ")
    assert list(tmp_path.iterdir()) == []


def test_squared_errors_beyond_float32_are_drawn_as_nothing(quiet_json, blobs):
    np.savez("huge.npz", X=blobs[0], y=blobs[1] * 1e25)
    ended = quiet_json("--data", "huge.npz", "--loss", "mae", "--epochs", 2)
    assert ended.result["train_mse"] is None
    assert imread(ended.folder / "curves.png").size


# Repeating a run

REPEATED = {
    "the default": ["--epochs", 3],
    "a recipe": ["--recipe", "xor", "--epochs", 50],
    "every other option": [
        *("--data", "digits", "--train-size", 500, "--val-size", 0.2, "--standardize", "--hidden", 20, 10),
        *("--activation", "tanh", "gelu", "--init", "he_normal", "--bias-init", "uniform(0.1)", "--dtype", "float64"),
        *("--optimizer", "sgd", "--lr", 0.1, "--momentum", 0.9, "--nesterov", "--schedule", "one-cycle"),
        *("--warmup", 1, "--l2", 1e-3, "--clip-norm", 1, "--batch-size", 50, "--steps", 60, "--replacement"),
        *("--seed", 7, "--eval-every", "3steps", "--early-stopping", 15, "--monitor", "val_loss"),
        *("--final-weights", "last"),
    ],
    "every regularization": [
        *("--hidden", 20, 10, "--normalization", "batch", "--dropout", 0.2, 0.1, "--label-smoothing", 0.1),
        *("--max-norm", 2, "--steps", 100, "--eval-every", "30steps", "--seed", 3, "--no-plot"),
    ],
    "the references": [
        *(
            "--device",
            "numpy",
            "--normalization",
            "layer",
            "--dropout",
            0.5,
            "--max-norm",
            2,
            "--epochs",
            2,
            "--no-plot",
        )
    ],
    "huber": ["--data", "sine", "--loss", "huber", "--huber-delta", 0.3, "--epochs", 2, "--no-plot"],
    "no hidden layer": ["--no-hidden", "--batch-size", "all", "--epochs", 4, "--no-plot"],
}


def check_repeated(first, second):
    assert second.folder != first.folder
    weights, again = ((ended.folder / "model.safetensors").read_bytes() for ended in (first, second))
    assert again == weights
    rows, same = ([{k: v for k, v in row.items() if k not in TIMES} for row in e.rows] for e in (first, second))
    assert same == rows
    assert second.settings == first.settings


@pytest.mark.parametrize("options", REPEATED.values(), ids=REPEATED)
def test_config_repeats_the_run_bit_for_bit(quiet_json, options):
    first = quiet_json(*options)
    check_repeated(first, quiet_json("--config", first.folder / "config.toml"))


def test_config_repeats_the_run_from_another_folder(quiet_json, blobs, tmp_path, monkeypatch):
    x, y = blobs
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    np.savez("own.npz", X=x, y=y)
    first = quiet_json("--data", "own.npz", "--epochs", 3, "--out", tmp_path / "run")
    monkeypatch.chdir(tmp_path / "there")
    second = quiet_json("--config", tmp_path / "run" / "config.toml")
    check_repeated(first, second)
    assert (tmp_path / "there" / "runs" / "own").is_dir()


def test_another_seed_gives_another_model(quiet_json):
    first, second = (quiet_json("--epochs", 1, "--no-plot", "--seed", seed) for seed in (0, 1))
    weights = [load_file(ended.folder / "model.safetensors")["w1"] for ended in (first, second)]
    assert not np.array_equal(*weights)


@pytest.mark.parametrize("start", ["--recipe", "--config"])
def test_options_win_over_what_they_are_laid_over(quiet_json, start):
    base = ["--recipe", "xor"]
    if start == "--config":
        base = ["--config", quiet_json(*base, "--epochs", 1).folder / "config.toml"]
    ended = quiet_json(*base, "--epochs", 3, "--hidden", 4, 3, "--activation", "tanh", "--init", "zeros", "--no-plot")
    wanted = {"epochs": 3, "hidden": [4, 3], "activation": ["tanh"], "init": "zeros", "plot": False}
    assert {key: ended.settings[key] for key in wanted} == wanted
    assert {key: ended.settings[key] for key in ("loss", "optimizer", "lr", "bias_init")} == {
        **{"loss": "mse", "optimizer": "sgd", "lr": 1.0, "bias_init": "normal(1)"}
    }
    assert len(ended.rows) == 3


def test_epochs_win_over_the_steps_of_a_configuration(quiet_json):
    first = quiet_json("--data", "xor", "--val-size", 0, "--steps", 7, "--no-plot")
    assert quiet_json("--config", first.folder / "config.toml", "--epochs", 2).result["steps"] == 2


def test_settings_of_one_run_are_not_those_of_the_next(quiet_json):
    quiet_json("--recipe", "xor", "--epochs", 1, "--no-plot")
    assert quiet_json("--epochs", 1, "--no-plot").settings["data"] == ["digits"]


# What is printed


def test_quiet_prints_nothing(command, tmp_path):
    ended = command("--epochs", 1, "--quiet")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert (tmp_path / "runs" / "digits" / "model.safetensors").exists()


def test_a_line_tells_of_each_epoch_in_a_pipe(train):
    ended = train("--epochs", 4, "--data", "sine", "--no-plot")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = [line for line in ended.stdout.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]
    assert all(re.search(r"loss \d.* val mse \d.* lr 0\.001 .*\d samples/s$", line) for line in lines)
    assert "\x1b" not in ended.stdout


def test_the_beginning_names_device_layers_sets_and_optimizer(command):
    words = " ".join(command("--epochs", 1, "--hidden", 30, 20, "--no-plot").out.split())
    for part in ("device ", "64 x 30 relu 1,950 1,920", "1,293 training, 144 validation, 360 test", "Adam(lr=0.001"):
        assert part in words


def test_brackets_in_a_file_name_are_printed(command, blobs):
    np.savez("[bold]own.npz", X=blobs[0], y=blobs[1])
    assert "[bold]own.npz: 54 training" in command("--data", "[bold]own.npz", "--epochs", 1, "--no-plot").out


def test_the_end_names_scores_and_files(command):
    lines = command("--epochs", 1).out.splitlines()
    for start in ("training set", "validation set", "test set"):
        assert any(re.fullmatch(rf"{start} +\d\S* +[01]\.\d{{4}}", line.rstrip()) for line in lines)
    assert {os.path.basename(line) for line in lines[-5:]} == FILES - {"checkpoints", ".lock"}


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX's")
def test_a_bar_moves_on_a_terminal(tmp_path):
    import pty

    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "-m", "xpnet.train", "--epochs", "30", "--no-plot", "--no-report"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    text = read_all(leader)
    assert process.wait() == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "\x1b[" in text
    assert re.search(r"epoch 30/30 ━+ loss \d\.\d{4}  val accuracy \d\.\d{4}  [\d,]+ samples/s", shown)
    assert not re.search(r"^epoch 1/30  loss", shown, re.MULTILINE)


def read_all(terminal):
    """What is written to a pseudo-terminal until its last writer closes it."""
    parts = []
    with open(terminal, "rb", buffering=0) as file:
        while True:
            try:
                part = file.read(4096)
            except OSError:  # Linux says by this that nobody writes any more
                part = b""
            if not part:
                return b"".join(parts).decode()
            parts.append(part)


def test_help_names_every_option(command):
    ended = command("--help")
    assert (ended.status, ended.err) == (0, "")
    for field in Config.__dataclass_fields__:
        assert f"--{field.replace('_', '-')}" in ended.out


def test_config_leaves_out_where_and_how_the_run_was_written(quiet_json, tmp_path):
    ended = quiet_json("--epochs", 1, "--no-plot", "--out", "there", "--overwrite")
    assert not ended.settings.keys() & {"out", "overwrite", "quiet", "json", "gradcheck"}
    assert read_settings(tmp_path / "there" / "config.toml")["device"] == ended.result["device"]
    assert json.loads(ended.out)["stopped"] == "done"
