"""Training by steps, counted, shuffled and stopped as scikit-learn does it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from xpnet.data.samples import Samples
from xpnet.dropout import dropout_keys, dropout_rates
from xpnet.errors import DivergenceError
from xpnet.estimators.problem import Problem, give_weights
from xpnet.estimators.rates import Rates
from xpnet.estimators.solvers import State
from xpnet.feed import Feed
from xpnet.memory import TRAINING_BLOCKS, foresee
from xpnet.program import Chunk, Outcome, Program, chunk_steps
from xpnet.schedules import Span
from xpnet.signals import postponed
from xpnet.workspace import Workspace

if TYPE_CHECKING:
    from xpnet.estimators.validation import Validation
    from xpnet.estimators.watching import Watch

REPLACEABLE = 2**26
"""Bytes of samples up to which a `partial_fit` takes the buffers of the one before, and copies its samples there."""


def fit(estimator: Any, epochs: Epochs, validation: Validation | None, watch: Watch, *, incremental: bool) -> None:
    """Epochs until the loss or the validation score gets no better, or there were `max_iter`; one if incremental."""
    best = _Best(epochs.problem, warm=estimator.t_ > 0) if estimator.early_stopping else None
    try:
        _go_on(estimator, epochs, validation, best, watch, incremental=incremental)
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    epochs.close()
    if best is not None:
        best.restore()


def _go_on(
    e: Any, epochs: Epochs, validation: Validation | None, best: _Best | None, watch: Watch, *, incremental: bool
) -> None:
    e.n_iter_ = 0
    for n in range(1, e.max_iter + 1):
        watch.epoch_begins()
        try:
            e.loss_ = epochs.next(last=incremental or n == e.max_iter)
        except DivergenceError as error:
            if best is None:
                raise
            _end_diverged(e, epochs, n, error)
            best.restore(diverged=True)
            break
        e.n_iter_ = n
        e.t_ += epochs.samples
        e.loss_curve_.append(e.loss_)
        e._history.append(loss=e.loss_, learning_rate=epochs.lr)
        watch.loss_is(e.n_iter_, e.loss_)
        measured = {} if validation is None else validation.measure()
        e._history.add(**measured)
        if best is None:
            worse = _compare_loss(e)
        else:
            watch.score_is(measured["val_score"])
            worse = _compare_score(e, measured["val_score"], best)
        e._no_improvement_count = e._no_improvement_count + 1 if worse else 0
        epochs.rates.after_epoch(e.t_)
        if watch.epoch_ends() or _is_stopping(e, epochs.rates, watch) or incremental:
            break
        if e.n_iter_ == e.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({e.max_iter}) "
                "reached and the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=2,
            )


def _end_diverged(e: Any, epochs: Epochs, n: int, error: DivergenceError) -> None:
    """An epoch without a score, after which the best weights come back."""
    e.n_iter_, e.loss_ = n, np.nan
    e.t_ += epochs.samples
    e.loss_curve_.append(np.nan)
    e.validation_scores_.append(np.nan)
    e._history.append(loss=np.nan, learning_rate=epochs.lr, val_loss=np.nan, val_score=np.nan)
    warnings.warn(f"{error} The best weights so far are kept.", ConvergenceWarning, stacklevel=2)


def _compare_loss(e: Any) -> bool:
    """Whether the loss is no better by `tol` than the least so far."""
    worse = e.loss_ > e.best_loss_ - e.tol
    e.best_loss_ = min(e.best_loss_, e.loss_)
    return bool(worse)


def _compare_score(e: Any, score: float, best: _Best) -> bool:
    """Whether the score is no better by `tol` than the best so far; the weights of the best are kept."""
    e.validation_scores_.append(score)
    worse = score < e.best_validation_score_ + e.tol
    if score > e.best_validation_score_:
        with postponed():  # at Ctrl-C, too, the score is that of the weights
            e.best_validation_score_ = score
            best.keep()
    return bool(worse)


def _is_stopping(e: Any, rates: Rates, watch: Watch) -> bool:
    """Whether there were too many epochs without improvement; before that the learning rate may fall."""
    if e._no_improvement_count <= e.n_iter_no_change:
        return False
    what = "Validation score" if e.early_stopping else "Training loss"
    message = f"{what} did not improve more than tol={e.tol:f} for {e.n_iter_no_change:d} consecutive epochs."
    last_word = rates.give_up()
    if last_word is None:
        e._no_improvement_count = 0
    watch.says(f"{message} {last_word or f'Setting learning rate to {rates.base:f}'}")
    return last_word is not None


class _Best:
    """The weights of the best epoch, or those from before the first.

    As in scikit-learn, a warm start that finds none better than those of the fits before leaves its last ones, so that
    the next goes on from there.
    """

    def __init__(self, problem: Problem, *, warm: bool) -> None:
        self._network = problem.network
        self._copies = [array.copy() for array in problem.network.state]
        self._are_wanted = not warm

    def keep(self) -> None:
        """Take the present ones."""
        for copy, array in zip(self._copies, self._network.state, strict=True):
            self._network.k.xp.copyto(copy, array)
        self._are_wanted = True

    def restore(self, *, diverged: bool = False) -> None:
        """Give them back."""
        if self._are_wanted or diverged:
            for copy, array in zip(self._copies, self._network.state, strict=True):
                self._network.k.xp.copyto(array, copy)


class Epochs:
    """A program's epochs in scikit-learn's order, with scikit-learn's penalty: alpha over the rows of each batch.

    Attributes:
        samples: In an epoch.
        lr: Of the last step.
        rates: Of the steps to come.
    """

    def __init__(self, estimator: Any, problem: Problem, *, incremental: bool) -> None:
        e, network, self.problem = estimator, problem.network, problem
        self.samples = len(problem.samples)
        self.batch = _batch_size(e, self.samples)
        per_epoch = -(-self.samples // self.batch)
        known = getattr(e, "_optimizer", None) if incremental else None
        self.state = State.fresh(e) if known is None else replace(known)
        self._span = Span(per_epoch, e.max_iter * per_epoch)
        self.rates = Rates(self.state, self._span)
        self.lr = self.state.learning_rate
        self.alpha, self.decoupled = float(e.alpha), self.state.settings.solver == "adamw"
        self._estimator = e
        self._form = _form(e, problem.samples)
        plan = foresee(
            network,
            [problem.samples],
            batch=self.batch,
            chunk=chunk_steps(network, self.batch, per_epoch),
            blocks=TRAINING_BLOCKS,
        )
        self.chunk = plan.chunk * self.batch
        self._dropout = dropout_rates(e.dropout, len(network.activations))
        if any(self._dropout) and self.state.dropout_seed is None:
            self.state.dropout_seed = int(e._random_state.randint(2**31))
        # One epoch of many, each on other samples: what is on the device is then replaced.
        window = self.samples if incremental and _are_replaceable(problem.samples) else plan.window
        feed = Feed(problem.samples, network, problem.loss, problem.metric, window=window)
        workspace = Workspace(network, feed, plan.rows, plan.gathered * self.batch, dropout=self._dropout)
        self.update = self.state.bind(network.parameters, decays=self.alpha > 0)
        self.state.load(network.device, self.update)
        self.program = Program(
            network,
            problem.loss,
            problem.metric,
            self.update,
            feed,
            workspace,
            batch=self.batch,
            chunk=plan.chunk,
            gathered=plan.gathered,
            max_norm=e.max_norm,
            norms=self.alpha > 0 and not self.decoupled,
        )
        self._places = np.arange(self.samples)
        self._rng, self._before_drawing = e._random_state, None
        self._drawn: np.ndarray | None = None

    def can_take(self, estimator: Any, samples: Samples) -> bool:
        """Whether this goes on, for an estimator of these parameters, with so many such samples."""
        both = _are_replaceable(self.problem.samples) and _are_replaceable(samples)
        return both and estimator._optimizer is self.state and self._form == _form(estimator, samples)

    def take(self, estimator: Any, samples: Samples) -> None:
        """Go on with other samples, and with the weights that the estimator has now."""
        self.problem = replace(self.problem, samples=samples)
        self.program.feed.replace(samples)
        give_weights(estimator, self.problem.network)
        self.state = replace(self.state)
        self.rates = Rates(self.state, self._span)
        _batch_size(estimator, self.samples)  # warns again
        self._estimator, self._rng = estimator, estimator._random_state
        self._places = np.arange(self.samples)

    def next(self, *, last: bool) -> float:
        """Train an epoch; the mean of its batches' losses.

        The next order is drawn meanwhile, unless this is the last.
        """
        order = self._order()
        starts = range(0, self.samples, self.chunk)
        total = 0.0
        for start in starts:
            chunk, divisors = self._chunk(order[start : start + self.chunk])
            ends = start + self.chunk >= self.samples
            outcome = self.program.run(chunk, self._draw if ends and not last else _nothing)
            total += self._loss(outcome, divisors, len(chunk.order))
            self._check_finite(outcome)
        return np.float64(total / self.samples)

    def close(self) -> None:
        """Take back what was drawn for nothing; keep what the next `partial_fit` goes on from."""
        if self._drawn is not None:
            self._rng.set_state(self._before_drawing)
        self.state.store(self.problem.network.device, self.update)
        self._estimator._optimizer = self.state

    def _chunk(self, places: np.ndarray) -> tuple[Chunk, np.ndarray]:
        """The steps through these samples, and what the summed loss of each is divided by."""
        rows, weights, state = self.problem.samples.rows[places], self.problem.samples.weights, self.state
        starts = np.arange(0, len(rows), self.batch)
        if weights is None:
            divisors = np.diff(np.append(starts, len(rows))).astype(float)
        else:
            divisors = np.add.reduceat(weights[rows].astype(float), starts)
        steps = np.arange(state.steps, state.steps + len(starts))
        state.steps += len(starts)
        lr = self.rates(steps)
        self.lr = float(lr[-1])
        divisors = np.where(divisors != 0, divisors, np.inf)  # a batch without weight has no loss and no penalty
        with np.errstate(over="ignore"):  # weights near 0 make any penalty infinite, which the losses show
            l2 = np.full(len(steps), self.alpha) if self.decoupled else self.alpha / divisors
        keys = None
        if any(self._dropout):
            keys = dropout_keys(state.dropout_seed or 0, len(self._dropout), steps)
        return Chunk(rows, self.update.table(steps, lr, l2), keys), divisors

    def _loss(self, outcome: Outcome, divisors: np.ndarray, rows: int) -> float:
        """The sum over the samples of the loss of their batch, as scikit-learn reports it."""
        losses = outcome.losses.astype(float) / self.problem.reported
        if outcome.norms is not None:
            losses = losses + 0.5 * self.alpha * outcome.norms.astype(float)
        sizes = np.full(len(losses), self.batch)
        sizes[-1] = rows - (len(losses) - 1) * self.batch
        with np.errstate(over="ignore"):  # infinity is told of as divergence
            return float((losses / divisors * sizes).sum())

    def _order(self) -> np.ndarray:
        if self._drawn is None and self._estimator.shuffle:
            self._draw()
        if self._drawn is not None:
            self._places, self._drawn = self._places[self._drawn], None
        return self._places

    def _draw(self) -> None:
        """The next order, as sklearn.utils.shuffle draws it."""
        if self._estimator.shuffle:
            self._before_drawing = self._rng.get_state()
            self._drawn = np.arange(self.samples)
            self._rng.shuffle(self._drawn)

    def _check_finite(self, outcome: Outcome) -> None:
        norms = outcome.weights_norm, outcome.biases_norm
        if np.isfinite(norms).all() and not np.isnan(outcome.losses).any():
            return
        raise DivergenceError(
            "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
            f"preprocessed. (Epoch {self._estimator.n_iter_ + 1}, at a learning rate of {self.lr:g}: lower it.)"
        )


class Live:
    """Holds what one `partial_fit` leaves for the next; it stays in this process: a copy is empty."""

    def __init__(self, epochs: Epochs | None = None) -> None:
        self.epochs = epochs

    def __reduce__(self) -> tuple[type[Live], tuple[()]]:
        return Live, ()


def _are_replaceable(samples: Samples) -> bool:
    """Whether others can take their place on the device: dense ones, of which a copy does no harm."""
    return not hasattr(samples.x, "tocsr") and samples.x.nbytes <= REPLACEABLE


def _form(e: Any, samples: Samples) -> tuple[Any, ...]:
    """All on which buffers and recordings depend."""
    arrays = [samples.x, samples.y, *([] if samples.weights is None else [samples.weights])]
    return (
        [(array.shape, array.dtype) for array in arrays],
        [w.shape for w in e.coefs_],
        {name: getattr(e, name) for name in e._parameter_constraints},
    )


def _nothing() -> None:
    pass


def _batch_size(e: Any, samples: int) -> int:
    if e.batch_size == "auto":
        return min(200, samples)
    if e.batch_size > samples:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
        )
    return int(np.clip(e.batch_size, 1, samples))
