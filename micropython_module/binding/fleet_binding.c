// The MicroPython binding of fleet members and their cryptography, a separate module: parses
// arguments, calls the core, turns a status into an exception.
// SPDX-License-Identifier: MIT

#include "compat.h"
#include "crypto.h"
#include "fleet/fleet.h"

static int32_t check(int32_t status) {
    if (status < 0) {
        edgelora_raise(edgelora_fleet_text(status));
    }
    return status;
}

static mp_obj_t result(int32_t found) {
    return MP_OBJ_NEW_SMALL_INT(check(found));
}

static mp_buffer_info_t buffer(mp_obj_t obj, int flags) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(obj, &info, flags);
    return info;
}

// The bytes of a buffer; raises an error unless it has this size.
static void *sized(mp_obj_t obj, size_t size, int flags) {
    mp_buffer_info_t info = buffer(obj, flags);
    check(info.len == size ? EDGELORA_FLEET_OK : EDGELORA_FLEET_ERR_SIZE);
    return info.buf;
}

static const uint8_t *key(mp_obj_t obj) {
    return sized(obj, 32, MP_BUFFER_READ);
}

static uint32_t word(mp_obj_t obj) {
    return (uint32_t)mp_obj_get_int_truncated(obj);
}

static edgelora_member_t *member(mp_obj_t obj) {
    mp_buffer_info_t info = buffer(obj, MP_BUFFER_RW);
    edgelora_member_t *m = edgelora_member(info.buf, info.len);
    check(m ? EDGELORA_FLEET_OK : EDGELORA_FLEET_ERR_MEMBER);
    return m;
}

static edgelora_sha512_t *hash(mp_obj_t obj) {
    edgelora_sha512_t *s = sized(obj, sizeof(edgelora_sha512_t), MP_BUFFER_RW);
    check((uintptr_t)s % 8 ? EDGELORA_FLEET_ERR_SIZE : EDGELORA_FLEET_OK);
    return s;
}

// core_sha512_begin() -> initial state of a hash
static mp_obj_t core_sha512_begin(void) {
    edgelora_sha512_t s;
    edgelora_sha512_begin(&s);
    return mp_obj_new_bytes((const uint8_t *)&s, sizeof(s));
}
static MP_DEFINE_CONST_FUN_OBJ_0(core_sha512_begin_obj, core_sha512_begin);

// core_sha512_add(state, data)
static mp_obj_t core_sha512_add(mp_obj_t state, mp_obj_t data) {
    mp_buffer_info_t info = buffer(data, MP_BUFFER_READ);
    edgelora_sha512_add(hash(state), info.buf, info.len);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_sha512_add_obj, core_sha512_add);

// core_sha512_end(state) -> the hash, u8[64]
static mp_obj_t core_sha512_end(mp_obj_t state) {
    uint8_t digest[64];
    edgelora_sha512_end(hash(state), digest);
    return mp_obj_new_bytes(digest, sizeof(digest));
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_sha512_end_obj, core_sha512_end);

// core_x25519_public(secret) -> public key, u8[32]
static mp_obj_t core_x25519_public(mp_obj_t secret) {
    uint8_t out[32];
    edgelora_x25519_public(out, key(secret));
    return mp_obj_new_bytes(out, sizeof(out));
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_x25519_public_obj, core_x25519_public);

// core_x25519(secret, public key) -> shared secret, u8[32]; an error if it is zero
static mp_obj_t core_x25519(mp_obj_t secret, mp_obj_t public_key) {
    uint8_t out[32];
    check(edgelora_x25519(out, key(secret), key(public_key)) ? EDGELORA_FLEET_OK
                                                             : EDGELORA_FLEET_ERR_KEY);
    return mp_obj_new_bytes(out, sizeof(out));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_x25519_obj, core_x25519);

// core_member_size(neighbours) -> bytes
static mp_obj_t core_member_size(mp_obj_t neighbours) {
    return MP_OBJ_NEW_SMALL_INT(edgelora_member_size(word(neighbours)));
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_member_size_obj, core_member_size);

static uint16_t half(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

// core_member_begin(memory, secret, server, fleet, seed, round, roster, index, policy, spent);
// policy: u16 least survivors, least z, least and most of a cohort, colluders, u8 survivors
// percent, masks, u32 budget; spent: u64
static mp_obj_t core_member_begin(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t memory = buffer(args[0], MP_BUFFER_RW);
    const uint8_t *p = sized(args[8], 16, MP_BUFFER_READ);
    edgelora_board_t board = {
        .secret = key(args[1]),
        .server = key(args[2]),
        .fleet = sized(args[3], 8, MP_BUFFER_READ),
        .seed = key(args[4]),
        .round = word(args[5]),
        .roster = word(args[6]),
        .index = (uint16_t)word(args[7]),
        .policy =
            {
                .least_survivors = half(p),
                .least_z = half(p + 2),
                .least_cohort = half(p + 4),
                .most_cohort = half(p + 6),
                .colluders = half(p + 8),
                .survivors_percent = p[10],
                .masks = p[11],
                .budget = half(p + 12) | (uint32_t)half(p + 14) << 16,
            },
    };
    __builtin_memcpy(&board.spent, sized(args[9], 8, MP_BUFFER_READ), 8);
    return result(edgelora_member_begin(memory.buf, memory.len, &board));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_member_begin_obj, 10, 10, core_member_begin);

// core_member_next(memory) -> the next action, edgelora_next_t
static mp_obj_t core_member_next(mp_obj_t memory) {
    return MP_OBJ_NEW_SMALL_INT(edgelora_member_next(member(memory)));
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_member_next_obj, core_member_next);

// core_member_state(memory) -> (round, stage of the last accepted message, index of the board with
// a bad key)
static mp_obj_t core_member_state(mp_obj_t memory) {
    edgelora_member_t *m = member(memory);
    mp_obj_t items[3] = {
        mp_obj_new_int_from_uint(edgelora_member_round(m)),
        MP_OBJ_NEW_SMALL_INT(edgelora_member_stage(m)),
        MP_OBJ_NEW_SMALL_INT(edgelora_member_culprit(m)),
    };
    return mp_obj_new_tuple(3, items);
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_member_state_obj, core_member_state);

// core_member_task(memory) -> (base id, SHA-256 of the adapter, parameters, epochs, learning rate,
// seed, masks)
static mp_obj_t core_member_task(mp_obj_t memory) {
    const edgelora_task_t *t = edgelora_member_task(member(memory));
    mp_obj_t items[7] = {
        mp_obj_new_bytes(t->base, sizeof(t->base)),
        mp_obj_new_bytes(t->adapter, sizeof(t->adapter)),
        mp_obj_new_int_from_uint(t->parameters),
        MP_OBJ_NEW_SMALL_INT(t->epochs),
        MP_OBJ_NEW_SMALL_INT(t->learning_rate),
        mp_obj_new_int_from_uint(t->seed),
        MP_OBJ_NEW_SMALL_INT(t->masks),
    };
    return mp_obj_new_tuple(7, items);
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_member_task_obj, core_member_task);

// core_member_spent(memory) -> total cost of all rounds, u64
static mp_obj_t core_member_spent(mp_obj_t memory) {
    uint64_t spent = edgelora_member_spent(member(memory));
    return mp_obj_new_bytes((const uint8_t *)&spent, sizeof(spent));
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_member_spent_obj, core_member_spent);

// core_member_receive(memory, message) -> 0, or 1 for a repeated message; overwrites an accepted
// message
static mp_obj_t core_member_receive(mp_obj_t memory, mp_obj_t message) {
    mp_buffer_info_t info = buffer(message, MP_BUFFER_RW);
    return result(edgelora_member_receive(member(memory), info.buf, info.len));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_member_receive_obj, core_member_receive);

// core_member_neighbours(memory) -> indices of the neighbours, u16 each
static mp_obj_t core_member_neighbours(mp_obj_t memory) {
    uint16_t indices[EDGELORA_FLEET_MAX_NEIGHBOURS];
    uint32_t count = edgelora_member_neighbours(member(memory), indices);
    return mp_obj_new_bytes((const uint8_t *)indices, 2 * count);
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_member_neighbours_obj, core_member_neighbours);

// core_member_key(memory, place, public key)
static mp_obj_t core_member_key(mp_obj_t memory, mp_obj_t place, mp_obj_t public_key) {
    return result(edgelora_member_key(member(memory), word(place), key(public_key)));
}
static MP_DEFINE_CONST_FUN_OBJ_3(core_member_key_obj, core_member_key);

// core_member_work(memory) -> pieces of work left
static mp_obj_t core_member_work(mp_obj_t memory) {
    return result(edgelora_member_work(member(memory)));
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_member_work_obj, core_member_work);

// core_member_update(memory, masters before, after, reply)
static mp_obj_t core_member_update(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t before = buffer(args[1], MP_BUFFER_READ),
                     reply = buffer(args[3], MP_BUFFER_RW);
    const int16_t *after = sized(args[2], before.len, MP_BUFFER_READ);
    check(before.len % 2 || (uintptr_t)before.buf & 1 || (uintptr_t)after & 1
            ? EDGELORA_FLEET_ERR_SIZE
            : EDGELORA_FLEET_OK);
    return result(edgelora_member_update(
        member(args[0]), before.buf, after, before.len / 2, reply.buf, reply.len));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(core_member_update_obj, 4, 4, core_member_update);

// core_member_reply_size(memory) -> bytes
static mp_obj_t core_member_reply_size(mp_obj_t memory) {
    return MP_OBJ_NEW_SMALL_INT(edgelora_member_reply_size(member(memory)));
}
static MP_DEFINE_CONST_FUN_OBJ_1(core_member_reply_size_obj, core_member_reply_size);

// core_member_reply(memory, reply) -> its bytes
static mp_obj_t core_member_reply(mp_obj_t memory, mp_obj_t reply) {
    mp_buffer_info_t info = buffer(reply, MP_BUFFER_RW);
    return result(edgelora_member_reply(member(memory), info.buf, info.len));
}
static MP_DEFINE_CONST_FUN_OBJ_2(core_member_reply_obj, core_member_reply);

// Names are written in full, so that MicroPython's build finds the qstrs.
#define FLEET_FUNCTIONS(X) \
    X(MP_QSTR_sha512_begin, core_sha512_begin_obj) \
    X(MP_QSTR_sha512_add, core_sha512_add_obj) \
    X(MP_QSTR_sha512_end, core_sha512_end_obj) \
    X(MP_QSTR_x25519_public, core_x25519_public_obj) \
    X(MP_QSTR_x25519, core_x25519_obj) \
    X(MP_QSTR_member_size, core_member_size_obj) \
    X(MP_QSTR_member_begin, core_member_begin_obj) \
    X(MP_QSTR_member_next, core_member_next_obj) \
    X(MP_QSTR_member_state, core_member_state_obj) \
    X(MP_QSTR_member_task, core_member_task_obj) \
    X(MP_QSTR_member_spent, core_member_spent_obj) \
    X(MP_QSTR_member_receive, core_member_receive_obj) \
    X(MP_QSTR_member_neighbours, core_member_neighbours_obj) \
    X(MP_QSTR_member_key, core_member_key_obj) \
    X(MP_QSTR_member_work, core_member_work_obj) \
    X(MP_QSTR_member_update, core_member_update_obj) \
    X(MP_QSTR_member_reply_size, core_member_reply_size_obj) \
    X(MP_QSTR_member_reply, core_member_reply_obj)

#if MICROPY_ENABLE_DYNRUNTIME

mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args) {
    MP_DYNRUNTIME_INIT_ENTRY
    EDGELORA_CHECK_CONSTANTS(
        edgelora_fleet_text(EDGELORA_FLEET_OK), MP_QSTR_constants_in_instruction_memory)
    EDGELORA_STORE_CORE(MP_QSTR__core, MP_QSTR_type, FLEET_FUNCTIONS)
    MP_DYNRUNTIME_INIT_EXIT
}

#else

static const mp_rom_map_elem_t fleet_globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__edgelora_fleet)},
#define FLEET_ENTRY(name, obj) {MP_ROM_QSTR(name), MP_ROM_PTR(&obj)},
    FLEET_FUNCTIONS(FLEET_ENTRY)};
static MP_DEFINE_CONST_DICT(fleet_globals, fleet_globals_table);

const mp_obj_module_t edgelora_fleet_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&fleet_globals,
};

MP_REGISTER_MODULE(MP_QSTR__edgelora_fleet, edgelora_fleet_module);

#endif
