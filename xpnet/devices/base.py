"""What a device is: where arrays live, how they get there, and what is fast there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Array = Any
"""An array of the device's namespace: `numpy.ndarray` or `cupy.ndarray`."""


class Device:
    """A NumPy-like namespace with the few things that such namespaces do differently.

    A device may bring `twins`: faster kernels under the names of references in `xpnet.kernels`, with their signatures.
    Whoever works on its arrays does so within `with device:`, which makes it the one that its namespace works on.

    Attributes:
        twins: By the names of their references.
        chains: Names of references that are chains of elementwise operations, which `fused` makes one kernel of.
        block_rows: Samples that go through a network at a time where no batch size says it.
        chunk_work: Multiply-adds that are done without a look at signals, about a quarter of a second's.
        gathered_bytes: Samples that are gathered together, for several steps, up to this size.
        threads: How many a large run is cut for; None where that is not a matter of this device.
    """

    name: str
    xp: Any
    twins: Mapping[str, Callable[..., Any]]
    chains: frozenset[str] = frozenset()
    block_rows = 1024
    chunk_work = 2**34
    gathered_bytes = 0
    threads: int | None = None

    def __init__(self, name: str, xp: Any, twins: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self.name, self.xp, self.twins = name, xp, twins or {}
        self._products: dict[tuple[tuple[int, ...], str], Array] = {}

    def __repr__(self) -> str:
        return f"<xpnet device {self.name}>"

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def description(self) -> str:
        """What a person calls this device."""
        return self.name

    @property
    def free_memory(self) -> int | None:
        """Bytes that can be had here, or None where the operating system sees to it."""
        return None

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new array, its contents undefined."""
        return self.xp.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new array of zeros."""
        return self.xp.zeros(shape, dtype)

    def operands(self, shape: tuple[int, int], dtype: Any) -> Array:
        """Room for what matrix products read, in the form in which this device multiplies numbers of that dtype."""
        return self.empty(shape, dtype)

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """`array` on this device, C-contiguous; the same memory where it is that already."""
        return self.xp.asarray(array, dtype=dtype, order="C")

    def to_host(self, array: Array) -> Any:
        """A NumPy copy of `array`; waits for the device."""
        raise NotImplementedError

    def upload(self, host: Any, *, out: Array) -> None:
        """out <- host, a NumPy array of the same shape, converted to `out`'s dtype. `out` is contiguous."""
        raise NotImplementedError

    def channel(self, out: Array) -> Callable[[Any], None]:
        """A callable `send`: send(host) does out[:len(host)] <- host after all that was asked for, without waiting."""

        def send(host: Any) -> None:
            self.upload(host, out=out[: len(host)])

        return send

    def receipt(self, array: Array) -> Callable[[], Any]:
        """A callable that waits for a copy of `array` as it is after all that was asked for until now."""
        host = self.to_host(array)
        return lambda: host

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked."""

    def take(self, source: Array, index: Array, *, out: Array) -> Array:
        """out <- source[index], rows by number; every number must be within the source."""
        return self.xp.take(source, index, axis=0, out=out)

    def gemm(self, a: Array, b: Array, *, out: Array, alpha: Any = 1.0, beta: Any = 0.0) -> Array:
        """out <- alpha a b + beta out.

        Args:
            a: (M, K), C-contiguous or the transposed view of such an array.
            b: (K, N), likewise.
            out: (M, N), C-contiguous; aliases neither a nor b. A float `beta=0.0` means that it is not read.
            alpha, beta: both Python floats (constants), or both 0-d arrays of `out`'s dtype (read at every run).
        """
        xp = self.xp
        if isinstance(beta, float) and beta == 0.0:
            xp.matmul(a, b, out=out)
            return out if isinstance(alpha, float) and alpha == 1.0 else xp.multiply(out, alpha, out=out)
        key = out.shape, out.dtype.char
        if key not in self._products:
            self._products[key] = self.empty(*key)
        product = xp.matmul(a, b, out=self._products[key])
        xp.multiply(product, alpha, out=product)
        xp.multiply(out, beta, out=out)
        return xp.add(out, product, out=out)

    def run(self, step: Callable[[int], None], count: int) -> None:
        """step(0), ..., step(count - 1), once; what `capture` asks of a run is asked of a step."""
        for i in range(count):
            step(i)

    def fused(self, kernel: Callable[..., Any], traced: Callable[..., Any]) -> Callable[..., Any]:
        """What a table of kernels calls for a reference in `chains`.

        Args:
            kernel: The reference, for its signature.
            traced: It, bound to a table whose arrays may be anything that stands for one element.
        """
        raise NotImplementedError

    def scheduled(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """What a table of kernels calls for a reference of its own: here the kernel itself."""
        return kernel

    def capture(self, run: Callable[[int], None], count: int = 1, *, state: Sequence[Array] = ()) -> Callable[[], None]:
        """A callable that does what run(0), ..., run(count - 1) do; making it changes nothing.

        Args:
            run: Works through kernels on buffers that stay where they are, and decides nothing on values. All runs do
                the same; from one to the next, each array that they work on moves by a fixed distance, or stays.
            count: How many.
            state: The arrays that outlive a run; a device that has to warm up saves and restores them.
        """

        def replay() -> None:
            for i in range(count):
                run(i)

        return replay
