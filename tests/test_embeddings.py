"""Networks that embed codes: that they learn by them, repeat, go on, are kept on disk, and refuse what is no code."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from emulated import Emulated
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from test_checkpoint import Collect, assert_same, ended
from test_program import OPTIMIZERS

import xpnet
from xpnet import gradcheck
from xpnet.data.samples import Samples
from xpnet.data.transform import InputTransform
from xpnet.tables.encoder import Category, Encoder, Number

EMBEDDINGS = ((7, 4), (40, 5))
SIZES = (3 + 4 + 5, 16, 8, 3)


def samples(rows: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three numbers that say nothing, two codes that say the class."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, rows) for size, _ in EMBEDDINGS], axis=1)
    y = (np.random.default_rng(9).integers(0, 3, 7)[codes[:, 0]] + codes[:, 1] % 2) % 3
    return np.hstack([rng.normal(size=(rows, 3)), codes]), y


def build(device: str | xpnet.Device = "cpu", sizes=SIZES, **options) -> xpnet.MLP:
    return xpnet.MLP(sizes, embeddings=options.pop("embeddings", EMBEDDINGS), device=device, seed=3, **options)


def fit(network: xpnet.MLP, x, y, *, epochs: int = 3, **options) -> xpnet.Trainer:
    trainer = xpnet.Trainer(network, batch_size=32, epochs=epochs, seed=5, final_weights="last", **options)
    trainer.fit(x, y)
    return trainer


def cpu(threads: int) -> xpnet.Device:
    device = xpnet.device("cpu")
    device.threads = threads
    return device


# Training


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_class_that_only_codes_tell_is_learnt(device):
    x, y = samples(600)
    network = build(device)
    fit(network, x, y, epochs=30, optimizer=xpnet.Adam(0.01))
    x, y = samples(300, seed=1)
    assert np.mean(network.predict(x) == y) > 0.98


def test_all_values_of_a_sample_may_be_codes():
    x, y = samples(600)
    network = build(sizes=(9, 16, 3))
    fit(network, x[:, 3:], y, epochs=30, optimizer=xpnet.Adam(0.01))
    assert np.mean(network.predict(x[:, 3:]) == y) > 0.98


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_changes_the_rows_that_occur_and_plain_descent_no_others(name):
    x, y = samples()
    x[:, 3] %= 5
    network = build()
    before = [table.copy() for table in network.parameters.e]
    fit(network, x, y, epochs=1, optimizer=OPTIMIZERS[name], l2=0.1)
    changed = [(table != old).any(axis=1) for table, old in zip(network.parameters.e, before, strict=True)]
    assert changed[0][:5].all()
    assert changed[1].all()
    assert not changed[0][5:].any(), "neither gradient nor decay"


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_training_leaves_the_same_bits(threads, optimizer):
    x, y = samples(2000)
    runs = [build(cpu(threads)) for _ in range(2)]
    for network in runs:
        fit(network, x, y, optimizer=optimizer)
    np.testing.assert_array_equal(runs[0].parameters.flat, runs[1].parameters.flat)


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adamw"])
@pytest.mark.parametrize("options", [{}, {"normalization": "batch"}], ids=str)
def test_devices_agree_and_a_captured_training_gives_the_bits_of_a_direct_one(name, options):
    x, y = samples()
    emulated = Emulated()
    flats = []
    for device in ("numpy", emulated, "cpu"):
        network = build(device, **options)
        network.transform = InputTransform(np.array([0.5, 2, 1, 9, 9]), np.array([1, 0, 0.5, 9, 9]))
        trainer = fit(network, x, y, optimizer=OPTIMIZERS[name], dropout=0.2, l2=0.01, clip_norm=1.0, max_norm=2.0)
        flats.append((network.device.to_host(network.parameters.flat), trainer.history.step_losses))
    assert emulated.nodes, "nothing was captured"
    for direct, captured, compiled in zip(*flats, strict=True):
        np.testing.assert_array_equal(direct, captured)
        np.testing.assert_allclose(compiled, direct, rtol=1e-3, atol=1e-5)


def test_nothing_calls_python_and_nothing_large_is_allocated_in_a_step():
    x, y = samples(640)
    network = build(cpu(1))
    network.task, network.classes = "classification", (0, 1, 2)
    training = xpnet.Trainer(network, batch_size=32).prepare(Samples.of(x.astype(np.float32), y.astype(np.int32)))
    program = training.program
    tape = network.device._record(lambda _: program._step(0, program.workspace.batch(0, 32)), [0])
    assert len(tape.words) > 10
    assert not tape.calls_python
    replay = program._replay(0, 1, 1, 32)
    replay()
    tracemalloc.start()
    for _ in range(20):
        replay()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_goes_on_from_a_snapshot_ends_as_what_was_never_broken(optimizer):
    def make():
        network = build()
        network.task, network.classes = "classification", (0, 1, 2)
        x, y = samples()
        trainer = xpnet.Trainer(network, optimizer=optimizer, batch_size=32, epochs=3)
        training = trainer.prepare(*(Samples.of(x, y.astype(np.int32)),) * 2)
        training.chunk = 4
        return training

    whole = make()
    collected = Collect(whole)
    whole.trainer.run(whole)
    assert len(collected.snapshots) > 3
    for snapshot in collected.snapshots[1::2]:
        other = make()
        other.go_on(snapshot)
        other.trainer.run(other)
        assert_same(ended(other), ended(whole))


# Equal to columns of zeros and ones


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("sparse", [False, True])
def test_it_is_the_network_of_one_hot_columns_whose_weights_are_table_times_weights(device, sparse):
    x, _ = samples(50)
    network = build(device, dtype="float64", activations="tanh")
    network.transform = InputTransform(0.5, np.linspace(-1, 1, 5))
    one_hot = [np.eye(rows)[x[:, 3 + i].astype(int)] for i, (rows, _) in enumerate(EMBEDDINGS)]
    wide = xpnet.MLP((3 + 7 + 40, *SIZES[1:]), "tanh", device=device, dtype="float64")
    p, q = network.parameters, wide.parameters
    q.w[0][:3], q.w[0][3:10], q.w[0][10:] = p.w[0][:3], p.e[0] @ p.w[0][3:7], p.e[1] @ p.w[0][7:]
    for there, here in zip([*q.w[1:], *q.b], [*p.w[1:], *p.b], strict=True):
        there[...] = here
    seen = np.hstack([x[:, :3] * 0.5 - np.linspace(-1, 1, 5)[:3], *one_hot])
    given = scipy.sparse.csr_array(x) if sparse else x
    np.testing.assert_allclose(network.predict_proba(given), wide.predict_proba(seen), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_codes_of_any_type_and_in_blocks_of_any_size_are_the_same(dtype, monkeypatch):
    x, y = samples()
    x[:, :3] = np.abs(np.round(20 * x[:, :3]))
    network = build()
    network.transform = InputTransform(1 / 255)
    fit(network, x.astype(dtype), y)
    expected = network.predict_proba(x)
    np.testing.assert_allclose(network.predict_proba(x.astype(dtype)), expected, rtol=1e-5)
    monkeypatch.setattr(network.device, "block_rows", 7)
    np.testing.assert_allclose(network.predict_proba(x.astype(dtype)), expected, rtol=1e-5)
    np.testing.assert_allclose(network.predict_proba(x[4:5]), expected[4:5], rtol=1e-5)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("sizes", [SIZES, (9, 3), (12, 3)], ids=str)
def test_every_gradient_agrees_with_finite_differences(device, sizes):
    x, y = samples(20)
    x = x[:, 3:] if sizes[0] == 9 else x
    network = build(device, sizes, activations="tanh", init="normal(0.5)")
    agreements = gradcheck.check(network, x, y.astype(np.int32), l2=0.01, weights=np.linspace(0.5, 2, 20))
    assert [a.name for a in agreements][-2:] == ["e1", "e2"]
    for a in agreements:
        assert a.checked == np.prod(a.shape)
        assert a.relative_error <= 1e-6, a


def test_a_wrong_gradient_of_a_table_is_found(monkeypatch):
    from xpnet.kernels import table

    right = table.REFERENCE["embedding_backward"]

    def doubled(k, codes, dy, *, out):
        right(k, codes, dy, out=out)
        out *= 2

    monkeypatch.setitem(table.REFERENCE, "embedding_backward", doubled)
    x, y = samples(20)
    wrong = [a.name for a in gradcheck.check(build("numpy"), x, y.astype(np.int32)) if not a.good]
    assert wrong == ["e1", "e2"]


# On disk


def encoder() -> Encoder:
    values = {rows: tuple(map(str, range(1, rows))) for rows, _ in EMBEDDINGS}
    numbers = [Number(name) for name in "abc"]
    return Encoder((*numbers, *(Category(f"of {r}", values[r], width) for r, width in EMBEDDINGS)), "t")


def test_a_loaded_network_predicts_the_same(tmp_path):
    x, y = samples()
    network = build(normalization="layer")
    network.transform = InputTransform(2.0, np.arange(5.0))
    network.table = encoder()
    fit(network, x, y)
    path = xpnet.save(network, tmp_path / "m.safetensors")
    other = xpnet.load(path)
    assert (other.embeddings, other.inputs, other.table) == (EMBEDDINGS, 5, network.table)
    np.testing.assert_array_equal(other.parameters.flat, network.parameters.flat)
    np.testing.assert_array_equal(other.predict_proba(x), network.predict_proba(x))
    assert {"e1", "e2"} <= set(load_file(path))


HUGE = {"embeddings": [[2**24, 4], [40, 5]]}


@pytest.mark.parametrize(
    ("header", "tensors"),
    [
        *(
            ({"embeddings": value}, {})
            for value in (
                None,
                [],
                3,
                "ab",
                [[7, 4]],
                [[7, 4], [40, 6]],
                [[7, 4, 1], [40, 5]],
                [7, 40],
                [[7.0, 4], [40, 5]],
            )
        ),
        ({"embeddings": [[-7, 4], [40, 5]]}, {}),
        ({"embeddings": [["7", 4], [40, 5]]}, {}),
        ({"embeddings": [[2**80, 4], [40, 5]]}, {}),
        ({"embeddings": {"7": 4}}, {}),
        ({"sizes": [8, 16, 8, 3]}, {}),
        (HUGE, {}),
        ({}, {"e1": np.zeros((7, 4))}),
        ({}, {"e1": np.full((7, 4), np.nan, np.float32)}),
        ({}, {"e3": np.zeros((2, 2), np.float32)}),
        ({"table": encoder().to_dict() | {"columns": encoder().to_dict()["columns"][:4]}}, {}),
    ],
    ids=lambda change: str(change).replace("\n", "")[:50],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, header, tensors):
    path = xpnet.save(build(), tmp_path / "m.safetensors")
    with safe_open(path, framework="numpy") as file:
        old = json.loads(file.metadata()["xpnet"])
    save_file({**load_file(path), **tensors}, path, metadata={"xpnet": json.dumps({**old, **header})})
    with pytest.raises(xpnet.DataError) as refusal:
        xpnet.load(path)
    assert "\n" not in str(refusal.value)


def test_a_table_that_embeds_otherwise_is_refused(tmp_path):
    network = build()
    network.table = encoder()
    path = xpnet.save(network, tmp_path / "m.safetensors")
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["xpnet"])
    header["table"]["columns"][3]["values"].pop()
    save_file(load_file(path), path, metadata={"xpnet": json.dumps(header)})
    with pytest.raises(xpnet.DataError, match="the table embeds"):
        xpnet.load(path)


def test_a_file_without_codes_is_read(tmp_path):
    path = xpnet.save(xpnet.MLP((4, 3)), tmp_path / "m.safetensors")
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["xpnet"])
    del header["embeddings"]
    save_file(load_file(path), path, metadata={"xpnet": json.dumps(header)})
    assert xpnet.load(path).embeddings == ()


# What is refused, and what is told


@pytest.mark.parametrize(
    ("embeddings", "words"),
    [
        (((7, 4), (40, 50)), "widths of 54"),
        (((0, 4),), "rows of an embedding"),
        (((7, 0),), "width of an embedding"),
        (((7.5, 4),), "rows of an embedding"),
        ((7, 4), "a pair"),
        (7, "a pair"),
        (((2**24 + 1, 4),), "at most 16777216"),
    ],
    ids=str,
)
def test_embeddings_that_are_none_are_refused(embeddings, words):
    with pytest.raises(xpnet.XpnetError, match=words):
        build(embeddings=embeddings)


def test_tables_that_no_memory_holds_are_refused():
    with pytest.raises(xpnet.XpnetError, match="no memory holds"):
        xpnet.MLP((2**40, 2), embeddings=((2**20, 2**35),))


@pytest.mark.parametrize("bad", [7, -1, 0.5, 1e30])
def test_what_is_no_code_is_refused(bad):
    x, y = samples(30)
    network = build()
    fit(network, x, y, epochs=1)
    x[11, 3] = bad
    for given in (x, scipy.sparse.csr_array(x)):
        with pytest.raises(xpnet.DataError, match=r"row 11, column 3, expected a code, a whole number from 0 to 6"):
            xpnet.Trainer(network).fit(given, y)
        with pytest.raises(xpnet.DataError, match="row 11, column 3"):
            network.predict(given)
    with pytest.raises(xpnet.DataError, match="12 values for a network with 5 inputs"):
        xpnet.Trainer(network).fit(np.zeros((30, 12)), y)
    with pytest.raises(xpnet.XpnetError, match="12 values, expected 5"):
        network.predict(np.zeros((30, 12)))


def test_the_summary_counts_the_tables():
    lines = build().summary().splitlines()
    assert lines[1].split() == ["e1", "7", "x", "4", "embedding", "28", "0"]
    assert lines[2].split() == ["e2", "40", "x", "5", "embedding", "200", "0"]
    assert int(lines[-1].split()[1]) == sum(view.size for _, view in build().parameters.named())


def test_tables_change_no_other_draw_and_their_rows_are_about_as_long_as_1():
    plain, network = xpnet.MLP((59, 8, 3), seed=3), build(sizes=(59, 8, 3), embeddings=((1000, 50), (3, 1)))
    for here, there in zip(
        plain.parameters.w + plain.parameters.b, network.parameters.w + network.parameters.b, strict=True
    ):
        np.testing.assert_array_equal(here, there)
    lengths = np.linalg.norm(network.parameters.e[0], axis=1)
    assert 0.9 < lengths.mean() < 1.1
    assert not any(table.any() for table in build(init="zeros").parameters.e)
