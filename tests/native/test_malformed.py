"""Damaged files through everything that loads a model: a sentence, or a model that answers; never anything else."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from madang.core import Engine, Request, collect
from madang.core.errors import MadangError
from madang.core.settings import load_settings
from madang.runtime import open_model
from tests.formats.malformed.gguf_files import DEFECTS, Defect

INTERESTING = (0, 1, 2, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


def opened(path: Path) -> Engine:
    """As the command line does it, with a plan for this machine."""
    settings = load_settings({"context": 64, "threads": 1}, {"MADANG_HOME": str(path.parent / "home")})
    return open_model(f"file:{path}", settings)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_no_defect_is_loaded(tmp_path: Path, defect: Defect) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(defect.content)
    with pytest.raises(MadangError) as caught:
        opened(path)
    assert caught.value.message.endswith(".")


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[float, bytes]]:
    """Where, as a fraction of the file, and what is written there."""
    one = st.tuples(
        # Half of them in the header, which is the smaller part.
        st.one_of(st.floats(0, 1), st.floats(0, 0.1)),
        st.one_of(
            st.binary(min_size=1, max_size=8),
            st.sampled_from([value.to_bytes(8, "little") for value in INTERESTING]),
            st.sampled_from([value.to_bytes(4, "little") for value in INTERESTING if value < 2**32]),
        ),
    )
    return draw(st.lists(one, min_size=1, max_size=3))


@given(damages(), st.floats(0.02, 1))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_anywhere(tiny_gguf: Path, tmp_path: Path, places: list[tuple[float, bytes]], kept: float) -> None:
    content = bytearray(tiny_gguf.read_bytes())
    for where, damage in places:
        at = int(where * (len(content) - len(damage)))
        content[at : at + len(damage)] = damage
    path = tmp_path / "model.gguf"
    path.write_bytes(content if kept > 0.2 else content[: int(kept * len(content))])
    try:
        with closing(opened(path)) as engine:
            collect(engine.generate(Request(prompt="a", max_tokens=3)))
    except MadangError as error:
        assert error.message.endswith(".")
