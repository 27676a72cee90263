"""Matrix products by cuBLASLt, which a captured CUDA graph may hold, and which fuse bias, activation and gradients.

CuPy's own products refuse to be captured. Here a plan (descriptor, layouts, algorithm) is made at the first product of
its kind; from then on a product is one launch that allocates nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from xpnet.devices.base import Array
from xpnet.devices.cuda.plan import Plan, build_plan, build_preference, set_pointers
from xpnet.devices.cuda.product import Call, Product, check, describe, product_of, sample_product
from xpnet.devices.cuda.tuning import Chooser
from xpnet.errors import DeviceError, one_of

# cublasStatus_t, from cublas_api.h
SUCCESS, INVALID_VALUE, NOT_SUPPORTED = 0, 7, 15

PRECISIONS = ("fp32", "tf32", "bf16")

WORKSPACE_ALIGNMENT = 256
"""Bytes."""

CANDIDATES = 8
"""How many algorithms are asked for."""


class Matmuls:
    """Products on one GPU, their plans kept; all on streams that wait for one another, since they share the workspace.

    Args:
        lt: `nvmath.bindings.cublasLt`.
        workspace: A device array of bytes, aligned to 256, which lives as long as the graphs that hold products.
        stream: Gives the address of the current stream.
        precision: "fp32", "tf32" (products of float32 round their operands) or "bf16" (operands come in that type).
        autotune: Chooses among the best algorithms; without it the library's first choice is taken.
        timer: Seconds that a run takes, perhaps the best of several; needed by `autotune` alone.
    """

    def __init__(
        self,
        lt: Any,
        *,
        workspace: Array,
        stream: Callable[[], int],
        precision: str = "fp32",
        autotune: Chooser | None = None,
        timer: Callable[[Callable[[], None]], float] | None = None,
    ) -> None:
        self.precision = one_of("precision", precision, PRECISIONS)
        if workspace.data.ptr % WORKSPACE_ALIGNMENT:
            raise ValueError(
                f"workspace: got the address {workspace.data.ptr:#x}, expected a multiple of {WORKSPACE_ALIGNMENT}."
            )
        if autotune is not None and timer is None:
            raise ValueError("autotune needs a timer.")
        self._lt, self._workspace, self._stream = lt, workspace, stream
        self._autotune, self._timer = autotune, timer
        self._handle = 0
        self._plans: dict[Product, Plan] = {}
        self._supported: dict[Product, bool] = {}
        self._resources = ExitStack()
        self._finalizer = weakref.finalize(self, self._resources.close)

    def __call__(
        self,
        a: Array,
        b: Array,
        *,
        out: Array,
        alpha: Any = 1.0,
        beta: Any = 0.0,
        epilogue: str | None = None,
        bias: Array | None = None,
        aux: Array | None = None,
    ) -> Array:
        """out <- epilogue(alpha a b + beta out). Must have run once with arrays of these forms before it is captured.

        Args:
            a: (M, K), its rows contiguous, padded or not, or the transposed view of such an array.
            b: (K, N), likewise, and of a's dtype: float32, float64, or uint16 for the bits of bfloat16.
            out: (M, N), its rows contiguous, of a's dtype, or float32 where that is uint16; aliases neither a nor b.
            alpha, beta: Both Python floats (constants; beta 0.0 means that out is not read), or both 0-d arrays of
                float32, float64 for float64 (read at every run).
            epilogue: One of `EPILOGUES`. cuBLASLt's ReLU makes 0 of NaN; its GELU is the one of tanh.
            bias: (N,), added before the activation; for the gradients it is written: the sum of out over its rows.
                Of out's dtype; where that is uint16 perhaps float32: `supports` tells.
            aux: What a forward epilogue leaves for the gradient, made by `aux_shape`; any number of its first rows.
        """
        call = Call(a, b, out, alpha, beta, bias, aux)
        product = product_of(call, epilogue)
        plan = self._plans.get(product)
        if plan is None:
            plan = self._plans[product] = self._make(product, call)
        self._run(plan, plan.algorithm, call)
        return out

    def supports(
        self,
        dtype: Any,
        epilogue: str | None,
        *,
        shape: tuple[int, int, int] = (128, 64, 96),
        transposed: tuple[bool, bool] | None = None,
        out_dtype: Any = None,
        bias_dtype: Any = None,
    ) -> bool:
        """Whether the library has an algorithm for such a product of arrays without padding, or padded as bfloat16 is.

        Args:
            dtype: That of a and b.
            epilogue: One of `EPILOGUES`.
            shape: M, K and N; those of a small sample where nothing is said.
            transposed: Whether a and b are transposed views; where nothing is said b is for gradients, as in dz w^T.
            out_dtype: dtype where nothing is said.
            bias_dtype: out_dtype where nothing is said.
        """
        product = sample_product(
            dtype, epilogue, shape=shape, transposed=transposed, out_dtype=out_dtype, bias_dtype=bias_dtype
        )
        if product not in self._supported:
            check(product)
            with ExitStack() as resources:
                plan = build_plan(self._lt, product, precision=self.precision, resources=resources)
                set_pointers(self._lt, plan, (self._workspace.data.ptr, self._workspace.data.ptr))
                self._supported[product] = bool(self._candidates(plan))
        return self._supported[product]

    def close(self) -> None:
        """Give all handles back. Captured graphs go on working as long as the workspace is there."""
        self._plans.clear()
        self._finalizer()

    def _make(self, product: Product, call: Call) -> Plan:
        check(product)
        with ExitStack() as resources:
            plan = build_plan(self._lt, product, precision=self.precision, resources=resources)
            set_pointers(self._lt, plan, _pointers(call))
            candidates = self._candidates(plan)
            if not candidates:
                raise DeviceError(
                    f"cuBLASLt {self._lt.get_version()} has no algorithm for {self.text(product)} on this GPU: "
                    "choose another precision or other layer sizes, or update nvidia-cublas and the driver."
                )
            chosen = candidates[0] if self._autotune is None else self._tuned(self._autotune, plan, call, candidates)
            plan.algorithm = _words(chosen)
            if chosen not in candidates:
                self._check_stored(plan)
            self._resources.callback(resources.pop_all().close)
        return plan

    def _tuned(self, autotune: Chooser, plan: Plan, call: Call, candidates: list[bytes]) -> bytes:
        before = call.out.copy()

        def time(algorithm: bytes) -> float:
            assert self._timer is not None
            words = _words(algorithm)
            return self._timer(lambda: self._run(plan, words, call))

        chosen = autotune.choose(self.text(plan.product), candidates, time)
        call.out[...] = before  # a product with beta has changed it at every run
        return chosen

    def _run(self, plan: Plan, algorithm: np.ndarray, call: Call) -> None:
        if plan.product.scalars is None:
            plan.constants[...] = call.alpha, call.beta
            alpha = plan.constants.ctypes.data
            beta = alpha + plan.constants.itemsize
        else:
            alpha, beta = call.alpha.data.ptr, call.beta.data.ptr
        set_pointers(self._lt, plan, _pointers(call))
        out, work = call.out.data.ptr, self._workspace
        self._lt.matmul(
            *(self._open(), plan.descriptor),
            *(alpha, call.b.data.ptr, plan.b, call.a.data.ptr, plan.a),
            *(beta, out, plan.out, out, plan.out),
            *(algorithm.ctypes.data, work.data.ptr, work.nbytes, self._stream()),
        )

    def _candidates(self, plan: Plan) -> list[bytes]:
        """The library's algorithms, the one it holds for the fastest first."""
        lt = self._lt
        results = np.zeros(CANDIDATES, lt.matmul_heuristic_result_dtype)
        found = np.zeros(1, np.int32)
        with ExitStack() as resources:
            preference = build_preference(lt, plan.product, workspace=self._workspace.nbytes, resources=resources)
            try:
                lt.matmul_algo_get_heuristic(
                    *(self._open(), plan.descriptor, plan.b, plan.a, plan.out, plan.out, preference),
                    *(CANDIDATES, results.ctypes.data, found.ctypes.data),
                )
            except lt.cuBLASLtError as error:
                if error.status not in (INVALID_VALUE, NOT_SUPPORTED):
                    raise
                return []
        return [row["algo"].tobytes() for row in results[: found[0]] if self._fits(row)]

    def _fits(self, result: Any) -> bool:
        return bool(result["state"] == SUCCESS and result["workspace_size"] <= self._workspace.nbytes)

    def _check_stored(self, plan: Plan) -> None:
        """An algorithm from a table may come from another GPU or another version of the library."""
        lt = self._lt
        result = np.zeros(1, lt.matmul_heuristic_result_dtype)
        layouts = plan.b, plan.a, plan.out, plan.out
        try:
            if plan.algorithm.nbytes == lt.matmul_algo_dtype.itemsize:
                algorithm = plan.algorithm.ctypes.data
                lt.matmul_algo_check(self._open(), plan.descriptor, *layouts, algorithm, result.ctypes.data)
                if self._fits(result[0]):
                    return
        except lt.cuBLASLtError:
            pass
        raise DeviceError(
            f"The stored algorithm for {self.text(plan.product)} does not work with this GPU and "
            f"cuBLASLt {lt.get_version()}: autotune anew, without the stored table."
        )

    def _open(self) -> int:
        if not self._finalizer.alive:
            raise RuntimeError("these products are closed")
        if not self._handle:
            self._handle = self._lt.create()
            self._resources.callback(self._lt.destroy, self._handle)
        return self._handle

    def text(self, product: Product) -> str:
        """The product in words that say all of it: "f32 128x784x300 nn relu_aux_bias ..."."""
        return describe(product, precision=self.precision)


def _pointers(call: Call) -> tuple[int, int]:
    """Where bias and aux lie; 0 for none."""
    return 0 if call.bias is None else call.bias.data.ptr, 0 if call.aux is None else call.aux.data.ptr


def _words(algorithm: bytes) -> np.ndarray:
    return np.frombuffer(algorithm, np.uint64).copy()
