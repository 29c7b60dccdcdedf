"""Fails the n-th allocation, flash operation (once, or from then on) and interrupt in every action, for all n.

Runs on the firmware of `make firmware-faults`, in the folder that test_faults.py fills.

    main(most, *names)              for each action and fault about `most` values of n, evenly spaced; 0: all. Prints a
                                    line for each action, and finally `FAULTS <n tried> <lost> <stuck>`
    sizes()                         `SIZE <number of the action> <n of each fault, -1: it has none> <name>`
    part(number, fault, first, end) n from first to end (0: all); `PART <tried> <before> <after> <between> <lost>
                                    <stuck>`: how often the state after the fault was which
    called(*wanted)                 `CALLED <name>` of each function that an action calls

`LOST` and `STUCK` lines report failures. After a fault an action's state must be that before it or that after it, both
for a program that continues with the same objects and for one that restarts from flash. Then the action is repeated, in
both cases, and must succeed.
"""

import gc

import faults
import faults_actions as board
import faults_fleet
import faults_link

FAULTS = (
    ("allocation", faults.ALLOCATION, False),
    ("allocation for ever", faults.ALLOCATION, True),
    ("flash", faults.FLASH, False),
    ("flash for ever", faults.FLASH, True),
    ("interrupt", faults.INTERRUPT, False),
)
ERRORS = (MemoryError, OSError, KeyboardInterrupt, ValueError)  # ValueError may report one of the others
ACTIONS = board.ACTIONS + faults_link.ACTIONS + faults_fleet.ACTIONS


class Count:
    tried = before = after = between = lost = stuck = 0


def lost(action, fault, n, why):
    Count.lost += 1
    print("LOST", action.name, "|", fault, n, "|", why)


def stuck(action, fault, n, why):
    Count.stuck += 1
    print("STUCK", action.name, "|", fault, n, "|", why)


def seen(action):
    """The action's state, or the error while getting it."""
    try:
        return action.look()
    except ERRORS as error:
        return repr(error)


def right(action, found, before, after):
    """Whether a state is one of the two or, if the action is in parts, each part is."""
    if found == before:
        Count.before += 1
    elif found == after:
        Count.after += 1
    elif action.in_parts and all(isinstance(state, tuple) for state in (found, before, after)):
        Count.between += 1
        return all(found[i] in (before[i], after[i]) for i in range(len(found)))
    else:
        return False
    return True


def part_of(action, state):
    """The part of a state that survives a reset."""
    return action.told_anew(state) if hasattr(action, "told_anew") and not isinstance(state, str) else state


def again(action, after, same):
    """Repeats the action unless it was completed; None, or what is wrong."""
    try:
        if not same(seen(action), after):
            action.act()
        state = seen(action)
        return None if same(state, after) else "other state " + str(state)[:200]
    except ERRORS as error:
        if same(seen(action), after):
            return None
        return repr(error)


def attempt(action, kind, n, forever):
    """The count that `faults.disarm` returns, and the error. No interrupt comes after the action."""
    faults.arm(kind, n, forever)
    try:
        action.act()
        return faults.disarm(), None
    except ERRORS as error:
        return faults.disarm(), error


def one(action, fault, kind, forever, n, before, after):
    """Injects the n-th fault; False if the action has fewer."""
    action.make()
    count, error = attempt(action, kind, n, forever)
    if count >= 0:
        return False
    Count.tried += 1
    image = board.flash.image() if action.on_flash else None
    if action.littlefs and kind == faults.FLASH:
        return started_anew(action, fault, n, error, image, before, after, True)
    found = seen(action)
    if not right(action, found, before, after):
        # if flash stays unreadable its content is unknown: the active adapter must remain
        if forever and part_of(action, found) == part_of(action, after):
            Count.between += 1
        else:
            lost(action, fault, n, f"{error!r}: {str(found)[:300]}")
    wrong = again(action, after, lambda a, b: a == b)
    if wrong:
        stuck(action, fault, n, f"{error!r}: {wrong}")
    if image and not wrong:  # the repeated action must be in flash
        board.power(board.flash.image())
        action.anew()
        found = part_of(action, seen(action))
        wanted = part_of(action, after)
        if found != wanted and not (action.in_parts and right_anew(action, found, part_of(action, before), wanted)):
            lost(action, fault, n, f"{error!r}, made again, after a reset: {str(found)[:300]}")
    return started_anew(action, fault, n, error, image, before, after) if image else True


def right_anew(action, found, before, after):
    """`right` without counting."""
    counts = Count.before, Count.after, Count.between
    found = right(action, found, before, after)
    Count.before, Count.after, Count.between = counts
    return found


def started_anew(action, fault, n, error, image, before, after, counts=False):
    """Checks the state after a reset; returns True."""
    board.power(image)
    try:
        action.anew()
    except ERRORS as failed:
        lost(action, fault, n, f"{error!r}, and after a reset {failed!r}")
        return True
    found = part_of(action, seen(action))
    if not (right if counts else right_anew)(action, found, part_of(action, before), part_of(action, after)):
        lost(action, fault, n, f"{error!r}, after a reset: {str(found)[:300]}")
    wrong = again(action, after, lambda a, b: part_of(action, a) == part_of(action, b))
    try:
        wrong = wrong or action.goes_on()
    except ERRORS as failed:
        wrong = "what comes next: " + repr(failed)
    if wrong:
        stuck(action, fault, n, f"{error!r}, after a reset: {wrong}")
    return True


def states(action):
    """The states before and after the action."""
    action.make()
    before = action.look()
    action.act()
    action.after = action.look()
    return before, action.after


def size(action, kind):
    """How many operations of this kind the action has; -1 if the kind does not apply."""
    if kind == faults.FLASH and not action.on_flash:
        return -1
    action.make()
    faults.arm(kind, 1 << 29, False)
    action.act()
    return faults.disarm()


def some(action, fault, kind, forever, first, end, step, before, after):
    """Injects faults from n = first to end; 0: all."""
    n, most = first, end or 2 * size(action, kind) + 1000
    while n < most and one(action, fault, kind, forever, n, before, after):
        n += step
    if n >= most and not end:
        stuck(action, fault, n, "never ends")
    gc.collect()


def main(most=0, *names):
    for action in ACTIONS:
        if names and action.name not in names:
            continue
        before, after = states(action)
        counts = []
        for fault, kind, forever in FAULTS:
            left = size(action, kind)
            if left < 0:
                continue
            tried = Count.tried
            some(action, fault, kind, forever, 0, 0, max(1, left // most) if most else 1, before, after)
            counts.append(f"{fault} {Count.tried - tried}")
        action.image = None
        print("DONE", action.name + ":", ", ".join(counts))
    print("FAULTS", Count.tried, Count.lost, Count.stuck)


def sizes():
    for number, action in enumerate(ACTIONS):
        states(action)
        print("SIZE", number, *[size(action, kind) for _, kind, _ in FAULTS], action.name)
        action.image = None


def part(number, fault, first, end):
    action = ACTIONS[number]
    some(action, *FAULTS[fault], first, end, 1, *states(action))
    print("PART", Count.tried, Count.before, Count.after, Count.between, Count.lost, Count.stuck)


def called(*wanted):
    """Makes each of these functions, (module, class or "", name), report if an action calls it."""
    told, acting = set(), []

    def telling(full, function):
        def tell(*args, **settings):
            if acting:
                told.add(full)
            return function(*args, **settings)

        return tell

    for module, cls, name in wanted:
        owner = __import__(module, None, None, ("*",))
        owner = getattr(owner, cls) if cls else owner
        tell = telling(".".join(part for part in (module, cls, name) if part), getattr(owner, name))
        alone = cls and type(owner.__dict__.get(name)) in (classmethod, staticmethod)
        setattr(owner, name, staticmethod(tell) if alone else tell)
    for action in ACTIONS:
        action.make()
        acting.append(True)
        action.act()
        acting.clear()
        action.image = None
    for name in sorted(told):
        print("CALLED", name)
