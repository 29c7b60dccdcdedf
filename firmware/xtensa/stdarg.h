// Variable arguments: LLVM 22 counts them wrongly on windowed cores.
// SPDX-License-Identifier: MIT
// A function saves the registers a2 to a7 of its arguments, as far as they are unnamed; the others
// are on its caller's stack.

#ifndef EDGELORA_XTENSA_STDARG_H
#define EDGELORA_XTENSA_STDARG_H

typedef struct {
    char *stack;     // 32 bytes below the arguments there
    char *registers; // where a2 would be; the compiler says where the first unnamed one is
    int next;        // offset: up to 24 in registers, from 32 on in stack
} va_list;
typedef va_list __gnuc_va_list;

static inline void *va_next(va_list *list, int size) {
    size = (size + 3) & ~3;
    if (size == 8) {
        list->next = (list->next + 7) & ~7;
    }
    if (list->next <= 24 && list->next + size > 24) {
        list->next = 32;
    }
    list->next += size;
    return (list->next <= 24 ? list->registers : list->stack) + list->next - size;
}

#define va_start(list, last) \
    do { \
        __builtin_va_start(*(__builtin_va_list *)&(list), last); \
        (list).registers -= (list).next; \
    } while (0)
#define va_arg(list, type) (*(type *)va_next(&(list), sizeof(type)))
#define va_copy(to, from) ((to) = (from))
#define va_end(list) ((void)(list))

#endif
