// Bulk input from the USB serial port.
// SPDX-License-Identifier: MIT
//
// MicroPython moves serial input byte by byte and polls the USB stack for each byte, at about 1000
// cycles per byte. This module moves whole packets. Ctrl-C and sys.stdin work as before.

#include <string.h>

#include "py/mphal.h"
#include "py/obj.h"
#include "py/ringbuf.h"
#include "py/runtime.h"
#include "shared/runtime/interrupt_char.h"
#ifndef NO_QSTR // the qstr search does not know TinyUSB's folders
#include "pico/time.h"
#include "shared/tinyusb/mp_usbd.h"
#include "tusb.h"
#endif

#define PACKET_BYTES 64
#define PATIENCE_MS 20  // timeout of one call of readinto

// Reads up to size bytes of USB input. Handles Ctrl-C, and drops the bytes before it.
static size_t read_usb(uint8_t itf, uint8_t *out, size_t size) {
    size_t n = tud_cdc_n_read(itf, out, size);
    uint8_t *interrupt;
    while (n != 0 && mp_interrupt_char != -1 &&
        (interrupt = memchr(out, mp_interrupt_char, n)) != NULL) {
        n -= interrupt + 1 - out;
        memmove(out, interrupt + 1, n);
        stdin_ringbuf.iget = stdin_ringbuf.iput = 0;
        mp_sched_keyboard_interrupt();
    }
    return n;
}

// Runs the USB stack. Its receive callback would move bytes one by one to stdin's ring buffer while
// there is room: so the ring, which is empty here, is made to look full.
static void run_usb(void) {
    uint16_t get = stdin_ringbuf.iget;
    stdin_ringbuf.iput = get == 0 ? stdin_ringbuf.size - 1 : get - 1;
    mp_usbd_task();
    stdin_ringbuf.iput = get;
}

static int64_t expire(alarm_id_t id, void *expired) {
    (void)id;
    *(volatile bool *)expired = true;
    return 0;
}

// readinto(buffer, start, end) -> the position reached. Returns at `end`, or after PATIENCE_MS with
// the bytes received so far. One timer serves many packets, as setting it costs as much as moving
// several packets.
static mp_obj_t edgelora_stdin_readinto(mp_obj_t buffer, mp_obj_t start_in, mp_obj_t end_in) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(buffer, &info, MP_BUFFER_WRITE);
    mp_int_t pos = mp_obj_get_int(start_in);
    mp_int_t end = mp_obj_get_int(end_in);
    if (pos < 0 || pos > end || (size_t)end > info.len) {
        mp_raise_ValueError(MP_ERROR_TEXT("start and end must lie in the buffer"));
    }
    uint8_t *out = info.buf;
    volatile bool expired = false;
    alarm_id_t alarm = -1;
    while (pos < end && MP_STATE_MAIN_THREAD(mp_pending_exception) == MP_OBJ_NULL) {
        size_t n = MIN((size_t)(end - pos), ringbuf_avail(&stdin_ringbuf));
        if (n != 0) {
            ringbuf_get_bytes(&stdin_ringbuf, out + pos, n);
        } else {
            n = read_usb(0, out + pos, end - pos);
        }
        pos += n;
        if (n != 0) {
            continue;
        }
        if (expired) {
            break;
        }
        if (alarm < 0) {
            alarm = add_alarm_in_ms(PATIENCE_MS, expire, (void *)&expired, true);
            expired = alarm < 0;
        }
        run_usb();
        if (tud_cdc_n_available(0) == 0 && ringbuf_avail(&stdin_ringbuf) == 0 && !expired) {
            __wfe();
        }
    }
    if (alarm > 0) {
        cancel_alarm(alarm);
    }
    mp_handle_pending(true);
    return MP_OBJ_NEW_SMALL_INT(pos);
}
static MP_DEFINE_CONST_FUN_OBJ_3(edgelora_stdin_readinto_obj, edgelora_stdin_readinto);

static const mp_rom_map_elem_t edgelora_stdin_globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__edgelora_stdin)},
    {MP_ROM_QSTR(MP_QSTR_readinto), MP_ROM_PTR(&edgelora_stdin_readinto_obj)},
};
static MP_DEFINE_CONST_DICT(edgelora_stdin_globals, edgelora_stdin_globals_table);

const mp_obj_module_t edgelora_stdin_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&edgelora_stdin_globals,
};

MP_REGISTER_MODULE(MP_QSTR__edgelora_stdin, edgelora_stdin_module);
