"""Controllers of the model: processes that change roles on purpose."""

from __future__ import annotations

from pend_storage.dualwrite import _roles as roles
from pend_storage.dualwrite._roles import SIDES, RolePair, Side, Step, other
from pend_storage.phases import Role, RoleState

from .deliveries import Deliveries, Steps
from .world import Controller, Mark, Parcel, StoreState, Weakness, World, is_covered

__all__ = ["Controllers"]


class _Turn:
    """One controller's turn."""

    def __init__(
        self, world: World, n: int, controller: Controller, weak: frozenset[Weakness]
    ) -> None:
        self.world = world
        self.controller = controller
        self.pc = controller.pc
        self._n = n
        self._weak = weak

    @property
    def view(self) -> RolePair:
        view = self.controller.view
        assert view is not None
        return view

    @property
    def parcel(self) -> Parcel:
        parcel = self.controller.parcel
        assert parcel is not None
        return parcel

    def epoch(self, side: Side) -> int:
        """Of a store, in the view."""
        state = self.view.of(side)
        assert state is not None
        return state.epoch

    def side_that_is(self, role: Role) -> Side | None:
        """The store that has a role, in the view."""
        states = ((side, self.view.of(side)) for side in SIDES)
        return next((side for side, s in states if s and s.role is role), None)

    def cas(self, step: Step) -> World | None:
        """Try a step."""
        return self.world.cas(step, self._weak)

    def go(self, after: World | None = None, **changes: object) -> World:
        """The controller goes on from there."""
        after = after or self.world
        changed = self.controller._replace(**changes)  # type: ignore[arg-type]
        rest = after.controllers
        n = self._n
        return after._replace(controllers=(*rest[:n], changed, *rest[n + 1 :]))

    def done(self, after: World | None = None) -> World:
        """The controller is done with this, and does the next thing."""
        plan = self.controller.plan[1:]
        return self.go(after, pc="look", plan=plan, json=None, view=None, parcel=None)


class Controllers(Deliveries):
    """Attaching, detaching and swapping, one atomic thing at a time."""

    def _control(self, world: World, n: int, controller: Controller) -> Steps:
        if not controller.is_alive or not controller.plan:
            return
        turn = _Turn(world, n, controller, self.weak)
        if controller.pc == "look":
            # Waits for settled roles, as the library does; then reads one after the other.
            if world.view.is_settled:
                yield f"c{n} looks at JSON", turn.go(pc="look2", json=world.json.role)
            return
        if controller.pc == "look2":
            view = RolePair(controller.json, world.postgres.role)
            pc = "plan" if view.is_settled else "look"
            yield f"c{n} has looked", turn.go(pc=pc, view=view)
            return
        does = {"attach": self._attach, "detach": self._detach, "swap": self._swap}
        for label, after in does[controller.plan[0]](turn):
            yield f"c{n} {label}", after
        if world.crashes and controller.pc != "plan":
            dead = turn.go(is_alive=False)
            yield f"c{n} dies", dead._replace(crashes=world.crashes - 1)

    def _attach(self, turn: _Turn) -> Steps:
        side = turn.side_that_is(Role.DETACHED)
        if side is None:
            yield "has nothing to attach", turn.done()
            return
        following, told = roles.attach(turn.view, side)
        if Weakness.SAME_EPOCH in self.weak:
            epoch = turn.epoch(other(side))
            following = following._replace(after=RoleState(Role.SECONDARY, epoch))
            told = told._replace(after=told.before)
        if turn.pc == "plan":
            after = turn.cas(following)
            if after is None:
                yield "comes too late", turn.done()
            else:
                yield f"attaches {side}", turn.go(after, pc="told")
        elif not turn.world.of(told.side).open:
            yield "tells the primary", turn.done(turn.cas(told))

    def _detach(self, turn: _Turn) -> Steps:
        side = turn.side_that_is(Role.SECONDARY)
        if side is None:
            yield "has nothing to detach", turn.done()
        else:
            yield f"detaches {side}", turn.done(turn.cas(roles.detach(turn.view, side)))

    def _swap(self, turn: _Turn) -> Steps:
        old = turn.side_that_is(Role.PRIMARY)
        if old is None or turn.side_that_is(Role.SECONDARY) is None:
            yield "cannot swap", turn.done()
        elif turn.pc in {"plan", "mark"}:
            yield from self._prepare(turn, old)
        elif turn.pc in {"fence", "drain", "apply"}:
            yield from self._fence_and_drain(turn, old)
        else:
            yield from self._open_and_follow(turn, old)

    def _prepare(self, turn: _Turn, old: Side) -> Steps:
        """The mark from which the old primary will follow."""
        new = other(old)
        source, target = turn.world.of(old), turn.world.of(new)
        if turn.pc == "plan":
            if turn.world.is_told or not is_covered(target, self.weak):
                yield "refuses", turn.done()
                return
            fits = target.role == turn.view.of(new) or Weakness.LATE_MARK in self.weak
            found = (source.mark, source.whole, _end(target)) if fits else None
            yield "prepares", turn.go(pc="mark", found=found)
        elif turn.controller.found is None:
            yield "comes too late", turn.done()
        else:
            mark, whole, end = turn.controller.found
            if (source.mark, source.whole) == (mark, whole):
                source = source._replace(mark=end, whole=True)
            marked = turn.world.put(old, source)
            yield "marks", turn.go(marked, pc="fence", found=None)

    def _fence_and_drain(self, turn: _Turn, old: Side) -> Steps:
        new = other(old)
        world, source, target = turn.world, turn.world.of(old), turn.world.of(new)
        if turn.pc == "fence":
            if Weakness.NO_FENCE in self.weak:
                yield "does not fence", turn.go(pc="drain")
            elif not source.open:
                after = turn.cas(roles.fence(turn.view, old))
                if after is None:
                    yield "cannot fence", turn.done()
                else:
                    yield f"fences {old}", turn.go(after, pc="drain")
        elif turn.pc == "drain":
            after, parcel = self._news(world, old)
            if parcel is None or after.is_told:
                yield "meets another log", turn.go(after, pc="call off")
                return
            parcel = parcel._replace(epoch=turn.epoch(new))
            yield "reads the rest", turn.go(after, pc="apply", parcel=parcel)
        else:
            parcel = turn.parcel
            follows = target.is_at(Role.SECONDARY, parcel.epoch)
            if self._accepts(target, parcel):
                after = self._deliver(world, parcel)
                yield f"applies the rest {parcel.rows}", turn.go(after, pc="open")
            elif follows:
                yield "has to read again", turn.go(pc="drain")
            if world.cuts or not follows:
                yield "cannot apply the rest", turn.go(pc="call off")

    def _open_and_follow(self, turn: _Turn, old: Side) -> Steps:
        if turn.pc == "open":
            after = turn.cas(roles.open_new(turn.view, old))
            has_all = turn.world.of(other(old)).mark == turn.parcel.mark
            if not has_all and Weakness.BLIND_OPENING not in self.weak:
                yield "has to drain again", turn.go(pc="drain")
            elif after is None:
                yield "cannot open", turn.done()
            else:
                yield f"opens {other(old)}", turn.go(after, pc="follow")
        elif turn.pc == "call off":
            yield "calls it off", turn.done(turn.cas(roles.call_off(turn.view, old)))
        elif not turn.world.of(old).open:
            step = roles.follow(turn.view, old)
            if Weakness.NO_FENCE in self.weak:
                before = RoleState(Role.PRIMARY, step.before.epoch)
                step = step._replace(before=before)
            yield f"has {old} follow", turn.done(turn.cas(step))


def _end(store: StoreState) -> Mark:
    if not store.log:
        return Mark(incarnation=store.incarnation)
    last = store.log[-1]
    return Mark(last.sequence, last.row.token, store.incarnation)
