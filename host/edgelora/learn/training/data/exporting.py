"""A base and samples for programs in C: a header with arrays, or a sample file."""

from __future__ import annotations

from edgelora.base.errors import InputError
from edgelora.core.formats.c_header import ExportedModel, c_header
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id
from edgelora.core.twin.session import Session
from edgelora.learn.training.recipe import Recipe

from .base import Base
from .samples import Samples


def header_of(base: Base, recipe: Recipe, parts: dict[str, Samples], frames: int = 1) -> str:
    """The header with the base, the recipe's settings and samples by name. frames: of samples, if there are none.

    InputError for samples with targets instead of labels.
    """
    if any(part.given_targets is not None for part in parts.values()):
        raise InputError(f"{base.name} learns from targets, not from labels: export its samples as a .eld file")
    frames = next((part.frames for part in parts.values()), frames)
    settings = recipe.settings(base.elm)
    session = Session(base.elm, **settings._asdict(), frames=frames)
    session.begin(recipe.seed)
    exported = ExportedModel(
        base.elm,
        base.model.labels,
        settings.ranks,
        settings.mode,
        settings.micro_batch,
        settings.momentum,
        settings.threshold,
        frames,
        arena=session.arena_bytes,
        adapter=len(session.save()),
        sample=session.sample_size,
    )
    labelled = {name: (part.x, part.y) for name, part in parts.items()}
    return c_header(exported, labelled, f"Base {base.base_id}, exported by `edgelora export`.")


def sample_file_of(base: Base, samples: Samples) -> bytes:
    """The samples as a `.eld` file."""
    return pack_samples(samples.x, samples.y, samples.given_targets, base_id(base.elm))
