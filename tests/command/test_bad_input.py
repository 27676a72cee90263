"""What cannot be done is refused: exit status 2, one sentence, no traceback, no folder."""

import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpnet import device
from xpnet.devices import why_no_cuda


@pytest.fixture
def refused(command):
    """Runs the command, which must refuse its options, and returns the sentence."""
    before = set(os.listdir())

    def check(*options):
        ended = command(*options)
        assert ended.status == 2
        assert ended.err.startswith("xpnet: ")
        assert ended.err.count("\n") == 1
        assert " ".join(ended.out.split()) in ("", device_lines())
        assert "runs" not in set(os.listdir()) - before
        return ended.err

    return check


def device_lines():
    described = device()
    why = f" ({why_no_cuda()})" if described.name == "cpu" else ""
    return f"device {described.description}{why}"


def check_words(sentence, words):
    for word in words:
        assert word in sentence


# Options: what is given, and the words that the sentence must have, separated by |

OPTIONS = {
    # Names
    "--data nonesuch": "nonesuch|neither a data set nor a file|digits, mnist, fashion-mnist, cifar10, xor, sine",
    "--recipe nonesuch": "recipe|nonesuch|xor",
    "--activation swish": "activation|swish|relu, sigmoid",
    "--hidden 10 --activation relu tanh": "activation|2 names for 1 hidden",
    "--output swish": "output|swish|softmax",
    "--loss hinge": "loss|hinge|huber",
    "--output linear --loss cross_entropy": "loss|cross_entropy|linear|softmax, sigmoid",
    "--optimizer lbfgs": "optimizer|lbfgs|adagrad",
    "--init orthogonal": "init|orthogonal|he_uniform",
    "--init normal(-1)": "init|normal(-1)",
    "--bias-init ones": "bias_init|ones|zeros",
    "--schedule triangle": "schedule|triangle|one-cycle",
    "--dtype float16": "dtype|float16|float64",
    "--normalization group": "normalization|group|layer",
    "--loss poisson": "poisson|counts as floats",
    "--output exp": "poisson|counts as floats",
    "--data sine --loss poisson": "poisson|none negative",
    "--data sine --loss poisson --output linear": "loss|poisson|linear|exp",
    "--data sine --output exp --loss mse": "loss|mse|exp",
    "--dropout": "dropout|0 rates for 1 hidden",
    "--dropout half": "dropout|half",
    "--dropout 0.1 0.2": "dropout|2 rates for 1 hidden",
    "--no-hidden --dropout 0.1 0.2": "dropout|2 rates for 0 hidden",
    "--monitor nonesuch": "monitor|nonesuch|val_accuracy",
    "--monitor val_loss --val-size 0": "monitor|val_loss|no validation set",
    "--monitor val_mse": "monitor|val_mse|val_accuracy",
    "--final-weights x": "final-weights|x|best|last",
    "--device tpu": "device|tpu|cuda",
    "--device cuda:x": "device|cuda:x|cuda:N",
    "--device cpu --precision bf16": "precision|bf16|cpu|use a GPU",
    "--device cpu --eager": "eager|cpu|use a GPU",
    "--device cpu --autotune x.json": "autotune|cpu|use a GPU",
    "--deterministic --autotune x.json": "autotune|deterministic|leave one out",
    "--precision fp16": "precision|fp16|bf16",
    "--nonesuch 1": "nonesuch|nknown option",
    "--batchsize 4": "batchsize|Did you mean --batch-size",
    "--learning-rate 4": "learning-rate|nknown option",
    "surplus": "surplus",
    "--lr": "lr|requires",
    "--epochs 1 --epochs 2": "epochs|multiple",
    # Whole numbers
    "--batch-size 0": "batch_size|0|at least 1",
    "--batch-size -1": "batch_size|-1|at least 1",
    "--batch-size x": "batch-size|x",
    "--hidden 0": "0|width",
    "--hidden 10 -5": "-5|width",
    "--hidden ten": "hidden|ten",
    "--hidden 99999999999999999999": "99999999999999999999|memory",
    "--epochs 0": "epochs|0|at least 1",
    "--epochs -1": "epochs|-1|at least 1",
    "--epochs many": "epochs|many",
    "--epochs inf": "epochs|inf",
    "--epochs 1.5": "epochs|1.5",
    "--hidden 1.e400": "hidden|1.e400",
    "--steps 0": "steps|0|at least 1",
    "--train-size 0": "train_size|0|1437",
    "--train-size 1438": "train_size|1438|1437",
    "--train-size -1": "train_size|-1|1437",
    "--eval-every 0": "eval_every|0|200steps",
    "--eval-every x": "eval_every|x|200steps",
    "--eval-every 0steps": "eval_every|0steps",
    "--eval-every -1": "eval_every|-1",
    "--early-stopping 0": "early_stopping|0|at least 1",
    "--seed -1": "seed|-1|at least 0",
    "--seed x": "seed|x",
    "--schedule step --decay-every 0": "decay_every|0|positive",
    # Numbers
    "--lr 0": "lr|0|positive",
    "--lr -0.1": "lr|-0.1|positive",
    "--lr nan": "lr|nan|positive",
    "--lr inf": "lr|inf|finite",
    "--lr fast": "lr|fast",
    "--l2 -1": "l2|-1|at least 0",
    "--l2 nan": "l2|nan|at least 0",
    "--clip-norm 0": "clip_norm|0|positive",
    "--dropout 1": "dropout|1|below 1",
    "--dropout -0.1": "dropout|-0.1|at least 0",
    "--dropout nan": "dropout|nan|below 1",
    "--hidden 5 5 --dropout 0.5 1.5": "dropout|1.5|below 1",
    "--max-norm 0": "max_norm|0|positive",
    "--max-norm -3": "max_norm|-3|positive",
    "--max-norm inf": "max_norm|inf|finite",
    "--label-smoothing 1": "label_smoothing|1|below 1",
    "--label-smoothing -0.1": "label_smoothing|-0.1|at least 0",
    "--label-smoothing nan": "label_smoothing|nan",
    "--data sine --label-smoothing 0.1": "label_smoothing|0.1|mse|cross_entropy|leave it out",
    "--data sine --loss huber --huber-delta 0": "huber_delta|0|positive",
    "--data sine --loss huber --huber-delta nan": "huber_delta|nan|positive",
    "--huber-delta 2": "huber_delta|2|cross_entropy|huber|leave it out",
    "--optimizer sgd --momentum 1": "momentum|1|below 1",
    "--optimizer sgd --momentum -0.5": "momentum|-0.5|at least 0",
    "--momentum 0.9": "momentum|adam|sgd",
    "--nesterov": "momentum|adam|sgd",
    "--beta1 1": "beta1|1|below 1",
    "--optimizer sgd --beta2 0.9": "beta2|sgd|adamw",
    "--scale nan": "scale|nan|finite",
    "--warmup -1": "warmup|-1|positive",
    "--schedule exponential --decay 0": "decay|0|positive",
    "--val-size -1": "val_size|-1|1437",
    "--val-size -0.1": "val_size|-0.1|1437",
    "--val-size 1437": "val_size|1437|both sides",
    "--val-size 1e9": "val_size|both sides",
    "--val-size nan": "val_size|nan",
    "--val-size inf": "val_size|inf",
    "--val-on-test --data xor": "val_on_test|xor|no test set",
    # Where to start, where to write
    "--config missing.toml": "missing.toml|no such file",
    "--config .": ".|cannot be read as TOML",
    "--recipe xor --config c.toml": "recipe|configuration|one of them",
    "--out blocked": "out|blocked|--out",
    "--out blocked/below": "out|blocked/below|--out",
}


@pytest.mark.parametrize(("options", "words"), OPTIONS.items(), ids=OPTIONS)
def test_option_is_refused(refused, options, words):
    Path("blocked").write_text("A file stands where the folder is to be.", encoding="utf-8")
    check_words(refused(*options.split()), words.split("|"))


@pytest.mark.skipif(why_no_cuda() is None, reason="a GPU works here")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:99"])
def test_cuda_is_refused_where_it_cannot_be_had(refused, name):
    check_words(refused("--device", name), [why_no_cuda(), "cpu"])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write into any folder")
def test_folder_that_may_not_be_written_is_refused(refused, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    check_words(refused("--out", "closed/run"), ["out", "closed", "Permission denied"])
    check_words(refused("--out", "closed"), ["out", "closed", "Permission denied"])


def test_file_in_the_place_of_runs_is_refused(command):
    Path("runs").write_text("A file stands where the folder is to be.", encoding="utf-8")
    ended = command("--epochs", 1)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    check_words(ended.err, ["xpnet: out: runs", "--out"])


# Configurations: the text of the file, and the words

CONFIGS = {
    "": "c.toml|[settings]",
    "lr = 1": "c.toml|[settings]",
    "settings = 5": "c.toml|[settings]",
    "[settings": "c.toml|TOML",
    "[settings]\nlr = ": "c.toml|TOML",
    "[settings]\nlr = 1\nlr = 2": "c.toml|TOML",
    "[settings]\nlr = 'fast'": "c.toml|lr|fast",
    "[settings]\nlr = [1, 2]": "c.toml|lr|[1, 2]",
    "[settings]\nlr = true": "c.toml|lr|True",
    "[settings]\nlr = 2020-01-01": "c.toml|lr|2020-01-01",
    "[settings]\nepochs = true": "c.toml|epochs|True",
    "[settings]\nepochs = inf": "c.toml|epochs|inf",
    "[settings]\nepochs = 1.5": "c.toml|epochs|1.5",
    "[settings]\nbatch_size = 'some'": "c.toml|batch_size|some",
    "[settings]\nquiet = 'maybe'": "c.toml|quiet|maybe",
    "[settings]\ndropout = 'half'": "c.toml|dropout|half",
    "[settings]\ndropout = []": "dropout|0 rates for 1 hidden",
    "[settings]\nnormalization = true": "c.toml|normalization|True|batch",
    "[settings]\noptimizer = 5": "c.toml|optimizer|5|sgd",
    "[settings]\nhidden = ['x']": "c.toml|hidden|x",
    "[settings]\nhidden = {a = 1}": "c.toml|hidden",
    "[settings]\nlearning_rate = 1": "c.toml|learning_rate|nknown",
    "[settings.lr]\nx = 1": "c.toml|lr|x|nknown",
    "[settings]\nrecipe = 'xor'": "c.toml|recipe",
    "[settings]\nconfig = 'c.toml'": "c.toml|config",
    "[settings]\nepochs = 0": "epochs|0|at least 1",
    "[settings]\nval_size = nan": "val_size|nan",
    "[settings]\ndata = []": "data files were given",
    '[settings]\nname = "a\\u0000b"': "name",
    '[settings]\nout = "a\\u0000b"': "out",
}


@pytest.mark.parametrize(("text", "words"), CONFIGS.items(), ids=map(repr, CONFIGS))
def test_configuration_is_refused(refused, quiet_json, text, words):
    Path("c.toml").write_text(text, encoding="utf-8")
    check_words(refused("--config", "c.toml"), words.split("|"))
    quiet_json("--data", "xor", "--val-size", 0, "--epochs", 1, "--no-plot")  # nothing of it stays behind


def test_configuration_that_is_no_text_is_refused(refused):
    Path("c.toml").write_bytes(b"\xff\xfe\x00")
    check_words(refused("--config", "c.toml"), ["c.toml", "TOML"])


# Files: how to make them, and the words

X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])


def npz(**arrays):
    np.savez("d.npz", **{"X": X, "y": Y, **arrays})
    return ["d.npz"]


def npy(x, y):
    np.save("x.npy", x)
    np.save("y.npy", y)
    return ["x.npy", "y.npy"]


def idx(images=None, labels=None):
    good = {"a-idx3": bytes([0, 0, 8, 3]) + struct.pack(">3I", 6, 1, 2) + bytes(12)}
    good["b-idx1"] = bytes([0, 0, 8, 1]) + struct.pack(">I", 6) + bytes([0, 1] * 3)
    for (name, content), other in zip(good.items(), (images, labels), strict=True):
        Path(name).write_bytes(content if other is None else other(content))
    return list(good)


def with_value(value, row=3, column=1):
    x = X.copy()
    x[row, column] = value
    return x


def written(name, content):
    Path(name).write_bytes(content)
    return [name]


FILES = {
    "a missing .npz": (lambda: ["gone.npz"], "gone.npz|neither a data set nor a file"),
    "a missing .npy": (lambda: [*npy(X, Y)[:1], "gone.npy"], "gone.npy|does not exist"),
    "a missing test set": (lambda: [*npy(X, Y), "u.npy", "v.npy"], "u.npy|does not exist"),
    "three files": (lambda: [*npy(X, Y), "x.npy"], "3 data files"),
    "a name beside a file": (lambda: ["digits", *npy(X, Y)[1:]], "digits|kind"),
    "a folder": (lambda: ["."], ".|kind"),
    "an unknown kind": (lambda: written("d.xls", b"1,2\n"), "d.xls|kind"),
    "truncated IDX": (lambda: idx(lambda content: content[:-1]), "a-idx3|12 bytes|only 11"),
    "IDX that ends in its header": (lambda: idx(lambda content: content[:6]), "a-idx3|header"),
    "IDX with a wrong magic": (lambda: idx(lambda content: b"\1" + content[1:]), "a-idx3|two zero bytes"),
    "IDX with an unknown type": (lambda: idx(lambda content: content[:2] + b"\7" + content[3:]), "a-idx3|type"),
    "IDX that is too long": (lambda: idx(lambda content: content + b"\0"), "a-idx3|more"),
    "IDX labels of another length": (
        lambda: idx(labels=lambda content: content[:4] + struct.pack(">I", 5) + content[8:-1]),
        "5|6|samples",
    ),
    "an empty file": (lambda: idx(lambda content: b""), "a-idx3"),
    "truncated .npz": (lambda: written("d.npz", Path(*npz()).read_bytes()[:-30]), "d.npz|cannot be read"),
    "an .npz that is text": (lambda: written("d.npz", b"X y"), "d.npz|cannot be read"),
    "truncated .npy": (
        lambda: [*npy(X, Y)[:1], *written("y.npy", Path("y.npy").read_bytes()[:-1])],
        "y.npy|header promises|47 bytes",
    ),
    "an .npz without y": (lambda: [np.savez("d.npz", X=X), "d.npz"][1:], "d.npz|X and y"),
    "X_test without y_test": (lambda: npz(X_test=X), "d.npz|X_test|y_test"),
    "labels of another length": (lambda: npz(y=Y[:5]), "y|5|6 samples"),
    "a label that only the test set has": (
        lambda: npz(X_test=X, y_test=np.array([0, 1, 0, 1, 7, 1])),
        "y_test|label 7|row 4|range|0, 1",
    ),
    "a test set of other columns": (lambda: npz(X_test=X[:, :1], y_test=Y), "X_test|(1,)|(2,)"),
    "a test set of another task": (lambda: npz(X_test=X, y_test=Y + 0.5), "y_test|floats|classes"),
    "NaN": (lambda: npz(X=with_value(np.nan)), "X|nan|row 3, column 1"),
    "infinity": (lambda: npz(X=with_value(-np.inf)), "X|-inf|row 3, column 1"),
    "NaN in the test set": (lambda: npz(X_test=with_value(np.nan, 0, 0), y_test=Y), "X_test|nan|row 0, column 0"),
    "NaN among the targets": (lambda: npz(y=with_value(np.nan, 2, 0)), "y|nan|row 2, column 0"),
    "no samples": (lambda: npz(X=X[:0], y=Y[:0]), "X|empty|(0, 2)"),
    "no columns": (lambda: npz(X=X[:, :0]), "X|empty|(6, 0)"),
    "a single class": (lambda: npz(y=Y * 0), "y|single class 0"),
    "text where numbers are expected": (lambda: npz(X=np.array([["1", "two"]] * 6)), "X|text|row 0, column 0"),
    "complex numbers": (lambda: npz(X=X * 1j), "d.npz|complex128"),
    "pickled objects in .npy": (lambda: npy(np.array([[1, "a"]] * 6, dtype=object), Y), "x.npy|object"),
    "pickled objects in .npz": (lambda: npz(y=np.array([None, 1] * 3, dtype=object)), "d.npz|object"),
    "a table that is no labels": (lambda: npz(y=np.array([[0, 1, 2]] * 6)), "y|0 and 1"),
}


@pytest.mark.parametrize(("make", "words"), FILES.values(), ids=FILES)
def test_file_is_refused(refused, make, words):
    check_words(refused("--data", *make()), words.split("|"))


def test_good_files_of_those_makers_are_taken(quiet_json):
    for make in (npz, idx, lambda: npy(X, Y)):
        quiet_json("--data", *make(), "--epochs", 1, "--val-size", 0, "--no-plot")


# Any number at all

NUMERIC = ["--batch-size", "--hidden", "--lr", "--l2", "--clip-norm", "--momentum", "--scale", "--warmup", "--decay"]
NUMERIC += ["--decay-every", "--train-size", "--val-size", "--eval-every", "--early-stopping", "--seed"]
NUMERIC += ["--dropout", "--max-norm", "--label-smoothing", "--huber-delta"]
LOSSES = ["mse", "huber", "mae", "cross_entropy"]
# Digits enough for every kind of number, too few to ask for more memory than there is.
TEXTS = st.from_regex(r"[+-]?[0-9]{0,3}(\.[0-9]{0,3})?([eE][+-]?[0-9]{1,3})?[a-z_%]?", fullmatch=True)
TEXTS |= st.sampled_from(["nan", "inf", "-inf", "none", "true", "0x1F", "1_0", "1e400", "-0", "٣", "²", "", " ", "--"])


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    chosen=st.dictionaries(st.sampled_from(NUMERIC), TEXTS, min_size=1, max_size=3),
    schedule=st.sampled_from(["constant", "step", "exponential", "inverse", "cosine", "one-cycle"]),
    loss=st.sampled_from(LOSSES),
    normalization=st.sampled_from([[], ["--normalization", "batch"], ["--normalization", "layer"]]),
)
def test_whatever_number_is_given_ends_in_a_status(capsys, chosen, schedule, loss, normalization):
    from xpnet.train import main

    capsys.readouterr()
    options = [f"{name}={text}" for name, text in chosen.items()]
    start = ["--recipe", "xor", "--epochs", "1", "--schedule", schedule, "--quiet", "--no-plot", "--no-report"]
    start += ["--out", "run", "--overwrite", "--loss", loss, *normalization]
    start += ["--output", "sigmoid" if loss == "cross_entropy" else "linear"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        status = main([*start, *options])
    err = capsys.readouterr().err
    assert status in (0, 2, 3)
    assert err.count("\n") == (status != 0)
    assert err.startswith("xpnet: " if status else "")
