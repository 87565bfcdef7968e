"""The production page: its unit files and manifests can be read, and name what exists."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import yaml

from pend_storage.cli._app import root

PAGE: Final = Path(__file__).parents[2] / "docs/how-to/production.md"
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE: Final = re.compile(r"`(pend-storage [^`]+)`")


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    found = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    return [text for name, text in found if name == language]


def units() -> list[configparser.ConfigParser]:
    """The unit files of systemd."""
    found = []
    for text in blocks("ini"):
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)
        found.append(unit)
    return found


def manifests() -> list[Any]:
    """The documents for Kubernetes."""
    return [
        document for text in blocks("yaml") for document in yaml.safe_load_all(text)
    ]


def commands() -> Iterator[list[str]]:
    """Every ``pend-storage`` command of the page, as words."""
    text = PAGE.read_text(encoding="utf-8")
    for line in [*INLINE.findall(text), *re.findall(r"-- (pend-storage .*)", text)]:
        yield shlex.split(line.removesuffix(" ..."))[1:]
    for unit in units():
        program, *words = shlex.split(unit["Service"]["ExecStart"])
        if program.endswith("/pend-storage"):
            yield words
    for manifest in manifests():
        pod = manifest["spec"]["template"]["spec"]
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            program, *words = container.get("command", [""])
            if program == "pend-storage":
                yield words


def resolve(words: list[str]) -> click.Command:
    """The command that these words call; fails where there is none."""
    command: click.Command = root
    context = click.Context(root, info_name="pend-storage")
    for word in words:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(context, word)
        assert found is not None, f"there is no command {' '.join(words)!r}"
        command = found
    options = {name for each in command.params for name in each.opts}
    for word in words:
        assert not word.startswith("--") or word in options, f"{words}: no {word}"
    return command


def test_every_command_of_the_page_is_there() -> None:
    found = list(commands())

    assert len(found) > 10
    for words in found:
        assert not isinstance(resolve(words), click.Group), words


def test_both_units_run_as_the_owner_and_give_a_store_time_to_close() -> None:
    server, relay = units()

    for unit in (server, relay):
        service = unit["Service"]
        assert service["User"] == "shop"
        assert int(service["TimeoutStopSec"]) >= 30
        assert service["ReadWritePaths"].startswith(service["WorkingDirectory"])
        assert "PEND_CONFIG=" in service["Environment"]
        assert "PEND_DATABASE_URL" not in service["Environment"]
    assert "relay" in relay["Service"]["ExecStart"]


def test_one_pod_holds_the_directory() -> None:
    pods, job = manifests()

    assert pods["kind"] == "StatefulSet"
    assert pods["spec"]["replicas"] == 1
    (claim,) = pods["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    pod = pods["spec"]["template"]["spec"]
    (relay,) = pod["initContainers"]
    (server,) = pod["containers"]
    assert relay["restartPolicy"] == "Always"
    assert relay["volumeMounts"] == server["volumeMounts"]
    assert relay["volumeMounts"][0]["name"] == claim["metadata"]["name"]
    assert job["kind"] == "Job"


def test_a_command_that_is_not_there_would_be_noticed() -> None:
    for words in (["no-such-thing"], ["status", "--no-such-option"]):
        try:
            resolve(words)
        except AssertionError:
            continue
        raise AssertionError(words)
