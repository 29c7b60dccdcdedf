"""Paths of the host's training files on a board."""

from __future__ import annotations

from edgelora.core.twin import device

ADAPTER_PATH = "/adapter.ela"  # the adapter of the board's last training
STATE_PATH = "/adapter.state.ela"  # the adapter with its training state, to continue from
TRIAL_PATH = "/trial.ela"  # an adapter to infer with, removed afterwards
CACHE_PATH = "/features.bin"  # the feature cache, if it is in flash
SAMPLES_PATH = "/samples.eld"  # training samples of a run that the board drives
HELD_PATH: str = device.module("update").OWN[1]  # held-out samples of such a run, by which a board judges updates
CLASS_PATH = "/class.eld"  # samples of a class to add
MACHINE_PATH = "/machine.ela"  # adapter and record of a machine
SWITCHED_PATH = "/listen-{}.ela"  # adapters that the board switches between
