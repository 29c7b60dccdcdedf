// The common start of `.elm` and `.ela`.
// SPDX-License-Identifier: MIT

#include <stddef.h>

#include "formats/formats.h"

// Both headers are equal up to here.
enum { BEHIND_CRC = offsetof(edgelora_model_t, base_id) };

EDGELORA_RAM edgelora_status_t edgelora_header_check(
    const void *file, uint32_t size, char kind, uint32_t version, uint32_t header_size) {
    const edgelora_model_t *h = file;
    if ((uintptr_t)file & 3) {
        return EDGELORA_ERR_ALIGN;
    }
    if (size < BEHIND_CRC) {
        return EDGELORA_ERR_TRUNCATED;
    }
    if (h->magic[0] != 'E' || h->magic[1] != 'L' || h->magic[2] != kind || h->magic[3] != '1') {
        return EDGELORA_ERR_MAGIC;
    }
    if (h->version != version || h->header_size != header_size) {
        return EDGELORA_ERR_VERSION;
    }
    if (h->file_size > size || size < header_size) {
        return EDGELORA_ERR_TRUNCATED;
    }
    return h->file_size == size ? EDGELORA_OK : EDGELORA_ERR_SIZE;
}

static uint32_t crc_of(const void *file, uint32_t size) {
    return edgelora_crc32(0, (const uint8_t *)file + BEHIND_CRC, size - BEHIND_CRC);
}

edgelora_status_t edgelora_crc_check(const void *file, uint32_t size) {
    const edgelora_model_t *h = file;
    return crc_of(file, size) == h->crc ? EDGELORA_OK : EDGELORA_ERR_CRC;
}

void edgelora_crc_write(void *file, uint32_t size) {
    edgelora_model_t *h = file;
    h->crc = crc_of(file, size);
}

void edgelora_adapter_header(edgelora_adapter_t *h, const edgelora_model_t *m, uint32_t file_size) {
    *h = (edgelora_adapter_t){
        .magic = {'E', 'L', 'A', '1'},
        .version = EDGELORA_ADAPTER_FORMAT,
        .header_size = sizeof(*h),
        .file_size = file_size,
    };
    for (uint32_t i = 0; i < sizeof(h->base_id); ++i) {
        h->base_id[i] = m->base_id[i];
    }
}
