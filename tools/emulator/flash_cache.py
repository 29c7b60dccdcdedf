"""The flash cache of xip.h in the RP2040's emulator: for reads by all else than thumb.h."""

CHIP = [
    (
        "\ncdef class RP2040:\n    def __cinit__(self):\n",
        """
cdef extern from "xip.h":
    ctypedef struct xip_t:
        pass
    void xip_read(xip_t *x, unsigned int at) nogil
    void xip_invalidate(xip_t *x, unsigned int at) nogil


cdef class RP2040:
    def __cinit__(self):
        self.xip = array.array("I", bytes(4 * XIP_WORDS))
        self._xip = self.xip
""".replace("XIP_WORDS", str(7 + 3 * 1024)),
    ),
    (
        "            offset = addr & 0x00FFFFFF\n            return read_uint32_le(self._flash, offset)\n",
        """            offset = addr & 0x00FFFFFF
            xip_read(<xip_t *> &self._xip[0], addr - FLASH_START)
            return read_uint32_le(self._flash, offset)
""",
    ),
    (
        "            offset = addr - FLASH_START\n            return read_uint16_le(self._flash, offset)\n",
        """            offset = addr - FLASH_START
            xip_read(<xip_t *> &self._xip[0], offset)
            return read_uint16_le(self._flash, offset)
""",
    ),
    (
        "            return self._flash[addr - FLASH_START]\n",
        """            xip_read(<xip_t *> &self._xip[0], addr - FLASH_START)
            return self._flash[addr - FLASH_START]
""",
    ),
    (
        "            write_uint32_le(self._flash, addr - FLASH_START, val)\n",
        "            xip_invalidate(<xip_t *> &self._xip[0], addr - FLASH_START)\n",
    ),
]

FIELDS = [
    (
        "    cdef unsigned char[:] _flash\n",
        "    cdef unsigned char[:] _flash\n    cdef unsigned int[::1] _xip\n    cdef public object xip\n",
    ),
]
FILES = {"native/_rp2040.pyx": CHIP, "native/_rp2040.pxd": FIELDS}
