"""storage: what this machine remembers, in one SQLite file below ``MADANG_HOME``.

Main path: :class:`Database` opens ``madang.db``, brings it up to date, and runs short transactions for any thread;
:class:`Journal` writes what nobody waits for; :class:`Runs` is the ledger of generations,
:class:`Experiments` that of evaluations and trainings. Other rooms keep what is
theirs (chat its sessions) in the same file.
Invariants: every failure of the database is a :class:`~madang.core.errors.StorageError`; a damaged file is put aside,
never deleted; the numbered migrations are only ever added to.
"""

from madang.storage.database import DATABASE_FILE, Database
from madang.storage.experiments import Experiment, Experiments
from madang.storage.journal import Journal
from madang.storage.runs import Run, Runs

__all__ = ["DATABASE_FILE", "Database", "Experiment", "Experiments", "Journal", "Run", "Runs"]
