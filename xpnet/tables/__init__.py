"""Tables of data: from files of columns to the numbers that a network sees."""

from xpnet.tables.encoder import Category, Encoder, Number

__all__ = ["Category", "Encoder", "Number"]
