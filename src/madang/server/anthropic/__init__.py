"""The Messages API of Anthropic, which coding agents speak."""

from madang.server.anthropic.routes import include

__all__ = ["include"]
