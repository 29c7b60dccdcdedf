// Reads flash ahead of its use, by DMA from the RP2040's serial interface: 4 bytes in 8 of its
// cycles, where a miss of the cache takes 20. While it reads, neither code nor data can come from
// flash, so interrupts wait: for the time of a block, some tens of microseconds.
// SPDX-License-Identifier: MIT
//
// Sources: RP2040 Datasheet, 2.6.3 and 4.10; the mode that the second boot stage sets.

#include "kernels/packed/read_ahead.h"

#ifdef EDGELORA_READS_AHEAD

#include "hardware/dma.h"
#include "hardware/structs/ssi.h"
#include "hardware/sync.h"
#include "py/mpstate.h"
#include "mpthreadport.h"

#define IN_RAM(function) __not_in_flash_func(function)

enum { CONTINUOUS_READ = 0xA0 }; // the mode byte behind an address: the next read needs no command

static int channel;
static uint32_t interrupts;

// Does the interface read 4 bytes after an address and this mode, on four lines?
static bool reads_words(void) {
    uint32_t control = ssi_hw->spi_ctrlr0;
    return control >> SSI_SPI_CTRLR0_XIP_CMD_LSB == CONTINUOUS_READ &&
        (control & SSI_SPI_CTRLR0_ADDR_L_BITS) == 8 << SSI_SPI_CTRLR0_ADDR_L_LSB &&
        !(control & SSI_SPI_CTRLR0_INST_L_BITS) && ssi_hw->ctrlr1 == 0;
}

bool edgelora_ahead_reads(const void *from) {
    uintptr_t at = (uintptr_t)from;
    return at >= XIP_BASE && at < XIP_NOALLOC_BASE && !(at & 3) && !core1_entry && reads_words();
}

bool edgelora_ahead_begin(void) {
    channel = dma_claim_unused_channel(false);
    return channel >= 0;
}

void IN_RAM(edgelora_ahead_start)(const void *from, uint32_t *to, uint32_t words) {
    interrupts = save_and_disable_interrupts();
    while (ssi_hw->sr & SSI_SR_BUSY_BITS) {
    }
    ssi_hw->ssienr = 0;
    ssi_hw->ctrlr1 = words - 1;
    ssi_hw->dmacr = SSI_DMACR_TDMAE_BITS | SSI_DMACR_RDMAE_BITS;
    ssi_hw->ssienr = 1;
    dma_channel_hw_t *dma = &dma_hw->ch[channel];
    dma->read_addr = (uintptr_t)&ssi_hw->dr0;
    dma->write_addr = (uintptr_t)to;
    dma->transfer_count = words;
    dma->ctrl_trig = DMA_CH0_CTRL_TRIG_BSWAP_BITS |
        DREQ_XIP_SSIRX << DMA_CH0_CTRL_TRIG_TREQ_SEL_LSB |
        (uint32_t)channel << DMA_CH0_CTRL_TRIG_CHAIN_TO_LSB | DMA_CH0_CTRL_TRIG_INCR_WRITE_BITS |
        DMA_CH0_CTRL_TRIG_DATA_SIZE_VALUE_SIZE_WORD << DMA_CH0_CTRL_TRIG_DATA_SIZE_LSB |
        DMA_CH0_CTRL_TRIG_EN_BITS;
    ssi_hw->dr0 = ((uintptr_t)from - XIP_BASE) << 8 | CONTINUOUS_READ;
}

void IN_RAM(edgelora_ahead_wait)(void) {
    while (dma_hw->ch[channel].ctrl_trig & DMA_CH0_CTRL_TRIG_BUSY_BITS) {
    }
    ssi_hw->ssienr = 0;
    ssi_hw->ctrlr1 = 0;
    ssi_hw->dmacr = 0;
    ssi_hw->ssienr = 1;
    restore_interrupts(interrupts);
}

void edgelora_ahead_end(void) {
    dma_channel_unclaim((uint)channel);
}

#endif
