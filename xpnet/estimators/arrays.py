"""Arrays of other libraries: read where they lie, checked as scikit-learn checks, and answered in kind.

NumPy's arrays, data frames, lists and sparse matrices pass through here untouched. What offers DLPack (PyTorch, CuPy,
JAX, ...) is read in its own memory: on the host as a NumPy array, on the estimator's GPU as a CuPy array. Either keeps
its dtype, float32 too, of which scikit-learn without array API dispatch makes float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn._config import get_config
from sklearn.externals import array_api_compat
from sklearn.utils import assert_all_finite
from sklearn.utils._array_api import _convert_to_numpy, _is_numpy_namespace, get_namespace_and_device, move_to

from xpnet.data.sources import gpu_of
from xpnet.devices import Device
from xpnet.devices import device as open_device

HOST = (1, 3)
"""DLDeviceType of memory that NumPy reads: kDLCPU and kDLCUDAHost, from dlpack.h."""


@dataclass(frozen=True)
class Library:
    """Whose arrays an answer is made of.

    Attributes:
        xp: The namespace of its array API.
        device: One of its own.
    """

    xp: Any
    device: Any

    @classmethod
    def of(cls, array: Any) -> Library | None:
        """That of an array where scikit-learn's array API dispatch is on; None for NumPy, and for what it reads."""
        if not get_config()["array_api_dispatch"]:
            return None
        xp, _, device = get_namespace_and_device(array)
        return None if _is_numpy_namespace(xp) else cls(xp, device)

    @property
    def names(self) -> tuple[str, str]:
        """Of the namespace and the device."""
        return self.xp.__name__, str(self.device)

    def take(self, result: Any) -> Any:
        """An array of NumPy or CuPy, or a list of them, as the library's own; in the same memory where it can be.

        What no other library has (text, sparse matrices) stays as it is.
        """
        if isinstance(result, list):
            return [self.take(part) for part in result]
        if gpu_of(result) is not None:
            return self.xp.from_dlpack(result)
        if not isinstance(result, np.ndarray) or result.dtype.kind not in "biuf":
            return result
        return move_to(result, xp=self.xp, device=self.device)


def names_after(converter: Any) -> tuple[str, str] | None:
    """The names of the library to which scikit-learn's `move_estimator_to` moves arrays; None for NumPy."""
    moved = converter(np.empty(0))
    xp = array_api_compat.array_namespace(moved)
    return None if _is_numpy_namespace(xp) else (xp.__name__, str(array_api_compat.device(moved)))


def check_library(estimator: Any, library: Library | None, method: str) -> None:
    """As scikit-learn demands, what was fitted with another library than NumPy goes on with that one.

    Raises:
        ValueError: It does not; the message says how the estimator is moved.
    """
    fitted, got = estimator._fitted_in, None if library is None else library.names
    if fitted is None or fitted == got or not get_config()["array_api_dispatch"]:
        return
    raise ValueError(
        f"Inputs passed to {type(estimator).__name__}.{method}() must use the same namespace and the same device as "
        f"those passed to fit(): got {' on '.join(got) if got else 'NumPy'}, expected {' on '.join(fitted)}. "
        "You can move the estimator to the same namespace and device as X with: 'from sklearn.utils._array_api import "
        "get_namespace_and_device, move_estimator_to; xp, _, device = get_namespace_and_device(X); "
        "estimator = move_estimator_to(estimator, xp, device)'"
    )


def on_host(array: Any) -> Any:
    """An array of another library as NumPy's: its memory where that is the host's, else a copy. All else as it is."""
    if isinstance(array, (np.ndarray, np.generic)):
        return array
    if not hasattr(array, "__dlpack_device__"):
        bare = hasattr(array, "__array_interface__") and not hasattr(array, "__array__")
        return np.asarray(array) if bare else array  # scikit-learn would not know that it is one
    if array.__dlpack_device__()[0] in HOST:
        try:
            return np.from_dlpack(array)
        except Exception:  # each library refuses in its own way, and says why in the next line
            pass
    return _convert_to_numpy(array, array_api_compat.array_namespace(array))


def brought(X: Any, device: str | Device) -> tuple[Any, Any]:
    """Samples as they can be worked on, and the device, which is opened if they lie on a GPU and it may be one.

    On the device's own GPU they become an array of CuPy in the same memory, C-contiguous; from another one they come
    to the host.
    """
    gpu = gpu_of(X)
    if gpu is None or device in ("cpu", "numpy"):
        return on_host(X), device
    opened = open_device(device)
    if opened.name != f"cuda:{gpu}":
        return on_host(X), opened
    opened.xp.cuda.get_current_stream().synchronize()  # what CuPy was to write there, on the caller's own stream
    with opened:
        X = opened.asarray(opened.xp.from_dlpack(X))
        opened.synchronize()
    return X, opened


def form(X: Any) -> Any:
    """What scikit-learn's checks see: X itself, or for samples on a GPU an empty sparse matrix of their form."""
    if gpu_of(X) is None:
        return X
    if X.ndim != 2 or X.dtype.kind not in "biuf":
        return on_host(X)  # for scikit-learn to say what is wrong
    return csr_array(X.shape, dtype=np.float64 if X.dtype == np.float16 else X.dtype)


def content(X: Any, checked: Any, device: Any, estimator: Any) -> Any:
    """The samples of which the form was checked, in the dtype that it has now.

    Raises:
        ValueError: On a GPU are some that are not finite; scikit-learn's own message.
    """
    if gpu_of(X) is None:
        return checked
    with device:
        xp, X = device.xp, X.astype(checked.dtype, copy=False)
        if not xp.isfinite(xp.sum(X)) and not xp.isfinite(X).all():
            bad = np.nan if xp.isnan(X).any() else np.inf
            assert_all_finite(np.array([bad], X.dtype), estimator_name=type(estimator).__name__, input_name="X")
        device.synchronize()
    return X
