// The vibration front end: bands of the spectrum and of the envelope's spectrum, and statistics of
// the values.
// SPDX-License-Identifier: MIT

#include <stddef.h>

#include "fixed.h"
#include "signal/internal.h"
#include "signal/tables.h"

enum {
    SPECTRAL_MAGIC = 0x31535545, // "EUS1"
    FRAME = EDGELORA_SPECTRAL_FRAME,
    BANDS = EDGELORA_SPECTRAL_BANDS,
    ENVELOPE_BANDS = EDGELORA_SPECTRAL_ENVELOPE,
    DECIMATION = 8,
    PARTS = FRAME / DECIMATION, // values of the envelope per frame
    ENVELOPE_FRAMES = 8,        // frames that fill an envelope
    FULL_SHIFT = 15,
};

// One channel of a frame of interleaved channels.
typedef struct {
    const int16_t *x;
    uint32_t step;
    int32_t mean;
} channel_t;

// The value minus the frame's mean, within +-32767.
static inline int32_t value_at(const channel_t *c, uint32_t n) {
    return clamp_s32(c->x[n * c->step] - c->mean, -32767, 32767);
}

edgelora_status_t edgelora_spectral_begin(void *state, uint32_t size, uint32_t channels,
    uint32_t channel, uint32_t frames, uint32_t kind, uint32_t scale, int8_t zero_point) {
    edgelora_spectral_t *s = state;
    edgelora_quantizer_t quantizer;
    bool fits = edgelora_holds_frontend(state, size, sizeof *s) &&
        channels <= EDGELORA_SPECTRAL_MAX_CHANNELS && channel < channels;
    fits = fits && frames && frames % ENVELOPE_FRAMES == 0 &&
        frames <= EDGELORA_SPECTRAL_MAX_FRAMES;
    fits = fits && kind != EDGELORA_FEATURES_FIRMWARE;
    if (!fits || !edgelora_quantizer(&quantizer, kind, 1, 8, scale, zero_point)) {
        return EDGELORA_ERR_FRONTEND;
    }
    s->magic = SPECTRAL_MAGIC;
    s->frames = (uint16_t)frames;
    s->channels = (uint8_t)channels;
    s->channel = (uint8_t)channel;
    s->quantizer = quantizer;
    edgelora_spectral_reset(s);
    return EDGELORA_OK;
}

edgelora_spectral_t *edgelora_spectral(void *state, uint32_t size) {
    edgelora_spectral_t *s = state;
    bool begun = edgelora_holds_frontend(state, size, sizeof *s) && s->magic == SPECTRAL_MAGIC &&
        s->frame < s->frames;
    begun = begun && s->channel < s->channels && s->channels <= EDGELORA_SPECTRAL_MAX_CHANNELS;
    return begun ? s : NULL;
}

static void begin_window(edgelora_spectral_t *s) {
    s->frame = 0;
    s->peak = 0;
    s->squares = s->fourths = 0;
    s->fourths_shift = FULL_SHIFT;
    __builtin_memset(s->bands, 0, sizeof s->bands);
    __builtin_memset(s->envelope, 0, sizeof s->envelope);
}

void edgelora_spectral_reset(edgelora_spectral_t *s) {
    s->known = 0;
    begin_window(s);
}

uint32_t edgelora_spectral_state_size(void) {
    return sizeof(edgelora_spectral_t);
}

uint32_t edgelora_spectral_input_size(const edgelora_spectral_t *s) {
    return 2u * FRAME * s->channels;
}

uint32_t edgelora_spectral_output_size(const edgelora_spectral_t *s) {
    return s->quantizer.kind ? EDGELORA_SPECTRAL_SIZE : 2 * EDGELORA_SPECTRAL_SIZE;
}

// The left shift with which magnitudes up to `largest` fill 15 bits; 15 for 0.
static int headroom(uint32_t largest) {
    return FULL_SHIFT - bit_length(largest);
}

// Writes the values, shifted left by `shift` (see headroom) and Hann-windowed, to the FFT's input
// places. The window uses the FFT's cosine table: it rises up to n = 256 and falls after it.
EDGELORA_WARM __attribute__((noinline)) static void spread(
    const channel_t *c, int shift, word_t *words) {
    int32_t down = FULL_SHIFT - shift, round = (1 << down) >> 1;
    const int16_t *cosine = edgelora_sines + 128;
    int step = 1;
    for (uint32_t n = 0; n < FRAME; ++n, cosine += step) {
        int32_t v = (value_at(c, n) * ((32768 - *cosine) >> 1) + round) >> down;
        word_t *word = &words[fft_place(n / 2)];
        if (n & 1) {
            word->point.i = (int16_t)v;
        } else {
            word->point.r = (int16_t)v;
        }
        step = n < FRAME / 2 ? 1 : -1;
    }
}

// sums[i] += Q16 log2 of band i's energy (at least 1), minus `octaves`.
static void add_bands(
    const word_t *energies, const uint8_t *widths, uint32_t bands, int octaves, int32_t *sums) {
    const word_t *bin = energies + 1;
    for (uint32_t i = 0; i < bands; ++i) {
        uint32_t energy = 0; // below 2^30: that of a frame whose values have 15 bits
        for (const word_t *end = bin + widths[i]; bin < end; ++bin) {
            energy += bin->energy;
        }
        sums[i] += (int32_t)edgelora_log2(energy ? energy : 1) - octaves * (1 << 16);
    }
}

// The frame's part of the envelope, s16 >= 0: sums of 8 magnitudes after the high-pass x[n] - 2 x[n
// - 1] + x[n - 2], shifted right until the largest fits.
EDGELORA_WARM __attribute__((noinline)) static void add_envelope(
    edgelora_spectral_t *s, const channel_t *c) {
    uint32_t place = s->frame % ENVELOPE_FRAMES, bits = 0;
    const int16_t *x = c->x;
    int32_t last = s->known ? s->before[0] : *x, older = s->known ? s->before[1] : *x;
    for (uint32_t n = 0; n < PARTS; ++n) {
        uint32_t sum = 0; // <= 8 * 2^17
        for (uint32_t k = 0; k < DECIMATION; ++k, x += c->step) {
            sum += abs_u32(*x - 2 * last + older);
            older = last;
            last = *x;
        }
        s->words[n].energy = sum;
        bits |= sum;
    }
    s->before[0] = last;
    s->before[1] = older;
    s->known = 1;
    int length = bit_length(bits), shift = length > FULL_SHIFT ? length - FULL_SHIFT : 0;
    s->shifts[place] = (uint8_t)shift;
    for (uint32_t n = 0; n < PARTS; ++n) {
        s->envelopes[place * PARTS + n] = (int16_t)(s->words[n].energy >> shift);
    }
}

// Adds the bands of a complete envelope's spectrum.
static void add_envelope_bands(edgelora_spectral_t *s) {
    uint32_t most = 0, sum = 0, largest = 0;
    for (uint32_t i = 0; i < ENVELOPE_FRAMES; ++i) {
        most = s->shifts[i] > most ? s->shifts[i] : most;
    }
    for (uint32_t n = 0; n < FRAME; ++n) {
        int32_t value = s->envelopes[n] >> ((most - s->shifts[n / PARTS]) & 15);
        s->envelopes[n] = (int16_t)value;
        sum += (uint32_t)value;
    }
    channel_t c = {s->envelopes, 1, (int32_t)((sum + FRAME / 2) / FRAME)};
    for (uint32_t n = 0; n < FRAME; ++n) {
        largest |= abs_u32(value_at(&c, n));
    }
    int shift = headroom(largest);
    spread(&c, shift, s->words);
    edgelora_fft_energies(s->words, 0, 1);
    add_bands(
        s->words, edgelora_envelope_widths, ENVELOPE_BANDS, 2 * (shift - (int)most), s->envelope);
}

// Sum of squares of the frame's values; *largest: a number with the bit length of the largest
// magnitude. Updates *peak with that magnitude.
EDGELORA_WARM __attribute__((noinline)) static uint64_t squares(
    const channel_t *c, uint16_t *peak, uint32_t *largest) {
    uint32_t low = 0, high = 0, most = *peak, bits = 0;
    for (uint32_t n = 0; n < FRAME; ++n) {
        uint32_t magnitude = abs_u32(value_at(c, n)), square = magnitude * magnitude; // < 2^30
        bits |= magnitude;
        most = magnitude > most ? magnitude : most;
        low += square & 0xFFFF;
        high += square >> 16;
    }
    *peak = (uint16_t)most;
    *largest = bits;
    return ((uint64_t)high << 16) + low;
}

// Sum of (z^2 / 2^14)^2 of z, the frame's values shifted left by `shift`.
EDGELORA_WARM __attribute__((noinline)) static uint64_t fourths(const channel_t *c, int shift) {
    uint64_t sum = 0;
    for (uint32_t n = 0; n < FRAME; ++n) {
        uint32_t z = abs_u32(value_at(c, n)) << shift, square = z * z >> 14; // <= 65531
        sum += square * square;
    }
    return sum;
}

// Adds fourth powers of a frame in units that follow the loudest frame of the window.
static void add_fourths(edgelora_spectral_t *s, uint64_t sum, uint32_t shift) {
    uint32_t apart = 4 *
        (shift < s->fourths_shift ? s->fourths_shift - shift : shift - s->fourths_shift);
    if (shift < s->fourths_shift) {
        s->fourths = s->fourths >> apart;
        s->fourths_shift = shift;
    } else {
        sum >>= apart;
    }
    s->fourths += sum;
}

// Q16 log2(v), v >= 1
static int32_t log2_u64(uint64_t v) {
    uint32_t high = (uint32_t)(v >> 32);
    int over = high ? bit_length(high) : 0;
    return (int32_t)edgelora_log2((uint32_t)(v >> over)) + over * (1 << 16);
}

// floor(v / by + 1/2)
static int32_t divided(int32_t v, uint32_t by) {
    v += (int32_t)(by / 2);
    return v >= 0 ? (int32_t)((uint32_t)v / by) : -(int32_t)((abs_u32(v) + by - 1) / by);
}

static void finish(const edgelora_spectral_t *s, void *out) {
    uint32_t count = s->frames, i = 0;
    for (uint32_t k = 0; k < BANDS; ++k) {
        edgelora_put_feature(&s->quantizer, out, i++, divided(s->bands[k], 256 * count));
    }
    for (uint32_t k = 0; k < ENVELOPE_BANDS; ++k) {
        edgelora_put_feature(
            &s->quantizer, out, i++, divided(s->envelope[k], 256 * count / ENVELOPE_FRAMES));
    }
    // silence counts as a single value of 1
    int32_t values = (int32_t)edgelora_log2(FRAME * count), second = 0, fourth = 0, peak = 0;
    if (s->peak) {
        second = log2_u64(s->squares);
        fourth = log2_u64(s->fourths) + (28 - 4 * (int32_t)s->fourths_shift) * (1 << 16);
        peak = (int32_t)edgelora_log2(s->peak);
    }
    int32_t rms = (second - values) >> 1;
    const int32_t statistics[4] = {rms, peak, peak - rms, fourth + values - 2 * second};
    for (uint32_t k = 0; k < 4; ++k) {
        edgelora_put_feature(&s->quantizer, out, i++, (statistics[k] + 128) >> 8);
    }
}

int32_t edgelora_spectral_step(edgelora_spectral_t *s, const int16_t *samples, void *out) {
    channel_t c = {samples + s->channel, s->channels, 0};
    int32_t sum = 0;
    for (uint32_t n = 0; n < FRAME; ++n) {
        sum += c.x[n * c.step];
    }
    c.mean = (sum + FRAME / 2) >> 9;
    add_envelope(s, &c);
    uint32_t largest;
    s->squares += squares(&c, &s->peak, &largest);
    int shift = headroom(largest);
    add_fourths(s, fourths(&c, shift), (uint32_t)shift);
    spread(&c, shift, s->words);
    edgelora_fft_energies(s->words, 0, 1);
    add_bands(s->words, edgelora_spectral_widths, BANDS, 2 * shift, s->bands);
    if ((s->frame + 1) % ENVELOPE_FRAMES == 0) {
        add_envelope_bands(s);
    }
    if (++s->frame < s->frames) {
        return 0;
    }
    finish(s, out);
    begin_window(s);
    return 1;
}
