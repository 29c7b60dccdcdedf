// Status texts of fleets.
// SPDX-License-Identifier: MIT

#include "fleet/fleet.h"

const char *edgelora_fleet_text(int32_t status) {
    switch (status) {
#define FLEET_CASE(name, value, text) \
    case EDGELORA_FLEET_##name: \
        return text;
        EDGELORA_FLEET_LIST(FLEET_CASE)
    }
    return "unknown status";
}
