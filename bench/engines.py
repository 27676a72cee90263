"""The contestants of `bench.throughput`: each trains the same network on the same batches.

An engine is built from a `Case`, says its losses over the first steps, and then runs as many steps as it is asked for.
What all of them do in a step: take the rows of a shuffled order out of a resident float32 set, forward, softmax
cross-entropy, backward, update.

On a GPU all of them work in the precision of the case. For PyTorch that is, as its own guides have it: "highest" or
"high" float32 products for fp32 and tf32; for bf16 autocast over float32 weights, on samples kept as bfloat16.
"""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

ROWS = 16384
"""Samples in the set; at least two batches of any size."""

RECORDED_PRODUCTS = 400
"""In one CUDA graph of products alone."""

ROWS_ON_CUDA = 65_536
"""There: too many for the GPU's cache."""

STEPS_ON_CUDA = 32
"""In an epoch of xpnet's at the least: with few, the pauses between epochs would be measured."""


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        sizes: Units of the input, of each hidden layer (ReLU), and of the output (softmax).
        batch: Samples a step.
        optimizer: "sgd", "momentum" or "adam".
        device: "cpu" or "cuda".
        rows: Samples in the set; None for enough.
        precision: "fp32", or on CUDA "tf32" or "bf16".
    """

    sizes: tuple[int, ...]
    batch: int
    optimizer: str = "sgd"
    device: str = "cpu"
    rows: int | None = None
    precision: str = "fp32"

    @property
    def lr(self) -> float:
        """So small that rounding does not grow within 20 steps; Adam and momentum make much of it at ten times this."""
        return {"sgd": 1e-2, "momentum": 1e-3, "adam": 1e-4}[self.optimizer]

    @functools.cached_property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Samples of floats, and classes that depend on them."""
        enough = ROWS if self.device == "cpu" else ROWS_ON_CUDA
        return _data(self.rows or max(enough, 2 * self.batch), self.sizes[0], self.sizes[-1])

    @functools.cached_property
    def weights(self) -> list[np.ndarray]:
        """Glorot-uniform weights; biases start at zero."""
        rng = np.random.default_rng(1)
        pairs = itertools.pairwise(self.sizes)
        return [(rng.uniform(-1, 1, p) * np.sqrt(6 / sum(p))).astype(np.float32) for p in pairs]

    @functools.cached_property
    def order(self) -> np.ndarray:
        """Row numbers, whole batches only."""
        n = len(self.data[0]) // self.batch * self.batch
        return np.random.default_rng(2).permutation(n)

    def batches(self, steps: int) -> np.ndarray:
        """(steps, batch) row numbers, the order over and over."""
        return np.resize(self.order, (steps, self.batch))


@functools.lru_cache(maxsize=1)
def _data(rows: int, inputs: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.random((rows, inputs), dtype=np.float32)
    y = (x @ rng.normal(size=(inputs, classes))).argmax(axis=1)
    return x, y.astype(np.int32)


@dataclass(frozen=True, eq=False)
class Product:
    """out <- alpha a b + beta out."""

    a: Any
    b: Any
    out: Any
    alpha: float
    beta: float


class Engine(ABC):
    """Trains a case, step by step."""

    computes_losses = True

    def __init__(self, case: Case) -> None:
        self.case = case

    @abstractmethod
    def losses(self, steps: int) -> np.ndarray:
        """The mean losses of the first steps, from the case's weights."""

    @abstractmethod
    def run(self, steps: int) -> None:
        """That many steps, to the end of their computation."""

    def rounded(self, steps: int) -> int:
        """How many steps, at least so many, this engine takes at its best."""
        return steps

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The probabilities of these samples, by the weights as they are; engines without it are left out."""
        raise NotImplementedError


@functools.cache
def open_cuda(precision: str, *, eager: bool = False) -> Any:
    """The GPU, opened once a process: its kernels stay loaded from case to case."""
    import xpnet

    return xpnet.device("cuda", precision=precision, eager=eager)


class Xpnet(Engine):
    """xpnet's program."""

    name: str | None = None
    eager = False

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import xpnet
        from xpnet.data.samples import Samples

        optimizers = {
            "sgd": xpnet.SGD(case.lr),
            "momentum": xpnet.SGD(case.lr, momentum=0.9),
            "adam": xpnet.Adam(case.lr),
        }
        on_cuda = self.name is None and case.device == "cuda"
        device = open_cuda(case.precision, eager=self.eager) if on_cuda else xpnet.device(self.name or case.device)
        network = xpnet.MLP(case.sizes, device=device)
        for w, start in zip(network.parameters.w, case.weights, strict=True):
            network.device.upload(start, out=w)
        network.task, network.classes = "classification", tuple(range(case.sizes[-1]))
        trainer = xpnet.Trainer(network, optimizer=optimizers[case.optimizer], batch_size=case.batch)
        samples = Samples.of(*case.data)
        if on_cuda:
            again = -(-STEPS_ON_CUDA * case.batch // len(samples))
            samples = replace(samples, rows=np.tile(samples.rows, again))
        training = trainer.prepare(samples)
        self.network = network
        self.program, self.update, self.chunk = training.program, training.update, training.chunk
        self.lr, self.step, self.by_chunks = trainer.optimizer.lr, 0, on_cuda
        self._batches: dict[int, np.ndarray] = {}

    def rounded(self, steps: int) -> int:
        """Whole chunks, where the others would first have to be recorded."""
        return -(-steps // self.chunk) * self.chunk if self.by_chunks else steps

    def _chunks(self, batches: np.ndarray) -> Iterator[Any]:
        from xpnet.program import Chunk

        for start in range(0, len(batches), self.chunk):
            part = batches[start : start + self.chunk]
            steps = np.arange(self.step, self.step + len(part))
            self.step += len(part)
            yield Chunk(part.ravel(), self.update.table(steps, np.full(len(part), self.lr), np.zeros(len(part))))

    def _advance(self, batches: np.ndarray) -> np.ndarray:
        """As a trainer does it: the next chunk is loaded while the present one runs."""
        summed, chunks = [], self._chunks(batches)
        coming = next(chunks, None)

        def following() -> Any:
            nonlocal coming
            coming = next(chunks, None)
            return coming

        with self.network.device:
            while coming is not None:
                summed.append(self.program.run(coming, following).losses)
        return np.concatenate(summed) / self.case.batch

    def losses(self, steps: int) -> np.ndarray:
        return self._advance(self.case.batches(steps))

    def run(self, steps: int) -> None:
        if self.case.device != "cuda":
            self._advance(self.case.batches(steps))
            return
        if steps not in self._batches:
            self._batches[steps] = self.case.batches(steps)
        self._advance(self._batches[steps])

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.network.predict_proba(x)


class XpnetReference(Xpnet):
    """The same without twins: NumPy alone."""

    name = "numpy"


class XpnetEager(Xpnet):
    """The same kernel by kernel, no run recorded: what a GPU would do without graphs."""

    eager = True


class Gemm(Engine):
    """Only the step's matrix products, as xpnet makes them: the floor of its steps."""

    computes_losses = False

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import xpnet

        on_cuda = case.device == "cuda"
        self.device = open_cuda(case.precision) if on_cuda else xpnet.device(case.device)
        with self.device:
            self.products = products(case, self.device)
        self.recorded = max(1, RECORDED_PRODUCTS // len(self.products)) if on_cuda else 0
        self._replay: Callable[[], None] | None = None

    def losses(self, steps: int) -> np.ndarray:
        return np.empty(0)

    def rounded(self, steps: int) -> int:
        """Whole recordings."""
        return -(-steps // self.recorded) * self.recorded if self.recorded else steps

    def run(self, steps: int) -> None:
        if self.recorded:
            if self._replay is None:
                self._replay = repeated(self.device, self.products, self.recorded)
            for _ in range(-(-steps // self.recorded)):
                self._replay()
        else:
            repeated(self.device, self.products, steps)()
        self.device.synchronize()


class GemmBest(Gemm):
    """The same, each product by the fastest library at hand, over and over on its own: the floor of anybody's steps."""

    def run(self, steps: int) -> None:
        for product in self.products:
            if product not in self.fastest:
                self.fastest[product] = fastest(self.device, product)
            self.fastest[product](steps)

    @functools.cached_property
    def fastest(self) -> dict[Product, Callable[[int], None]]:
        return {}


class Torch(Engine):
    """PyTorch, eager, with its fused optimizers."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import torch

        self.torch, self.on_cuda = torch, case.device == "cuda"
        if self.on_cuda:
            torch.set_float32_matmul_precision("high" if case.precision == "tf32" else "highest")
        layers: list[Any] = []
        for w in case.weights:
            linear = torch.nn.Linear(*w.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(w.T))
                linear.bias.zero_()
            layers += [linear, torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*layers[:-1]).to(case.device)
        x, y = case.data
        self.x, self.y = torch.from_numpy(x).to(case.device), torch.from_numpy(y.astype(np.int64)).to(case.device)
        if case.precision == "bf16":
            self.x = self.x.to(torch.bfloat16)
        parameters = self.model.parameters()
        self.optimizer = {
            "sgd": lambda: torch.optim.SGD(parameters, lr=case.lr, fused=True),
            "momentum": lambda: torch.optim.SGD(parameters, lr=case.lr, momentum=0.9, fused=True),
            "adam": lambda: torch.optim.Adam(parameters, lr=case.lr, fused=True),
        }[case.optimizer]()
        self.forward: Callable[[Any, Any], Any] = self._loss
        self._indices: dict[int, Any] = {}

    def _loss(self, x: Any, y: Any) -> Any:
        torch = self.torch
        if self.case.precision != "bf16":
            return torch.nn.functional.cross_entropy(self.model(x), y)
        # Cast weights are not kept from step to step: a graph would hold those of its recording.
        with torch.autocast(self.case.device, torch.bfloat16, cache_enabled=False):
            return torch.nn.functional.cross_entropy(self.model(x), y)

    def _step(self, index: Any) -> Any:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.forward(self.x[index], self.y[index])
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _index(self, steps: int) -> Any:
        return self.torch.from_numpy(self.case.batches(steps)).to(self.case.device)

    def losses(self, steps: int) -> np.ndarray:
        return np.array([float(self._step(index)) for index in self._index(steps)])

    def run(self, steps: int) -> None:
        if not self.on_cuda:
            indices = self._index(steps)
        else:
            if steps not in self._indices:
                self._indices[steps] = self._index(steps)
            indices = self._indices[steps]
        for index in indices:
            self._step(index)
        if self.on_cuda:
            self.torch.cuda.synchronize()

    def predict(self, x: np.ndarray) -> np.ndarray:
        with self.torch.inference_mode():
            there = self.torch.from_numpy(x).to(self.case.device)
            return self.torch.softmax(self.model(there), dim=1).cpu().numpy()


class TorchCompile(Torch):
    """PyTorch with torch.compile over forward and loss; on CUDA with the graphs of its mode "reduce-overhead"."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.torch.compiler.reset()  # of the batch size before
        self.forward = self.torch.compile(
            self._loss, dynamic=False, mode="reduce-overhead" if self.on_cuda else "default"
        )

    def _step(self, index: Any) -> Any:
        if self.on_cuda:
            self.torch.compiler.cudagraph_mark_step_begin()
        return super()._step(index)


class TorchGraph(Torch):
    """PyTorch with whole steps in a CUDA graph, which is replayed."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        for group in self.optimizer.param_groups:
            group["capturable"] = True
        self.graph: Any = None

    def _record(self) -> None:
        """Warm up on a stream of its own, as capturing asks for, record a step, and take the training back."""
        torch = self.torch
        parameters = list(self.model.parameters())
        saved = [parameter.detach().clone() for parameter in parameters]
        self.index = torch.zeros(self.case.batch, dtype=torch.int64, device=self.case.device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                super()._step(self.index)
        torch.cuda.current_stream().wait_stream(side)
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = super()._step(self.index)
        with torch.no_grad():
            for parameter, before in zip(parameters, saved, strict=True):
                parameter.copy_(before)
            for state in self.optimizer.state.values():
                for value in state.values():
                    if torch.is_tensor(value):
                        value.zero_()

    def _step(self, index: Any) -> Any:
        if self.graph is None:
            self._record()
        self.index.copy_(index)
        self.graph.replay()
        return self.loss


class TorchCompileGraph(TorchGraph):
    """The same with torch.compile over forward and loss."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.torch.compiler.reset()
        self.forward = self.torch.compile(self._loss, dynamic=False)


class Sklearn(Engine):
    """scikit-learn's MLPClassifier, an epoch a call, as its fit does."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        from sklearn.neural_network import MLPClassifier

        solver = {"sgd": ("sgd", 0.0), "momentum": ("sgd", 0.9), "adam": ("adam", 0.0)}[case.optimizer]
        self.model = MLPClassifier(
            case.sizes[1:-1],
            solver=solver[0],
            momentum=solver[1],
            nesterovs_momentum=False,
            alpha=0.0,
            batch_size=case.batch,
            learning_rate_init=case.lr,
            max_iter=1,
            shuffle=True,
        )

    def _start(self) -> None:
        x, y = self.case.data
        self.model.partial_fit(x[: self.case.batch], y[: self.case.batch], classes=np.arange(self.case.sizes[-1]))
        for w, start in zip(self.model.coefs_, self.case.weights, strict=True):
            w[...] = start
        for b in self.model.intercepts_:
            b[...] = 0
        optimizer = self.model._optimizer
        for name in ("velocities", "ms", "vs"):
            for memory in getattr(optimizer, name, []):
                memory[...] = 0
        if hasattr(optimizer, "t"):
            optimizer.t = 0

    def losses(self, steps: int) -> np.ndarray:
        self._start()
        x, y = self.case.data
        losses = []
        for index in self.case.batches(steps):
            self.model.partial_fit(x[index], y[index])
            losses.append(self.model.loss_)
        return np.array(losses)

    def run(self, steps: int) -> None:
        x, y = self.case.data
        whole = len(self.case.order) // self.case.batch
        for start in range(0, steps, whole):
            rows = min(whole, steps - start) * self.case.batch
            self.model.partial_fit(x[:rows], y[:rows])

    def predict(self, x: np.ndarray) -> np.ndarray:
        if not hasattr(self.model, "coefs_"):
            self._start()
        return self.model.predict_proba(x)


ENGINES: dict[str, type[Engine]] = {
    "xpnet": Xpnet,
    "xpnet-reference": XpnetReference,
    "gemm": Gemm,
    "gemm-best": GemmBest,
    "torch": Torch,
    "torch-compile": TorchCompile,
    "sklearn": Sklearn,
    "torch-graph": TorchGraph,
    "torch-compile-graph": TorchCompileGraph,
    "xpnet-eager": XpnetEager,
}

ON_CUDA = frozenset({"torch-graph", "torch-compile-graph", "xpnet-eager"})
"""Engines that show what graphs do on a GPU."""

ON_CPU = frozenset({"xpnet-reference", "gemm-best", "sklearn"})
"""Engines that know the CPU alone."""


def expected_losses(case: Case, steps: int) -> np.ndarray:
    """The mean losses of the first steps by plain float64 NumPy, which shares nothing with any engine."""
    x, y = case.data
    ws = [w.astype(np.float64) for w in case.weights]
    bs = [np.zeros(w.shape[1]) for w in ws]
    memory = [[np.zeros_like(p), np.zeros_like(p)] for p in ws + bs]
    losses = []
    for step, index in enumerate(case.batches(steps), 1):
        h = [x[index].astype(np.float64)]
        for i, (w, b) in enumerate(zip(ws, bs, strict=True)):
            z = h[-1] @ w + b
            h.append(np.maximum(z, 0) if i < len(ws) - 1 else z)
        p = np.exp(h[-1] - h[-1].max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        rows = np.arange(len(index))
        losses.append(-np.log(p[rows, y[index]]).mean())
        p[rows, y[index]] -= 1
        dz, dws, dbs = p / len(index), [], []
        for i in reversed(range(len(ws))):
            dws.insert(0, h[i].T @ dz)
            dbs.insert(0, dz.sum(axis=0))
            dz = (dz @ ws[i].T) * (h[i] > 0)
        for parameter, gradient, (m, v) in zip(ws + bs, dws + dbs, memory, strict=True):
            parameter -= _change(case, step, gradient, m, v)
    return np.array(losses)


def expected_probabilities(case: Case, x: np.ndarray) -> np.ndarray:
    """What the case's weights make of these samples, by plain float64 NumPy."""
    h = x.astype(np.float64)
    for i, w in enumerate(case.weights):
        h = h @ w if i == len(case.weights) - 1 else np.maximum(h @ w, 0)
    p = np.exp(h - h.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def _change(case: Case, step: int, g: np.ndarray, m: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What an optimizer subtracts; m and v are its memory."""
    if case.optimizer == "sgd":
        return case.lr * g
    if case.optimizer == "momentum":
        m[...] = 0.9 * m + g
        return case.lr * m
    m[...] = 0.9 * m + 0.1 * g
    v[...] = 0.999 * v + 0.001 * g * g
    return case.lr * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)


def products(case: Case, device: Any) -> list[Product]:
    """The matrix products of a step, as the program orders them, on operands of the case's precision."""
    rng = np.random.default_rng(0)
    h = [device.asarray(rng.random((case.batch, size), dtype=np.float32)) for size in case.sizes]
    ws = [device.asarray(w.copy()) for w in case.weights]
    inputs, factors = h, ws
    if case.precision == "bf16":
        inputs, factors = ([bfloat16(device, array) for array in arrays] for arrays in (h, ws))
    hidden = inputs[1:-1]
    forward = [Product(a, w, out, 1.0, 0.0) for a, w, out in zip(inputs[:-1], factors, [*hidden, h[-1]], strict=True)]
    backward = []
    for i in reversed(range(len(ws))):
        if i > 0:
            backward.append(Product(inputs[i + 1], factors[i].T, device.empty(h[i].shape, h[i].dtype), 1.0, 0.0))
        rides = case.optimizer == "sgd"
        backward.append(Product(inputs[i].T, inputs[i + 1], ws[i], -1e-9 if rides else 1.0, 1.0 if rides else 0.0))
    return forward + backward


def bfloat16(device: Any, array: Any) -> Any:
    """The device's operand of the nearest bfloat16s."""
    bits = device.to_host(array).view(np.uint32)
    operand = device.operands(array.shape, np.float32)
    operand[...] = device.asarray(((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16))
    return operand


def repeated(device: Any, chosen: list[Product], steps: int) -> Callable[[], None]:
    """These products in turn, so many times, as xpnet makes them."""

    def once(_: int) -> None:
        for p in chosen:
            device.gemm(p.a, p.b, out=p.out, alpha=p.alpha, beta=p.beta)

    run: Callable[[], None] = device.capture(once, steps)
    return run


def fastest(device: Any, product: Product) -> Callable[[int], None]:
    """The quickest of xpnet's, SciPy's, NumPy's and PyTorch's ways to make this product so many times."""
    import time

    p = product
    calls = [scipy_product(p)]
    if p.beta == 0.0:
        calls.append(lambda: np.matmul(p.a, p.b, out=p.out))
    try:
        import torch
    except ImportError:
        pass
    else:
        a, b, out = (torch.from_numpy(array) for array in (p.a, p.b, p.out))
        calls.append(
            (lambda: torch.mm(a, b, out=out))
            if p.beta == 0.0
            else (lambda: out.addmm_(a, b, beta=p.beta, alpha=p.alpha))
        )

    def again(call: Callable[[], Any]) -> Callable[[int], None]:
        def run(steps: int) -> None:
            for _ in range(steps):
                call()

        return run

    ways: list[Callable[[int], None]] = [lambda steps: repeated(device, [p], steps)(), *map(again, calls)]

    def cost(way: Callable[[int], None]) -> float:
        way(20)
        start = time.perf_counter()
        way(50)
        return time.perf_counter() - start

    return min(ways, key=cost)


def scipy_product(p: Product) -> Callable[[], Any]:
    """A call of SciPy's sgemm."""
    from scipy.linalg.blas import sgemm

    left, trans_a = (p.b.T, 0) if p.b.flags.c_contiguous else (p.b, 1)
    right, trans_b = (p.a.T, 0) if p.a.flags.c_contiguous else (p.a, 1)
    options = {"beta": p.beta, "c": p.out.T, "trans_a": trans_a, "trans_b": trans_b, "overwrite_c": 1}
    return lambda: sgemm(p.alpha, left, right, **options)
