"""Exports: what other programs make of them, each loaded as its users load it."""

from __future__ import annotations

import csv
import gzip
import runpy
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import safetensors.numpy
import skops.io

import xpnet
from xpnet import export, exporters
from xpnet.data import InputTransform, TargetTransform
from xpnet.data.transform import fit_transform
from xpnet.exporters import checking, samples
from xpnet.exporters.onnx import spellings
from xpnet.kernels import ACTIVATIONS
from xpnet.network import OUTPUTS
from xpnet.tables import Category, Encoder, Number
from xpnet.tables.encoder import spelling
from xpnet.tables.reading import TableFile

TASKS = {"softmax": "classification", "sigmoid": "classification", "linear": "regression", "exp": "regression"}

ENCODER = Encoder(
    (
        Number("age", fill=38.5, indicator=True, center=40.0, scale=0.1, bend=True),
        Number("pay", fill=1e9, center=1e9, scale=0.5),  # in float32 the difference of 1 from 1e9 is lost
        Number("rank", fill=2.0, knots=(1.0, 2.0, 4.0, 9.0), heights=(-2.0, -0.5, 0.25, 2.0)),
        Number("hours", fill=40.0, indicator=True, scale=0.01, edges=(0.0, 20.0, 40.0, 41.0, 99.0)),
        Category("sex", ("Female", "Male")),
        Category(
            "native country", ("Côte d'Ivoire", "Peru", '"quoted", 3', "?")
        ),  # what stands for a missing value is none
        Category("label", ("1", "2", "4")),
    ),
    "income",
)
EMBEDDED = Encoder((*ENCODER.columns, Category("job", tuple(f"job {i}" for i in range(30)), embedding=4)), "income")


@pytest.fixture
def write(tmp_path):
    """Save a network and export it: the export's path."""

    def run(network, to, *options):
        model = xpnet.save(network, tmp_path / "model.safetensors")
        assert export.main([str(model), "--to", to, *map(str, options)]) == 0
        return tmp_path / f"model{exporters.FORMATS[to].suffix}"

    return run


def a_network(sizes=(6, 8, 7, 4), activations="tanh", output="softmax", **options):
    """A network of random weights; also of its gains and running statistics."""
    network = xpnet.MLP(sizes, activations, output, init="normal(0.5)", bias_init="normal(0.5)", **options)
    rng = np.random.default_rng(3)
    for gain in network.parameters.gains:
        gain[:] = rng.uniform(0.5, 2, gain.shape)
    if network.statistics is not None:
        for mean, variance in zip(network.statistics.mean, network.statistics.variance, strict=True):
            mean[:], variance[:] = rng.normal(size=mean.shape), rng.uniform(0.5, 2, variance.shape)
    network.task = TASKS.get(output, "regression")
    return network


def of_a_table(encoder=ENCODER, output="softmax", classes=("<=50K", ">50K"), units=2):
    width = encoder.width + sum(width - 1 for _, width in encoder.embeddings)
    network = a_network((width, 16, units), "gelu", output, embeddings=encoder.embeddings)
    network.table, network.classes = encoder, classes
    return network


def rows(encoder=EMBEDDED, count=500):
    """Rows with what is missing, unseen and out of range."""
    rng = np.random.default_rng(0)
    numbers = {
        "age": rng.normal(40, 15, count),
        "pay": 1e9 + rng.normal(0, 3, count),
        "rank": rng.uniform(-3, 12, count),
        "hours": rng.integers(-5, 110, count).astype(float),
    }
    frame = pd.DataFrame(numbers).mask(rng.random((count, 4)) < 0.1)
    frame.loc[0, "hours"], frame.loc[1, "hours"] = np.inf, 41.0
    for column in encoder.columns[4:]:
        known = [*column.values, "never seen", None, ""]
        frame[column.name] = pd.Series([known[i] for i in rng.integers(len(known), size=count)], dtype=object)
    return frame


def fed(frame):
    """A frame as the ONNX model's inputs."""
    return {
        name: (
            frame[name].to_numpy(float) if frame[name].dtype.kind == "f" else frame[name].fillna("").to_numpy(object)
        )[:, None]
        for name in frame.columns
    }


def session(path):
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more of them spin
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnx_has_every_activation_and_normalization(write, activation, normalization):
    network = a_network(activations=activation, normalization=normalization)
    network.transform = InputTransform(np.linspace(0.5, 2, 6), np.linspace(-1, 1, 6))
    x = np.random.default_rng(1).normal(size=(1000, 6)).astype(np.float32)
    model = session(write(network, "onnx"))
    assert [(i.name, i.type, i.shape) for i in model.get_inputs()] == [("X", "tensor(float)", ["N", 6])]
    for some in (x, x[:1]):
        label, probabilities = model.run(["label", "probabilities"], {"X": some})
        np.testing.assert_allclose(probabilities, network.predict_proba(some), atol=1e-5)
        assert label.tolist() == network.predict(some).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_onnx_and_numpy_have_every_output(write, output, dtype):
    network = a_network(activations=["elu", "softplus"], output=output, dtype=dtype)
    network.target_transform = TargetTransform(3.0, 100.0) if network.task == "regression" else TargetTransform()
    x = np.random.default_rng(1).normal(size=(50, 6)).astype(dtype)
    *_, outputs = session(write(network, "onnx")).run(None, {"X": x})
    expected = network.predict_proba(x)
    assert outputs.dtype == dtype
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    program = runpy.run_path(write(network, "numpy"))
    np.testing.assert_allclose(program["predict"](x), network.predict(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("task", "output", "units", "classes"),
    [
        ("classification", "sigmoid", 1, ("no", "yes")),
        ("classification", "sigmoid", 1, (False, True)),
        ("classification", "softmax", 3, ("würm", "b\nc", "")),
        ("classification", "softmax", 3, (10, -4, 7)),
        ("classification", "tanh", 3, (0, 1, 2)),
        ("classification", "linear", 1, ("no", "yes")),
        ("classification", "softmax", 3, ("one", 2, 3)),
        ("multilabel", "sigmoid", 3, (0, 1, 2)),
        ("regression", "linear", 1, None),
        (None, "softmax", 3, None),
    ],
)
def test_labels_are_the_networks(write, task, output, units, classes):
    network = a_network((6, 8, units), "silu", output)
    network.task, network.classes = task, classes
    x = np.random.default_rng(1).normal(size=(200, 6)).astype(np.float32)
    expected, program = network.predict(x), runpy.run_path(write(network, "numpy"))
    model = session(write(network, "onnx"))
    if task == "regression":
        np.testing.assert_allclose(program["predict"](x), expected, rtol=1e-5, atol=1e-5)
        assert [out.name for out in model.get_outputs()] == ["variable"]
        return
    label, probabilities = model.run(["label", "probabilities"], {"X": x})
    assert label.tolist() == program["predict"](x).tolist() == expected.tolist()
    np.testing.assert_allclose(probabilities, network.predict_proba(x), atol=1e-5)
    np.testing.assert_allclose(program["predict_proba"](x), network.predict_proba(x), atol=1e-5)


def test_large_activations_neither_overflow_nor_warn(write):
    x = np.array([[-1e30, 1e30, -1e4, 1e4, -200, 200]], np.float32)
    for activation in ("gelu", "silu", "softplus", "elu", "sigmoid"):
        network = xpnet.MLP((6, 6), (), activation)
        network.task, network.parameters.w[0][:] = "regression", np.eye(6)
        path = write(network, "numpy", "--overwrite")
        np.testing.assert_allclose(runpy.run_path(path)["predict"](x), network.predict(x), rtol=1e-6)


@pytest.mark.parametrize("encoder", [ENCODER, EMBEDDED], ids=["one-hot", "embedded"])
@pytest.mark.parametrize("output", ["softmax", "linear"])
def test_a_table_is_encoded_by_onnx_and_numpy(write, tmp_path, encoder, output):
    network = of_a_table(encoder) if output == "softmax" else of_a_table(encoder, output, None, 1)
    frame = rows(encoder)
    frame.to_csv(tmp_path / "new.csv", index=False)
    model, expected = session(write(network, "onnx", "--data", tmp_path / "new.csv")), network.predict_proba(frame)
    assert {i.name: i.type for i in model.get_inputs()} == {
        c.name: "tensor(double)" if isinstance(c, Number) else "tensor(string)" for c in encoder.columns
    }
    for some in (frame, frame[:1]):
        outputs = model.run(None, fed(some))[-1]
        np.testing.assert_allclose(outputs, expected[: len(some)], atol=1e-5)
    if output == "softmax":  # a column has the name "label"
        assert [out.name for out in model.get_outputs()] == ["label_1", "probabilities"]
        assert model.run(["label_1"], fed(frame))[0].tolist() == network.predict(frame).tolist()

    program = runpy.run_path(write(network, "numpy", "--data", tmp_path / "new.csv"))
    if output == "softmax":
        assert program["predict"](frame).tolist() == network.predict(frame).tolist()
    else:
        np.testing.assert_allclose(program["predict"](frame), network.predict(frame), rtol=1e-5, atol=1e-5)
    with (tmp_path / "new.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    for given in (frame, frame.to_dict("list"), frame.to_dict("records"), records):
        np.testing.assert_array_equal(program["encode"](given), network.table(frame))
        assert program["predict"](given).tolist() == program["predict"](frame).tolist()
    with pytest.raises(ValueError, match=r"lacks the columns \['age'\]"):
        program["predict"](frame.drop(columns="age"))


@pytest.mark.parametrize(
    "value",
    [
        *(" Male ", "Male", 1, 1.0, True, 2.5, "1", "?", "NA", None, float("nan"), "1e1", "1_0", "2.50", "1.00", "001"),
        *("TRUE", "-0", "-0.0", -0.0, ".50", "-.5", "-", ".", "1.", "+1", np.float32(2.5), np.float32(1.1), "1.10"),
    ],
    ids=repr,
)
def test_single_values_are_read_as_in_xpnet(write, value):
    encoder = Encoder(
        (Number("n", indicator=True), Category("c", ("Male", "true", "1", "2.50", "?", "0", "0.5", "1.1"))), "t"
    )
    network = of_a_table(encoder)
    program, frame = runpy.run_path(write(network, "numpy")), pd.DataFrame({"n": [value], "c": [value]}, dtype=object)
    np.testing.assert_array_equal(program["encode"](frame), encoder(frame))


def test_onnx_knows_the_spellings_that_files_have(write, capsys):
    values = {
        "Male": ("Male", " Male", "Male "),
        "true": ("true", "True", "TRUE", " True"),
        "3": ("3", "3.0", "3.00", " 3.0"),
        "-1.5": ("-1.5", "-1.50", "-1.50 "),
        "007": ("007",),
        "1e5": ("1e5",),
        "0": ("0", "0.0"),
    }
    encoder = Encoder((Category("c", tuple(values)), Category("two", ("b", "2.50")), Number("n")), "t")
    network = of_a_table(encoder)
    model = session(write(network, "onnx"))
    assert "text as the files have it, with one blank before or behind it at most: 3, 3.0" in capsys.readouterr().out
    written = [text for spelled in values.values() for text in spelled] + ["007.0", "Female", ""]
    frame = pd.DataFrame({"c": written, "two": "2.5", "n": 0.0})
    np.testing.assert_allclose(model.run(None, fed(frame))[1], network.predict_proba(frame), atol=1e-5)


def test_spellings_mean_what_they_are_spellings_of():
    for value in ("a", "true", "3", "-1.5", "0", "0.5", "007", "1e5", "-0.25", "", "1234567890123456789012"):
        assert {spelling(text) for text in spellings(value)} <= {value, None}


@pytest.mark.parametrize("scale", [0.5, 1e-300])
def test_outliers_are_held_alike(write, scale):
    shapes = ({}, {"bend": True}, {"edges": (0.0, 1.0, 2.0)}, {"knots": (0.0, 2.0), "heights": (-1.0, 1.0)})
    columns = tuple(Number(f"n{i}", center=1.0, scale=scale, **shape) for i, shape in enumerate(shapes))
    network = of_a_table(Encoder(columns, "t"), "linear", None, 1)
    far = np.array([1e30, -1e30, 1e300, -1e300, 1e5, 21.0, 21.1, -19.0, 3.0])
    frame = pd.DataFrame(dict.fromkeys(network.table.names, far))
    expected = network.predict(frame)
    assert np.abs(expected).max() < 100
    np.testing.assert_allclose(session(write(network, "onnx")).run(None, fed(frame))[0][:, 0], expected, rtol=1e-5)
    program = runpy.run_path(write(network, "numpy"))
    np.testing.assert_array_equal(program["encode"](frame), network.table(frame))
    np.testing.assert_allclose(program["predict"](frame), expected, rtol=1e-5)


def test_codes_of_arrays_are_embedded(write):
    network = a_network((2 + 5, 8, 3), "relu", embeddings=((10, 3), (4, 2)))
    network.transform = InputTransform(0.5, np.array([1.0, 2.0, 3.0, 4.0]))
    rng = np.random.default_rng(2)
    x = np.hstack([rng.normal(size=(99, 2)), rng.integers(10, size=(99, 1)), rng.integers(4, size=(99, 1))])
    x, expected = x.astype(np.float32), network.predict_proba(x.astype(np.float32))
    np.testing.assert_allclose(session(write(network, "onnx")).run(None, {"X": x})[1], expected, atol=1e-5)
    np.testing.assert_allclose(runpy.run_path(write(network, "numpy"))["predict_proba"](x), expected, atol=1e-5)


def test_a_large_shift_is_taken_off_in_double_precision(write):
    network = a_network()
    network.transform = InputTransform(np.full(6, 1.0), np.full(6, 1e7))
    x = 1e7 + np.random.default_rng(0).normal(size=(100, 6))
    model = session(write(network, "onnx"))
    assert model.get_inputs()[0].type == "tensor(double)"
    np.testing.assert_allclose(model.run(None, {"X": x})[1], network.predict_proba(x), atol=1e-5)


def test_the_program_runs_by_itself_on_a_table(write, tmp_path):
    network, frame = of_a_table(), rows(ENCODER)
    path = write(network, "numpy")
    frame.to_csv(tmp_path / "new.csv", index=False)
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__'); "
        "loaded = {name.partition('.')[0] for name in sys.modules}; "
        "assert loaded.isdisjoint(['xpnet', 'sklearn', 'pandas', 'scipy', 'jinja2'])"
    )
    command = [sys.executable, "-I", "-W", "error", "-c", code, str(path), "new.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    said = list(csv.DictReader(done.stdout.splitlines()))
    assert list(said[0]) == ["prediction", "probability <=50K", "probability >50K"]
    assert [row["prediction"] for row in said] == network.predict(frame).tolist()
    np.testing.assert_allclose(
        [float(row["probability >50K"]) for row in said], network.predict_proba(frame)[:, 1], atol=1e-5
    )


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_the_program_reads_samples(write, tmp_path, suffix, monkeypatch, capsys):
    network = a_network((6, 8, 2), "relu", "linear")
    path, x = write(network, "numpy"), np.random.default_rng(1).normal(size=(5, 6))
    np.save(tmp_path / "x.npy", x)
    pd.DataFrame(x, columns=list("abcdef")).to_csv(tmp_path / "x.csv", index=False)
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [str(path), str(tmp_path / f"x{suffix}")])
    runpy.run_path(path, run_name="__main__")
    said = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert said[0] == ["prediction 0", "prediction 1"]
    np.testing.assert_allclose(np.array(said[1:], float), network.predict(x), rtol=1e-5, atol=1e-6)


@pytest.fixture
def run_program(write, tmp_path, monkeypatch, capsys):
    """The program of a network, run on a file with this content: its status, output and errors."""

    def run(network, name, content):
        path = write(network, "numpy", "--overwrite")
        if content is not None:
            (tmp_path / name).write_bytes(content)
        capsys.readouterr()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(path), name])
        try:
            runpy.run_path(str(path), run_name="__main__")
            status = 0
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return run


SMALL = Encoder(
    (Number("n", indicator=True, scale=0.1), Category("c", ("a, b", "1.1", "true", "ü")), Category("v", ("2", "x"))),
    "t",
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain.csv", "n,c,v\n1,1.1,2\n,true,x\n"),
        ("quoted.csv", '"n","c",v\n"1","a, b",2\n?,"tr""ue",x\n2,"of\ntwo lines",x\n'),
        ("marked.csv", "\ufeffn,c,v\n1,1.1,2\n"),
        ("blank.csv", "\n\nn,c,v\n\n1,1.1,2\n\n\n2,ü,x\n\n"),
        ("returns.csv", "n,c,v\r\n1,1.1,2\r\n"),
        ("lone.csv", "n,c,v\r1,1.1,2\r"),
        ("tabs.tsv", 'n\tc\tv\n1\t1.1\t2\n2\t"a, b"\tx\n'),
        ("CAPITALS.TSV", "n\tc,v\tv\tc\n1\t1,1,1\t2\tü\n"),
        ("bars.csv", "n|c|v\n1|1.1|2\n"),
        ("commas.csv", "n;c;v\n1,5;1,10;2\n-1.234,50;1.1;2,0\n1.5;a, b;x\n"),
        ("missing.csv", "n,c,v\nNA,N/A,?\n NaN, null,#N/A\n-nan,<NA>,\nnone,None,NaT\n"),
        ("spelled.csv", "n,c,v\n+1,1.10,2.0\n 1e1 , True, 2.00 \n1_0,FALSE,-0\n0x10,1.100,x\ninf,1.1,2\n1e400,1.1,2\n"),
        ("turned.csv", ",v,more,c,n,\n0,2,9,1.1,1,\n1,x,9,true,2,\n"),
        ("zipped.csv.gz", "n,c,v\n1,1.1,2\n"),
        ("ZIPPED.TSV.GZ", "n\tc\tv\n1\t1.1\t2\n"),
        ("many.csv", "n,c,v\n" + "1,1.1,2\n2,ü,x\n" * 12_000),
    ],
)
def test_the_program_reads_tables_as_predict_does(run_program, tmp_path, name, text):
    content = text.encode()
    network = of_a_table(SMALL, classes=("no", "yes"))
    status, out, err = run_program(network, name, gzip.compress(content) if name.lower().endswith("gz") else content)
    assert (status, err) == (0, "")
    pieces = TableFile(tmp_path / name).pieces(SMALL.names, numbers=SMALL.numbers)
    expected = np.concatenate([network.predict_proba(piece) for piece in pieces])
    head, *said = csv.reader(out.splitlines())
    assert head == ["prediction", "probability no", "probability yes"]
    assert [row[0] for row in said] == [("no", "yes")[i] for i in expected.argmax(axis=1)]
    np.testing.assert_allclose(np.array([row[1:] for row in said], float), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.csv", b"n,c\n1,a\n", "t.csv: it lacks the columns v: give those that the model was trained on"),
        ("t.csv", b"n,c,v,v\n1,a,2,2\n", "it has two columns v: give each a name of its own"),
        ("t.csv", b"n,c,v\n1,a,2\n1,a\n", "row 2 below the names has 2 values, expected 3: mend it"),
        ("t.csv", b"n,c,v\n", "it has no rows"),
        ("t.csv", b"", "it has no rows"),
        ("t.csv", "n,c,v\n1,ü,2\n".encode("latin-1"), "it is no text in UTF-8"),
        ("t.csv", "n,c,v\n1,a,2\n".encode("utf-16"), "it is no text in UTF-8"),
        ("t.csv.gz", b"n,c,v\n1,a,2\n", "Not a gzipped file"),
        ("t.csv.gz", gzip.compress(b"n,c,v\n1,a,2\n")[:-9], "ended before"),
        ("no.csv", None, "No such file"),
    ],
)
def test_what_the_program_cannot_read_is_told_in_a_sentence(run_program, name, content, sentence):
    status, out, err = run_program(of_a_table(SMALL), name, content)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert sentence in err


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.csv", b"a,b,c\n1,2,3\n4,x,6\n", "x.csv: row 2 holds 'x', expected numbers alone: mend it"),
        ("x.csv", b"1,,3\n4,5,6\n", "row 1 holds '', expected numbers alone"),
        ("x.csv", b"1,2,nan\n", "row 1 holds 'nan'"),
        ("x.csv", b"1,2,3\n4,5\n", "row 2 has 2 values, expected 3 as the first"),
        ("x.csv", b"1,2\n", "it holds float64 of shape (1, 2), expected samples of 3 numbers"),
        ("x.csv", b"a,b,c\n", "expected samples of 3 numbers, a row each"),
        ("x.npy", b"nothing like it", "it is no .npy of numbers"),
    ],
)
def test_samples_that_the_program_cannot_read_are_told(run_program, name, content, sentence):
    status, out, err = run_program(a_network((3, 4, 2)), name, content)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert sentence in err


def test_the_program_reads_numbers_between_semicolons(run_program):
    network = a_network((3, 4, 1), output="linear")
    status, out, _ = run_program(network, "x.csv", b"\xef\xbb\xbfa;b;c\r\n\r\n1,5;2;-3,25\r\n")
    assert status == 0
    assert float(out.splitlines()[1]) == pytest.approx(float(network.predict([[1.5, 2, -3.25]])[0]), rel=1e-5)


HOSTILE = [
    '"""\nraise SystemExit("owned")\n"""',
    "'; raise SystemExit('owned') #",
    "{{ 7 * 7 }}{% raise %}",
    "\\",
    "\\'''\n__import__('os').abort()",
    "\u2028raise SystemExit\x0c\r",
    "# coding: utf-7",
    "f{CLASSES}",
    "\u202e\x00",
]


def test_hostile_names_stay_text(write, capsys):
    columns = [
        Category(f"c{i}{name}", (name, "b" if i % 2 else "b" * 300, *(f"{name}{j}" for j in range(i))))
        for i, name in enumerate(HOSTILE)
    ]
    encoder = Encoder((*columns, Number("n{% endif %}\n'''")), "t")
    network = of_a_table(encoder, classes=(*HOSTILE, "\ud800"), units=len(HOSTILE) + 1)
    path = write(network, "numpy")
    program = runpy.run_path(path)
    assert program["CLASSES"] == [*HOSTILE, "\ud800"]
    assert [column["name"] for column in program["COLUMNS"]] == encoder.names
    frame = samples.random(network).frame
    assert program["predict"](frame).tolist() == network.predict(frame).tolist()
    model = path.with_name("model.safetensors")
    assert export.main([str(model), "--to", "onnx"]) == 2  # UTF-8 has no half of a pair
    assert "ONNX cannot hold this network" in capsys.readouterr().err
    assert not model.with_suffix(".onnx").exists()


@pytest.mark.parametrize("activation", ["linear", "sigmoid", "tanh", "relu"])
@pytest.mark.parametrize(
    ("task", "output", "units", "classes"),
    [
        ("classification", "softmax", 3, ("eel", "cat", "dog")),
        ("classification", "softmax", 2, (7, 3)),
        ("classification", "sigmoid", 1, ("yes", "no")),
        ("multilabel", "sigmoid", 3, (0, 1, 2)),
        ("regression", "linear", 1, None),
        ("regression", "linear", 2, None),
        ("regression", "exp", 1, None),
    ],
)
def test_skops_loads_scikit_learns_own(write, activation, task, output, units, classes):
    network = a_network((6, 8, 5, units), activation, output, normalization="batch" if units > 1 else None)
    network.task, network.classes = task, classes
    network.transform = InputTransform(0.5, np.linspace(-1, 1, 6))
    network.target_transform = TargetTransform(2.0, 30.0) if output == "linear" else TargetTransform()
    path = write(network, "sklearn")
    assert skops.io.get_untrusted_types(file=path) == []
    estimator = skops.io.load(path)
    assert type(estimator).__module__.startswith("sklearn.")
    x = np.random.default_rng(1).normal(size=(200, 6))
    if task == "regression":
        np.testing.assert_allclose(estimator.predict(x), network.predict(x), rtol=1e-5, atol=1e-5)
        return
    assert estimator.predict(x).tolist() == network.predict(x).tolist()
    known = list(range(units)) if classes is None else list(classes)
    order = np.searchsorted(estimator.classes_, known)
    np.testing.assert_allclose(estimator.predict_proba(x)[:, order], network.predict_proba(x), atol=1e-5)


def test_scikit_learn_can_go_on_learning(write):
    network = a_network((6, 8, 3))
    network.classes = ("a", "b", "c")
    estimator = skops.io.load(write(network, "sklearn"))
    x, y = np.random.default_rng(1).normal(size=(60, 6)), np.array(["a", "b", "c"] * 20)
    before = estimator.predict_proba(x)
    estimator.partial_fit(x, y)
    assert 0 < np.abs(estimator.predict_proba(x) - before).max() < 0.1


@pytest.mark.parametrize(
    ("network", "lack"),
    [
        (a_network(activations="gelu"), "activation gelu"),
        (a_network(activations=["tanh", "relu"]), "more than one activation (relu, tanh)"),
        (a_network(normalization="layer"), "layer normalization"),
        (a_network(output="tanh"), "regression with the output tanh"),
        (of_a_table(), "encoding of a table's columns"),
        (a_network((4, 3, 2), embeddings=((5, 3),)), "embeddings"),
    ],
)
def test_what_scikit_learn_lacks_is_told(network, lack, tmp_path, capsys):
    model = xpnet.save(network, tmp_path / "model.safetensors")
    assert export.main([str(model), "--to", "sklearn"]) == 2
    assert f"scikit-learn's MLP has no {lack}; take --to onnx or --to numpy." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_sequential_has_the_weights_by_its_modules_names(write):
    network = a_network((6, 8, 7, 1), ["gelu", "linear"], "linear", normalization="batch")
    network.transform = InputTransform(0.5, np.linspace(-1, 1, 6))
    network.target_transform = TargetTransform(2.0, 30.0)
    path = write(network, "torch-safetensors")
    tensors = safetensors.numpy.load_file(path)
    batch_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert set(tensors) == {
        *("0.weight", "0.bias", "3.weight", "5.weight", "5.bias"),  # a linear activation is no module
        *(f"{i}.{name}" for i in (1, 4) for name in batch_norm),
    }
    p = network.parameters
    np.testing.assert_allclose(tensors["0.weight"], 0.5 * p.w[0].T, rtol=1e-6)
    np.testing.assert_allclose(tensors["0.bias"], -np.linspace(-1, 1, 6) @ p.w[0], rtol=1e-5)
    np.testing.assert_allclose(tensors["5.bias"], 2 * p.b[2] + 30, rtol=1e-6)


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("output", ["softmax", "sigmoid", "linear", "exp"])
def test_torch_predicts_the_same(write, normalization, output):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; pip install torch")
    from safetensors import safe_open
    from safetensors.torch import load_file

    x = np.random.default_rng(1).normal(size=(100, 6)).astype(np.float32)
    for activation in ACTIVATIONS:
        network = a_network(activations=activation, output=output, normalization=normalization)
        network.transform = InputTransform(0.5, np.linspace(-1, 1, 6))
        path = write(network, "torch-safetensors", "--overwrite")
        with safe_open(path, framework="numpy") as file:
            code = file.metadata()["torch.nn.Sequential"]
        module = eval(code, {"torch": torch})
        module.load_state_dict(load_file(path))
        y = module.eval()(torch.from_numpy(x)).detach().numpy()
        expected = network.predict_proba(x)
        np.testing.assert_allclose(np.exp(y) if output == "exp" else y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("output", "told"),
    [("exp", "take torch.exp of them"), ("relu", "an output times 2.0 plus 30.0"), ("linear", None)],
)
def test_what_the_sequential_leaves_to_do_is_told(write, capsys, output, told):
    network = a_network(output=output)
    network.target_transform = TargetTransform(2.0, 30.0) if output != "exp" else TargetTransform()
    write(network, "torch-safetensors")
    first, code, *notes = capsys.readouterr().out.splitlines()
    assert "checked by" in first
    assert code.startswith("torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), ")
    assert told is None if not notes else told in notes[0]


@pytest.fixture(scope="module")
def digits_reader(data_folder):
    """A network that has learnt some of MNIST."""
    data = xpnet.data.load("mnist", folder=data_folder)
    network = xpnet.MLP((784, 64, 10), "relu")
    network.transform = fit_transform(data.x, np.arange(2000), scale=data.scale)
    xpnet.Trainer(network, epochs=1, batch_size=100).fit(data.x[:5000], data.y[:5000])
    return network


@pytest.mark.parametrize("to", exporters.FORMATS)
def test_mnist_is_exported_to_1e5(write, data_folder, digits_reader, capsys, to):
    write(
        digits_reader,
        to,
        "--data",
        *(data_folder / "mnist" / f"t10k-{part}-ubyte.gz" for part in ("images-idx3", "labels-idx1")),
    )
    assert "10,000 samples of t10k-" in capsys.readouterr().out


@pytest.mark.parametrize("to", ["onnx", "numpy"])
def test_adult_is_exported_to_1e5(write, data_folder, tmp_path, capsys, to):
    from xpnet.tables.learning import learn

    names = [*(f"column {i}" for i in range(14)), "income"]
    frame = pd.read_csv(data_folder / "tabular" / "adult.data", names=names, skipinitialspace=True, nrows=4000)
    kinds = {name: "number" if frame[name].dtype.kind in "if" else "category" for name in names[:-1]}
    encoder = learn(frame, kinds, target="income", scaling="bins", one_hot=10, embedding=4)
    frame.to_csv(tmp_path / "adult.csv", index=False)
    network = of_a_table(encoder)
    write(network, to, "--data", tmp_path / "adult.csv")
    assert "on 4,000 samples of adult.csv: largest difference" in capsys.readouterr().out


def test_it_is_checked_on_the_data_of_the_run(tmp_path, capsys):
    network = a_network((64, 8, 10))
    network.transform = InputTransform(1 / 16)
    (tmp_path / "config.toml").write_text('[settings]\ndata = ["digits"]\n')
    (tmp_path / "checkpoints").mkdir()
    for folder in (tmp_path, tmp_path / "checkpoints"):
        model = xpnet.save(network, folder / "model.safetensors")
        assert export.main([str(model), "--to", "numpy"]) == 0
        assert " samples of digits: largest difference " in capsys.readouterr().out
    (tmp_path / "config.toml").write_text('[settings]\ndata = ["moved.npz"]\n')
    assert export.main([str(tmp_path / "model.safetensors"), "--to", "numpy", "--overwrite"]) == 0
    assert "on 1,000 random samples: largest difference " in capsys.readouterr().out


def test_what_predicts_otherwise_gets_no_name(tmp_path, capsys, monkeypatch):
    network = a_network()
    model = xpnet.save(network, tmp_path / "model.safetensors")
    right = checking.Artifact(
        b"?", "a program", lambda found: (network.predict_proba(found.x), network.predict(found.x))
    )
    assert checking.largest_difference(network, right, samples.random(network)) == 0

    def off(found):
        return network.predict_proba(found.x) + 2e-5, None

    def nan(found):
        return network.predict_proba(found.x) * np.nan, None

    def others(found):
        return network.predict_proba(found.x), 3 - network.predict(found.x)

    for predict, told in ((off, "differ by 2.0e-05"), (nan, "differ by nan"), (others, "classes by a program")):
        made = checking.Artifact(b"?", "a program", predict)
        monkeypatch.setitem(exporters.FORMATS, "onnx", exporters.Format(lambda _, made=made: made, ".onnx"))
        assert export.main([str(model), "--to", "onnx"]) == 2
        assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def told(capsys, *arguments):
    """What a command that fails says: one sentence."""
    assert export.main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("xpnet: ")
    assert err.count("\n") == 1
    return err


def test_bad_input_is_told_in_one_sentence(tmp_path, capsys):
    model, other = xpnet.save(a_network(), tmp_path / "model.safetensors"), tmp_path / "other.safetensors"
    other.write_bytes(b"nothing like it")
    assert "torch-safetensors" in told(capsys, model, "--to", "keras")
    assert "is no whole safetensors file" in told(capsys, other, "--to", "onnx")
    assert "there is no such file" in told(capsys, tmp_path / "none.safetensors", "--to", "onnx")
    assert "got samples of 64 values, expected 6" in told(capsys, model, "--to", "onnx", "--data", "digits")
    assert "is neither a data set nor a file" in told(capsys, model, "--to", "numpy", "--data", "none.npz")
    assert "is the model itself" in told(capsys, model, "--to", "numpy", "--out", model, "--overwrite")
    assert "cannot be written" in told(capsys, model, "--to", "numpy", "--out", tmp_path / "none" / "m.py")
    (tmp_path / "model.py").write_text("mine")
    assert "exists already; give --overwrite" in told(capsys, model, "--to", "numpy")
    assert (tmp_path / "model.py").read_text() == "mine"
    assert export.main([str(model), "--to", "numpy", "--overwrite"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "other.safetensors", "model.py"}


def test_a_table_of_other_columns_is_told(tmp_path, capsys):
    model = xpnet.save(of_a_table(), tmp_path / "model.safetensors")
    rows(ENCODER).drop(columns=["age", "sex"]).to_csv(tmp_path / "new.csv", index=False)
    err = told(capsys, model, "--to", "onnx", "--data", tmp_path / "new.csv")
    assert 'lacks the columns "age", "sex"' in err


@pytest.mark.parametrize(("to", "library"), [("onnx", "onnx"), ("onnx", "onnxruntime"), ("sklearn", "skops")])
def test_a_missing_library_is_told(tmp_path, capsys, monkeypatch, to, library):
    model = xpnet.save(a_network(), tmp_path / "model.safetensors")
    monkeypatch.setitem(sys.modules, library, None)
    assert f"needs {library}, which is not installed; pip install 'xpnet[export]'." in told(capsys, model, "--to", to)


@pytest.mark.parametrize(
    "column", [Number("half \ud800"), Category("c", ("a", "\udfff", "b")), Category("\ud800", ("a", "b"))]
)
def test_text_that_is_no_unicode_is_refused_with_the_model(tmp_path, capsys, column):
    network = a_network((column.width, 2))
    network.table = Encoder((column,), "t")
    model = xpnet.save(network, tmp_path / "model.safetensors")
    assert "the model's description does not fit" in told(capsys, model, "--to", "numpy")
