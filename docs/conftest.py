"""Every Python and bash block of the documentation is run, page by page, in order.

A page gets an empty directory as its working directory, an empty database of its own
(``PEND_DATABASE_URL``) and an empty Redis (``REDIS_URL``). What is only to be looked at
stands in ``text`` blocks.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from sybil import Example, Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser

from pend_storage.testing.fixtures import (
    databases,
    new_database,
    postgres_server,
    redis_server,
)

__all__ = ["databases", "new_database", "page", "postgres_server", "redis_server"]


def run_bash(example: Example) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(  # noqa: S603 - the project's own documentation
        ["/bin/bash", "-euo", "pipefail", "-c", str(example.parsed)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")


@pytest.fixture(scope="module")
def page(
    tmp_path_factory: pytest.TempPathFactory, new_database: Any, redis_server: str
) -> Any:
    before, patch = Path.cwd(), pytest.MonkeyPatch()
    directory = tmp_path_factory.mktemp("page")
    os.chdir(directory)
    # Python keeps the first directory that "." in sys.path stood for.
    patch.setattr(sys, "path", [*sys.path])
    sys.path_importer_cache.pop(".", None)
    patch.setenv("PEND_DATABASE_URL", new_database())
    patch.setenv("REDIS_URL", redis_server)
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    yield
    patch.undo()
    os.chdir(before)
    for name, module in list(sys.modules.items()):
        # The next page may have a module of the same name.
        if str(getattr(module, "__file__", "")).startswith(f"{directory}/"):
            del sys.modules[name]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Read each page from top to bottom, whatever shuffled the tests before."""
    places = [at for at, item in enumerate(items) if isinstance(item, SybilItem)]
    blocks = sorted((items[at] for at in places), key=lambda block: block.location)
    for at, block in zip(places, blocks, strict=True):
        items[at] = block


pytest_collect_file = Sybil(
    parsers=[
        PythonCodeBlockParser(),
        CodeBlockParser(language="bash", evaluator=run_bash),
    ],
    patterns=["*.md"],
    fixtures=["page"],
).pytest()
