# EdgeLoRA on the device: a fleet's core and cryptography, for `fleet`. SPDX-License-Identifier: MIT
# The C functions are those of _core: a module of the firmware, or a class among the globals of this one where it is
# native.

if "_core" not in globals():
    import _edgelora_fleet as _core
