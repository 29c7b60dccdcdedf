# EdgeLoRA on the device: a fleet's core and cryptography, for `fleet`. SPDX-License-Identifier: MIT
# The C functions are in `_core`: a module of the firmware or, in the native module, a class among the globals of
# this module.

if "_core" not in globals():
    import _edgelora_fleet as _core
