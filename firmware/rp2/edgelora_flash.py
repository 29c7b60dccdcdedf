"""The RP2's flash storage: a filesystem, followed by the partition of the adapter store."""

import rp2

STORE_BYTES = 256 * 1024

_all = rp2.Flash()
_files_bytes = _all.ioctl(4, 0) * _all.ioctl(5, 0) - STORE_BYTES
_kept = False  # an existing filesystem fills the whole storage: the store is a folder in it


def mount():
    """Mounts the filesystem, or formats the storage if there is none.

    A filesystem that fills the whole storage, made by firmware without a store, is kept.
    """
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
    """The partition of the store, or its folder if there is no partition."""
    return "/adapters" if _kept else rp2.Flash(start=_files_bytes, len=STORE_BYTES)
