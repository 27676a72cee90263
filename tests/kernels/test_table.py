"""The table of kernels: twins over references, scratch memory, constants."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from xpnet import kernels
from xpnet.devices import Plain
from xpnet.kernels.table import GROUPS, REFERENCE, Table


class Twinned(Plain):
    """The CPU with twins."""

    def __init__(self, **twins: Callable[..., Any]) -> None:
        super().__init__()
        self.twins = twins


class Counting:
    """A reference that counts its calls."""

    def __init__(self, name: str) -> None:
        self.name, self.calls, self.tables = name, 0, []

    def __call__(self, k: Table, *args: Any, **options: Any) -> Any:
        self.calls += 1
        self.tables.append(k)
        return REFERENCE[self.name](k, *args, **options)


def hidden_arguments() -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in ((3, 4), (4, 5), (5,))], np.full((3, 5), np.nan)


def softmax_loss(k: Any) -> None:
    z, t = np.zeros((2, 3)), np.zeros(2, np.int32)
    k.softmax_cross_entropy(z, t, out=np.empty((2, 3)), db=np.empty(3), loss=np.empty(()))


COMPOSITIONS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "an activation in a hidden layer": (
        "relu",
        lambda k: k.hidden_forward(*hidden_arguments()[0], activation="relu", out=np.empty((3, 5))),
    ),
    "an affine layer in a hidden layer": (
        "affine_forward",
        lambda k: k.hidden_forward(*hidden_arguments()[0], activation="tanh", out=np.empty((3, 5))),
    ),
    "the product in a hidden layer's backward": (
        "affine_inputs",
        lambda k: k.hidden_backward(
            np.ones((3, 2)), np.ones((5, 2)), activation="tanh", aux=np.ones((3, 5)), out=np.ones((3, 5)), db=np.ones(5)
        ),
    ),
    "the bias gradient in a loss": ("affine_biases", softmax_loss),
    "the sigmoid in silu": ("sigmoid", lambda k: k.silu(np.ones((2, 2)), out=np.empty((2, 2)))),
    "the plain step in momentum": (
        "sgd_update",
        lambda k: k.momentum_update(*np.ones((3, 4)), lr=np.array(0.1), momentum=0.5, l2=None, clip=None),
    ),
    "the norm in its bound": ("squared_norm", lambda k: k.clip_scale(np.ones(4), limit=1.0, out=np.empty(()))),
    "the output in a metric": (
        "tanh",
        lambda k: k.squared_errors(np.ones((2, 2)), np.ones((2, 2)), output="tanh", out=np.empty(())),
    ),
}


@pytest.mark.parametrize(("name", "compose"), COMPOSITIONS.values(), ids=COMPOSITIONS)
def test_a_twin_of_a_part_serves_compositions(name, compose):
    twin = Counting(name)
    k = kernels.on(Twinned(**{name: twin}))
    compose(k)
    assert twin.calls == 1
    assert twin.tables == [k]


def test_a_twin_lies_over_its_reference_and_reference_stays_plain():
    twin = Counting("relu")
    k = kernels.on(Twinned(relu=twin))
    z, out = np.array([-1.0, 2.0]), np.empty(2)
    k.relu(z, out=out)
    assert twin.calls == 1
    k.reference.relu(z, out=out)
    assert twin.calls == 1
    np.testing.assert_array_equal(out, [0, 2])


def test_without_twins_every_kernel_is_the_reference():
    k = kernels.on(Plain())
    assert set(vars(k.reference)) == set(REFERENCE)
    for name, function in REFERENCE.items():
        assert getattr(k, name).func is getattr(k.reference, name).func is function


def test_a_twin_changes_no_other_kernel():
    k = kernels.on(Twinned(relu=Counting("relu")))
    for name in set(REFERENCE) - {"relu"}:
        assert getattr(k, name).func is REFERENCE[name]


def test_two_tables_share_no_memory():
    one, other = kernels.on(Plain()), kernels.on(Plain())
    assert not np.shares_memory(one.scratch("a", (4,), float), other.scratch("a", (4,), float))


def test_the_table_holds_the_kernels_and_no_helper():
    assert {"affine_forward", "relu", "hidden_forward", "huber", "hits", "adam_update", "gather"} <= set(REFERENCE)
    assert not [name for name in REFERENCE if name.startswith("_")]
    assert {function.__name__ for function in REFERENCE.values()} == set(REFERENCE)
    assert all(group <= set(REFERENCE) for group in GROUPS)


@pytest.mark.parametrize("name", ["relu6", "scratch", "_weigh", "gemm"])
def test_a_twin_of_an_unknown_kernel_is_a_type_error(name):
    with pytest.raises(TypeError, match=name):
        kernels.on(Twinned(**{name: print}))


@pytest.mark.parametrize(
    "names",
    [
        ("hidden_aux",),
        ("hidden_forward",),
        ("hidden_activation",),
        ("hidden_backward",),
        ("hidden_aux", "hidden_forward"),
        ("hidden_aux", "hidden_forward", "hidden_backward"),
        ("hidden_activation", "hidden_backward"),
    ],
    ids=" and ".join,
)
def test_twins_of_a_part_of_a_group_are_a_type_error(names):
    with pytest.raises(TypeError, match="hidden_"):
        kernels.on(Twinned(**{name: Counting(name) for name in names}))


def test_twins_of_a_whole_group_are_taken():
    twins = {name: Counting(name) for name in ("hidden_aux", "hidden_forward", "hidden_activation", "hidden_backward")}
    k = kernels.on(Twinned(**twins))
    arguments, out = hidden_arguments()
    aux = k.hidden_aux(out, activation="tanh", below=1, above=1)
    k.hidden_forward(*arguments, activation="tanh", out=out, aux=aux)
    k.hidden_backward(np.ones((3, 2)), np.ones((5, 2)), activation="tanh", aux=aux, out=out, db=np.empty(5))
    assert [twin.calls for twin in twins.values()] == [1, 1, 1, 1]


def test_an_unknown_kernel_is_named():
    with pytest.raises(AttributeError, match="relu6"):
        _ = kernels.on(Plain()).relu6


# Scratch memory


@pytest.fixture
def k() -> Table:
    return kernels.on(Plain())


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool, np.int64])
def test_scratch_has_the_shape_and_dtype_asked_for(k, shape, dtype):
    array = k.scratch("a", shape, dtype)
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_the_same_tag_and_shape_are_the_same_memory(k):
    assert k.scratch("a", (3, 4), np.float32) is k.scratch("a", (3, 4), "float32")


@pytest.mark.parametrize("shape", [(2, 4), (12,), (1,), (6, 2), ()], ids=str)
def test_other_shapes_of_a_tag_share_its_block(k, shape):
    large = k.scratch("a", (3, 4), float)
    small = k.scratch("a", shape, float)
    assert address(small) == address(large)
    assert np.shares_memory(small, large)


def test_a_larger_shape_gets_a_new_block_and_the_old_one_stays_valid(k):
    small = k.scratch("a", (3,), float)
    small[:] = 7
    large = k.scratch("a", (300,), float)
    large[:] = 8
    assert not np.shares_memory(small, large)
    assert k.scratch("a", (3,), float) is small
    assert small.tolist() == [7, 7, 7]
    assert np.shares_memory(k.scratch("a", (299,), float), large)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", (4,), "f8"), ("b", (4,), "f8")),
        (("a", (4,), "f8"), ("a", (4,), "f4")),
        (("a", (4,), "i8"), ("a", (4,), "f8")),
    ],
    ids=["tags", "floats", "kinds"],
)
def test_different_tags_and_dtypes_do_not_alias(k, one, other):
    first, second = k.scratch(*one), k.scratch(*other)
    assert not np.shares_memory(first, second)
    assert (first.dtype, second.dtype) == (one[2], other[2])


# Constants


@pytest.mark.parametrize(("n", "step"), [(1, 1), (5, 1), (4, 3), (1, 7), (0, 1)])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_iota_counts_in_steps(k, n, step, dtype):
    array = k.iota(n, dtype, step=step)
    assert array.dtype == dtype
    assert array.tolist() == [i * step for i in range(n)]
    assert k.iota(n, dtype, step=step) is array


def test_iotas_of_other_steps_and_dtypes_are_other_arrays(k):
    assert k.iota(3, np.int64).tolist() == [0, 1, 2]
    assert k.iota(3, np.int64, step=2).tolist() == [0, 2, 4]
    assert k.iota(4, np.int64).tolist() == [0, 1, 2, 3]
    assert k.iota(3, np.int32).dtype == np.int32
