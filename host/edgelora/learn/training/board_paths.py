"""Where the host's training keeps its files on a board."""

from __future__ import annotations

ADAPTER_PATH = "/adapter.ela"  # what the board last learned,
STATE_PATH = "/adapter.state.ela"  # what training goes on from,
TRIAL_PATH = "/trial.ela"  # and one it is lent for a while
CACHE_PATH = "/features.bin"  # of the samples it trains on, if they are kept in flash
SAMPLES_PATH = "/samples.eld"  # of a run by the board itself: what it learns from,
HELD_PATH = "/held.eld"  # and samples that judge
CLASS_PATH = "/class.eld"  # samples of a class that is added
MACHINE_PATH = "/machine.ela"  # adapter and record of a machine
SWITCHED_PATH = "/listen-{}.ela"  # of adapters that it switches among
