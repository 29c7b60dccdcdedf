/* The loop of thumb.h: the function THUMB_RUNS, for a core whose accesses go to THUMB_BUS, or NULL.
 *
 * Each group of instructions goes to the next one's by a jump of its own, which hosts predict far
 * better than one for all.
 */
static long THUMB_RUNS(thumb_t *whole, long most, int64_t limit) {
    // clang-format off
#define THUMB_GROUPS(X) \
    X(0x00) X(0x01) X(0x02) X(0x03) X(0x04) X(0x05) X(0x06) X(0x07) \
    X(0x08) X(0x09) X(0x0A) X(0x0B) X(0x0C) X(0x0D) X(0x0E) X(0x0F) \
    X(0x10) X(0x11) X(0x12) X(0x13) X(0x14) X(0x15) X(0x16) X(0x17) \
    X(0x18) X(0x19) X(0x1A) X(0x1B) X(0x1C) X(0x1D) X(0x1E) X(0x1F)
// clang-format on
#define THUMB_LABEL(group) &&run_##group,
#define THUMB_NEXT() \
    do { \
        pc = t->pc; \
        if (pc - first >= size) { \
            first = pc >= THUMB_RAM ? THUMB_RAM : pc >= THUMB_FLASH ? THUMB_FLASH : 0; \
            code = pc >= THUMB_RAM ? t->ram : pc >= THUMB_FLASH ? t->flash : t->rom; \
            size = (pc >= THUMB_RAM            ? t->ram_size \
                           : pc >= THUMB_FLASH ? t->flash_size \
                                               : t->rom_size) - \
                1; \
            if (pc - first >= size) { \
                goto ended; \
            } \
        } \
        if ((first == THUMB_FLASH || t->bus != NULL) && (pc & ~3u) != fetched) { \
            const uint32_t stall = first == THUMB_FLASH \
                ? xip_stall(t->xip, (pc & ~3u) - THUMB_FLASH) \
                : 0; \
            fetched = pc & ~3u; \
            thumb_note(t, fetched, 1, t->cycles - 1, stall); \
            t->cycles += stall; \
        } \
        op = thumb_half(code + (pc - first)); \
        t->pc = pc + 2; \
        goto *groups[op >> 11]; \
    } while (0)
#define THUMB_RUN(group) \
    run_##group : if (op >> 11 != group) { \
        __builtin_unreachable(); \
    } \
    cycles = group < 0x1D ? thumb_step(t, chip, op, pc + 2) : thumb_wide(t, chip, op, pc + 2); \
    if (cycles == 0) { \
        t->pc = pc; \
        goto ended; \
    } \
    t->cycles += cycles; \
    if (++ran >= most || t->cycles >= limit || t->unmasked | t->event) { \
        goto ended; \
    } \
    THUMB_NEXT();
    static const void *const groups[32] = {THUMB_GROUPS(THUMB_LABEL)};
    thumb_core_t own = whole->core, *t = &own;
    own.bus = THUMB_BUS;
    thumb_chip_t *chip = &whole->chip;
    uint32_t pc, op, first = 0, size = 0; /* of the region that pc is in */
    uint32_t fetched = 0; /* the word that was fetched last */
    const uint8_t *code = NULL;
    long ran = 0;
    int cycles;
    t->pc = t->r[THUMB_PC] & ~1u;
    t->cycles = chip->divider_cycles = t->event = t->unmasked = 0;
    if (t->bus != NULL) {
        fetched = t->bus->fetched;
    }
    if (most > 0 && limit > 0) {
        THUMB_NEXT();
    }
    goto ended;
    THUMB_GROUPS(THUMB_RUN)
ended:
    t->r[THUMB_PC] = t->pc;
    if (t->bus != NULL) {
        t->bus->fetched = fetched;
    }
    whole->core = own;
    return ran;
}
