"""cli: the command ``madang``, one file per verb.

Main path: :func:`madang.cli.main.main` -> verb -> :func:`madang.runtime.open_model` -> stream on stdout.
Invariants: stdout is data, stderr is notes; every deliberate failure is one sentence, a next step and an exit status;
importing a verb loads nothing heavier than typer.
"""
