import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from xpnet.errors import XpnetError


@pytest.fixture
def refusal() -> Callable[..., str]:
    """Calls what must be refused by one printable line, and returns it; it may take few bytes of memory for that."""

    def check(call: Callable[..., object], *arguments: object, memory: int = 2**24) -> str:
        tracemalloc.start()
        try:
            with pytest.raises(XpnetError) as caught:
                call(*arguments)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        message = str(caught.value)
        assert message.isprintable()
        assert len(message) < 2000
        assert peak < memory, f"{peak} bytes were taken to say: {message}"
        return message

    return check


@pytest.fixture
def sparse_file(tmp_path: Path) -> Callable[[str, bytes, int], Path]:
    """Makes a file of that length which begins so, goes on with zeros, and takes no room on the disk."""

    def make(name: str, start: bytes, length: int) -> Path:
        path = tmp_path / name
        with path.open("wb") as file:
            file.write(start)
            file.truncate(length)
        return path

    return make
