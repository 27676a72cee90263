"""Every reader of a stranger's file: what good files look like, what they may be changed in, how they are read."""

import dataclasses
import gzip
import io
import pickle
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

import xpnet
from xpnet import checkpoint, snapshots, train
from xpnet.config import Config
from xpnet.data.arrays import read_arrays
from xpnet.data.cifar import read_cifar10
from xpnet.data.idx import read_idx
from xpnet.data.images import Shades
from xpnet.data.transform import InputTransform, TargetTransform
from xpnet.options import Beginning, lay_over
from xpnet.settings import read_settings
from xpnet.tables import Category, Encoder, Number
from xpnet.tables.encoder import as_numbers, as_text
from xpnet.tables.reading import TableFile

from . import mutations
from .mutations import Mutation


@dataclass(frozen=True)
class Reader:
    """How a kind of file is made, changed and read.

    Attributes:
        name: On the command line.
        code: Files of ours whose lines tell new inputs from old ones.
        seeds: Good files.
        steps: Changes that know the format.
        prepare: Put into a folder what has to be there beside the input.
        file: The name of an input, by its content.
        read: The file, while lines are watched.
        follow: What is then done with what was read.
    """

    name: str
    code: tuple[str, ...]
    seeds: Callable[[], list[bytes]]
    steps: tuple[Mutation, ...]
    read: Callable[[Path], object]
    file: Callable[[bytes], str]
    prepare: Callable[[Path], None] = lambda folder: None
    follow: Callable[[Any], object] = lambda result: result


# IDX


def _idx_seeds() -> list[bytes]:
    plain = [
        struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 2, 2) + bytes(range(8)),
        struct.pack(">BBBBI", 0, 0, 13, 1, 3) + struct.pack(">3f", 1, 2, 3),
        struct.pack(">BBBBII", 0, 0, 11, 2, 1, 2) + b"\0\1\0\2",
    ]
    return plain + [gzip.compress(raw, mtime=0) for raw in plain]


# CIFAR-10: one file of the folder is the input, the class names or the first batch

_ROWS, _NAMES = 2, [f"name{i}".encode() for i in range(10)]
_STEMS = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def _cifar_pickles() -> list[bytes]:
    batch = {b"batch_label": b"a", b"labels": [3, 9], b"data": np.zeros((_ROWS, 3072), np.uint8)}
    names = {b"label_names": _NAMES}
    return [pickle.dumps(record, protocol=2) for record in (batch, names)]


def _cifar_binaries() -> list[bytes]:
    return [(b"\3" + bytes(3072)) * _ROWS, b"\n".join(_NAMES)]


def _cifar_file(raw: bytes) -> str:
    return "data_batch_1" if b"data" in raw or b"label_names" not in raw else "batches.meta"


def _cifar_binary_file(raw: bytes) -> str:
    return "data_batch_1.bin" if raw[:4] != b"name" else "batches.meta.txt"


def _write_cifar_pickles(folder: Path) -> None:
    batch, names = _cifar_pickles()
    for stem in _STEMS:
        (folder / stem).write_bytes(batch)
    (folder / "batches.meta").write_bytes(names)


def _write_cifar_binaries(folder: Path) -> None:
    batch, names = _cifar_binaries()
    for stem in _STEMS:
        (folder / f"{stem}.bin").write_bytes(batch)
    (folder / "batches.meta.txt").write_bytes(names)


# NumPy


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


_X, _Y = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([0, 1, 1, 0])


def _npy_seeds() -> list[bytes]:
    return [_npy(_X), _npy(_X.astype(">i2")), _npy(np.asfortranarray(_X)), _npy(_X.astype(np.float16) > 3)]


def _npz(save: Callable[..., None], **arrays: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def _npz_seeds() -> list[bytes]:
    return [
        _npz(np.savez, X=_X, y=_Y),
        _npz(
            np.savez_compressed,
            X=_X.astype(np.uint8),
            y=np.array(list("abba")),
            X_test=_X.astype(np.uint8)[:1],
            y_test=np.array(["b"]),
        ),
        _npz(np.savez_compressed, X=_X, y=np.array([b"a", b"b"] * 2)),
        _npz(np.savez, X=_X.reshape(4, 1, 2), y=_X),
        _npz(np.savez, X=_X, y=np.eye(4, dtype=np.uint8)),
    ]


def _sparse_seeds() -> list[bytes]:
    seeds = []
    for matrix in (sparse.csr_array(_X), sparse.csr_array(_X.astype(np.int64))):
        stream = io.BytesIO()
        sparse.save_npz(stream, matrix)
        seeds.append(stream.getvalue())
    return seeds


def _read_with_labels(path: Path) -> object:
    return read_arrays([path, path.with_name("labels.npy")])


def _write_labels(folder: Path) -> None:
    np.save(folder / "labels.npy", _Y)


# Models and checkpoints


def _model_seeds() -> list[bytes]:
    plain = xpnet.MLP((2, 3, 2), ["tanh"])
    plain.transform = InputTransform(np.array([1.0, 2]), np.array([0.5, 0]))
    plain.task, plain.classes = "classification", ("cat", "dog")
    normalized = xpnet.MLP((2, 2, 1), normalization="batch", output="linear", dtype="float64")
    normalized.task = "regression"
    embedding = xpnet.MLP((3, 2), embeddings=((4, 2),))
    embedding.task = "classification"
    table = xpnet.MLP((6, 1), output="linear", embeddings=((3, 2),))
    table.task, table.target_transform = "regression", TargetTransform(2.0, 1.0)
    table.table = Encoder(
        (Number("n", indicator=True, edges=(0.0, 1.0)), Category("c", ("a", "b")), Category("e", ("x", "y"), 2)), "t"
    )
    pictures = xpnet.MLP((4, 2))
    pictures.task, pictures.image_shape, pictures.image_shades = "regression", (2, 2), Shades(0.0, 16.0, 0.5)
    networks = (plain, normalized, embedding, table, pictures)
    with tempfile.TemporaryDirectory() as folder:
        return [xpnet.save(network, Path(folder) / "m").read_bytes() for network in networks]


def _predict(network: xpnet.MLP) -> object:
    return network.predict(np.ones((1, network.inputs)))


def _checkpoint_seeds() -> list[bytes]:
    arrays = {"parameters": np.ones(8, np.float32), "history.rows": np.zeros((2, 3))}
    facts = {"step": 3, "history": {"best": None, "names": ["a", "b"]}, "generator": {"state": 2**100}}
    with tempfile.TemporaryDirectory() as folder:
        return [snapshots.write(Path(folder) / "c", snapshots.Snapshot(arrays, facts)).read_bytes()]


# Tables


def _csv_seeds() -> list[bytes]:
    text = 'n,c,d\n1,"a, b",2024-01-31\n2.5,?,\n,c\u00e4,2024-02-01\n'
    return [text.encode(), text.replace(",", ";").encode(), gzip.compress(text.encode(), mtime=0)]


def _parquet_seeds() -> list[bytes]:
    frame = pd.DataFrame({"n": [1.5, None, 3.0], "c": ["a", None, "b"], "i": [1, 2, 3], "l": [[1], [2], []]})
    seeds = []
    for compression in ("snappy", "gzip", None):
        stream = io.BytesIO()
        frame.to_parquet(stream, compression=compression)
        seeds.append(stream.getvalue())
    return seeds


def _one_thread(folder: Path) -> None:
    """More of them would take address space now and then, on which there is a limit."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def _read_table(path: Path) -> list[pd.DataFrame]:
    return list(TableFile(path).pieces())


def _values(pieces: list[pd.DataFrame]) -> object:
    """All values of all columns, as numbers and as text."""
    return [(as_numbers(piece[name]), as_text(piece[name])) for piece in pieces for name in piece.columns]


# Settings

_TYPES = {field.name: str(field.type) for field in dataclasses.fields(Config)}


def _settings_seeds() -> list[bytes]:
    texts = [
        "[settings]\nhidden = [3, 4]\nlr = 0.1\nactivation = ['relu']\n",
        '# a run\n[settings]\ndata = ["xor"]\nbatch_size = "all"\nseed = 3\nplot = false\ndropout = [0.5]\n',
        "expect = 'much'\n[settings]\nepochs = 5\noptimizer = 'sgd'\nmomentum = 0.9\nschedule = 'cosine'\n",
    ]
    return [text.encode() for text in texts]


class Configuring:
    """Makes a configuration of settings as the command line does, unless they are of kinds that it was made of before.

    It takes a hundred times as long as to read them.

    Args:
        thorough: Do it for every new combination of settings and kinds of values; else only for a kind of value that no
            setting of that type has had yet.
    """

    def __init__(self, *, thorough: bool) -> None:
        self._thorough, self._seen = thorough, set[object]()

    def __call__(self, settings: Any) -> None:
        if self._thorough:
            kinds: set[object] = {frozenset((name, _kind(value)) for name, value in settings.items() if name in _TYPES)}
        else:
            kinds = {(_TYPES.get(name), _kind(value)) for name, value in settings.items()}
        if kinds <= self._seen:
            return
        self._seen |= kinds
        config = lay_over(train.app, (), Beginning(settings, "c.toml")).config
        config.make_optimizer()
        config.make_schedule()


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"list of {', '.join(sorted({type(item).__name__ for item in value}))}"
    return type(value).__name__


def all_readers(*, thorough: bool) -> dict[str, Reader]:
    """Every reader by its name."""
    tensors = (mutations.tensors_header, mutations.tensors_header)
    data, tables = ("xpnet/data/",), ("xpnet/tables/",)
    readers = [
        Reader("idx", data, _idx_seeds, (mutations.repack_gzip,), read_idx, lambda raw: "samples-idx"),
        Reader(
            "cifar-binary",
            data,
            _cifar_binaries,
            (),
            lambda path: read_cifar10(path.parent),
            _cifar_binary_file,
            _write_cifar_binaries,
        ),
        Reader(
            "cifar-pickle",
            data,
            _cifar_pickles,
            (mutations.pickle_opcodes,),
            lambda path: read_cifar10(path.parent),
            _cifar_file,
            _write_cifar_pickles,
        ),
        Reader("npy", data, _npy_seeds, (mutations.npy_header,), _read_with_labels, lambda raw: "x.npy", _write_labels),
        Reader("npz", data, _npz_seeds, (mutations.rezip,) * 3, lambda path: read_arrays([path]), lambda raw: "d.npz"),
        Reader(
            "sparse",
            data,
            _sparse_seeds,
            (mutations.rezip,) * 3,
            _read_with_labels,
            lambda raw: "x.npz",
            _write_labels,
        ),
        Reader(
            "model",
            ("xpnet/modelfile.py", "xpnet/tables/encoder.py"),
            _model_seeds,
            tensors,
            xpnet.load,
            lambda raw: "m.safetensors",
            follow=_predict,
        ),
        Reader(
            "checkpoint",
            ("xpnet/snapshots.py",),
            _checkpoint_seeds,
            (*tensors, lambda rng, raw: mutations.checksummed(mutations.damaged(rng, raw))),
            checkpoint.read,
            lambda raw: "step-1.safetensors",
        ),
        Reader(
            "csv",
            tables,
            _csv_seeds,
            (mutations.repack_gzip,),
            _read_table,
            lambda raw: "t.csv.gz" if raw[:2] == b"\x1f\x8b" else "t.csv",
            _one_thread,
            _values,
        ),
        Reader("parquet", tables, _parquet_seeds, (), _read_table, lambda raw: "t.parquet", _one_thread, _values),
        Reader(
            "toml",
            ("xpnet/config.py", "xpnet/settings.py"),
            _settings_seeds,
            (mutations.toml_line(tuple(_TYPES)),) * 3,
            read_settings,
            lambda raw: "c.toml",
            follow=Configuring(thorough=thorough),
        ),
    ]
    return {reader.name: reader for reader in readers}
