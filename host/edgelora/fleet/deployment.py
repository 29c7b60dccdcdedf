"""A deployment of Flower: its project, certificates and node keys on disk; its SuperLink, SuperNodes and runs.

    folder/plan.json ...   the federation (`federation`)
           app/            a Flower project: names our apps and the federation's folder
           tls/            our own certificate authority, and the SuperLink's certificate
           nodes/          a key pair for each SuperNode
           flower/         Flower's home: its configuration, the SuperLink's database and token, secrets, logs

Everything stays on this computer's loopback. If another host is given, nodes reach the SuperLink there through our
proxy (`nodes_door`), which forwards nothing but their requests. Other accounts of this computer reach loopback, too,
but find no token: only the owner enters `flower/`, and apps get theirs from our executor. Flower's telemetry is off.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgelora.base.errors import EdgeloraError, InputError, MissingPackage
from edgelora.base.http_server import Server
from edgelora.base.progress import Progress
from edgelora.core.formats.files import SECRET, private_folder, write_atomic

from . import executor, superlink
from .federation import Federation
from .node_proxy import nodes_door
from .superlink import write_credentials

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "GRPC_VERBOSITY": "ERROR",
}
DAYS = 3650  # that a certificate is valid
READY_SECONDS, STOP_SECONDS = 90.0, 10.0
LOOPBACK = ("127.0.0.1", "localhost")
NETWORK = "fleet"  # the SuperLink's name in Flower's configuration
_PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "edgelora-fleet"
version = "1.0.0"
description = "A federation of EdgeLoRA's boards"
license = "MIT"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["fleet_app"]

[tool.flwr.app]
publisher = "edgelora"

[tool.flwr.app.components]
serverapp = "fleet_app.server:app"
clientapp = "fleet_app.client:app"

[tool.flwr.app.config]
state = {state}
data = {data}
site = {site}
gateways = {gateways}
"""
_APP = '''"""The {0} of a fleet."""

from edgelora.fleet.{0}_app import app

__all__ = ["app"]
'''


class DeploymentError(EdgeloraError, RuntimeError):
    """A process of Flower failed; the message names its log."""


# ---- files


def write_project(
    folder: Path,
    data: str = "",
    site: Path | None = None,
    address: str = "127.0.0.1:9092",
    gateways: Path | None = None,
) -> Path:
    """Writes a Flower project for the federation in `folder`; its path. Boards are twins with `data`, or a site's.

    gateways: a folder with a gateway's folder for each node of a simulation: 0, 1 and so on.
    """
    if bool(data) == bool(site):
        raise InputError("a federation has twins with data, or boards of a fleet's folder: give one of these")
    app, quoted = folder / "app", json.dumps
    paths = {"state": folder, "site": site, "gateways": gateways}
    quoted_paths = {name: quoted(str(path.resolve()) if path else "") for name, path in paths.items()}
    text = _PROJECT.format(data=quoted(data), **quoted_paths)
    write_atomic(app / "pyproject.toml", text.encode())
    write_atomic(app / "fleet_app" / "__init__.py", b'"""A federation of boards."""\n')
    for side in ("server", "client"):
        write_atomic(app / "fleet_app" / f"{side}.py", _APP.format(side).encode())
    if not (folder / "tls" / "ca.crt").exists():
        write_certificates(folder / "tls", address.rpartition(":")[0])
    write_connection(folder, address)
    return app


def write_connection(folder: Path, address: str) -> None:
    """Writes Flower's configuration for a SuperLink that nodes reach at this address."""
    authority = json.dumps(str((folder / "tls" / "ca.crt").resolve()))
    write_config(folder, control_of(address), f'root-certificates = {authority}\n\n[edgelora]\nnodes = "{address}"\n')


def write_config(folder: Path, address: str, more: str) -> None:
    """Writes Flower's configuration. address: where the SuperLink takes commands; more: further lines of TOML."""
    config = f'[superlink]\ndefault = "{NETWORK}"\n\n[superlink.{NETWORK}]\naddress = "{address}"\n'
    write_atomic(private_folder(folder / "flower") / "config.toml", (config + more).encode())


def control_of(address: str) -> str:
    """Where a SuperLink listens whose nodes use this address: the address if on loopback, else loopback's next port."""
    host, _, port = address.rpartition(":")
    return address if host in LOOPBACK else f"127.0.0.1:{int(port) % 65535 + 1}"


def write_certificates(folder: Path, host: str) -> None:
    """Writes ca.crt, server.crt and server.key (P-256) for a SuperLink on this host."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "EdgeLoRA fleet")])
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    if host not in ("localhost", "127.0.0.1"):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))

    def certificate(
        subject: x509.Name, public: ec.EllipticCurvePublicKey, authority: bool, extra: x509.ExtensionType
    ) -> bytes:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        made = made.not_valid_after(now + datetime.timedelta(days=DAYS)).add_extension(extra, critical=False)
        made = made.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        return made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    write_atomic(folder / "ca.crt", certificate(ca_name, ca_key.public_key(), True, identifier))
    alternative = x509.SubjectAlternativeName(names)
    write_atomic(folder / "server.crt", certificate(server, key.public_key(), False, alternative))
    write_atomic(folder / "server.key", _private(key, serialization.PrivateFormat.PKCS8), SECRET)


def write_node_key(folder: Path, name: str) -> Path:
    """Writes a SuperNode's key pair, `name` and `name.pub` (P-384, OpenSSH format); the private key's path."""
    key = ec.generate_private_key(ec.SECP384R1())
    write_atomic(folder / name, _private(key, serialization.PrivateFormat.OpenSSH), SECRET)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    write_atomic(folder / f"{name}.pub", public + b"\n")
    return folder / name


def _private(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


# ---- processes


class Deployment:
    """Flower's processes for the federation in a folder; leaving `with` ends those that it started."""

    def __init__(self, folder: Path, port: int = 9092, host: str = "127.0.0.1") -> None:
        self.folder, self.port, self.host = folder, port, host
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._door: Server | None = None

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name)
        if self._door:
            self._door.server_close()

    @property
    def address(self) -> str:
        """Where nodes reach the SuperLink."""
        return f"{self.host}:{self.port}"

    @property
    def control(self) -> str:
        """Where the SuperLink listens for commands: whoever reaches it runs code as its owner."""
        return control_of(self.address)

    def start_superlink(self, wait: bool = True) -> None:
        """Starts it with TLS, node authentication and a database on disk. DeploymentError: the port is taken."""
        if wait and self._listens():
            raise DeploymentError(
                f"{self.control} is in use", remedy="a run may be using it: stop it, or don't start Flower again"
            )
        tls = self.folder / "tls"
        certificates = [f"--ssl-{name}={tls / file}" for name, file in _TLS.items()]
        options = ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
        database = f"--database={(self.folder / 'flower' / 'state.db').resolve()}"
        host, _, port = self.control.rpartition(":")
        where = [f"--host={host}", f"--port={port}"]
        if self.control != self.address and not self._door:
            write_connection(self.folder, self.address)  # an earlier edgelora wrote one address for nodes and commands
            self._door = nodes_door(self.host, self.port, int(port), tls)
            self._door.start()
        self._start_link([*certificates, *options, database, *where], self._trust)
        if wait:
            self.wait(self._listens, "superlink")

    def start_simulator(self) -> None:
        """Starts a SuperLink whose runs simulate nodes with Ray: for this computer alone, without TLS."""
        write_config(self.folder, self.address, "insecure = true\n")
        options = ["--insecure", "--simulation", "--disable-runtime-dependency-installation"]
        where = ["--host=127.0.0.1", f"--port={self.port}"]
        self._start_link([*options, *where], ["--insecure"])
        self.wait(self._listens, "superlink")

    def _start_link(self, options: list[str], trust: list[str]) -> None:
        """Starts the SuperLink with a new token for its commands."""
        _program("flower-superlink")
        write_credentials(private_folder(self.folder / "flower"), self.control)
        self._start_server("superlink", [sys.executable, "-m", superlink.__name__, *options], self.control, trust)

    def _start_server(self, name: str, command: list[str], address: str, trust: list[str]) -> None:
        """Starts a server of apps, and their executor: a new secret keeps others from the apps' tasks."""
        secret = private_folder(self.folder / "flower") / f"{name}.secret"
        write_atomic(secret, secrets.token_bytes(32), SECRET)
        secret_option = f"--superexec-auth-secret-file={secret.resolve()}"
        self.stop(_executor_of(name))
        self._start(name, [*command, "--isolation=process", secret_option])
        where = [f"--runtime-api-address={address}", f"--parent-pid={self.processes[name].pid}"]
        self._start(_executor_of(name), [sys.executable, "-m", executor.__name__, *where, secret_option, *trust])

    def start(self, gateways: Sequence[Path] = (), nodes: int = 0) -> None:
        """Starts a SuperLink, a SuperNode for each gateway's folder, and `nodes` without one; waits for all."""
        self.start_superlink()
        for place, gateway in enumerate([*gateways, *[None] * nodes]):
            self.start_node(f"node{place}", free_port(), gateway)
        self.wait_nodes(len(gateways) + nodes)

    def start_node(self, name: str, runtime_port: int, gateway: Path | None = None, register: bool = True) -> None:
        """Starts a SuperNode with its own key. register: its key first; gateway: the folder that its gateway writes."""
        key = self.folder / "nodes" / name
        if not key.exists():
            write_node_key(key.parent, name)
        if register:
            self.register(name)
        options = [*self._trust, "--superlink", self.address]
        options += ["--auth-supernode-private-key", str(key), "--host", "127.0.0.1", "--port", str(runtime_port)]
        if gateway:
            options += ["--node-config", f'gateway="{gateway.resolve()}"']
        command = [_program("flower-supernode"), *options, *_runtime(self.folder)]
        self._start_server(name, command, f"127.0.0.1:{runtime_port}", self._trust)

    def register(self, name: str) -> None:
        """Registers a node's key with the SuperLink; a registered key stays registered."""
        public = str((self.folder / "nodes" / f"{name}.pub").resolve())
        self._control("supernode", "register", public)

    def run(self, nodes: int = 0) -> int:
        """Submits a run of the app; its number. nodes: how many to simulate. DeploymentError if it is refused."""
        simulated = ["--federation-config", f"num-supernodes={nodes} client-resources-num-cpus=1"] if nodes else []
        said = self._control("run", str((self.folder / "app").resolve()), NETWORK, *simulated)
        if said is None:
            raise DeploymentError(f"the SuperLink rejected the run: see {self.log('flwr')}")
        return int(said["run-id"])

    def status(self, run: int) -> str:
        """A run's status, in Flower's words."""
        said = self._control("ls", NETWORK, "--run-id", str(run)) or {}
        return str((said.get("runs") or [{}])[0].get("status", ""))

    def completed(self, run: int) -> bool:
        """Whether a run has ended without an error."""
        return self.status(run) == "finished:completed"

    def wait_run(self, run: int, seconds: float = 600.0) -> None:
        """Waits until a run has ended. DeploymentError if it fails or takes longer than `seconds`."""
        end = time.monotonic() + seconds
        while not (status := self.status(run)).startswith("finished"):
            if time.monotonic() > end:
                raise DeploymentError(
                    f"run {run} is {status or 'unknown'} after {seconds:.0f} s: see {self.folder}/flower"
                )
            time.sleep(1.0)
        if not status.endswith("completed"):
            raise DeploymentError(
                f"run {run} ended as {status}: see {self.log('superlink')}", remedy="repeat the command to continue"
            )

    def nodes_online(self) -> int:
        """How many SuperNodes are online."""
        nodes = (self._control("supernode", "list") or {}).get("nodes", [])
        return sum(str(node.get("status", "")).startswith("online") for node in nodes)

    def wait_nodes(self, count: int) -> None:
        self.wait(lambda: self.nodes_online() >= count, "superlink")

    def stop_run(self, run: int) -> None:
        self._control("stop", str(run), NETWORK)

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """Ends a process that this deployment started, its executor, and their children."""
        processes = [self.processes.pop(one) for one in (name, _executor_of(name)) if one in self.processes]
        whole = _signal(processes, number)
        _signal(processes, signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            for process in processes:
                process.wait(STOP_SECONDS)
        for pid in whole:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in processes:
            process.wait()

    def signal(self, name: str, number: int) -> None:
        """Signals a process, its executor, and all their descendants, including those in other sessions."""
        _signal([self.processes[one] for one in (name, _executor_of(name)) if one in self.processes], number)

    def log(self, name: str) -> Path:
        return self.folder / "flower" / f"{name}.log"

    def wait(self, done: Callable[[], bool], name: str, seconds: float = READY_SECONDS) -> None:
        """Waits until `done`. DeploymentError if the process ends first, or the time runs out."""
        end = time.monotonic() + seconds
        while not done():
            ended = self.processes[name].poll() is not None
            if ended or time.monotonic() > end:
                what = "ended" if ended else f"was not ready within {seconds:.0f} s"
                raise DeploymentError(f"{name} {what}: see {self.log(name)}")
            time.sleep(0.5)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(_split(self.control), 1.0):
            return True
        return False

    @property
    def _trust(self) -> list[str]:
        return [f"--root-certificates={self.folder / 'tls' / 'ca.crt'}"]

    def _start(self, name: str, command: list[str]) -> None:
        with self._appended(name) as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, **self._owner_alone
            )

    def _appended(self, name: str) -> BinaryIO:
        return open(self.log(name), "ab", opener=lambda path, flags: os.open(path, flags, SECRET))

    def _control(self, *words: str) -> dict[str, Any] | None:
        """The JSON output of a `flwr` command; None if it fails."""
        command = [_program("flwr"), *words, "--format", "json"]
        if words[0] == "supernode":
            command[len(words) + 1 : len(words) + 1] = [NETWORK]
        done = subprocess.run(command, capture_output=True, **self._owner_alone)
        with contextlib.suppress(OSError), self._appended("flwr") as log:  # a full disk costs the log
            log.write(f"{' '.join(words)}: {done.returncode}\n".encode() + done.stdout + done.stderr)
        try:
            found = json.loads(done.stdout)
        except ValueError:
            return None
        return found if isinstance(found, dict) and done.returncode == 0 and found.get("success") else None

    @property
    def _owner_alone(self) -> dict[str, Any]:
        """Options of Flower's processes, whose files no other account can read."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # for programs that they start
        home = str((self.folder / "flower").resolve())
        environment = os.environ | QUIET | {"PATH": path, "FLWR_HOME": home, superlink.ADDRESS: self.control}
        return {"env": environment, "stdin": subprocess.DEVNULL, "umask": 0o077}


def _executor_of(name: str) -> str:
    return f"{name}-executor"


def _signal(processes: Iterable[subprocess.Popen[bytes]], number: int) -> list[int]:
    """Signals processes and their descendants; their ids."""
    whole = [pid for process in processes for pid in family(process.pid)]
    for pid in whole:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return whole


def family(pid: int) -> list[int]:
    """The ids of a process and its descendants, parents first."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [(int(child), int(parent)) for child, parent in map(str.split, listed.splitlines())]
    found = [pid]
    for one in found:
        found += [child for child, parent in parents if parent == one]
    return found


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def free_port() -> int:
    """A port of this computer that is free now, as the next one is (`control_of`). DeploymentError: none was found.

    No connection gets it before it is used: systems take theirs from 32768 on, or higher.
    """
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 1))
            return port
    raise DeploymentError("no port is free", remedy="end programs that listen on ports from 20000 on")


def address_of(folder: Path) -> str:
    """Where nodes reach the SuperLink, from Flower's configuration in a federation's folder. InputError."""
    path = folder / "flower" / "config.toml"
    try:
        config = tomllib.loads(path.read_text())
        return str(config.get("edgelora", {}).get("nodes") or config["superlink"][NETWORK]["address"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} names no SuperLink ({error!r})", remedy="make it with edgelora fleet init") from None


_TLS = {"ca-certfile": "ca.crt", "certfile": "server.crt", "keyfile": "server.key"}


def _runtime(folder: Path) -> list[str]:
    """A SuperNode's options for its interface to the processes that it starts, with the same certificates."""
    return [f"--ssl-{name}={folder / 'tls' / file}" for name, file in _TLS.items()]


def check_flower() -> None:
    """Raises `MissingPackage` without the programs of Flower that a deployment runs."""
    for name in ("flower-superlink", "flower-supernode", "flwr"):
        _program(name)


def _program(name: str) -> str:
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise MissingPackage(f"{name} is not installed next to {sys.executable}: pip install 'edgelora[fleet]'")
    return str(path)


def federated(deployment: Deployment, run: int, progress: Progress) -> Iterator[Federation]:
    """Yields the federation after each new round, until its run has ended."""
    done = -1
    while True:
        ended = deployment.status(run).startswith("finished")
        now = Federation.open(deployment.folder)
        if now.done != done:
            done = now.done
            last = now.rounds[-1] if now.rounds else None
            progress(done, now.plan.rounds, f"{last.survivors} of {last.asked} boards" if last else "begins")
            yield now
        if ended:
            return
        time.sleep(1.0)
