"""madang: choose, run, tune and serve small language models on the machine you already have."""

__version__ = "0.1.0"
