"""The RP2's storage in flash: the filesystem, and at its end the partition of adapters."""

import rp2

STORE_BYTES = 256 * 1024

_all = rp2.Flash()
_files_bytes = _all.ioctl(4, 0) * _all.ioctl(5, 0) - STORE_BYTES
_kept = False  # a filesystem that takes the whole storage was there: adapters go into a folder of it


def mount():
    """Mounts the filesystem. One of firmware without a store stays as it is; if there is none, all is made anew."""
    global _kept
    import vfs

    files = rp2.Flash(start=0, len=_files_bytes)
    for _kept, device in (False, files), (True, _all):
        try:
            return vfs.mount(vfs.VfsLfs2(device, progsize=256), "/")
        except OSError:
            pass
    _kept = False
    from edgelora.store import erase

    erase(store())
    vfs.VfsLfs2.mkfs(files, progsize=256)
    vfs.mount(vfs.VfsLfs2(files, progsize=256), "/")


def store():
    """The partition of adapters; where there is none, the folder for them."""
    return "/adapters" if _kept else rp2.Flash(start=_files_bytes, len=STORE_BYTES)
