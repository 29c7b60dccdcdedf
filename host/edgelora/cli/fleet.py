"""Commands of a fleet."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgelora.base.errors import InputError
from edgelora.base.streams import confirmed, say
from edgelora.core.formats.files import read_bounded
from edgelora.core.twin.fleet_update import Policy
from edgelora.fleet import rollout as publish
from edgelora.fleet.member import Identity
from edgelora.fleet.policy import MAX_POLICY, MOST_COST, NAMED, SAFE, PolicyEpsilons, parse_policy, policy_epsilons
from edgelora.fleet.privacy import ADJACENCY
from edgelora.fleet.roster import Roster, RosterError, Site, parse_public
from edgelora.fleet.serial_members import bring_policy, bring_roster
from edgelora.learn.training.data.base import load_base
from edgelora.learn.updates.keys import load_key

from . import console, gateway
from .arguments import add_port, connect, show, whole
from .command_line import Add
from .console import emit
from .federation import add_federating

ROSTER_STOPPED = "stopped; the roster is unchanged, or has the change: `edgelora fleet roster`"
MAX_KEY_FILE = 1024
DELTA = 1e-5
MAX_ADAPTER = 16 << 20  # bytes of a file, with training state


def add_commands(add: Add) -> None:
    text = "Train boards together; none reveals what it has seen."
    add = add.group("fleet", "Federated learning on boards", text)

    def command(name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        p = add(name, run)
        p.add_argument("fleet", type=Path, help="folder of the fleet")
        return p

    p = command("enroll", cmd_enroll)
    _add_key(p)
    p.add_argument("--public", metavar="KEY", help="a board's public key: a file or 64 digits of hex (asks the board)")
    p.add_argument("--twins", type=whole(1, 10_000), metavar="N", help="enroll N new simulated boards of this computer")
    p.add_argument("--identities", type=Path, metavar="DIR", help="folder for the secrets of --twins")
    p.add_argument("--name", default="", help="name of the board: letters, digits, - _ .")
    p.add_argument("--target", help="creates a fleet: the product name in its boards' update.trust")
    p.add_argument("--again", action="store_true", help="enroll a revoked board again")
    _add_policy(p)
    p.add_argument("--yes", action="store_true", help="do not ask")
    add_port(p)
    p = command("revoke", cmd_revoke)
    p.add_argument("board", help="name, index or public key")
    _add_key(p)
    p = command("roster", cmd_roster)
    p.add_argument("--push", action="store_true", help="send the roster to the board on --port if its own is older")
    add_port(p)
    p = add("budget", cmd_budget)
    p.add_argument("--identity", type=Path, metavar="FILE", help="secret of a simulated board, instead of --port")
    p.add_argument("--delta", type=float, default=DELTA, help="delta of (epsilon, delta) privacy (%(default)s)")
    add_port(p)
    gateway.add_arguments(command("gateway", gateway.run))
    p = command("publish", cmd_publish)
    p.add_argument("adapter", nargs="?", type=Path, help="the global adapter, a .ela file")
    p.add_argument("--name", required=True, help="adapter name in the boards' stores")
    p.add_argument("--key", type=Path, help="private key of `edgelora keygen`")
    p.add_argument(
        "--share", type=whole(1, 100), default=10, help="percentage of boards that get it first (%(default)s)"
    )
    p.add_argument("--all", action="store_true", help="release it to all boards")
    p.add_argument("--back", action="store_true", help="roll all boards back, as a new version")
    p.add_argument("--model", type=Path, help="the base .elm, to check the adapter against")
    p.set_defaults(stopped="stopped; each file is whole: publish again")
    add_federating(add)


def _add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy",
        metavar="safe|sums|FILE",
        help="requirements that the board checks in every task: noise, boards, and a lifetime budget (safe); masks "
        "alone, so that the server sees sums (sums); or a JSON file. Not given: what the board has, else safe",
    )
    parser.add_argument("--delta", type=float, default=DELTA, help="delta of (epsilon, delta) privacy (%(default)s)")


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key", type=Path, required=True, help="private key of `edgelora keygen`, which signs the roster"
    )
    parser.set_defaults(stopped=ROSTER_STOPPED)


def cmd_enroll(args: argparse.Namespace) -> None:
    """Adds a board to the signed roster.

    A board's identity is a key pair that it creates itself; the private key never leaves it. Only boards of the roster
    take part, so the server can't invent any. The first board creates the fleet:

        edgelora keygen release.pem
        edgelora update --trust release.pub --target band
        edgelora fleet enroll fleet --key release.pem --target band --name kitchen

    A board on a serial port sends its key and gets the roster. WiFi boards print their key: pass it with --public.

    --policy sets the requirements that the board checks in every task. Three epsilons bound the privacy loss of all
    its rounds: to an outsider who sees the global adapters, to an honest but curious server, and to a malicious server
    with colluding boards. `edgelora fleet budget` shows how much is spent.

    The release key stays here; copy the folder without it to the computer that runs the server.
    """
    key, policy = load_key(args.key), _policy_of(args.policy)
    if args.public is not None and args.twins is not None or (args.twins is None) != (args.identities is None):
        raise InputError("whom to enroll?", remedy="give --public, or --twins and --identities, or neither")
    site = Site(args.fleet)
    if args.twins:
        _begin(site, args.target, key)
        return _enroll_twins(args, site, key)
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(connect(args)) if args.public is None else None
        public = link.fleet_identity() if link else _public_key(args.public)
        if not args.yes and not args.json and sys.stdin.isatty():
            asked = f"Enroll board {public.hex()[:16]}... {args.name}? Compare it with what the board prints. [y/N] "
            if not confirmed(asked):
                raise InputError("not enrolled: nothing was changed")
        _begin(site, args.target, key)
        known = site.roster().index_of(public) if link else None  # it may have been cut off before it had the roster
        if known is None:
            roster, index = site.enroll(public, args.name, key, args.again)
            name = args.name
        else:
            roster, index, name = site.roster(), known, site.boards()[known].name
            if args.name not in ("", name):
                raise RosterError(f"this board is enrolled already, as {known} {name}".rstrip(), remedy="omit --name")
        if link:
            bring_roster(link, site)
            policy = bring_policy(link, policy)
    result = {"index": index, "name": name, "public": public.hex(), **_summary(roster)}
    line = f"board {index} {name}".rstrip() + f": roster {roster.number}, {_count(roster)}"
    if policy is None:
        return show(args, result, line + "\nthe policy is the board's own: /fleet.json on it, or the safe one")
    epsilons = policy_epsilons(policy, args.delta)
    show(args, result | _policy_json(policy, epsilons), f"{line}\n{_in_words(policy, epsilons)}")


def cmd_budget(args: argparse.Namespace) -> None:
    """Shows the spent and remaining privacy budget of a board.

    The board counts it in its own flash, for its whole life and over all fleets. Each round in which it sends an update
    costs 1 / z^2, where z is the noise of the sum in clips, without that of colluders. Once the budget of its policy
    is spent, it takes part in no more rounds.
    """
    if args.identity:
        identity = Identity(args.identity)
        policy, rounds, cost = identity.policy, identity.spent.rounds, identity.spent.cost
    else:
        with connect(args) as link:
            found = link.fleet_budget()
        policy = parse_policy(json.dumps(found.policy).encode(), "the board's policy")
        rounds, cost = found.rounds, int(found.spent)
    spent = policy_epsilons(policy, args.delta, math.inf if cost == MOST_COST else cost)
    whole = policy_epsilons(policy, args.delta)
    result = {"rounds": rounds, "spent": cost, "spent_epsilon": spent.lying} | _policy_json(policy, whole)
    left = f" of {whole.lying:.3g}" if policy.budget else ", without limit"
    show(args, result, f"{rounds} rounds, epsilon {spent.lying:.3g}{left} at delta {args.delta:g} ({ADJACENCY})")


def _policy_of(given: str | None) -> Policy | None:
    if given is None or given in NAMED:
        return NAMED[given] if given else None
    return parse_policy(read_bounded(Path(given), MAX_POLICY), given)


def _policy_json(policy: Policy, epsilons: PolicyEpsilons) -> dict[str, Any]:
    return {"policy": asdict(policy), "epsilon": asdict(epsilons)}


def _in_words(policy: Policy, epsilons: PolicyEpsilons) -> str:
    """The three epsilons of a policy."""
    if not policy.budget:
        return "policy without a budget: no epsilon bounds what sums reveal" + ("" if policy.masks else ", nor updates")
    who = f"outsider {epsilons.outsider:.3g}, curious server {epsilons.server:.3g}"
    lying = f"lying server, with {policy.colluders} colluding boards, {epsilons.lying:.3g}"
    return f"epsilon of all its rounds, at most: {who}, {lying}; at delta {epsilons.delta:g} ({ADJACENCY})"


def _begin(site: Site, target: str | None, key: Ed25519PrivateKey) -> None:
    """Makes the folder if this is the first board."""
    if not site.path.exists():
        if target is None:
            raise RosterError(f"{site.folder} holds no roster", remedy="begin a fleet with --target")
        Site.create(site.folder, target, key)
    elif target not in (None, site.roster().target):
        raise RosterError(f"the fleet is for {site.roster().target}, not {target}", remedy="omit --target")


def _enroll_twins(args: argparse.Namespace, site: Site, key: Ed25519PrivateKey) -> None:
    begun = sum(1 for _ in args.identities.glob("twin-*.key"))
    policy = _policy_of(args.policy) or SAFE
    made = [Identity.create(args.identities / f"twin-{begun + number}.key", policy) for number in range(args.twins)]
    roster = site.enroll_all([(identity.public, "") for identity in made], key)
    first = len(roster.keys) - len(made)
    epsilons = policy_epsilons(policy, args.delta)
    result = {"first": first, "twins": len(made), **_summary(roster)} | _policy_json(policy, epsilons)
    line = f"boards {first} to {len(roster.keys) - 1}: roster {roster.number}, {_count(roster)}"
    show(args, result, f"{line}\n{_in_words(policy, epsilons)}")


def cmd_revoke(args: argparse.Namespace) -> None:
    """Removes a board from the roster for good.

    Its index is never reused. The server applies this at once, boards with their next roster.
    """
    roster, board = Site(args.fleet).revoke(args.board, load_key(args.key))
    result = {"index": board.index, "name": board.name, "public": board.key, **_summary(roster)}
    show(args, result, f"revoked {board.index} {board.name}".rstrip() + f": roster {roster.number}, {_count(roster)}")


def cmd_roster(args: argparse.Namespace) -> None:
    """Lists the boards of a fleet."""
    site = Site(args.fleet)
    roster, boards = site.roster(), site.boards()
    if args.push:
        with connect(args) as link:
            pushed = bring_roster(link, site)
        return show(
            args, {"pushed": pushed, **_summary(roster)}, f"roster {roster.number}: {'given' if pushed else 'there'}"
        )
    if args.json:
        return emit(_summary(roster) | {"rows": [asdict(board) for board in boards]})
    rows: list[tuple[object, ...]] = [(b.index, b.name or "-", b.key[:16] or "revoked") for b in boards]
    console.table(("board", "name", "key"), rows)
    say(f"roster {roster.number} of {roster.target}, fleet {roster.fleet.hex()}: {_count(roster)}")


def cmd_publish(args: argparse.Namespace) -> None:
    """Releases the global adapter to a few boards, then to all.

    It becomes a signed update, as by `edgelora release`. The gateway installs it on serial boards; WiFi boards fetch it
    at /fleet/INDEX/NAME.elu. A hash selects the first boards, differently for each version:

        edgelora fleet publish fleet global.ela --name wake --key release.pem --share 10
        edgelora fleet publish fleet --name wake --all

    A board whose application does not confirm it returns to the old adapter. --back rolls all boards back, as a new
    version; repeat it to go further back. Without options the command shows the progress of the latest version.
    """
    if bool(args.adapter) + args.all + args.back > 1:
        raise InputError("give an adapter, --all or --back: one at a time")
    if (args.adapter or args.back) and not args.key:
        raise InputError("a release must be signed", remedy="give --key")
    site = Site(args.fleet)
    if args.adapter:
        base = load_base(args.model) if args.model else None
        adapter = read_bounded(args.adapter, MAX_ADAPTER)
        rollout = publish.to_few(site, adapter, args.name, load_key(args.key), args.share, base)[0]
    elif args.all:
        rollout = publish.to_all(site, args.name)
    elif args.back:
        rollout = publish.back(site, args.name, load_key(args.key))
    elif (found := publish.state(site, args.name)) is None:
        raise InputError(f"{args.name} was not published", remedy="give the adapter")
    else:
        rollout = found
    first = rollout.first(site.roster())
    where = "all boards" if rollout.everyone else f"{len(first)} boards: {', '.join(map(str, first))}"
    show(args, asdict(rollout) | {"first": first}, f"{rollout.name} {rollout.version} is published to {where}")


def _summary(roster: Roster) -> dict[str, Any]:
    return {
        "roster": roster.number,
        "target": roster.target,
        "fleet": roster.fleet.hex(),
        "boards": len(roster.active),
    }


def _count(roster: Roster) -> str:
    return f"{len(roster.active)} boards of {len(roster.keys)}"


def _public_key(given: str) -> bytes:
    path = Path(given)
    return parse_public(read_bounded(path, MAX_KEY_FILE) if path.is_file() else given.encode())
