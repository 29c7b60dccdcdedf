"""Boards that learn together: averaging, privacy, roster, secure sums, members, gateway."""

from ..report import mean_of
from . import publish
from .afterwards import bare_start, personalized
from .averaging import UNITS, board_seed, mean, moved, server_step, with_vector
from .board import BoardMember
from .boards import PEOPLE, Boards, accuracies, boards_of, fleet_base, private_update, update_of
from .colluders import abandoned, crowded
from .deployment import Deployment, DeploymentError, address_of, check_flower, federated, free_port, write_project
from .federation import Call, Exchange, Federation, Judge, Total, federate
from .gateway import Attached, BoardState, Check, Gateway, Member, running
from .ledger import Ledger, LedgerError
from .lines import TRIAL_SECONDS, bring_policy, bring_roster, serial_boards
from .local import fleet_recipe, learner_of
from .member import Identity, MemberError, Train, TwinMember, training_of
from .messages import Stage, Task, public_of, thresholds
from .plan import MOST_CLIP, NOISY, RATES, Plan
from .policy import (
    MAX_POLICY,
    MOST_COST,
    NAMED,
    SAFE,
    SUMS,
    Told,
    parse_policy,
    policy_json,
    refusal,
    told_by,
)
from .privacy import (
    ADJACENCY,
    BudgetSpent,
    Epsilons,
    Spent,
    Standing,
    epsilons,
    planned,
    sampled,
    standing,
)
from .publish import PublishError, Rollout
from .roster import REVOKED, SERVER, Board, Roster, RosterError, Site, parse_public
from .secagg import ReplyRefused, Round, RoundAborted, Sum
from .simulate import ENGINES, judge_of, of_twins, plain_loop, pooled, simulate, write_page
from .stages import Deliver, in_stages
from .web import GatewayClient, GatewayError, board_server, local_server

__all__ = [
    "Deliver",
    "Spent",
    "Train",
    "Deployment",
    "DeploymentError",
    "Exchange",
    "Judge",
    "address_of",
    "bare_start",
    "free_port",
    "federated",
    "fleet_recipe",
    "in_stages",
    "learner_of",
    "personalized",
    "write_project",
    "Attached",
    "Boards",
    "ADJACENCY",
    "BudgetSpent",
    "Ledger",
    "LedgerError",
    "Spent",
    "Standing",
    "planned",
    "standing",
    "Call",
    "ENGINES",
    "Epsilons",
    "Federation",
    "MOST_CLIP",
    "NOISY",
    "PEOPLE",
    "Plan",
    "RATES",
    "Total",
    "UNITS",
    "accuracies",
    "board_seed",
    "abandoned",
    "crowded",
    "refusal",
    "thresholds",
    "MAX_POLICY",
    "MOST_COST",
    "bring_policy",
    "bring_roster",
    "NAMED",
    "SAFE",
    "SUMS",
    "Told",
    "parse_policy",
    "policy_json",
    "told_by",
    "check_flower",
    "boards_of",
    "epsilons",
    "federate",
    "fleet_base",
    "judge_of",
    "mean",
    "mean_of",
    "moved",
    "of_twins",
    "plain_loop",
    "pooled",
    "private_update",
    "sampled",
    "server_step",
    "simulate",
    "update_of",
    "with_vector",
    "write_page",
    "Board",
    "BoardMember",
    "BoardState",
    "Check",
    "Gateway",
    "GatewayClient",
    "GatewayError",
    "Identity",
    "Member",
    "MemberError",
    "PublishError",
    "REVOKED",
    "ReplyRefused",
    "Rollout",
    "Roster",
    "RosterError",
    "Round",
    "RoundAborted",
    "SERVER",
    "Site",
    "Stage",
    "Sum",
    "TRIAL_SECONDS",
    "Task",
    "TwinMember",
    "board_server",
    "local_server",
    "parse_public",
    "public_of",
    "publish",
    "running",
    "serial_boards",
    "training_of",
]
