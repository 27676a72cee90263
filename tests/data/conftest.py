import pytest

from xpnet.errors import DataError


@pytest.fixture(scope="session")
def refusal():
    """Calls what must end in a DataError, and returns its message, which must be one line."""

    def check(call, *args, **kwargs):
        with pytest.raises(DataError) as caught:
            call(*args, **kwargs)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return check


@pytest.fixture(scope="session")
def done_or_refused():
    """Calls what may end well or in a DataError of one line, and in nothing else."""

    def check(call, *args):
        try:
            call(*args)
        except DataError as error:
            message = str(error)
        else:
            return
        assert "\n" not in message

    return check
