# EdgeLoRA on the device: a fleet's core and cryptography, for `fleet`. SPDX-License-Identifier: MIT
# The C functions are in a module of the firmware, or among the globals of this one where it is native.

try:
    from _edgelora_fleet import *
except ImportError:
    pass
