"""A search for settings: that it finds and remembers, goes on, prunes, ends in time, and refuses what is another's."""

import builtins
import json
import math
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path

import numpy as np
import optuna
import pytest
from sklearn.datasets import load_digits

from xpnet import train, tune, tuning
from xpnet.config import Config, settings_of
from xpnet.settings import read_settings
from xpnet.tuning.processes import Flag

ALL = ["--data", "digits.npz", "--val-size", "60", "--epochs", "2"]
TINY = [*ALL, "--hidden", "6", "--activation", "relu", "--init", "he_uniform", "--schedule", "constant"]
WITHOUT_EPOCHS = TINY[:4] + TINY[6:]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A file of 300 digits, which is read faster than the bundled ones."""
    x, y = load_digits(return_X_y=True)
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, X=x[:300] / 16, y=y[:300])
    return path


@pytest.fixture(autouse=True)
def beside_data(digits, empty_folder):
    """digits.npz lies in the working folder of every test."""
    (empty_folder / "digits.npz").symlink_to(digits)


@pytest.fixture
def search(capsys):
    """Run the command, tiny unless told otherwise; its status, output and errors."""

    def run(*arguments, common=TINY):
        capsys.readouterr()
        status = tune.main([*common, *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def found(search):
    """What --json tells of a search that ends well."""

    def run(*arguments, common=TINY):
        status, out, err = search(*arguments, "--json", "--quiet", common=common)
        assert (status, err) == (0, "")
        return json.loads(out)

    return run


def rows_of(study, query):
    database = sqlite3.connect(study)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def trials_of(study):
    """State and parameters of each trial."""
    names = "SELECT trials.number, param_name, param_value FROM trial_params JOIN trials USING (trial_id)"
    parameters = {}
    for number, name, value in rows_of(study, names):
        parameters.setdefault(number, {})[name] = value
    states = rows_of(study, "SELECT number, state FROM trials ORDER BY number")
    return [(state, parameters.get(number, {})) for number, state in states]


def break_off_after(count, monkeypatch):
    """Ctrl-C in the training of the trial after so many."""
    prepare, done = tuning.search.prepare, []

    def prepared(*arguments, **options):
        task = prepare(*arguments, **options)
        done.append(task)
        if len(done) == count + 2:  # the first is of no trial
            task.trainer.run = lambda training: (_ for _ in ()).throw(KeyboardInterrupt)
        return task

    monkeypatch.setattr(tuning.search, "prepare", prepared)


def test_best_settings_train_to_the_value_that_was_found(search, capsys):
    status, out, err = search("--trials", 3, "--out", "best.toml")
    assert (status, err) == (0, "")
    values = [float(line.split()[3]) for line in out.splitlines() if line.startswith("trial ")]
    assert len(values) == 3
    assert f"val_accuracy {max(values):.3g}"[:16] in out
    assert "python -m xpnet.train --config best.toml" in out
    assert train.main(["--config", "best.toml", "--quiet", "--json", "--no-plot", "--no-report"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["val_accuracy"] == pytest.approx(max(values), abs=5e-5)


def test_first_trial_has_the_settings_of_train_and_others_have_others(found):
    told = found("--trials", 3, "--lr", "0.005")
    (_, first), *others = trials_of("runs/tune-digits.db")
    assert first["l2"] == 1e-5  # the least; train has none
    assert first["dropout"] == first["label_smoothing"] == 0
    assert all(parameters["l2"] != first["l2"] for _, parameters in others)
    assert all("lr" not in parameters and "layers" not in parameters for _, parameters in [(0, first), *others])
    settings = read_settings(Path("runs/tune-digits.toml"))
    assert (settings["lr"], settings["hidden"], settings["optimizer"]) == (0.005, [6], "adamw")
    assert set(told["settings"]) == {
        *("normalization", "dropout", "l2", "batch_size", "label_smoothing"),
    }


def test_hidden_layers_are_searched_where_nobody_names_them(found):
    told = found("--trials", 4, common=ALL)
    layers = [
        len([name for name in parameters if name.startswith("width_")]) for _, parameters in trials_of(told["study"])
    ]
    assert layers[0] == 1
    assert len(set(layers)) > 1
    assert all(1 <= count <= 4 for count in layers)
    assert all(32 <= width <= 512 for width in told["settings"]["hidden"])


def test_recipe_and_configuration_are_where_the_search_starts(found):
    recipe = ["--recipe", "sine", "--epochs", 1, "--val-size", 40]
    told = found("--trials", 1, *recipe, common=[])
    ((_, start),) = trials_of("runs/tune-sine.db")
    assert (start["lr"], start["layers"], start["width_1"], start["width_2"]) == (0.03, 2, 32, 32)
    settings = read_settings(Path("runs/tune-sine.toml"))
    assert (settings["optimizer"], settings["loss"], settings["init"]) == ("sgd", "mse", "normal(1)")
    again = found("--trials", 1, "--config", "runs/tune-sine.toml", "--name", "again", common=[])
    assert (again["metric"], again["value"]) == ("val_mse", told["value"])
    layered = found("--trials", 2, *recipe, "--activation", "tanh", "relu", "--name", "layered", common=[])
    assert [parameters["layers"] for _, parameters in trials_of(layered["study"])] == [2, 2]


def test_search_in_parts_is_the_search_in_one_and_broken_trials_are_repeated(search, found, monkeypatch):
    whole = found("--trials", 4, "--name", "whole")
    found("--trials", 1)
    with monkeypatch.context() as patch:
        break_off_after(1, patch)
        status, out, err = search("--trials", 4)
    assert status == 130
    assert err == "xpnet: Interrupted after 2 of 4 trials, which are kept; the same command goes on.\n"
    assert "which has 1 trial by now" in out
    assert [line[:7] for line in out.splitlines() if line.startswith("trial ")] == ["trial 1"]
    parts = found("--trials", 4)
    trials = trials_of(parts["study"])
    assert [number for number, (state, _) in enumerate(trials) if state == "FAIL"] == [2]
    assert trials[:2] + trials[3:] == trials_of(whole["study"])
    assert len({json.dumps(parameters) for _, parameters in trials}) == 4
    assert parts["value"] == whole["value"]
    assert found("--trials", 1) == parts


def test_hopeless_trial_is_pruned(found, monkeypatch):
    """After five trials one with a learning rate that cannot learn."""
    draw, drawn = tuning.space.Space.draw, []

    def with_a_bad_sixth(space, trial):
        config = draw(space, trial)
        drawn.append(trial.number)
        lr = 1e-9 if trial.number == 5 else 0.01
        return Config(**{**vars(config), "lr": lr, "schedule": "constant", "normalization": None, "dropout": (0.0,)})

    monkeypatch.setattr(tuning.space.Space, "draw", with_a_bad_sixth)
    told = found("--trials", 6, "--epochs", 6, common=WITHOUT_EPOCHS)
    states = [state for state, _ in trials_of(told["study"])]
    assert states == ["COMPLETE"] * 5 + ["PRUNED"]
    assert told["pruned"] == states.count("PRUNED")
    judged = "SELECT count(*) FROM trial_intermediate_values JOIN trials USING (trial_id) WHERE number = "
    assert rows_of(told["study"], f"{judged} 5")[0][0] < rows_of(told["study"], f"{judged} 0")[0][0]


def test_diverged_trial_is_none_of_the_best(search):
    status, out, err = search("--trials", 2, "--lr", "1e30", "--optimizer", "sgd")
    assert (status, err) == (0, "")
    assert out.count("diverged") == 2
    assert "none came to its end" in out
    assert not Path("runs/tune-digits.toml").exists()


class Clock:
    """A second goes by whenever somebody looks at it."""

    def __init__(self):
        self.now = 0.0

    def time(self):
        self.now += 1
        return self.now


def test_timeout_ends_it_and_the_next_call_goes_on(search, found, monkeypatch):
    """The trial cannot end by itself in that time; what had no trial yet may then go on with other settings."""
    clock = Clock()
    options = ["--eval-every", "1000000", "--trials", "5"]
    with monkeypatch.context() as patch:
        patch.setattr(tuning.search, "time", clock)
        patch.setattr(tuning.running, "time", clock)
        status, out, err = search("--timeout", "9s", "--epochs", "1000000", *options, common=WITHOUT_EPOCHS)
    assert status == 0
    assert err == "xpnet: Timed out after 0 of 5 trials, which are kept; the same command goes on.\n"
    assert "none came to its end" in out
    assert [state for state, _ in trials_of("runs/tune-digits.db")] == ["RUNNING"]
    assert found("--trials", 1)["trials"] == 1


def test_trials_that_several_processes_left_are_repeated_and_none_is_twice(empty_folder):
    config = Config(data=("digits.npz",), val_size=60, epochs=1, hidden=(6,), quiet=True)
    plan = tuning.Search.of(config, by_hand={"hidden"}, given=set())
    (empty_folder / "runs").mkdir()
    workplace = tuning.Workplace(plan)
    workplace.begin()
    asked = []
    for index in range(4):
        asked.append(workplace.record.ask(index))
        workplace.space.draw(asked[-1])
    for number in (0, 2, 3):
        workplace.record.tell(asked[number], 0.5)
    tuning.run(plan, count=6)
    trials = trials_of("runs/tune-digits.db")
    assert [state for state, _ in trials] == ["COMPLETE", "FAIL", *["COMPLETE"] * 5]
    assert trials[4][1] == trials[1][1]
    assert len({json.dumps(parameters) for state, parameters in trials if state == "COMPLETE"}) == 6


def test_first_trial_that_was_killed_before_all_was_drawn_keeps_the_settings_of_train(empty_folder):
    config = Config(data=("digits.npz",), val_size=60, epochs=1, hidden=(6,), quiet=True)
    plan = tuning.Search.of(config, by_hand={"hidden"}, given=set())
    (empty_folder / "runs").mkdir()
    workplace = tuning.Workplace(plan)
    workplace.begin()
    workplace.space.dimensions[0].draw(workplace.record.ask(0))
    tuning.run(plan, count=1)
    assert [state for state, _ in trials_of("runs/tune-digits.db")] == ["FAIL", "COMPLETE"]
    assert workplace.record.best.params == workplace.space.start


class KilledError(BaseException):
    """Stands for a kill, which nothing can catch."""


@pytest.mark.parametrize("call", ["tell", "enqueue_trial"])
def test_kill_while_broken_trials_are_told_neither_loses_nor_doubles_them(empty_folder, monkeypatch, call):
    def kill(*_, **__):
        raise KilledError

    config = Config(data=("digits.npz",), val_size=60, epochs=1, hidden=(6,), quiet=True)
    plan = tuning.Search.of(config, by_hand={"hidden"}, given=set())
    (empty_folder / "runs").mkdir()
    workplace = tuning.Workplace(plan)
    workplace.begin()
    workplace.space.draw(workplace.record.ask(0))
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, call, kill)
        with pytest.raises(KilledError):
            tuning.run(plan, count=2)
    tuning.run(plan, count=2)
    (failed, first), (_, second), (_, third) = trials_of("runs/tune-digits.db")
    assert failed == "FAIL"
    assert first == second != third


def test_best_settings_are_in_the_file_after_each_trial(empty_folder):
    def compare(metric, finished, best):
        told.append((finished.value, best.value))
        assert read_settings(empty_folder / "best.toml") == settings_of(best.config)

    told = []
    config = Config(data=("digits.npz",), val_size=60, epochs=1, hidden=(6,), quiet=True)
    plan = tuning.Search.of(config, by_hand={"hidden"}, given=set(), study=Path("s.db"), metric="val_loss")
    outcome = tuning.run(plan, count=4, out=Path("best.toml"), on_trial=compare)
    values = [value for value, _ in told]
    assert [best for _, best in told] == [min(values[: i + 1]) for i in range(4)]
    assert len(set(values)) > 1
    assert outcome.best.value == min(values)


def die_while_looking(stopping):
    """Killed after a call into C, such as one that takes a lock."""

    def strike(frame, event, _):
        if event == "c_return" and frame.f_code is not die_while_looking.__code__:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(strike)
    stopping.is_set()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent by POSIX's kill")
def test_a_killed_job_does_not_keep_the_search_from_ending():
    context = multiprocessing.get_context("spawn")
    stopping = Flag(context)
    job = context.Process(target=die_while_looking, args=(stopping,))
    job.start()
    job.join()
    setting = threading.Thread(target=stopping.set, daemon=True)
    setting.start()
    setting.join(10)
    assert not setting.is_alive()
    assert stopping.is_set()


def test_jobs_work_on_one_study(found):
    told = found("--trials", 4, "--jobs", 2)
    trials = trials_of(told["study"])
    assert len([state for state, _ in trials if state in ("COMPLETE", "PRUNED")]) == 4
    assert len({json.dumps(parameters, sort_keys=True) for _, parameters in trials}) == 4
    assert told["value"] == max(
        value for (value,) in rows_of(told["study"], "SELECT value FROM trial_values JOIN trials USING (trial_id)")
    )
    assert read_settings(Path(told["out"]))["batch_size"] == told["settings"]["batch_size"]


def test_metric_its_direction_and_importances_that_add_up(found, monkeypatch):
    monkeypatch.setattr(tuning.study, "TELLING", 4)
    told = found("--trials", 4, "--metric", "val_loss")
    values = [value for (value,) in rows_of(told["study"], "SELECT value FROM trial_values")]
    assert told["value"] == min(values)
    assert read_settings(Path(told["out"]))["monitor"] == "val_loss"

    assert set(told["importances"]) == set(told["settings"])
    assert math.isclose(sum(told["importances"].values()), 1)


def test_other_search_is_refused(search):
    assert search("--trials", 1, "--name", "mine")[0] == 0
    before = Path("runs/tune-mine.db").read_bytes()
    rng = np.random.default_rng(0)
    np.savez("other.npz", X=rng.random((240, 64)), y=np.arange(240) % 10)
    others = {
        "lr 0.1 (it was unset)": ["--lr", "0.1"],
        "epochs 4 (it was 2)": ["--epochs", "4"],
        "a given batch_size (it was searched)": ["--batch-size", "32"],
        "metric val_loss (it was val_accuracy)": ["--metric", "val_loss"],
        "data (other samples)": ["--data", "other.npz"],
    }
    for words, options in others.items():
        common = [word for pair in zip(TINY[::2], TINY[1::2], strict=True) if pair[0] not in options for word in pair]
        status, out, err = search("--trials", 2, "--name", "mine", *options, common=common)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert words in err
        assert "--study" in err
        assert Path("runs/tune-mine.db").read_bytes() == before


def test_study_of_another_kind_is_refused_and_left_alone(search):
    database = sqlite3.connect("other.db")
    database.execute("CREATE TABLE mine (x)")
    database.commit()
    database.close()
    Path("text.db").write_text("no database")
    Path("damaged.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    for name in ("other.db", "text.db", "damaged.db"):
        before = Path(name).read_bytes()
        status, _, err = search("--study", name)
        assert (status, err.count("\n")) == (2, 1)
        assert f"study: {name} cannot be used" in err
        assert Path(name).read_bytes() == before


def test_two_searches_at_once_are_refused(search):
    plan = tuning.Search(Config(), frozenset({"lr"}), Path("s.db"))
    with tuning.Workplace(plan).record.alone():
        status, _, err = search("--study", "s.db")
    assert status == 2
    assert "another search is at work on s.db" in err


def test_file_of_somebody_else_is_left_alone_but_its_own_is_rewritten(search):
    Path("best.toml").write_text("mine")
    status, _, err = search("--trials", 1, "--out", "best.toml")
    assert (status, "--overwrite" in err, Path("best.toml").read_text()) == (2, True, "mine")
    assert search("--trials", 1, "--out", "best.toml", "--overwrite")[0] == 0
    assert search("--trials", 2, "--out", "best.toml")[0] == 0
    assert read_settings(Path("best.toml"))["hidden"] == [6]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--val-size", "0"], "val_size|validation set|--val-size 0.1"),
        (["--val-on-test"], "val_on_test|leave it out"),
        (["--trials", "0"], "trials|at least 1"),
        (["--jobs", "0"], "jobs|at least 1"),
        (["--timeout", "10"], "timeout|10|30s"),
        (["--timeout", "soon"], "timeout|soon|30s"),
        (["--metric", "val_mse"], "metric|val_mse|val_accuracy, val_loss"),
        (["--metric", "beauty"], "metric|beauty|val_accuracy"),
        (["--monitor", "val_beauty"], "metric|val_beauty"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
        (["--gradcheck"], "gradcheck|leave it out"),
        (["--no-plot"], "plot|leave it out"),
        (["--resume", "auto"], "--resume"),
        (["--study", "nowhere/s.db"], "nowhere"),
        (["--out", "nowhere/best.toml"], "nowhere"),
        (["--recipe", "xor", "--config", "c.toml"], "recipe|configuration"),
        (["--momentum", "0.9"], "momentum|adamw"),
        (
            [*("--activation", "relu", "--normalization", "batch", "--dropout", "0", "--init", "zeros", "--lr", "1"),
             *("--l2", "0", "--batch-size", "9", "--schedule", "constant", "--label-smoothing", "0", "--hidden", "3")],
            "all settings",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused(search, options, words):
    status, out, err = search(*options, common=[])
    assert (status, out, err.count("\n")) == (2, "", 1)
    for word in words.split("|"):
        assert word in err
    assert not any(Path().rglob("*.toml"))


def test_missing_optuna_is_told_with_the_extra(search, monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    status, _, err = search()
    assert status == 2
    assert err == "xpnet: tune: a search needs optuna, which is not installed; pip install 'xpnet[tune]'.\n"
