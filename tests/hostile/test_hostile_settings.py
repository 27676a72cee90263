"""Settings of strangers: TOML of every type for every setting, and TOML that would take all time or memory."""

import dataclasses
import os
import time

import pytest
from cyclopts import CycloptsError

from xpnet import train
from xpnet.config import Config
from xpnet.errors import XpnetError
from xpnet.options import Beginning, lay_over
from xpnet.settings import read_settings

FIELDS = [field.name for field in dataclasses.fields(Config)]
NEVER = {
    "a table": "{a = 1}",
    "an empty table": "{}",
    "a date": "2020-01-01",
    "a time": "07:32:00",
    "a moment": "1979-05-27T07:32:00-07:00",
    "a list of lists": "[[1], [2]]",
    "a list of tables": "[{a = 1}]",
    "a list of dates": "[2020-01-01]",
}
PERHAPS = {
    "text": "'x'",
    "a whole number": "-3",
    "a truth": "true",
    "a mixed list": "[1, 'a', true]",
    "no number": "nan",
    "a huge number": "9" * 400,
}


@pytest.fixture
def settings_file(tmp_path):
    path = tmp_path / "c.toml"

    def write(text):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize("name", FIELDS)
def test_what_no_setting_can_be_is_refused_by_name(settings_file, refusal, name):
    for value in NEVER.values():
        message = refusal(read_settings, settings_file(f"[settings]\n{name} = {value}\n"))
        assert "c.toml: " in message
        assert name in message


@pytest.mark.parametrize("value", PERHAPS.values(), ids=PERHAPS)
def test_every_setting_takes_or_refuses_every_type(settings_file, value):
    """Through the command line's own parser, and into what a configuration makes of itself."""
    taken, sentences = 0, []
    for name in FIELDS:
        path = settings_file(f"[settings]\n{name} = {value}\n")
        try:
            config = lay_over(train.app, (), Beginning(read_settings(path), str(path))).config
            taken += 1
            config.make_optimizer()
            config.make_schedule()
        except CycloptsError as error:
            message = " ".join(str(error).split())
            assert name.replace("_", "-") in message.replace("_", "-"), message
        except XpnetError as error:
            sentences.append(str(error))
    assert all(sentence.isprintable() for sentence in sentences)
    assert taken < len(FIELDS)  # no value is right for every setting


def test_what_the_parser_says_is_printed_without_escapes(settings_file, capsys):
    path = settings_file('[settings]\noptimizer = "\\u001b[31m"\n')
    assert train.main(["--config", str(path)]) == 2
    assert "\x1b" not in capsys.readouterr().err


BOMBS = {
    "a key of very many parts": "[settings]\n" + "a." * 100_000 + "a = 1",
    "a table's name of very many parts": "[settings." + "a." * 100_000 + "a]",
    "an inner key of very many parts": "[settings]\na = {" + "a." * 100_000 + "a = 1}",
    "brackets in brackets": "[settings]\na = " + "[" * 100_000 + "]" * 100_000,
    "tables in tables": "[settings]\na = " + "{a=" * 50_000,
    "a number of 100,000 digits": "[settings]\na = " + "1" * 100_000,
    "a text of 100,000 characters": "[settings]\ndropout = '" + "1" * 100_000 + "'",
    "a number of 2,000 digits": "[settings]\ncenter = " + "1" * 2000,
    "a hexadecimal number of 100,000 digits": "[settings]\nseed = 0x" + "f" * 100_000,
    "such a number in a list of lists": "[settings]\nhidden = [[0x" + "f" * 5000 + "]]",
    "a negative number of 2,000 digits in a list": "[settings]\nhidden = [-" + "1" * 2000 + "]",
    "two megabytes": "[settings]\n" + "# a comment\n" * 200_000,
    "a zero": "[settings]\na = 'a\0b'",
    "no UTF-8": b"[settings]\na = '\xed\xa0\x80'",
    "another encoding": "[settings]\nlr = 1".encode("utf-16"),
    "an impossible date": "[settings]\na = 2020-13-41",
    "settings that are no table": "settings = [1]",
    "a list of tables": "[[settings]]\nlr = 1",
    "a key of escapes": '[settings]\n"\\u001b[31m" = {a = 1}',
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused(settings_file, refusal, text):
    started = time.monotonic()
    assert refusal(read_settings, settings_file(text)).count("c.toml") == 1
    assert time.monotonic() - started < 60  # a guard: a key of 100,000 parts takes minutes and gigabytes of tomllib


def test_an_endless_file_is_not_read_on(tmp_path, refusal):
    if not os.path.exists("/dev/zero"):
        pytest.skip("there is no /dev/zero here")
    path = tmp_path / "c.toml"
    path.symlink_to("/dev/zero")
    assert "more than 1048576 bytes" in refusal(read_settings, path)


def test_a_folder_and_a_name_with_a_zero_are_refused(tmp_path, refusal):
    assert "cannot be read as TOML" in refusal(read_settings, tmp_path)
    assert "cannot be read as TOML" in refusal(read_settings, tmp_path / "a\0b")


def test_a_very_long_sentence_of_a_parser_is_cut(settings_file, refusal):
    assert (
        len(refusal(read_settings, settings_file("[settings]\n[" + "a" * 10_000 + "]\n[" + "a" * 10_000 + "]"))) < 1000
    )
