"""The errors that a user can cause; each carries one sentence: what was got, what was expected, what to do."""


class XpnetError(ValueError):
    """What a user asked for cannot be done; the message says why and what to do."""


class DataError(XpnetError):
    """Samples or labels are missing, damaged or of a wrong kind."""


class DeviceError(XpnetError):
    """A device was asked for by name and cannot be used."""


class DivergenceError(XpnetError):
    """The training loss became NaN or infinite."""
