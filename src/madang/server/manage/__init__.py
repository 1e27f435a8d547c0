"""madang's own API, ``/madang/v1``: what a person who looks after a server, or the page in the browser, wants to know.

One file per route group (models, pulls, machine, sessions, personas, runs, collections, ingests); documents/ holds what
they take and answer with.
"""

from madang.server.manage.routes import include

__all__ = ["include"]
