"""Arguments that commands share for recipes and data."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgelora.base.errors import InputError
from edgelora.learn.training.data.base import load_part, load_parts
from edgelora.learn.training.recipe import (
    CACHES,
    LEARNING_RATES,
    LEAST_EPOCHS,
    LEAST_UPDATES,
    LIMITS,
    MODES,
    MOMENTA,
    PLACEMENTS,
    Recipe,
)
from edgelora.model.datasets.dataset import Dataset, Parts
from edgelora.model.datasets.keywords import VOICES

from . import console
from .arguments import size

if TYPE_CHECKING:
    from edgelora.learn.training.data.base import Base

DATA_HELP = (
    "har:SUBJECT (seglearn's smartwatch people 1 to 6, this one left out of pretraining), kws:VOICE (spoken keywords; "
    f"one of {', '.join(VOICES)}) or a .npz with x, y, labels"
)
DEFAULTS = Recipe()
PLANNED = ("rank", "placement", "mode", "micro_batch", "momentum", "ram")


def data_part(args: argparse.Namespace, spec: str, part: str) -> Dataset:
    """See `load_part`; shows progress, as generating data takes a while the first time."""
    with console.step(f"data {spec}", args.json):
        return load_part(spec, part)


def data_parts(args: argparse.Namespace, test: str | None) -> Parts:
    """See `load_parts`, of --data."""
    with console.step(f"data {args.data}", args.json):
        return load_parts(args.data, test)


def planned_recipe(args: argparse.Namespace, base: Base) -> Recipe:
    """The recipe of --plan, or the default one, changed by the command line."""
    if not args.plan:
        return recipe_of(args)
    decided = [name for name in PLANNED if getattr(args, name) is not None]
    if decided:
        names = ", ".join(name.replace("_", "-") for name in decided)
        raise InputError(f"the plan decides {names}: omit them, or plan again with them")
    from edgelora.learn.planning.plan_file import load_plan

    return recipe_of(args, load_plan(args.plan, base.elm))


def recipe_of(args: argparse.Namespace, default: Recipe = DEFAULTS) -> Recipe:
    """`default`, changed by the command line."""
    given = {field.name: value for field in fields(Recipe) if (value := getattr(args, field.name, None)) is not None}
    return replace(default, **given)


def labels(text: str) -> list[str]:
    """Comma-separated names, or a file with one per line."""
    lines = Path(text).read_text().splitlines() if os.path.isfile(text) else text.split(",")
    return [line.strip() for line in lines if line.strip()]


def mapping(text: str) -> tuple[str, int]:
    """A module name and an op index."""
    module, _, op = text.rpartition("=")
    if not module or not op.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: give MODULE=OP, for example conv1=0")
    return module, int(op)


def _by_mode(values: dict[str, int]) -> str:
    return "; ".join(f"{value} with {mode}" for mode, value in values.items())


def add_recipe(parser: argparse.ArgumentParser, default: Recipe = DEFAULTS) -> None:
    group = parser.add_argument_group("adapter and training")
    span = {name: f"{low} to {high}" for name, (low, high) in LIMITS.items()}
    group.add_argument(
        "--rank", type=int, help=f"rank of the adapter of every adapted layer, {span['rank']} ({default.rank})"
    )
    group.add_argument(
        "--placement",
        choices=PLACEMENTS,
        help="adapt all conv and dense layers; dense ones and 1x1 convolutions; the last two of these; or the last "
        f"({default.placement})",
    )
    group.add_argument("--ram", type=size, help="largest arena, e.g. 48K; activations are recomputed if necessary")
    group.add_argument(
        "--cache",
        choices=CACHES,
        help=f"where to cache the outputs of frozen layers below the lowest adapter ({default.cache})",
    )
    group.add_argument(
        "--threshold",
        type=int,
        help=f"skip gradient elements below this fraction (1/2048) of the average, {span['threshold']} "
        f"({default.threshold})",
    )
    group.add_argument(
        "--mode",
        choices=MODES,
        help=f"train only B, A comes from the seed (less RAM), or both ({default.mode})",
    )
    group.add_argument(
        "--micro-batch",
        type=int,
        metavar="N",
        help=f"samples per update, {span['micro_batch']} ({default.micro_batch})",
    )
    group.add_argument(
        "--momentum",
        dest="momentum",
        type=int,
        metavar="SHIFT",
        help=f"running mean of the gradient over about 2^SHIFT updates, {span['momentum']}; 0: none "
        f"({_by_mode(MOMENTA)})",
    )
    group.add_argument(
        "--learning-rate",
        dest="learning_rate",
        type=int,
        metavar="RATE",
        help=f"int8 steps / 8192 for an average gradient, decaying to 0; {span['learning_rate']} "
        f"({_by_mode(LEARNING_RATES)})",
    )
    fitted = f"{LEAST_EPOCHS}, or as many as make {LEAST_UPDATES} updates"
    group.add_argument(
        "--epochs", type=int, help=f"passes over the samples, {span['epochs']}; 0: {fitted} ({default.epochs})"
    )
    group.add_argument("--seed", type=int, help=f"seed of A, sample order and rounding ({default.seed})")
    group.add_argument(
        "--no-rows",
        dest="rows",
        action="store_const",
        const=False,
        help="always train layers; by default few samples make rows of the classes instead, where these are better",
    )


def add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", type=Path, help="use the settings of a plan from `edgelora plan -o`")


def add_peft(parser: argparse.ArgumentParser) -> None:
    from edgelora.model.importers.peft import FLATTENINGS

    parser.add_argument(
        "--map",
        type=mapping,
        action="append",
        default=[],
        metavar="MODULE=OP",
        help="op of a module; repeatable",
    )
    parser.add_argument(
        "--net",
        type=Path,
        help="the float network of the LoRA weights (NAME.float.npz next to the model, written by from_torch)",
    )
    parser.add_argument(
        "--flatten",
        choices=FLATTENINGS,
        default=FLATTENINGS[0],
        help="order in which PyTorch's network flattens what a Linear layer reads (%(default)s)",
    )
