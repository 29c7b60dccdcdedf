// What `.elm` and `.ela` start with.
// SPDX-License-Identifier: MIT

#include "formats/formats.h"

edgelora_status_t edgelora_header_check(
    const void *file, uint32_t size, char kind, uint32_t version, uint32_t header_size) {
    const edgelora_model_t *h = file;
    if ((uintptr_t)file & 3) {
        return EDGELORA_ERR_ALIGN;
    }
    if (size < 16) {
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

edgelora_status_t edgelora_crc_check(const void *file, uint32_t size) {
    const edgelora_model_t *h = file;
    return edgelora_crc32(0, (const uint8_t *)file + 16, size - 16) == h->crc ? EDGELORA_OK
                                                                              : EDGELORA_ERR_CRC;
}
