"""templates: from a conversation to the text that a model was trained on.

Main path: :func:`template_for` a tokenizer -> ChatTemplate -> ``render``. A template is a program from a stranger's
file: sandbox.py is the only place that runs one, and meter.py is what stops it.
"""

from madang.formats.templates.chat_template import ChatTemplate, template_for

__all__ = ["ChatTemplate", "template_for"]
