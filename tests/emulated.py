"""A device that keeps CUDA's rules and computes with NumPy: what would fail in a captured CUDA graph fails here.

Arrays of the device do not mix with arrays of the host. While a run is captured nothing is computed: every call must
have its output, nothing may be allocated, uploaded or read back, and numbers from Python stay what they were. A replay
runs the tape; it holds addresses, not arrays, so a buffer that was freed is an error.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from xpnet.devices import Device

UNKNOWN_TO_CUPY = {"take": {"mode"}, "copyto": {"casting"}}
IN_PLACE = {np.copyto, np.put}
Launch = Callable[[Callable[..., Any], Any, Any], None]


class CaptureError(RuntimeError):
    """Something that a CUDA stream refuses while it is captured, or that CuPy does not have."""


class Address:
    """Where an array lies, without keeping it alive."""

    def __init__(self, array: np.ndarray) -> None:
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        self.root, self.form = weakref.ref(root), (array.shape, array.dtype, array.strides)
        self.offset = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]

    def array(self) -> np.ndarray:
        root = self.root()
        if root is None:
            raise CaptureError("a graph uses a buffer that was freed")
        shape, dtype, strides = self.form
        return np.ndarray(shape, dtype, root, self.offset, strides)


def each(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(each(item, change) for item in value)
    if isinstance(value, dict):
        return {name: each(item, change) for name, item in value.items()}
    return change(value)


def raw(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, DeviceArray) else value


def addressed(value: Any) -> Any:
    return Address(value) if isinstance(value, np.ndarray) else value


def found(value: Any) -> Any:
    return value.array() if isinstance(value, Address) else value


def now(function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    function(*each(args, raw), **each(kwargs, raw))


class Tape(list[tuple[Callable[..., Any], Any, Any]]):
    """What was launched while a run was captured; it can be replayed."""

    def __call__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.append((function, each(args, addressed), each(kwargs, addressed)))

    def replay(self) -> None:
        with np.errstate(all="ignore"):
            for function, args, kwargs in self:
                function(*each(args, found), **each(kwargs, found))


launches: list[Launch] = [now]
"""Where launches go: the last of these."""


@contextlib.contextmanager
def launched_by(launch: Launch) -> Iterator[None]:
    launches.append(launch)
    try:
        yield
    finally:
        launches.pop()


def launch(function: Callable[..., Any], args: Any, kwargs: Any, result: Any) -> Any:
    """Run it, or put it where launches go."""
    launches[-1](function, args, kwargs)
    return result


def capturing() -> bool:
    return isinstance(launches[-1], Tape)


def refuse_while_capturing(what: str) -> None:
    if capturing():
        raise CaptureError(f"{what} while capturing")


waits: list[Callable[[], None]] = []
"""What has to be called before the host reads an array."""


def settle(what: str) -> None:
    """Before the host reads."""
    refuse_while_capturing(what)
    for wait in waits:
        wait()


def reads_host(name: str) -> Callable[..., Any]:
    def method(self: np.ndarray, *args: Any) -> Any:
        settle(f"the host reads by {name}")
        return getattr(np.ndarray, name)(self, *args)

    return method


class DeviceArray(np.ndarray):
    """An array of the emulated device."""

    __float__ = reads_host("__float__")
    __int__ = reads_host("__int__")
    __bool__ = reads_host("__bool__")
    __index__ = reads_host("__index__")
    item = reads_host("item")
    tolist = reads_host("tolist")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        call = getattr(ufunc, method)
        self._refuse_host_arrays(ufunc.__name__, [*inputs, *(out or ())])
        if out is None:
            settle(f"{ufunc.__name__} allocates")
            return np.asarray(call(*each(inputs, raw), **each(kwargs, raw))).view(type(self))
        return launch(call, inputs, {**kwargs, "out": out}, out[0])

    def __array_function__(self, function, types, args, kwargs):
        if unknown := UNKNOWN_TO_CUPY.get(function.__name__, set()) & set(kwargs):
            raise CaptureError(f"CuPy's {function.__name__} has no {unknown}")
        self._refuse_host_arrays(function.__name__, [*args, *kwargs.values()])
        if function in IN_PLACE:
            return launch(function, args, kwargs, None)
        if kwargs.get("out") is None:
            settle(f"{function.__name__} allocates")
            return np.asarray(function(*each(args, raw), **each(kwargs, raw))).view(type(self))
        return launch(function, args, kwargs, kwargs["out"])

    @staticmethod
    def _refuse_host_arrays(name: str, values: Sequence[Any]) -> None:
        if any(isinstance(value, np.ndarray) and not isinstance(value, DeviceArray) for value in values):
            raise CaptureError(f"{name} gets an array of the host among arrays of the device")

    def __getitem__(self, key):
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, np.ndarray | list) for k in keys):
            settle("indexing by an array allocates")
            return super().__getitem__(key)
        return super().__getitem__(keys if Ellipsis in keys else (*keys, ...))  # 0-d views, as CuPy gives them

    def __setitem__(self, key, value):
        launch(np.copyto, (self[key], value), {}, None)

    def fill(self, value):
        launch(np.ndarray.fill, (self, value), {}, None)

    def copy(self, order="C"):
        settle("copy allocates")
        return np.array(raw(self)).view(type(self))


class Emulated(Device):
    """NumPy's numbers under CUDA's rules; `nodes` counts the launches of each captured run."""

    def __init__(self) -> None:
        super().__init__("emulated", np)
        self.nodes: list[int] = []

    def empty(self, shape, dtype):
        array = self.zeros(shape, dtype)
        raw(array).view(np.uint8)[...] = 0xFF  # NaN, so that nobody counts on zeros
        return array

    def zeros(self, shape, dtype):
        refuse_while_capturing("an allocation")
        return np.zeros(shape if shape else (1,), dtype).view(DeviceArray).reshape(shape)

    def asarray(self, array, dtype=None):
        refuse_while_capturing("an upload")
        return np.array(raw(array), dtype, order="C").view(DeviceArray)

    def to_host(self, array):
        refuse_while_capturing("a read")
        return np.array(raw(array))

    def upload(self, host, *, out):
        refuse_while_capturing("an upload")
        np.copyto(raw(out), host, casting="same_kind")

    def capture(self, run, count=1, *, state=()):
        saved = [self.to_host(array) for array in state]
        with np.errstate(all="ignore"):
            run(0)  # plans and scratch memory
        for array, before in zip(state, saved, strict=True):
            self.upload(before, out=array)
        tape = Tape()
        with launched_by(tape):
            for i in range(count):
                run(i)
        self.nodes.append(len(tape))
        return tape.replay
