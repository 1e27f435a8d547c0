"""The API of OpenAI, and what its relatives added to it."""

from madang.server.openai.routes import include

__all__ = ["include"]
