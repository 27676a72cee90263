"""Devices: which one is taken, and why another one is not."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
import types

import numpy as np
import pytest
from gpu.fake_cupy import install

import xpnet
from xpnet import devices
from xpnet.devices import cuda


class BrokenCupy(types.ModuleType):
    """As much of CuPy as it takes to find out why a device cannot be opened."""

    class CudaError(Exception):
        def __init__(self, status):
            super().__init__(f"cudaError {status}\nand a second line")
            self.status = status

    def __init__(self, count=1, error=None, computes=True):
        super().__init__("cupy")
        self.__version__ = "14.0"
        self.__spec__ = types.SimpleNamespace(name="cupy")

        def device_count():
            if error is not None:
                raise self.CudaError(error)
            return count

        runtime = types.SimpleNamespace(CUDARuntimeError=self.CudaError, getDeviceCount=device_count)
        self.cuda = types.SimpleNamespace(runtime=runtime, Device=lambda index: contextlib.nullcontext())
        self.asnumpy = np.asarray

        def ones(n):
            if not computes:
                raise OSError("libnvrtc.so: not found")
            return np.ones(n)

        self.ones = ones


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.setattr(cuda, "_driver_is_there", lambda: True)


@pytest.mark.parametrize(
    ("cupy", "name", "words"),
    [
        (BrokenCupy(error=35), "cuda", ["driver", "14.0"]),
        (BrokenCupy(error=100), "cuda", ["no device", "CUDA_VISIBLE_DEVICES"]),
        (BrokenCupy(count=0), "cuda:0", ["no device"]),
        (BrokenCupy(error=999), "cuda", ["does not start", "999"]),
        (BrokenCupy(count=2), "cuda:2", ["cuda:2 does not exist", "cuda:0 to cuda:1"]),
        (BrokenCupy(count=1), "cuda:3", ["cuda:3 does not exist", "has cuda:0;"]),
        (BrokenCupy(computes=False), "cuda", ["cannot compute", "libnvrtc"]),
    ],
)
def test_every_reason_against_cuda_has_its_own_sentence(monkeypatch, driver, cupy, name, words):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(xpnet.DeviceError) as refusal:
        xpnet.device(name)
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


def test_without_cupy_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(xpnet.DeviceError, match=r"CuPy is not installed.*xpnet\[cuda12\]"):
        xpnet.device("cuda:1")
    assert xpnet.device("auto").name == "cpu"
    assert "CuPy is not installed" in devices.why_no_cuda()


def test_a_cupy_that_cannot_be_imported_is_told_apart(monkeypatch, driver):
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(xpnet.DeviceError, match="cannot be imported"):
        xpnet.device("cuda")


def test_without_nvmath_the_extra_is_named(monkeypatch):
    install(monkeypatch)
    monkeypatch.setitem(sys.modules, "nvmath.bindings.cublasLt", None)
    with pytest.raises(xpnet.DeviceError, match=r"nvmath-python cannot be imported.*xpnet\[cuda12\]"):
        xpnet.device("cuda")
    plain = xpnet.device("cuda", eager=True)
    assert type(plain).__name__ == "CupyArrays"
    with pytest.raises(xpnet.DeviceError, match="nvmath-python"):
        xpnet.device("cuda", eager=True, precision="bf16")


def test_a_library_of_products_that_cannot_be_loaded_is_told_of(monkeypatch):
    install(monkeypatch)

    def get_version():
        raise RuntimeError("libcublasLt.so.13: cannot open\nshared object file")

    sys.modules["nvmath.bindings.cublasLt"].get_version = get_version
    with pytest.raises(xpnet.DeviceError, match=r"cuBLASLt.*cannot be loaded \(libcublasLt.so.13: cannot open\)"):
        xpnet.device("cuda")


def test_options_of_a_gpu_reach_it_and_are_refused_elsewhere(monkeypatch, tmp_path):
    for options in ({"precision": "bf16"}, {"autotune": str(tmp_path / "table.json")}, {"eager": True}):
        with pytest.raises(xpnet.DeviceError, match=f"{next(iter(options))}.*use a GPU"):
            xpnet.device("cpu", **options)
        if devices.why_no_cuda():
            with pytest.raises(xpnet.DeviceError, match="no GPU can be used"):
                xpnet.device("auto", **options)
    with pytest.raises(xpnet.XpnetError, match="precision"):
        xpnet.device("cpu", precision="fp16")
    install(monkeypatch)
    gpu = xpnet.device("cuda", precision="tf32", eager=True)
    assert gpu.matmuls.precision == "tf32"
    assert type(gpu).__name__ == "EagerCuda"


@pytest.mark.parametrize("name", ["cpu", "numpy", "auto", "cuda"])
def test_a_deterministic_device_lets_no_time_choose(name, monkeypatch, tmp_path):
    install(monkeypatch)
    device = xpnet.device(name, deterministic=True)
    assert type(device) is type(xpnet.device(name))
    cost = devices.cost_of_determinism(device)
    assert ("autotune" in cost) == device.name.startswith("cuda")
    assert cost.startswith("nothing") == (device.xp is np)
    with pytest.raises(xpnet.DeviceError, match=r"^autotune: got it with deterministic.*leave one out\.$"):
        xpnet.device(name, deterministic=True, autotune=str(tmp_path / "table.json"))
    assert not list(tmp_path.iterdir())


def test_a_deterministic_gpu_asks_for_no_algorithm_that_adds_up_in_place(monkeypatch):
    install(monkeypatch)
    gpu = xpnet.device("cuda", deterministic=True)
    asked, lt = [], gpu.matmuls._lt
    tell = type(lt).matmul_preference_set_attribute

    def listen(self, pref, attr, buf, size):
        tell(self, pref, attr, buf, size)
        if attr == lt.MatmulPreferenceAttribute.REDUCTION_SCHEME_MASK:
            asked.append(ctypes.c_uint32.from_address(buf).value)

    monkeypatch.setattr(type(lt), "matmul_preference_set_attribute", listen)
    with gpu:
        gpu.gemm(gpu.zeros((8, 16), "f"), gpu.zeros((16, 8), "f"), out=gpu.zeros((8, 8), "f"))
    assert asked
    assert not any(mask & lt.ReductionScheme.INPLACE for mask in asked)


def test_a_deterministic_gpu_does_not_fall_back_on_other_products(monkeypatch):
    install(monkeypatch)
    monkeypatch.setitem(sys.modules, "nvmath.bindings.cublasLt", None)
    with pytest.raises(xpnet.DeviceError, match="nvmath-python"):
        xpnet.device("cuda", eager=True, deterministic=True)


def test_auto_takes_a_gpu_that_works(monkeypatch):
    install(monkeypatch)
    assert xpnet.device("auto").name == "cuda:0"
    assert devices.why_no_cuda() is None


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:1:2", "CPU", ""])
def test_unknown_names_are_refused(name):
    with pytest.raises(xpnet.DeviceError, match="expected"):
        xpnet.device(name)


def test_a_device_passes_through():
    device = xpnet.device("cpu")
    assert xpnet.device(device) is device
    assert xpnet.MLP((2, 2), device=device).device is device


def test_the_cpu_keeps_arrays_where_they_are():
    device = xpnet.device("cpu")
    x = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert device.asarray(x) is x
    assert device.asarray(x.T).flags.c_contiguous
    copy = device.to_host(x)
    assert not np.shares_memory(copy, x)


@pytest.mark.parametrize("transpose", ["nn", "tn", "nt"])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (-0.5, 0.0), (-0.5, 0.75), (np.array(2.0), np.array(0.5))])
def test_gemm_is_alpha_a_b_plus_beta_out(transpose, alpha, beta):
    rng = np.random.default_rng(0)
    a, b, out = rng.normal(size=(4, 5)), rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    expected = alpha * (a @ b) + (beta * out if np.any(beta) else 0)
    if not np.any(beta):
        out[...] = np.nan
    left = np.ascontiguousarray(a.T).T if transpose[0] == "t" else a
    right = np.ascontiguousarray(b.T).T if transpose[1] == "t" else b
    result = xpnet.device("cpu").gemm(left, right, out=out, alpha=alpha, beta=beta)
    assert result is out
    np.testing.assert_allclose(out, expected, rtol=1e-12)


def test_textbook_functions_do_not_import_cupy():
    code = (
        "import sys, numpy, xpnet; xpnet.kernels.relu_forward(numpy.ones(3)); xpnet.device('cpu');"
        "assert 'cupy' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
def test_training_on_the_gpu_gives_what_the_cpu_gives():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (300, 20)).astype(np.uint8), rng.integers(0, 5, 300)
    for optimizer in (xpnet.SGD(0.05), xpnet.SGD(0.02, momentum=0.9, nesterov=True), xpnet.Adam(), xpnet.AdamW()):
        losses = []
        for device in ("cpu", "cuda"):
            net = xpnet.MLP((20, 30, 5), "gelu", device=device)
            net.transform = xpnet.data.transform.InputTransform(1 / 255)
            trainer = xpnet.Trainer(net, optimizer=optimizer, l2=1e-3, clip_norm=None, batch_size=32, epochs=3)
            losses.append(trainer.fit(x, y, validation=0.2).step_losses)
        np.testing.assert_allclose(*losses, rtol=1e-4)


def test_kernels_compile_where_nothing_can_be_kept_on_disk():
    from xpnet.devices.cpu import native

    def decorate(cache):
        if cache:
            raise RuntimeError("no locator available")
        return lambda function: ("compiled", function)

    assert native.kept_on_disk(decorate, len) == ("compiled", len)


def test_without_numba_and_scipy_the_cpu_is_numpy():
    """Levels 0 to 3 work with NumPy alone."""
    code = """
import sys
for name in ("numba", "scipy", "sklearn", "cupy"):
    sys.modules[name] = None
import numpy as np, xpnet
x, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
network = xpnet.MLP((4, 5, 3))
assert not network.device.twins
xpnet.Trainer(network, epochs=2).fit(x, y)
assert network.predict(x).shape == (30,)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_large_arrays_start_at_different_places_of_a_page():
    device = xpnet.device("cpu")
    arrays = [device.zeros((100_000,), np.float32) for _ in range(4)] + [device.empty((300, 400), np.float64)]
    places = [array.ctypes.data % 4096 for array in arrays]
    assert places == [0, 1024, 2048, 3072, 0]
    assert all(array.flags.c_contiguous and array.flags.aligned for array in arrays)
    assert not any(array.any() for array in arrays[:4])
