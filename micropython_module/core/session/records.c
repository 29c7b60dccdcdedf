// Adds, replaces or removes one record of an adapter file.
// SPDX-License-Identifier: MIT

#include "session/arena.h"

static uint8_t *put_record(
    uint8_t *out, edgelora_record_kind_t kind, const void *body, uint32_t size) {
    edgelora_record_t head = {(uint16_t)kind, EDGELORA_RECORD_VERSION, size};
    copy_bytes(out, &head, sizeof(head));
    copy_bytes(out + sizeof(head), body, size);
    for (uint32_t at = (uint32_t)sizeof(head) + size; at & 3; ++at) {
        out[at] = 0;
    }
    return out + record_span(size);
}

// A record of a kind: its body and size; body NULL: none.
typedef struct {
    const void *body;
    uint32_t size;
} body_t;

static body_t body_of(const void *adapter, uint32_t size, edgelora_record_kind_t kind) {
    const edgelora_record_t *r = adapter ? edgelora_record(adapter, size, kind) : 0;
    return r ? (body_t){r + 1, r->size} : (body_t){0, 0};
}

static int32_t with_record(edgelora_session_t *s, const void *adapter, uint32_t size,
    edgelora_record_kind_t kind, const void *body, uint32_t body_size, void *out, uint32_t room) {
    edgelora_adapter_t h;
    edgelora_adapter_header(&h, session_model(s), 0);
    edgelora_ends_t ends = {sizeof(h), sizeof(h)};
    if (adapter) {
        edgelora_status_t status = edgelora_adapter_fits(s, adapter, size, &ends);
        if (status != EDGELORA_OK) {
            return status;
        }
        copy_bytes(&h, adapter, sizeof(h));
    }
    if (kind < EDGELORA_RECORD_CLASSES || kind >= EDGELORA_RECORD_KINDS || body_size >= 1u << 24) {
        return EDGELORA_ERR_RECORD;
    }
    uint32_t whole = ends.layers;
    h.flags &= (uint16_t)~EDGELORA_RECORDS;
    for (uint32_t k = EDGELORA_RECORD_CLASSES; k < EDGELORA_RECORD_KINDS; ++k) {
        body_t b = k == kind ? (body_t){body, body_size} : body_of(adapter, size, k);
        whole += b.body ? record_span(b.size) : 0;
        h.flags |= b.body ? EDGELORA_RECORDS : 0;
    }
    if (!h.layer_count && !(h.flags & EDGELORA_RECORDS)) {
        return 0;
    }
    if (!out) {
        return (int32_t)whole;
    }
    if (room < whole) {
        return EDGELORA_ERR_SIZE;
    }
    if ((uintptr_t)out & 3) {
        return EDGELORA_ERR_ALIGN;
    }
    if (!writable(s, out, whole) || !apart(out, whole, adapter, size) ||
        !apart(out, whole, body, body_size) || !outside(s, body, body_size)) {
        return EDGELORA_ERR_ALIAS;
    }
    if (adapter) {
        copy_bytes(out, adapter, ends.layers);
    }
    uint8_t *at = (uint8_t *)out + ends.layers;
    for (uint32_t k = EDGELORA_RECORD_CLASSES; k < EDGELORA_RECORD_KINDS; ++k) {
        body_t b = k == kind ? (body_t){body, body_size} : body_of(adapter, size, k);
        uint8_t *begin = at;
        at = b.body ? put_record(at, k, b.body, b.size) : at;
        begin += sizeof(edgelora_record_t);
        if (b.body && !edgelora_body_fits(session_model(s), k, begin, b.size)) {
            return EDGELORA_ERR_FORMAT; // never write a record that a check would refuse
        }
    }
    h.file_size = whole;
    copy_bytes(out, &h, sizeof(h));
    edgelora_crc_write(out, whole);
    return (int32_t)whole;
}

int32_t edgelora_with_record(edgelora_session_t *s, const void *adapter, uint32_t size,
    edgelora_record_kind_t kind, const void *body, uint32_t body_size, void *out, uint32_t room) {
    return edgelora_enter(s)
        ? edgelora_leave(s, with_record(s, adapter, size, kind, body, body_size, out, room))
        : EDGELORA_ERR_BUSY;
}
