"""All errors of EdgeLoRA: any fault of a caller, a file, a board or a server is an `EdgeloraError`.

    EdgeloraError
    ├── InputError           an argument, or a file's content, is invalid
    ├── FileError            a file can't be read or written
    ├── MissingPackage       a required Python package is not installed
    ├── ResourceError        a file of EdgeLoRA's own is missing or doesn't fit
    ├── UsageError           the command line is wrong
    │                        --- files
    ├── FormatError          a `.elm`, `.ela` or `.eld` breaks a rule of its format
    ├── BundleError          a `.elu` breaks a rule of its format
    ├── NpzError             a `.npz` is damaged or too large
    ├── TfliteError          a `.tflite` file can't be imported
    ├── KerasError           a Keras model can't be imported
    ├── FusedError           a Keras model has a layer that can't be fused
    ├── TorchError           a PyTorch module can't be imported
    ├── LanguageModelError   a language model can't be imported
    ├── TokenizerError       a tokenizer can't be imported
    ├── PeftError            a PEFT checkpoint can't be imported
    ├── SafetensorsError     a `.safetensors` file can't be read
    ├── NotCounts            a recording without units has other values than 16-bit counts
    ├── PlanError            a plan file can't be used
    ├── ReportError          a report or metrics file can't be read
    │                        --- boards
    ├── BoardError           an unknown board, or a bad profile
    ├── BuildError           firmware can't be built
    ├── Uf2Error             a UF2 image is not for this board
    ├── FlashError           flashing the firmware failed
    ├── InstallError         installing the module failed
    ├── PortError            no board found, or more than one
    ├── SimError             a virtual board can't start, or is missing
    ├── LineLost             the byte stream to a board broke
    ├── LinkError            a board can't be reached, or lost its state
    ├── DeviceError          a board refused a request
    │                        --- work
    ├── TwinError            the core on this computer refused a call
    ├── FleetError           a fleet member in the host's core refused a message
    ├── SpeechError          the speech synthesizer failed
    ├── TextError            text can't be fetched
    ├── WorkflowError        a step can't continue
    ├── Suspended            a board's run was suspended, and can be resumed
    ├── DeploymentError      a Flower process failed
    ├── BudgetSpent          a round would exceed a federation's privacy budget
    ├── ReleaseError         an update can't be released
    ├── RosterError          a roster of a fleet can't be used or changed
    ├── LedgerError          a fleet's ledger is missing, or can't be read
    ├── GatewayError         a fleet's gateway can't be reached
    ├── MemberError          a board of this computer can't join a round
    ├── PublishError         a fleet's adapter can't be published or rolled back
    ├── ReplyRefused         a board's reply is invalid in the round's current step
    ├── RoundAborted         too few boards are left in a round
    └── FetchError           an update could not be downloaded

Any other exception, except OSError, is a bug of EdgeLoRA.
"""

from __future__ import annotations


class EdgeloraError(Exception):
    """The message says what was given, what is allowed and what to do. remedy: only what to do, or ""."""

    def __init__(self, message: str = "", *, remedy: str = "") -> None:
        super().__init__(f"{message}: {remedy}" if remedy else message)
        self.remedy = remedy


class InputError(EdgeloraError, ValueError):
    """An argument, or a file's content, is invalid."""


class FileError(EdgeloraError, OSError):
    """A file can't be read or written, or a server can't listen on an address."""


class MissingPackage(EdgeloraError, ModuleNotFoundError):
    """A package is not installed; the message says how to install it."""
