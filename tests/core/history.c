// The backward step of a history whose error and carry have exponents far apart: the finer of the
// two counts for nothing, and no shift exceeds its type.
// SPDX-License-Identifier: MIT

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "kernels/reference/reference.h"

enum { VALUES = 2, APART = 24, FURTHEST = 320 };

typedef struct {
    int32_t exponent;
    int8_t dx[VALUES];
} made_t;

// e, carry: are there an error and a carry?
static made_t step(bool e, int32_t exponent, bool carry, int32_t carry_exponent) {
    static const int8_t error[2 * VALUES] = {127, -127, 99, 5};
    static const edgelora_shape_t shape = {
        .in_h = 1, .in_w = 1, .in_c = VALUES, .positions = 2, .out_c = VALUES};
    struct {
        edgelora_carry_t head;
        int16_t e[VALUES];
    } carried = {{(int16_t)carry_exponent, carry ? 20000 : 0}, {20000, -13000}};
    edgelora_error_t given = {
        .e = e ? error : 0, .exponent = exponent, .carry = carry ? &carried.head : 0};
    made_t made;
    made.exponent = edgelora_history_backward_s8(&shape, &given, made.dx);
    return made;
}

static void check_same(made_t one, made_t other) {
    CHECK(one.exponent == other.exponent && !memcmp(one.dx, other.dx, VALUES));
}

int main(void) {
    for (int32_t apart = APART; apart <= FURTHEST; apart += 8) {
        check_same(step(true, apart, true, 0), step(true, apart, false, 0));
        check_same(step(true, 0, true, apart), step(false, 0, true, apart));
        check_same(step(false, apart, true, 0), step(false, 0, true, 0));
    }
    return 0;
}
