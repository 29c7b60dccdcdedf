// Losses and updates (SPEC.md, sections 4 to 6).
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_TRAINING_H
#define EDGELORA_TRAINING_H

#include "edgelora.h"
#include "fixed.h"

// Computes the loss of a tensor q, s8 [n] with zero point zp, for a label or target. e: s8 [n], the
// error, a group of positions in units of 2^exponents[group]; row: s32 [channels], scratch for
// cross-entropy. Returns the loss.
typedef struct {
    const int8_t *q;
    uint32_t n, channels;
    int32_t zp;
    uint32_t label;       // cross-entropy, of one position
    const int8_t *target; // ids of its positions; s8 [n], other losses
} edgelora_loss_input_t;
int32_t edgelora_loss(const edgelora_model_t *model, const edgelora_loss_input_t *input,
    int32_t *row, int8_t *e, int16_t *exponents);

// Probabilities of logits q, s8 [n] with zero point zp, as in the model's loss, Q15.
void edgelora_logits_probable(
    const edgelora_model_t *model, const int8_t *q, uint32_t n, int32_t zp, uint16_t *p);

// Cross-entropy of logits q, s8 [n], in 1/4096 nat.
int32_t edgelora_logits_loss(
    const edgelora_model_t *model, const int8_t *q, uint32_t n, uint32_t label);

// The same, with the error, s32 [n], Q15: probabilities, minus 1 at the label. error may overlap q.
int32_t edgelora_logits_error(
    const edgelora_model_t *model, const int8_t *q, uint32_t n, uint32_t label, int32_t *error);

// Clears an error that would push a saturated value beyond the int8 range.
static inline int32_t edgelora_within_grid(int32_t error, int8_t q) {
    return (q == 127 && error < 0) || (q == -128 && error > 0) ? 0 : error;
}

// Prepares a gradient for adding a product of this exponent; returns the shift from the product's
// exponent to the gradient's.
int32_t edgelora_gradient_open(edgelora_matrix_t *m, int32_t *gradient, int32_t exponent);
typedef struct {
    uint32_t stream;
    uint32_t *draws;
    uint16_t learning_rate;
    uint16_t threshold;
    uint8_t shift; // of the learning rate: 16 for B, 15 for A
    uint8_t momentum;
    bool decays; // B only: weight decay pulls it toward 0, the base
} edgelora_update_t;
enum { EDGELORA_WEIGHT_DECAY = 6, EDGELORA_SCALE_FALL = 5 }; // shifts: decay of B, of a scale
void edgelora_matrix_update(uint8_t *arena, edgelora_matrix_t *m, const edgelora_update_t *update);

// Offsets of a matrix's training state in the arena.
static inline uint32_t matrix_master(const edgelora_matrix_t *m) {
    return m->at + align4(m->count);
}

static inline uint32_t matrix_gradient(const edgelora_matrix_t *m) {
    return matrix_master(m) + align4(2 * m->count);
}

static inline uint32_t matrix_momentum(const edgelora_matrix_t *m) {
    return matrix_gradient(m) + 4 * m->count;
}

static inline uint32_t matrix_size(uint32_t count, bool trains, bool momentum) {
    return align4(count) +
        (trains ? align4(2 * count) + 4 * count + (momentum ? align4(2 * count) : 0) : 0);
}

#endif
