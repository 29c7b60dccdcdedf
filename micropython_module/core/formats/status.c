// Status texts.
// SPDX-License-Identifier: MIT

#include "edgelora.h"

const char *edgelora_status_text(edgelora_status_t status) {
    switch (status) {
#define EDGELORA_STATUS_CASE(name, value, text) \
    case EDGELORA_##name: \
        return text;
        EDGELORA_STATUS_LIST(EDGELORA_STATUS_CASE)
    }
    return "unknown status";
}
