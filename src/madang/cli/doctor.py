"""``madang doctor``: what this machine is, which settings hold, and what both mean for models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, facts, note
from madang.cli.measuring import measured_bandwidth
from madang.core.settings import Settings, unknown_variables
from madang.core.units import format_bytes

if TYPE_CHECKING:
    from madang.hardware import Bandwidth, Machine

STARTER = "smollm2:135m"
UNKNOWN = "unknown"


def doctor(
    ctx: typer.Context,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the engine's kernels for some seconds, for later forecasts.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show this machine, and what it means for models."""
    from madang.hardware import probe_machine

    settings = options.settings_of(ctx)
    machine = probe_machine(settings.home)
    if measure:
        _measure_kernels(settings, machine)
    report = examine(settings, ctx.obj, machine, measured_bandwidth(machine))
    if as_json:
        data_json(report)
    else:
        print_report(report)


def examine(
    settings: Settings, environment: Mapping[str, str], machine: Machine, bandwidth: Bandwidth | None
) -> dict[str, Any]:
    """Everything there is to say, as JSON prints it. Sizes in bytes; None is unknown."""
    from madang.hardware import largest_model_bytes

    largest_bytes = largest_model_bytes(machine.ram_available_bytes)
    return {
        "machine": asdict(machine),
        "bandwidth": None if bandwidth is None else asdict(bandwidth),
        "settings": _settings(settings),
        "unknown_variables": unknown_variables(environment),
        "engines": _engines(),
        "forecast": _forecast(settings),
        "largest_model_bytes": largest_bytes,
        "models": _models(settings, largest_bytes, bandwidth),
    }


def _measure_kernels(settings: Settings, machine: Machine) -> None:
    from madang.hardware import save_profile
    from madang.native.measuring import measure_machine

    note("Measuring the kernels, which takes about ten seconds on a quiet machine…")
    save_profile(settings.home, measure_machine(machine))


def _forecast(settings: Settings) -> dict[str, Any]:
    """What forecasts rest on, and by how much they were off."""
    from madang.hardware import read_profile
    from madang.hardware.corrections import read_observed
    from madang.hardware.profile import profile_document

    profile = read_profile(settings.home)
    return {
        "profile": None if profile is None else profile_document(profile),
        "errors": {
            model: {
                name: {"runs": len(one.ratios), "factor": one.factor, "error": one.error}
                for name, one in observed.learned.items()
            }
            for model, observed in read_observed(settings.home).items()
        },
    }


def _settings(settings: Settings) -> list[dict[str, object]]:
    return [
        {"name": setting.name, "value": value if value is None else str(value), "origin": origin}
        for setting, value, origin in settings.rows()
    ]


def _engines() -> list[dict[str, object]]:
    from madang.engines import engine_entries

    return [
        {"name": entry.name, "is_installed": entry.is_installed(), "formats": entry.formats, "install": entry.install}
        for entry in engine_entries()
    ]


def _models(settings: Settings, largest_bytes: int | None, bandwidth: Bandwidth | None) -> list[dict[str, object]]:
    """The starter and every local model: whether it fits, and the most tokens per second that memory allows."""
    from madang.models import Store, load_catalog

    starter_bytes = load_catalog().entries[STARTER].size_bytes
    sizes: dict[str, int] = {} if starter_bytes is None else {STARTER: starter_bytes}
    sizes |= {files.name: files.size_bytes for files in Store(settings.home).list()}
    return [
        {
            "name": name,
            "size_bytes": size_bytes,
            "fits": None if largest_bytes is None else size_bytes <= largest_bytes,
            "decode_limit_tokens_per_s": None if bandwidth is None else bandwidth.read_bytes_per_s / size_bytes,
        }
        for name, size_bytes in sizes.items()
    ]


def print_report(report: Mapping[str, Any]) -> None:
    """The same for people."""
    facts(_machine_facts(report["machine"], report["bandwidth"]))
    data("")
    rows = [[row["name"], "-" if row["value"] is None else row["value"], row["origin"]] for row in report["settings"]]
    data_table([["SETTING", "VALUE", "FROM"], *rows])
    for variable, meant in report["unknown_variables"].items():
        data(f"{variable} is set, but there is no such setting" + (f"; did you mean {meant}?" if meant else "."))
    data("")
    for engine in report["engines"]:
        state = "ready" if engine["is_installed"] else f"not installed; get it with: {engine['install']}"
        data(f"The {engine['name']} engine is {state}.")
    data("")
    _print_forecast(report["forecast"])
    data("")
    if report["largest_model_bytes"] is not None:
        data(f"Model files up to about {format_bytes(report['largest_model_bytes'])} fit into memory now.")
    data("Every generated token reads all weights once, so memory sets the limit, whatever the engine:")
    data_table([["MODEL", "SIZE", "LIMIT"], *map(_model_row, report["models"])], right=[1])


def _print_forecast(forecast: Mapping[str, Any]) -> None:
    profile = forecast["profile"]
    if profile is None:
        data("How fast models will be is not known yet; measure with: madang doctor --measure")
        return
    data(f"Forecasts rest on what was measured at {profile['measured_at']}, with {profile['threads']} threads:")
    rows = [
        [name, f"{speed['decode_bytes_per_s'] / 1e9:.1f} GB/s", f"{speed['multiplies_per_s'] / 1e9:.0f} G weights/s"]
        for name, speed in profile["types"].items()
    ]
    data_table([["TYPE", "DECODE", "PROMPT"], *rows], right=[1, 2])
    data(
        f"Memory gives {profile['memory_bytes_per_s'] / 1e9:.1f} GB/s, "
        f"beyond what caches hold: about {format_bytes(round(profile['cache_bytes']))}."
    )
    if profile["disturbed_share"] > 0:
        data(f"Of these figures, {profile['disturbed_share']:.0%} were disturbed: other programs computed meanwhile.")
        data("Measure again on a quiet machine: madang doctor --measure")
    if forecast["errors"]:
        data("What forecasts were usually off by, before they were corrected by it:")
        errors = [[model, *map(_error, learned.values())] for model, learned in forecast["errors"].items()]
        quantities = [name.upper() for name in next(iter(forecast["errors"].values()))]
        data_table([["MODEL", *quantities], *errors], right=[1, 2, 3])


def _error(learned: Mapping[str, Any]) -> str:
    return "-" if learned["error"] is None else f"{learned['error']:.0%} of {learned['runs']}"


def _machine_facts(machine: Mapping[str, Any], bandwidth: Mapping[str, Any] | None) -> dict[str, str]:
    cores = f"{machine['physical_cores'] or UNKNOWN} cores, {machine['logical_cores'] or UNKNOWN} threads"
    if machine["cpu_limit"] is not None:
        cores += f", limited to {machine['cpu_limit']:g}"
    speed = UNKNOWN
    if bandwidth is not None:
        speed = f"{format_bytes(round(bandwidth['read_bytes_per_s']))}/s with {bandwidth['threads']} threads"
    isa = machine["isa"]
    return {
        "System": f"{machine['system']} {machine['architecture']}",
        "Processor": machine["cpu"] or UNKNOWN,
        "Cores": cores,
        "Instructions": UNKNOWN if isa is None else " ".join(isa) or "none that help",
        "Memory": f"{_size(machine['ram_available_bytes'])} free of {_size(machine['ram_total_bytes'])}",
        "Read speed": speed,
        "GPU": UNKNOWN if machine["gpus"] is None else ", ".join(map(_gpu, machine["gpus"])) or "none found",
        "Disk": f"{_size(machine['disk_free_bytes'])} free for models",
    }


def _gpu(gpu: Mapping[str, Any]) -> str:
    return f"{gpu['name']} ({'shares the memory' if gpu['is_unified'] else _size(gpu['memory_total_bytes'])})"


def _model_row(model: Mapping[str, Any]) -> list[str]:
    rate = model["decode_limit_tokens_per_s"]
    limit = UNKNOWN if rate is None else f"at most {rate:.0f} tokens/s"
    return [model["name"], format_bytes(model["size_bytes"]), "does not fit" if model["fits"] is False else limit]


def _size(n_bytes: int | None) -> str:
    return UNKNOWN if n_bytes is None else format_bytes(n_bytes)
