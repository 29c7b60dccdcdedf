// Variable arguments: LLVM 22 miscounts them on windowed cores.
// SPDX-License-Identifier: MIT
// A function saves its unnamed arguments of registers a2 to a7; further ones are on its caller's
// stack.

#ifndef EDGELORA_XTENSA_STDARG_H
#define EDGELORA_XTENSA_STDARG_H

typedef struct {
    char *stack;     // 32 bytes below the arguments on the stack
    char *registers; // where a2 would be; the compiler gives the offset of the first unnamed one
    int next;        // offset: up to 24 into registers, from 32 on into stack
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
