// Checks of headers and signal records make no access out of bounds and never overflow, for any
// bytes: CBMC checks every access.
// SPDX-License-Identifier: MIT

#include <stddef.h>

#include "formats/header.c"
#include "formats/signal.c"

#include "proof.h"

enum { MOST = 80 };

// Any CRC, so that the other checks are reached.
uint32_t edgelora_crc32(uint32_t crc, const void *data, uint32_t size) {
    (void)crc, (void)data, (void)size;
    return nondet_u32();
}

void prove_signal(void) {
    struct {
        edgelora_model_t header;
        edgelora_tensor_t tensors[2];
        uint32_t rest[20];
    } file;
    file.header.tensors = sizeof(edgelora_model_t);
    uint32_t size = nondet_u32();
    ASSUME(size >= sizeof file - sizeof file.rest && size <= sizeof file);
    PROVE(edgelora_signal_check(&file, size) != EDGELORA_OK || !file.header.signal ||
        4u * file.header.signal + sizeof(edgelora_signal_t) <= size);
}

void prove_header(void) {
    uint32_t size = nondet_u32();
    ASSUME(size <= MOST);
    uint32_t *file = __CPROVER_allocate(size, 0);
    PROVE(edgelora_header_check(file, size, 'M', 2, 68) != EDGELORA_OK || size >= 68);
}
