"""Code, environment variable, file; and which of several places counts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pend_storage.config import load_settings
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.flags import (
    ChainedFlag,
    DesiredPhase,
    EnvironmentFlag,
    FileFlag,
    FixedFlag,
    FlagSource,
    RedisFlag,
    flag_source,
)
from pend_storage.phases import Phase

from .recorder import Recorder, ScriptedFlag

J, PAR, PG, P = Phase


def test_code_can_say_and_unsay() -> None:
    flag = FixedFlag("parallel")
    told: Recorder[None] = Recorder()
    stop = flag.subscribe(lambda: told(None))

    first, written = flag.read(), flag.write(PG, by="me")
    stop()
    stop()
    flag.write(J, by="me")

    assert first == DesiredPhase(PAR, "the code")
    assert written == DesiredPhase(PG, "the code", 1)
    assert flag.read() == DesiredPhase(J, "the code", 2)
    assert len(told.all) == 1


def test_code_that_knows_no_such_phase_is_told_so() -> None:
    with pytest.raises(ConfigError, match="the code: unknown phase 'off'"):
        FixedFlag("off")


def test_the_environment_variable_is_read_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flag = EnvironmentFlag()
    monkeypatch.delenv("PEND_PHASE", raising=False)
    unset = flag.read()
    monkeypatch.setenv("PEND_PHASE", "")
    empty = flag.read()
    monkeypatch.setenv("PEND_PHASE", "parallel")

    assert unset is None
    assert empty is None
    assert flag.read() == DesiredPhase(PAR, "the environment variable PEND_PHASE")


def test_the_environment_variable_cannot_be_written_and_says_what_to_do() -> None:
    flag = EnvironmentFlag("MY_PHASE", environ={"MY_PHASE": "paralel"})

    assert not flag.writable
    with pytest.raises(ConfigError, match=r"MY_PHASE.*'json-only'.*restart"):
        flag.write(J, by="me")
    with pytest.raises(ConfigError, match=r"MY_PHASE: .*did you mean 'parallel'"):
        flag.read()


def test_every_place_but_the_one_that_counts_is_ignored() -> None:
    one, two = ScriptedFlag(), ScriptedFlag(DesiredPhase(PAR, "two"))
    first = ChainedFlag([one, two])

    behind = first.read()
    one.says = DesiredPhase(PG, "one")

    assert behind == DesiredPhase(PAR, "two")
    assert first.read() == DesiredPhase(PG, "one")


@pytest.mark.parametrize(
    "trouble",
    [ConfigError("unknown"), StoreUnavailable("down", store="one")],
    ids=["a wrong word", "a place that is down"],
)
def test_trouble_in_one_place_does_not_let_the_next_decide(trouble: Exception) -> None:
    first = ChainedFlag([ScriptedFlag(trouble), ScriptedFlag(DesiredPhase(PAR, "two"))])

    with pytest.raises(type(trouble)):
        first.read()


def test_writing_goes_to_the_place_that_counts() -> None:
    one, two, three = (
        ScriptedFlag(),
        ScriptedFlag(DesiredPhase(PAR, "two")),
        ScriptedFlag(),
    )

    ChainedFlag([one, two, three]).write(PG, by="me")

    assert two.says == DesiredPhase(PG, "the script, by me")
    assert (one.says, three.says) == (None, None)


def test_writing_corrects_a_wrong_word_where_it_is() -> None:
    wrong, other = ScriptedFlag(ConfigError("unknown")), ScriptedFlag()

    ChainedFlag([wrong, other]).write(PG, by="me")

    assert isinstance(wrong.says, DesiredPhase)
    assert other.says is None


def test_writing_where_nothing_is_set_takes_the_first_place_that_can_be() -> None:
    fixed, free = ScriptedFlag(), ScriptedFlag()
    fixed.is_writable = False

    ChainedFlag([fixed, free]).write(PG, by="me")

    assert isinstance(free.says, DesiredPhase)


def test_writing_while_a_place_is_down_changes_no_other() -> None:
    down = ScriptedFlag(StoreUnavailable("down", store="one"))
    other = ScriptedFlag(DesiredPhase(PAR, "two"))

    with pytest.raises(StoreUnavailable):
        ChainedFlag([down, other]).write(PG, by="me")

    assert other.says == DesiredPhase(PAR, "two")


def test_no_place_at_all_says_so() -> None:
    none = ChainedFlag([])

    assert none.read() is None
    assert not none.writable
    assert none.place == "no place at all"
    with pytest.raises(ConfigError, match="no place where the phase 'parallel'"):
        none.write(PAR, by="me")


def test_the_first_place_that_is_set_decides_whether_it_can_be_written() -> None:
    fixed, free = ScriptedFlag(), ScriptedFlag()
    fixed.is_writable = False
    both = ChainedFlag([fixed, free])

    unset = both.writable
    fixed.says = DesiredPhase(PAR, "one")
    of_set = both.writable
    fixed.says = ConfigError("unknown")

    assert (unset, of_set, both.writable) == (True, False, False)


def test_all_places_are_listened_to_and_closed() -> None:
    one, two = ScriptedFlag(), ScriptedFlag()
    both = ChainedFlag([one, two])
    told: Recorder[None] = Recorder()

    stop = both.subscribe(lambda: told(None))
    one.say(None)
    two.say(None)
    stop()
    one.say(None)
    both.close()

    assert len(told.all) == 2
    assert one.is_closed
    assert two.is_closed
    assert both.place == "the script, or else the script"


# -- which place counts, of those that settings name: the whole table ---------------------


@dataclass(frozen=True)
class Case:
    """Value of each source; None: not set. ``down``: Redis cannot be reached."""

    variable: str | None
    redis: str | None
    file: str | None

    def expected(self) -> str | None:
        """The rule: variable, then Redis, then file; trouble stops the search."""
        if self.variable is not None:
            return self.variable
        return self.file if self.redis in {None, "unset"} else self.redis


CASES = [
    Case(*said)
    for said in itertools.product(
        [None, "json-only", "wrong"],
        [None, "unset", "parallel", "wrong", "down"],
        [None, "postgres-primary", "wrong"],
    )
]


@dataclass
class Setting:
    """A configuration as a case wants it."""

    case: Case
    directory: Path
    redis_url: str
    environ: dict[str, str] = field(default_factory=dict)

    def source(self) -> FlagSource:
        case = self.case
        url = "redis://127.0.0.1:1/0" if case.redis == "down" else self.redis_url
        lines = ["[environments.production]"]
        lines += [] if case.redis is None else [f'redis.url = "{url}"']
        file = self.directory / "pend.toml"
        file.write_text("\n".join(lines), encoding="utf-8")
        settings = load_settings(file, "production", environ={})
        if case.file is not None:
            lines.append(f'phase = "{case.file}"')
            file.write_text("\n".join(lines), encoding="utf-8")
        if case.variable is not None:
            self.environ["PEND_PHASE"] = case.variable
        if case.redis not in {None, "unset", "down"}:
            self.set_in_redis(str(case.redis))
        return flag_source(settings, environ=self.environ)

    def set_in_redis(self, word: str) -> None:
        flag = RedisFlag(self.redis_url, "pend:production:phase")
        flag._client().set(flag.key, word)
        flag.close()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_variable_then_redis_then_file(
    case: Case, tmp_path: Path, redis_url: str
) -> None:
    source = Setting(case, tmp_path, redis_url).source()
    try:
        match case.expected():
            case None:
                assert source.read() is None
            case "down":
                with pytest.raises(StoreUnavailable):
                    source.read()
            case "wrong":
                with pytest.raises(ConfigError, match="unknown phase 'wrong'"):
                    source.read()
            case word:
                wanted = source.read()
                assert wanted is not None
                assert wanted.phase.value == word
    finally:
        source.close()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_written_is_what_is_read(
    case: Case, tmp_path: Path, redis_url: str
) -> None:
    source = Setting(case, tmp_path, redis_url).source()
    try:
        if case.variable is not None:
            with pytest.raises(ConfigError, match="PEND_PHASE"):
                source.write(P, by="me")
        elif case.redis == "down":
            with pytest.raises(StoreUnavailable):
                source.write(P, by="me")
        else:
            written = source.write(P, by="me")
            assert written.phase is P
            assert source.read() == written
    finally:
        source.close()


def test_a_redis_whose_url_is_not_there_is_no_reason_to_follow_the_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "pend.toml"
    file.write_text('[environments.x]\nphase = "parallel"\nredis.url_env = "R"')

    with pytest.raises(ConfigError, match=r"redis\.url_env names .* R, which is not"):
        flag_source(load_settings(file, "x", environ={}), environ={})


def test_without_a_file_the_variable_is_left() -> None:
    settings = load_settings(environ={"DB_HOST": "h"})

    source = flag_source(settings, environ={"PEND_PHASE": "parallel"})

    assert source.read() == DesiredPhase(PAR, "the environment variable PEND_PHASE")


def test_the_key_in_redis_can_be_named(tmp_path: Path, redis_url: str) -> None:
    file = tmp_path / "pend.toml"
    file.write_text(
        f'[environments.x.redis]\nurl = "{redis_url}"\nkey = "my:flag"', "utf-8"
    )
    source = flag_source(load_settings(file, "x", environ={}), environ={})

    assert "'my:flag'" in source.write(PAR, by="me").place
    source.close()


def test_a_file_flag_of_settings_is_that_of_their_environment(tmp_path: Path) -> None:
    file = tmp_path / "pend.toml"
    file.write_text('[environments.a]\nphase = "parallel"\n[environments.b]\n')

    found = flag_source(load_settings(file, "a", environ={}), environ={}).read()

    assert found == FileFlag(file, "a").read()
    assert FileFlag(file, "b").read() is None
