// Reads flash ahead of its use, by DMA from the RP2040's serial interface: 4 bytes in 8 of its
// cycles, where a miss of the cache takes 20. While it reads, neither code nor data can come from
// flash, so interrupts wait: for the time of a block, some tens of microseconds. A block that does
// not come, as another DMA took or delayed words of it, is read by the cache, like all after it.
// SPDX-License-Identifier: MIT
//
// Sources: RP2040 Datasheet, 2.6.3 and 4.10; the mode that the second boot stage sets.

#include "kernels/packed/read_ahead.h"

#ifdef EDGELORA_READS_AHEAD

#include <string.h>

#include "hardware/dma.h"
#include "hardware/structs/ssi.h"
#include "hardware/sync.h"
#include "py/mpstate.h"
#include "mpthreadport.h"

#define IN_RAM(function) __not_in_flash_func(function)

enum {
    CONTINUOUS_READ = 0xA0, // the mode byte behind an address: the next read needs no command
    MOST_LOOKS = 1 << 16,   // of 9 cycles: 5 ms at 125 MHz, where the largest block takes 66 us
};

static struct {
    dma_channel_hw_t *dma;
    const void *from; // of the block
    uint32_t *to, words;
    uint32_t interrupts;
    bool failed; // a block did not come; true until the chip is reset
} ahead;

// Does the interface read 4 bytes after an address and this mode, on four lines?
static bool reads_words(void) {
    uint32_t control = ssi_hw->spi_ctrlr0;
    return control >> SSI_SPI_CTRLR0_XIP_CMD_LSB == CONTINUOUS_READ &&
        (control & SSI_SPI_CTRLR0_ADDR_L_BITS) == 8 << SSI_SPI_CTRLR0_ADDR_L_LSB &&
        !(control & SSI_SPI_CTRLR0_INST_L_BITS) && ssi_hw->ctrlr1 == 0;
}

bool edgelora_ahead_reads(const void *from) {
    uintptr_t at = (uintptr_t)from;
    return at >= XIP_BASE && at < XIP_NOALLOC_BASE && !(at & 3) && !core1_entry && !ahead.failed &&
        reads_words();
}

bool edgelora_ahead_begin(void) {
    int channel = dma_claim_unused_channel(false);
    if (channel < 0) {
        return false;
    }
    ahead.dma = &dma_hw->ch[channel];
    ahead.dma->al1_read_addr = (uintptr_t)&ssi_hw->dr0;
    ahead.dma->al1_ctrl = DMA_CH0_CTRL_TRIG_BSWAP_BITS | DMA_CH0_CTRL_TRIG_IRQ_QUIET_BITS |
        DREQ_XIP_SSIRX << DMA_CH0_CTRL_TRIG_TREQ_SEL_LSB |
        (uint32_t)channel << DMA_CH0_CTRL_TRIG_CHAIN_TO_LSB | DMA_CH0_CTRL_TRIG_INCR_WRITE_BITS |
        DMA_CH0_CTRL_TRIG_DATA_SIZE_VALUE_SIZE_WORD << DMA_CH0_CTRL_TRIG_DATA_SIZE_LSB |
        DMA_CH0_CTRL_TRIG_EN_BITS;
    return true;
}

// Waits until these bits of a register are 0; false: they are not in time. Inlined into code in
// RAM.
static __force_inline bool clear_in_time(io_ro_32 *status, uint32_t bits) {
    for (uint32_t left = MOST_LOOKS; *status & bits;) {
        if (!--left) {
            return false;
        }
    }
    return true;
}

static __force_inline void set_interface(uint32_t frames, uint32_t dma) {
    ssi_hw->ssienr = 0;
    ssi_hw->ctrlr1 = frames - 1;
    ssi_hw->dmacr = dma;
    ssi_hw->ssienr = 1;
}

void IN_RAM(edgelora_ahead_start)(const void *from, uint32_t *to, uint32_t words) {
    ahead.from = from;
    ahead.to = to;
    ahead.words = words;
    if (ahead.failed) {
        return;
    }
    ahead.interrupts = save_and_disable_interrupts();
    if (!clear_in_time(&ssi_hw->sr, SSI_SR_BUSY_BITS)) {
        ahead.failed = true;
        restore_interrupts(ahead.interrupts);
        return;
    }
    set_interface(words, SSI_DMACR_TDMAE_BITS | SSI_DMACR_RDMAE_BITS);
    ahead.dma->al1_write_addr = (uintptr_t)to;
    ahead.dma->al1_transfer_count_trig = words;
    ssi_hw->dr0 = ((uintptr_t)from - XIP_BASE) << 8 | CONTINUOUS_READ;
}

// Erratum E13: a word on its way may still end the transfer, which then neither interrupts nor
// starts another channel.
static void IN_RAM(give_up)(void) {
    ahead.failed = true;
    hw_clear_bits(&ahead.dma->al1_ctrl, DMA_CH0_CTRL_TRIG_EN_BITS);
    dma_hw->abort = 1u << (ahead.dma - dma_hw->ch);
    (void)clear_in_time(&ahead.dma->al1_ctrl, DMA_CH0_CTRL_TRIG_BUSY_BITS);
}

void IN_RAM(edgelora_ahead_wait)(void) {
    if (!ahead.failed) {
        if (!clear_in_time(&ahead.dma->al1_ctrl, DMA_CH0_CTRL_TRIG_BUSY_BITS)) {
            give_up();
        }
        set_interface(1, 0); // for the cache
        restore_interrupts(ahead.interrupts);
    }
    if (ahead.failed) {
        memcpy(ahead.to, ahead.from, 4 * ahead.words);
    }
}

void edgelora_ahead_end(void) {
    dma_channel_unclaim((uint)(ahead.dma - dma_hw->ch));
}

#endif
