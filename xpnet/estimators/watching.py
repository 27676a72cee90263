"""Who is told of a training: scikit-learn's callbacks, and the user, by its lines or by a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Watch:
    """Tells whoever wants to know; scikit-learn's lines where the estimator is verbose.

    Args:
        estimator: That is being fitted.
        attributes: Makes the attributes of a fitted estimator out of the present weights.
        data: What callbacks are given: X, y and metadata.
    """

    def __init__(self, estimator: Any, attributes: Callable[[], dict[str, Any]], data: dict[str, Any]) -> None:
        self._estimator, self._attributes, self._data = estimator, attributes, data
        self._root: Any = None
        self._epoch: Any = None

    def __enter__(self) -> Watch:
        e = self._estimator
        if getattr(e, "_skl_callbacks", None):
            self._root = e._init_callback_context(max_subtasks=e.max_iter)
            self._root.call_on_fit_task_begin(estimator=e, **self._data)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._root is not None and kind is None:
            self._root.call_on_fit_task_end(
                estimator=self._estimator, **self._data, reconstruction_attributes=self._attributes
            )

    def epoch_begins(self) -> None:
        """Before its first step."""
        if self._root is not None:
            self._epoch = self._root.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def epoch_ends(self) -> bool:
        """After its last; whether a callback wants training to stop."""
        if self._epoch is None:
            return False
        return bool(
            self._epoch.call_on_fit_task_end(
                estimator=self._estimator, **self._data, reconstruction_attributes=self._attributes
            )
        )

    def loss_is(self, epoch: int, loss: float) -> None:
        """The loss of an epoch."""
        self.says(f"Iteration {epoch:d}, loss = {loss:.8f}")

    def score_is(self, score: float) -> None:
        """Its validation score."""
        self.says(f"Validation score: {score:f}")

    def says(self, line: str) -> None:
        """A line."""
        if self._estimator.verbose:
            print(line)


class Bar(Watch):
    """A progress bar in place of the lines."""

    def __enter__(self) -> Watch:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task("", total=self._estimator.max_iter)
        self._words = ["", ""]
        super().__enter__()
        self._progress.start()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._progress.stop()
        super().__exit__(*raised)

    def loss_is(self, epoch: int, loss: float) -> None:
        """Moves the bar."""
        self._words[0] = f"loss {loss:.4g}"
        self._show(completed=epoch)

    def score_is(self, score: float) -> None:
        """Beside the loss."""
        self._words[1] = f"validation score {score:.4g}"
        self._show()

    def says(self, line: str) -> None:
        """Above the bar."""
        self._progress.console.print(line)

    def _show(self, **change: Any) -> None:
        self._progress.update(self._task, description="  ".join(filter(None, self._words)), **change)


def watch(estimator: Any, attributes: Callable[[], dict[str, Any]], data: dict[str, Any]) -> Watch:
    """With a bar, or lines, or nothing."""
    return (Bar if estimator.verbose == "bar" else Watch)(estimator, attributes, data)
