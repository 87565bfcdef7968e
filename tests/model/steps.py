"""Possible next steps of the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from pend_storage.dualwrite import _roles as roles
from pend_storage.dualwrite._roles import SIDES, RolePair, Step, other
from pend_storage.phases import Role, RoleState

from .controllers import Controllers
from .judging import Judging
from .world import Entry, Weakness, World, Writer, primaries

__all__ = ["Protocol"]

Steps: TypeAlias = Iterator[tuple[str, World]]


class Protocol(Controllers, Judging):
    """The protocol, with or without some of its rules."""

    def steps(self, world: World) -> Steps:
        """Everything that may happen."""
        if world.is_refused:
            return
        yield from self._fail(world)
        for n, writer in enumerate(world.writers):
            yield from self._write(world, n, writer)
        yield from self._read(world)
        yield from self._relay(world)
        yield from self._backfill(world)
        yield from self._heal(world)
        for n, controller in enumerate(world.controllers):
            yield from self._control(world, n, controller)

    # -- failover -----------------------------------------------------------------------

    def _fail(self, world: World) -> Steps:
        side = world.fails
        if side is None:
            return
        if world.standby is None:
            # Numbers are not given in the order in which commits end. What is put back
            # to between two of them has the later one and not the earlier one: the entry
            # of a mark does not show that, the incarnation does.
            if world.of(side).open and not world.is_promoted:
                return
            yield f"the standby of {side} falls behind", world.falls_behind(side)
        else:
            yield f"{side} fails over", world.fails_over(side)

    # -- writers ------------------------------------------------------------------------

    def _write(self, world: World, n: int, writer: Writer) -> Steps:
        def with_writer(after: World, **changes: object) -> World:
            changed = writer._replace(**changes)  # type: ignore[arg-type]
            rest = world.writers
            return after._replace(writers=(*rest[:n], changed, *rest[n + 1 :]))

        store = world.of(writer.side)
        match writer.pc:
            case "begin" if writer.ops:
                if not (store.is_at(Role.PRIMARY, writer.epoch) or self.is_unchecked):
                    yield from self._reroute(world, n, writer)
                elif not any(e.row.key == writer.ops[0][0] for e in store.open):
                    yield from self._commit(world, n, writer)
                # else it waits for the lock of the key
            case "end" if writer.entry not in store.open:
                yield f"writer {n} hears nothing more", self._unheard(world, n, writer)
            case "end":
                assert writer.entry is not None
                ended = world.put(writer.side, store.end(writer.entry, self.weak))
                yield (
                    f"writer {n}: {writer.entry} has ended",
                    with_writer(ended, pc="bring"),
                )
                if world.unheard:
                    fewer = ended._replace(unheard=world.unheard - 1)
                    yield (
                        f"writer {n} does not hear that {writer.entry} has ended",
                        self._unheard(fewer, n, writer),
                    )
            case "bring":
                yield from self._bring(world, n, writer)
            case _:
                pass

    def _commit(self, world: World, n: int, writer: Writer) -> Steps:
        """A commit, or the same one once more; JSON ends it at once."""
        store, rest = world.of(writer.side), world.writers
        (key, value), token = (
            writer.ops[0],
            writer.token or 10 * n + len(writer.ops) + 9,
        )

        def with_writer(after: World, **changes: object) -> World:
            changed = writer._replace(token=token, **changes)  # type: ignore[arg-type]
            return after._replace(writers=(*rest[:n], changed, *rest[n + 1 :]))

        known = self._known(world, writer)
        if known is not None:
            yield (
                f"writer {n} finds {known}",
                with_writer(world, pc="bring", entry=known),
            )
            return
        begun, entry = store.begin(key, value, token)
        pc = "end"
        if writer.side == "json":
            begun, pc = begun.end(entry, self.weak), "bring"
        after = with_writer(world.put(writer.side, begun), pc=pc, entry=entry)
        yield f"writer {n} commits {key}={value} on {writer.side}: {entry.row}", after
        if pc == "bring" and world.unheard:
            fewer = after._replace(unheard=world.unheard - 1)
            yield (
                f"writer {n} does not hear that {entry.row} is on {writer.side}",
                self._unheard(fewer, n, after.writers[n]),
            )

    def _known(self, world: World, writer: Writer) -> Entry | None:
        """The entry of a commit that was tried before, in either log."""
        if not writer.token or Weakness.COMMITS_ANEW in self.weak:
            return None
        here = world.of(writer.side).committed(writer.token)
        if here is not None or Weakness.ONE_LOG_ASKED in self.weak:
            return here
        return world.of(other(writer.side)).committed(writer.token)

    @staticmethod
    def _unheard(world: World, n: int, writer: Writer) -> World:
        """The answer is lost: the same commit is tried again."""
        again = writer._replace(pc="begin", entry=None)
        rest = world.writers
        return world._replace(writers=(*rest[:n], again, *rest[n + 1 :]))

    def _reroute(self, world: World, n: int, writer: Writer) -> Steps:
        for side in primaries(world):
            epoch = world.of(side).role.epoch
            if (side, epoch) != (writer.side, writer.epoch):
                changed = writer._replace(side=side, epoch=epoch)
                rest = world.writers
                yield (
                    f"writer {n} goes to {side}@{epoch}",
                    world._replace(writers=(*rest[:n], changed, *rest[n + 1 :])),
                )

    def _bring(self, world: World, n: int, writer: Writer) -> Steps:
        assert writer.entry is not None
        row = writer.entry.row
        done = writer._replace(
            pc="begin",
            ops=writer.ops[1:],
            entry=None,
            token=0,
            acked=(*writer.acked, row),
        )
        rest = world.writers
        acked = world._replace(writers=(*rest[:n], done, *rest[n + 1 :]))
        side = other(writer.side)
        peer = world.of(side)
        if world.brings and peer.is_at(Role.SECONDARY, writer.epoch):
            yield (
                f"writer {n} brings {row} to {side}",
                acked.put(side, peer.take(row, self.weak)),
            )
            if not world.cuts:
                return
        yield f"writer {n} is done, {row} did not arrive", acked

    # -- the reader ---------------------------------------------------------------------

    def _read(self, world: World) -> Steps:
        reader = world.reader
        store = world.of(reader.side)
        got = store.row(reader.key).version

        def answered(version: int) -> World:
            failed = version < reader.floor
            return world._replace(
                reader=reader._replace(
                    pc="start", reads=reader.reads - 1, failed=failed
                )
            )

        match reader.pc:
            case "start" if reader.reads:
                acked = (r for w in world.writers for r in w.acked)
                floor = max(
                    (r.version for r in acked if r.key == reader.key), default=0
                )
                yield (
                    f"a read begins; acknowledged is {floor}",
                    world._replace(reader=reader._replace(pc="ask", floor=floor)),
                )
            case "ask" if store.is_at(Role.PRIMARY, reader.epoch):
                yield f"{reader.side} answers {got}", answered(got)
            case "ask" if store.role == RoleState(Role.FENCED, reader.epoch):
                yield (
                    f"{reader.side}, fenced, answers {got}",
                    world._replace(reader=reader._replace(pc="look", got=got)),
                )
            case "ask":
                for side in SIDES:  # a fenced one will do
                    role = world.of(side).role
                    known = (reader.side, reader.epoch)
                    answers = role.role in {Role.PRIMARY, Role.FENCED}
                    if answers and (side, role.epoch) != known:
                        there = reader._replace(side=side, epoch=role.epoch)
                        yield (
                            f"the reader goes to {side}@{role.epoch}",
                            world._replace(reader=there),
                        )
            case "look":
                peer = world.of(other(reader.side)).role
                closed = peer.role is not Role.PRIMARY and peer.epoch == reader.epoch
                if closed or Weakness.NO_SECOND_LOOK in self.weak:
                    yield "the answer stands", answered(reader.got)
                else:
                    yield (
                        "the read is repeated",
                        world._replace(reader=reader._replace(pc="ask")),
                    )
            case _:
                pass

    # -- recovery -----------------------------------------------------------------------

    def _heal(self, world: World) -> Steps:
        """A process that presumes any switch in its view dead; the view may be old."""
        if world.healing is not None:
            after = world.cas(world.healing, self.weak) or world
            if not world.of(world.healing.side).open:
                yield f"heal: {world.healing}", after._replace(healing=None)
        elif world.seen is not None:
            view = RolePair(world.seen, world.postgres.role)
            step = roles.recovery_step(view, abandoned=True)
            if Weakness.NO_BUMP in self.weak:
                step = _without_bump(view) or step
            yield (
                "the healer has looked",
                world._replace(seen=None, healing=step),
            )
        elif world.heals and not world.view.is_settled:
            yield (
                "a healer looks",
                world._replace(seen=world.json.role, heals=world.heals - 1),
            )


def _without_bump(view: RolePair) -> Step | None:
    old = view.fenced
    if old is None:
        return None
    mine, peer = view.of(old), view.of(other(old))
    if mine is None or peer is None or peer.role is not Role.SECONDARY:
        return None
    return Step(old, mine, RoleState(Role.PRIMARY, mine.epoch))
