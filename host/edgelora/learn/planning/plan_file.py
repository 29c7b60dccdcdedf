"""Plan files: `edgelora plan -o` saves them and `--plan` reads them; JSON.

A plan names its base and the planned sizes of arena and adapter. Reading computes both sizes again, to detect a damaged
file or one of a version that plans differently.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from edgelora.base.errors import EdgeloraError
from edgelora.board.profiles import load_board
from edgelora.core.formats import elm as formats_elm
from edgelora.core.formats.files import write_atomic
from edgelora.learn.training.recipe import Recipe

from .plan import Plan, plan

KIND, VERSION = "edgelora plan", 1
PROMISED = ("arena_bytes", "adapter_bytes")
MAX_FRAMES = 65535
LEFT_OUT = ("rank", "placement")  # fields of the recipe that its ranks replace


class PlanError(EdgeloraError, ValueError):
    """A plan file that can't be used; the message says why and what to do."""


def save_plan(path: Path, result: Plan, recipe: Recipe) -> None:
    """Writes the configuration of `result`, a plan of `recipe`."""
    settings = asdict(recipe) | {"given_ranks": result.ranks, "ram": result.ram_bytes}
    head = {"kind": KIND, "version": VERSION, "base_id": result.base_id, "board": result.board}
    head |= {"frames": result.frames} if result.frames > 1 else {}
    promised = {name: getattr(result, name) for name in PROMISED}
    kept = {name: value for name, value in settings.items() if name not in LEFT_OUT}
    write_atomic(path, (json.dumps(head | promised | {"recipe": kept}, indent=1) + "\n").encode())


def load_plan(path: Path, elm: bytes) -> Recipe:
    """The recipe in a plan made for this `.elm`. Raises PlanError if it is for another base, damaged or outdated."""
    data = _read(path)
    base_id = formats_elm.base_id(elm).hex()
    if data["base_id"] != base_id:
        raise PlanError(f"{path} was made for base {data['base_id']}, this is {base_id}: plan for this one")
    try:
        recipe = Recipe(**data["recipe"] | {"given_ranks": tuple(data["recipe"]["given_ranks"])})
        found = plan(elm, load_board(data["board"]), recipe, _frames(data))
    except (ValueError, TypeError, KeyError) as error:
        raise PlanError(f"{path}: damaged ({error}): plan again") from None
    for name in PROMISED:
        if getattr(found, name) != data[name]:
            what = name.replace("_", " ")
            raise PlanError(f"{path}: {what} would be {getattr(found, name)}, not the {data[name]} it says: plan again")
    return recipe


def _frames(data: dict[str, Any]) -> int | None:
    frames = data.get("frames")
    if frames is not None and (not isinstance(frames, int) or not 1 <= frames <= MAX_FRAMES):
        raise PlanError(f"frames {str(frames)[:20]}")
    return frames


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise PlanError(f"{path}: damaged or not a plan ({error}): make one with `edgelora plan -o`") from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise PlanError(f"{path}: not a plan: make one with `edgelora plan -o`")
    if data.get("version") != VERSION:
        raise PlanError(f"{path}: version {data.get('version')}, must be {VERSION}: update edgelora, or plan again")
    missing = [name for name in ("base_id", "board", "recipe", *PROMISED) if name not in data]
    if missing or not isinstance(data["recipe"], dict):
        raise PlanError(f"{path}: damaged, {', '.join(missing) or 'recipe'} missing: plan again")
    unknown = set(data["recipe"]) - {field.name for field in fields(Recipe)}
    if any(isinstance(value, float) for value in data["recipe"].values()):
        raise PlanError(f"{path}: damaged, settings are whole numbers: plan again")
    if unknown:
        raise PlanError(f"{path}: damaged, unknown settings {', '.join(sorted(unknown))}: plan again")
    return data
