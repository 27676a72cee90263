"""A product as cuBLASLt knows it: descriptor, layouts and preference; none of it needs a GPU.

Arrays have their rows in memory one after the other, cuBLASLt's matrices their columns: the same memory is the
transposed matrix. So out = a b is asked for as out^T = b^T a^T: the library's A is our b and its B our a, its m, n, k
are the columns of out, the rows of out, and K, and a vector that runs along m, as biases do, has one entry a column of
out. A sample, one row of ours, is one column of the library's.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from xpnet.devices.cuda.product import EPILOGUES, Matrix, Product, aux_ld, scale_dtype

# cudaDataType_t, from library_types.h; 16-bit words hold bfloat16
TYPES = {"f": 0, "d": 1, "H": 14}

# cublasComputeType_t, from cublas_api.h
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77

# cublasOperation_t, from cublas_api.h
OP_N, OP_T = 0, 1


class Plan:
    """A product that cuBLASLt knows: the handles of its descriptor and layouts, and the constants that it reads."""

    def __init__(self, product: Product, descriptor: int, a: int, b: int, out: int) -> None:
        self.product, self.descriptor, self.a, self.b, self.out = product, descriptor, a, b, out
        self.constants = np.zeros(2, scale_dtype(product))
        self.pointers = 0, 0
        self.algorithm = np.zeros(0, np.uint64)


def build_plan(lt: Any, product: Product, *, precision: str, resources: ExitStack) -> Plan:
    """The plan, still without algorithm and without the addresses of bias and aux; `resources` destroys its handles."""
    a, b, out, epilogue, bias, aux, scalars = product
    scale = TYPES[scale_dtype(product).char]
    descriptor = lt.matmul_desc_create(_compute(a.type, precision), scale)
    resources.callback(lt.matmul_desc_destroy, descriptor)
    attributes = {
        "TRANSA": OP_T if b.transposed else OP_N,
        "TRANSB": OP_T if a.transposed else OP_N,
        "POINTER_MODE": lt.PointerMode.HOST if scalars is None else lt.PointerMode.DEVICE,
        "EPILOGUE": lt.Epilogue[EPILOGUES[epilogue].name],
    }
    if bias and bias.type != out.type:
        attributes["BIAS_DATA_TYPE"] = TYPES[bias.type]
    if aux:
        attributes["EPILOGUE_AUX_LD"] = aux_ld(product)
    for attribute, value in attributes.items():
        _describe(lt, descriptor, attribute, value)
    return Plan(product, descriptor, *(_layout(lt, matrix, resources) for matrix in (a, b, out)))


def set_pointers(lt: Any, plan: Plan, pointers: tuple[int, int]) -> None:
    """Tell the descriptor where bias and aux lie, if anywhere.

    That is no part of a product: layers of one shape share a plan and so an algorithm, in whatever order they came. The
    library copies the addresses when it launches, and looks at their alignment when it is asked for algorithms.
    """
    if plan.pointers != pointers:
        for name, pointer in zip(("BIAS_POINTER", "EPILOGUE_AUX_POINTER"), pointers, strict=True):
            if pointer:
                _describe(lt, plan.descriptor, name, pointer)
        plan.pointers = pointers


def build_preference(lt: Any, product: Product, *, workspace: int, resources: ExitStack) -> int:
    """What an algorithm may count on, and that its results are the same at every run: no sums by atomics."""
    preference: int = lt.matmul_preference_create()
    resources.callback(lt.matmul_preference_destroy, preference)
    values = {
        "MAX_WORKSPACE_BYTES": workspace,
        "REDUCTION_SCHEME_MASK": lt.ReductionScheme.MASK & ~lt.ReductionScheme.INPLACE,
        "MIN_ALIGNMENT_A_BYTES": product.b.alignment,
        "MIN_ALIGNMENT_B_BYTES": product.a.alignment,
        "MIN_ALIGNMENT_C_BYTES": product.out.alignment,
        "MIN_ALIGNMENT_D_BYTES": product.out.alignment,
    }
    for name, value in values.items():
        attribute = lt.MatmulPreferenceAttribute[name]
        buffer = np.array(value, lt.get_matmul_preference_attribute_dtype(attribute))
        lt.matmul_preference_set_attribute(preference, attribute, buffer.ctypes.data, buffer.nbytes)
    return preference


def _describe(lt: Any, descriptor: int, name: str, value: int) -> None:
    attribute = lt.MatmulDescAttribute[name]
    buffer = np.array(value, lt.get_matmul_desc_attribute_dtype(attribute))
    lt.matmul_desc_set_attribute(descriptor, attribute, buffer.ctypes.data, buffer.nbytes)


def _layout(lt: Any, matrix: Matrix, resources: ExitStack) -> int:
    layout: int = lt.matrix_layout_create(TYPES[matrix.type], matrix.columns, matrix.rows, matrix.ld)
    resources.callback(lt.matrix_layout_destroy, layout)
    return layout


def _compute(kind: str, precision: str) -> int:
    if kind == "d":
        return COMPUTE_64F
    return COMPUTE_32F_FAST_TF32 if kind == "f" and precision == "tf32" else COMPUTE_32F
