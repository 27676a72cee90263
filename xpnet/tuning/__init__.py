"""A search for settings: what is searched, the file that remembers it, the trials."""

from xpnet.tuning.running import Outcome, run
from xpnet.tuning.search import Finished, Found, Search, Workplace

__all__ = ["Finished", "Found", "Outcome", "Search", "Workplace", "run"]
