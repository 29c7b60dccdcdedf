"""EdgeLoRA's host half: from data to a personalized adapter on a board."""

__version__ = "0.1.0"
