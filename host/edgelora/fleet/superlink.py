"""Flower's SuperLink with a token for its commands: `python -m edgelora.fleet.superlink` with its arguments.

Its commands run code as its owner, and plain Flower accepts them from whoever reaches it. We use Flower's hook for
accounts: the only account is whoever can read `credentials.yaml` in Flower's home. Automations, runs of any app that an
app may schedule, are off. If a Flower release lacks these hooks, the SuperLink does not start.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from edgelora.core.formats.files import SECRET, write_atomic

ADDRESS = "EDGELORA_SUPERLINK"  # environment variable: where the SuperLink takes commands, as `flwr` writes it


def write_credentials(home: Path, address: str) -> None:
    """Makes a token for the SuperLink at an address, where `flwr` finds it; only its owner may read it."""
    credentials = {"authn-type": "oidc", "oidc-access-token": secrets.token_hex(32), "oidc-refresh-token": "none"}
    named = {
        f"flower.account-auth.{address}.{name}": base64.b64encode(text.encode()).decode()
        for name, text in credentials.items()
    }
    write_atomic(home / "credentials.yaml", json.dumps(named).encode(), SECRET)  # JSON is YAML


def main() -> None:
    from flwr.cli.constant import ACCESS_TOKEN_STORE_KEY
    from flwr.common.constant import ACCESS_TOKEN_KEY, AuthnType
    from flwr.supercore.auth.typing import AccountAuthLoginDetails, AccountInfo
    from flwr.supercore.credential_store import get_credential_store
    from flwr.supercore.error import ApiErrorCode, FlowerError
    from flwr.superlink import config_loader
    from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
    from flwr.superlink.cli.flower_superlink import flower_superlink
    from flwr.superlink.servicer.control import control_handlers
    from flwr.superlink.servicer.runtime import runtime_handlers

    token = get_credential_store().get(ACCESS_TOKEN_STORE_KEY % os.environ[ADDRESS])
    if not token:
        raise SystemExit("no token for this SuperLink in Flower's home: start it by `edgelora fleet run --start`")
    Metadata = Sequence[tuple[str, str | bytes]]

    class Token(NoOpControlAuthnPlugin):  # type: ignore[misc]
        """Accepts one account, whoever has the token; it has no login and no refresh."""

        def get_login_details(self) -> AccountAuthLoginDetails | None:
            return None

        def validate_tokens_in_metadata(self, metadata: Metadata) -> tuple[bool, AccountInfo | None]:
            given = dict(metadata).get(ACCESS_TOKEN_KEY, "")
            given = given.encode(errors="replace") if isinstance(given, str) else given
            if not hmac.compare_digest(given, token):
                return False, None
            right: tuple[bool, AccountInfo | None] = super().validate_tokens_in_metadata(metadata)
            return right

        def refresh_tokens(self, metadata: Metadata) -> tuple[Metadata | None, AccountInfo | None]:
            return None, None

    def refuse(*_: object) -> None:
        raise FlowerError(ApiErrorCode.RUNTIME_AUTOMATION_CREATION_NOT_ALLOWED, "automations are off")

    for module, name, without in (
        (control_handlers, "start_automation", refuse),
        (runtime_handlers, "start_automation", refuse),
        (runtime_handlers, "process_due_automations", lambda *_, **__: None),
    ):
        getattr(module, name)  # AttributeError in a release that names it otherwise
        setattr(module, name, without)
    config_loader.get_control_authn_ee_plugins = lambda: {AuthnType.OIDC: Token}
    os.environ["FLWR_OIDC_ENABLED"] = "1"  # without an account plug-in the SuperLink then ends
    flower_superlink()


if __name__ == "__main__":
    main()
