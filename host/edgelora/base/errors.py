"""The one tree of errors: whatever a caller, a file, a board or a server did wrong is an `EdgeloraError`.

    EdgeloraError
    ├── InputError           an argument, or what a file holds, that can't be used
    ├── FileError            a file that can't be read or written as it has to be
    ├── MissingPackage       a Python package that this needs is not installed
    ├── ResourceError        a file of EdgeLoRA's own is missing or doesn't fit
    ├── UsageError           the command line is wrong
    │                        --- files
    ├── FormatError          a `.elm`, `.ela` or `.eld` breaks a rule of its format
    ├── BundleError          a `.elu` does
    ├── NpzError             a `.npz` is damaged or has more in it than can be used
    ├── TfliteError          a `.tflite` file can't be imported
    ├── KerasError           a Keras model can't be
    ├── TorchError           a PyTorch module can't be
    ├── PeftError            a checkpoint of PEFT can't be
    ├── SafetensorsError     a `.safetensors` file can't be read
    ├── PlanError            a plan file can't be used
    ├── ReportError          a report or metrics file can't be
    │                        --- boards
    ├── BoardError           no such board, or a bad profile
    ├── BuildError           firmware can't be built
    ├── Uf2Error             a UF2 image is not for this board
    ├── FlashError           the firmware is not on the board
    ├── InstallError         the module is not on the board
    ├── PortError            no board to talk to, or more than one
    ├── SimError             a virtual board can't start, or is not there
    ├── LineLost             the byte stream to a board broke
    ├── LinkError            a board can't be reached, or lost what was relied on
    ├── DeviceError          a board refused a request
    │                        --- work
    ├── TwinError            the core on this computer refused a call
    ├── FleetError           a member of a fleet, in the core on this computer, refuses a message
    ├── SpeechError          the program that speaks keywords failed
    ├── WorkflowError        a step can't go on
    ├── Suspended            a board's run is suspended, and can go on
    ├── DeploymentError      a process of Flower did not do what it was started for
    ├── BudgetSpent          a federation would tell more of a board than it may
    ├── ReleaseError         an update can't be released
    ├── RosterError          a roster of a fleet can't be used or changed
    ├── LedgerError          a fleet's ledger is missing, or can't be read
    ├── GatewayError         a fleet's gateway can't be reached
    ├── MemberError          a board of this computer can't take part in a round
    ├── PublishError         a fleet's adapter can't be published or taken back
    ├── ReplyRefused         a board's reply in a round is not what it can say now
    ├── RoundAborted         a round of a fleet has too few boards left
    └── FetchError           an update did not arrive

An exception that is neither one of these nor an OSError is a bug of EdgeLoRA itself.
"""

from __future__ import annotations


class EdgeloraError(Exception):
    """The message says what was given, what is allowed and what to do. remedy: the last of these by itself, or ""."""

    def __init__(self, message: str = "", *, remedy: str = "") -> None:
        super().__init__(f"{message}: {remedy}" if remedy else message)
        self.remedy = remedy


class InputError(EdgeloraError, ValueError):
    """An argument, or what a file holds, can't be used."""


class FileError(EdgeloraError, OSError):
    """A file can't be read or written as it has to be, or an address can't be listened on."""


class MissingPackage(EdgeloraError, ModuleNotFoundError):
    """A package is not installed; the message says how to install it."""
