"""The recipes: that they are settings, and that they reach what they promise."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import xpnet
from xpnet import recipes
from xpnet.config import Config
from xpnet.losses import Loss

REAL = {
    "cifar-deep": "cifar10",
    "cifar-shallow": "cifar10",
    "mnist-dnn": "mnist",
    "mnist-fast": "mnist",
    "mnist-sigmoid-gd": "mnist",
    "mnist-two-layer": "mnist",
}
SEEDS = range(10)


@pytest.fixture
def recipe(quiet_json, real):
    """Run a recipe, further options on top, on real data where it asks for them."""

    def run(name, *options):
        where = real(REAL[name]) if name in REAL else []
        return quiet_json("--recipe", name, *where, "--no-plot", *options)

    return run


def losses(ended):
    return [float(row["train_loss"]) for row in ended.rows]


# What they are


def test_list_names_each_with_data_and_network(command, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ended = command("--recipe", "list")
    assert (ended.status, ended.err) == (0, "")
    lines = [re.split(r"  +", line.strip()) for line in ended.out.splitlines()]
    read = map(recipes.read, recipes.names())
    assert lines[1:] == [[recipe.name, recipe.data, recipe.network, recipe.expect] for recipe in read]
    assert {line[0] for line in lines[1:]} == {*REAL, "xor", "sine", "table"}
    assert ["mnist-dnn", "mnist", "300-100 relu"] in [line[:3] for line in lines]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*REAL, "xor", "sine"])
def test_settings_make_a_configuration(command, name):
    """Reading data that are not there is the first thing that can be refused after the settings."""
    settings = recipes.read(name).settings
    assert settings.keys() <= Config.__dataclass_fields__.keys()
    lists = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    config = Config(**lists)
    assert config.make_optimizer().lr == settings["lr"]
    assert config.make_schedule() is not None
    output = config.make_output("classification" if name != "sine" else "regression")
    assert Loss.for_output(output, config.loss).name == settings.get("loss", "cross_entropy")

    Path("empty").mkdir()
    ended = command("--recipe", name, "--data", "gone.npz")
    assert ended.status == 2
    assert "gone.npz" in ended.err


def test_run_of_a_recipe_has_its_settings_and_its_name(recipe):
    ended = recipe("xor", "--epochs", 1)
    settings = recipes.read("xor").settings
    same = settings.keys() - {"epochs", "data", "activation"}
    assert {key: ended.settings[key] for key in same} == {key: settings[key] for key in same}
    assert (ended.settings["data"], ended.settings["activation"]) == (["xor"], ["sigmoid"])
    assert ended.folder.name == "xor"


# What they reach, in seconds


def test_xor_is_solved(recipe):
    ended = recipe("xor")
    assert ended.result["train_accuracy"] == 1.0
    x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    assert xpnet.load(ended.folder / "model.safetensors").predict(x).tolist() == y


def test_xor_is_not_solved_without_a_hidden_layer(recipe):
    assert recipe("xor", "--no-hidden").result["train_accuracy"] < 1.0


def test_sine_is_learnt(recipe):
    ended = recipe("sine")
    assert ended.result["train_mse"] < 1e-3
    x = np.linspace(-3, 3, 50)
    predicted = xpnet.load(ended.folder / "model.safetensors").predict(x[:, np.newaxis])
    np.testing.assert_allclose(predicted, np.sin(x), atol=0.15)


def test_cifar_shallow_starts_where_it_should_and_falls(recipe):
    ended = recipe("cifar-shallow", "--steps", 25, "--train-size", 6000)
    assert ended.result["initial_loss"] == pytest.approx(2.394, abs=0.01)
    assert losses(ended) == sorted(losses(ended), reverse=True)
    assert ended.result["train_loss"] < 2.3


def test_cifar_deep_learns_fifty_images_by_heart(recipe):
    ended = recipe("cifar-deep")
    assert ended.result["train_accuracy"] == 1.0
    assert ended.result["epochs"] == 20
    assert ended.result["test_accuracy"] < 0.3


def test_mnist_two_layer_learns_in_its_pace(recipe):
    accuracies = [float(row["val_accuracy"]) for row in recipe("mnist-two-layer", "--steps", 3000).rows]
    assert len(accuracies) == 5
    assert accuracies[0] == pytest.approx(0.793, abs=0.04)
    assert accuracies[4] == pytest.approx(0.918, abs=0.01)


def test_mnist_dnn_learns_in_its_pace(recipe):
    (loss,) = losses(recipe("mnist-dnn", "--epochs", 1))
    assert loss == pytest.approx(2.226, abs=0.1)


def test_mnist_fast_is_as_good_as_it_promises(recipe):
    ended = recipe("mnist-fast")
    assert ended.result["steps"] == 177
    assert ended.result["test_accuracy"] > 0.98


def test_mnist_sigmoid_gd_falls(recipe):
    result = recipe("mnist-sigmoid-gd", "--steps", 20, "--train-size", 5000).result
    assert result["initial_loss"] == pytest.approx(np.log(10), abs=0.01)
    assert result["train_loss"] < result["initial_loss"] - 0.005


# What they reach, in full


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_xor_is_solved_from_any_seed(recipe, seed):
    assert recipe("xor", "--seed", seed).result["train_accuracy"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_sine_is_learnt_from_any_seed(recipe, seed):
    assert recipe("sine", "--seed", seed).result["train_mse"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "score", "least"),
    [
        ("cifar-shallow", "val_accuracy", 0.512),
        ("mnist-dnn", "test_accuracy", 0.94),
        ("mnist-sigmoid-gd", "test_accuracy", 0.94),
        ("mnist-two-layer", "test_accuracy", 0.94),
    ],
)
def test_recipe_reaches_what_it_promises(recipe, name, score, least):
    assert recipe(name).result[score] >= least


@pytest.mark.slow
def test_mnist_dnn_learns_the_same_from_sparse_samples(recipe, real):
    mnist = xpnet.data.load("mnist", folder=real("mnist")[1])
    sparse.save_npz("x.npz", sparse.csr_matrix(mnist.x))
    np.save("x.npy", mnist.x)
    np.save("y.npy", mnist.y)
    dense, sparsely = (
        recipe("mnist-dnn", "--data", x, "y.npy", "--epochs", 2, "--eval-every", "50steps") for x in ("x.npy", "x.npz")
    )
    assert len(losses(dense)) == 12
    np.testing.assert_allclose(losses(sparsely), losses(dense), rtol=1e-5)
    assert sparsely.result["initial_loss"] == pytest.approx(dense.result["initial_loss"], rel=1e-6)
