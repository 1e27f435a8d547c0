"""The command ``madang``: finds the verb, runs it, turns every failure into a sentence and an exit status."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from madang import __version__
from madang.cli import curating, data, keys, models, rag, runs, sessions, synthesizing
from madang.cli.audit import audit
from madang.cli.bench import bench
from madang.cli.compare import compare
from madang.cli.console import report_error
from madang.cli.convert import convert
from madang.cli.distill import distill
from madang.cli.doctor import doctor
from madang.cli.eval import evaluate
from madang.cli.export import export
from madang.cli.importance import importance
from madang.cli.importing import import_models
from madang.cli.list import list_models
from madang.cli.merge import merge
from madang.cli.plan import plan
from madang.cli.prune import prune
from madang.cli.ps import ps, top
from madang.cli.pull import pull
from madang.cli.quantize import quantize
from madang.cli.rag_ask import ask
from madang.cli.rag_eval import evaluate as rag_eval
from madang.cli.rm import rm
from madang.cli.run import run
from madang.cli.serve import serve
from madang.cli.show import show
from madang.cli.tokens import ManyValues, tokens
from madang.cli.tune import tune
from madang.core.errors import InvalidRequest, MadangError, UnknownOption
from madang.core.settings import load_settings

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h

# Each release line of typer keeps the class of usage errors in another module; the base of a public one finds it.
_UsageError: Any = typer.BadParameter.__bases__[0]


class Verbs(TyperGroup):
    """Says which verb was probably meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that ``args`` begins with. Raises :class:`UnknownOption` when there is none."""
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            raise UnknownOption("verb", args[0], known)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="madang",
    cls=Verbs,
    help="Choose, run and measure small language models on the machine you already have.",
    epilog="Start with: madang run smollm2:135m",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run)
app.command("serve")(serve)
app.command("pull")(pull)
app.command("import")(import_models)
app.command("list")(list_models)
app.command("show")(show)
app.command("rm")(rm)
app.command("convert")(convert)
app.command("audit")(audit)
app.command("quantize")(quantize)
app.command("export")(export)
app.command("importance")(importance)
app.command("prune")(prune)
app.command("distill")(distill)
app.command("merge")(merge)
app.command("bench")(bench)
app.command("compare")(compare)
app.command("eval")(evaluate)
app.command("tune")(tune)
app.command("tokens", cls=ManyValues)(tokens)
app.command("plan")(plan)
app.command("doctor")(doctor)
app.command("ps")(ps)
app.command("top")(top)
_data = typer.Typer(
    cls=Verbs, help="Training data: checked, rendered, cleaned, split, and written by a model.", rich_markup_mode=None
)
_data.command("check")(data.check)
_data.command("render")(data.render)
_data.command("filter")(curating.filter_data)
_data.command("dedup")(curating.dedup)
_data.command("contamination")(curating.contamination)
_data.command("split")(data.split)
_data.command("synthesize")(synthesizing.synthesize)
app.add_typer(_data, name="data")
_keys = typer.Typer(
    cls=Verbs, help="API keys of the server: who may use it, which models, and how much.", rich_markup_mode=None
)
_keys.command("add")(keys.add)
_keys.command("list")(keys.list_keys)
_keys.command("rm")(keys.rm)
app.add_typer(_keys, name="keys")
_models = typer.Typer(cls=Verbs, help="Models that madang knows by name: find one, choose one.", rich_markup_mode=None)
_models.command("search")(models.search)
_models.command("recommend")(models.recommend)
app.add_typer(_models, name="models")
_sessions = typer.Typer(cls=Verbs, help="Conversations that were kept, by chats or a server.", rich_markup_mode=None)
_sessions.command("list")(sessions.list_sessions)
_sessions.command("show")(sessions.show)
_sessions.command("export")(sessions.export)
_sessions.command("import")(sessions.import_session)
_sessions.command("rm")(sessions.rm)
app.add_typer(_sessions, name="sessions")
_rag = typer.Typer(cls=Verbs, help="Your own documents: take them in, search them, ask them.", rich_markup_mode=None)
_rag.command("add")(rag.add)
_rag.command("list")(rag.list_collections)
_rag.command("search")(rag.search)
_rag.command("ask")(ask)
_rag.command("rm")(rag.rm)
_rag.command("eval")(rag_eval)
app.add_typer(_rag, name="rag")
_runs = typer.Typer(cls=Verbs, help="Evaluations and trainings that were kept.", rich_markup_mode=None)
_runs.command("list")(runs.list_runs)
_runs.command("show")(runs.show)
_runs.command("compare")(runs.compare)
_runs.command("rm")(runs.rm)
app.add_typer(_runs, name="runs")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"madang {__version__}")
        raise typer.Exit


@app.callback()
def _before_verb(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run one command line and return its exit status.

    When whoever reads stdout goes away, typer exits silently with status 1.
    """
    if argv is None:  # a process of its own
        signal.signal(signal.SIGTERM, _end)
    args = list(sys.argv[1:] if argv is None else argv)
    environment = os.environ if environment is None else environment
    as_json = "--json" in args
    _write_utf8()
    try:
        status = get_command(app).main(args, prog_name="madang", standalone_mode=False, obj=environment)
        return status if isinstance(status, int) else 0
    except MadangError as error:
        report_error(error, as_json)
        return error.exit_code
    except _UsageError as error:
        return _usage(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except _Ended:  # the process ends as if nobody had held it up
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
        return EXIT_INTERRUPTED
    except Exception as error:
        return _unexpected(error, as_json, environment)


class _Ended(BaseException):
    """A request to end, which goes through everything so that what is half-written is cleared away."""


def _end(number: int, frame: object) -> None:
    raise _Ended


def _usage(error: Any, as_json: bool) -> int:
    """What typer found wrong with the command line; an unknown option gets a suggestion from us."""
    command = "madang" if error.ctx is None else error.ctx.command_path
    translated = InvalidRequest(error.format_message().rstrip(".") + ".", hint=f"See '{command} --help'.")
    if hasattr(error, "possibilities"):
        known = [word for param in error.ctx.command.params for word in param.opts if word.startswith("-")]
        translated = UnknownOption("option", error.option_name, known)
    report_error(translated, as_json)
    return translated.exit_code


def _unexpected(error: Exception, as_json: bool, environment: Mapping[str, str]) -> int:
    """The system's refusals keep their own words; all else is a fault of ours."""
    if _debugging(environment):
        traceback.print_exception(error)
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename is not None else ""
        report_error(MadangError(f"{error.strerror or type(error).__name__}{where}."), as_json)
        return MadangError.exit_code
    hint = "This is a fault in madang; MADANG_DEBUG=1 shows where it happened."
    report_error(MadangError(f"{type(error).__name__}: {error}", hint=hint), as_json)
    return EXIT_UNEXPECTED


def _debugging(environment: Mapping[str, str]) -> bool:
    try:
        return load_settings({}, environment).debug
    except MadangError:
        return False


def _write_utf8() -> None:
    """Korean must survive a pipe on systems whose default encoding is another; a terminal keeps its own."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")
