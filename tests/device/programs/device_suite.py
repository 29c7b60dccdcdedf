# The device test suite: runs on MicroPython with any build of edgelora, against cases.json, which is
# made from the NumPy reference. Prints PASS or FAIL for each check and SUITE with the counts at the end.

import gc
import json
import sys
from array import array

import micropython

import edgelora

passed = failed = 0
ROOM = 0  # bytes behind an arena in which a board's vector kernels work
BUSY_AT = 60  # offset in the arena: not 0 during a call
strangers = []  # adapters of other bases


def report(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
        print("PASS", name)
    else:
        failed += 1
        print("FAIL", name, detail)


class Watched:
    """The C functions, with one of them replaced."""

    def __init__(self, core, merge):
        self.core, self.merge = core, merge

    def __getattr__(self, name):
        return getattr(self.core, name)


def check_public_names():
    """`help(edgelora)` lists the names that programs use; the C functions are in a module of their own."""
    names = dir(edgelora)
    report("names", not [name for name in names if name.startswith("core_")] and "Model" in names, names)
    functions = dir(edgelora._core)
    shared = [name for name in functions if name in names and not name.startswith("__")]
    report("functions", "infer" in functions and not shared, functions)


def unhex(text):
    return bytes(int(text[i : i + 2], 16) for i in range(0, len(text), 2))


def target_of(told):
    return told if isinstance(told, int) else unhex(told)


def refused(call, expected):
    try:
        call()
    except ValueError as e:
        return expected in str(e)
    return False


def locked_train(model, x, label, rate):
    micropython.heap_lock()
    try:
        return model.train(x, label, rate)
    finally:
        micropython.heap_unlock()


def locked_infer(model, x):
    micropython.heap_lock()
    try:
        return model.infer_sample(x)
    finally:
        micropython.heap_unlock()


def check_training(case):
    name = case["name"]
    configuration = unhex(case["ranks"]), case["mode"], case["micro_batch"], case["momentum"]
    model = edgelora.Model(unhex(case["elm"]), *configuration, plain=case["plain"], frames=case["frames"])
    everywhere = edgelora.Model(unhex(case["elm"]), 2, frames=case["frames"]).ranks
    report(name + " trains where it can", everywhere == unhex(case["everywhere"]), everywhere)
    report(name + " arena", len(model.arena) == case["arena_bytes"] + ROOM, len(model.arena))
    for x, logits in case["base"]:
        locked_infer(model, unhex(x))
        report(name + " base logits", bytes(model.output) == unhex(logits))
    check_stream(name, model, case)
    model.begin(case["seed"])
    losses = [locked_train(model, unhex(x), target_of(told), rate) for x, told, rate, _ in case["samples"]]
    report(name + " losses", losses == [s[3] for s in case["samples"]], losses)
    model.flush(case["flush_rate"])
    report(name + " state", model.save(state=True) == unhex(case["state"]))
    adapter = model.save()
    report(name + " adapter", adapter == unhex(case["adapter"]))
    for x, logits in case["adapted"]:
        locked_infer(model, unhex(x))
        report(name + " adapted logits", bytes(model.output) == unhex(logits))
    model.use(None)
    locked_infer(model, unhex(case["base"][0][0]))
    report(name + " back to base", bytes(model.output) == unhex(case["base"][0][1]))
    checked = model.adapter(adapter)
    micropython.heap_lock()
    model.use(checked)
    micropython.heap_unlock()
    locked_infer(model, unhex(case["adapted"][0][0]))
    report(name + " swapped in", bytes(model.output) == unhex(case["adapted"][0][1]))
    check_sums(name, model, case)
    model.use(checked)
    check_refusals(name, model, adapter, unhex(case["adapted"][0][0]))
    check_misuse(name, model, checked, unhex(case["adapted"][0][0]), unhex(case["adapted"][0][1]))
    check_records(name, model, checked, case["classes"])
    if case["classes"]:
        check_classes(name, model, case["classes"], checked)
        model.load(adapter)
    strangers[:] = [edgelora.Adapter(model.save())]


def check_sums(name, model, case):
    """Sums of adapters, in a new buffer and in a given one."""
    parts = [model.adapter(unhex(part)) for part in case["parts"]]
    try:
        weights = [w / 4096 for w in case["weights"]]
    except TypeError:  # MicroPython without floats
        return
    for fine, right in ((True, unhex(case["sums"][0])), (False, unhex(case["sums"][1]))):
        report(name + " sum", bytes(model.blend(parts, weights, fine).buffer) == right)
    given = bytearray(len(unhex(case["sums"][0])) + 4)
    total = model.blend(parts, weights, True, given)
    report(name + " sum in a buffer", bytes(given[:-4]) == unhex(case["sums"][0]))
    model.use(total)
    for x, logits in case["summed"]:
        locked_infer(model, unhex(x))
        report(name + " summed logits", bytes(model.output) == unhex(logits))
    report(name + " too few weights", refused(lambda: model.blend(parts, weights[1:]), "as many"))
    report(name + " too many", refused(lambda: model.blend(parts * 3, weights * 3), "1 to 8"))
    report(name + " too large a weight", refused(lambda: model.blend(parts, [1 << 28] * len(parts)), "added up"))
    report(name + " too small a buffer", refused(lambda: model.blend(parts, weights, True, given[:-8]), "size"))
    for other in strangers:
        report(name + " stranger's sum", refused(lambda other=other: model.blend([other], [1]), "another base"))


def check_classes(name, model, case, adapter):
    """Classes from a few samples, classified with the heap locked; after their removal the adapter is unchanged."""
    own, new = [[unhex(x) for x in part] for part in case["samples"]]
    model.use(adapter)
    report(name + " own class", bytes(model.add_class(1, own).buffer) == unhex(case["known"]))
    report(name + " new class", bytes(model.add_class("wave", new).buffer) == unhex(case["both"]))
    report(name + " its name", model.labels[model.output_size] == "wave")
    model.probabilities()
    for x, said, p in case["said"]:
        x = unhex(x)
        micropython.heap_lock()
        found, shares = model.infer(x), model.probabilities()
        micropython.heap_unlock()
        report(name + " class", found == said and list(shares) == p)
    report(name + " long name", refused(lambda: model.add_class("w" * 25, new), "24 bytes"))
    report(name + " no samples", refused(lambda: model.add_class("jump", []), "1 to 1024"))
    report(name + " no class", refused(lambda: model.remove_class("jump"), "no class"))
    before = model.used
    model.load(before.buffer)
    losses = [locked_train(model, unhex(x), label, rate) for x, label, rate, _ in case["learned"]]
    report(name + " losses of classes", losses == [told[3] for told in case["learned"]], losses)
    report(name + " learned with classes", model.save(state=True) == unhex(case["state"]))
    report(name + " no such class", refused(lambda: model.train(new[0], 200, 1), "class"))
    model.use(before)
    report(name + " new class gone", bytes(model.remove_class("wave").buffer) == unhex(case["known"]))
    report(name + " own class gone", bytes(model.remove_class(1).buffer) == bytes(adapter.buffer))
    model.use(None)
    model.add_class("wave", new)
    report(name + " bare base", model.remove_class("wave") is None and len(model.labels) <= model.output_size)


def check_records(name, model, adapter, has_room):
    """A record is added to an adapter, kept by training, and removed."""
    record = model.with_record(adapter, 2, b"usual")
    report(name + " record", bytes(record.record(2)) == b"usual" and record.record(1) is None)
    report(name + " record taken out", bytes(model.with_record(record, 2, None).buffer) == bytes(adapter.buffer))
    report(name + " record alone", model.with_record(model.with_record(None, 2, b"x"), 2, None) is None)
    report(name + " no classes", refused(lambda: model.with_record(adapter, 1, b"wave"), "inconsistent"))
    if not has_room:
        blank = [bytes(model.sample_size)]
        report(name + " no room for classes", refused(lambda: model.add_class("wave", blank), "last layer"))
    report(name + " unknown record", refused(lambda: model.with_record(adapter, 3, b"x"), "does not know"))
    model.load(record.buffer)
    report(name + " record saved", bytes(edgelora.Adapter(model.save()).record(2)) == b"usual")


def check_stream(name, model, case):
    """Frames one by one, with another sample evaluated between them."""
    model.reset()
    for i, (x, logits) in enumerate(case["stream"]):
        model.infer(unhex(x))
        report(name + " frame " + str(i), bytes(model.output) == unhex(logits))
        if i == 1:
            model.features(unhex(case["base"][0][0]), bytearray(model.feature_size))
    model.reset()
    model.infer(unhex(case["stream"][0][0]))
    report(name + " reset", bytes(model.output) == unhex(case["stream"][0][1]))


def check_names(name, model):
    """Output names in place of the file's; the repr of objects."""
    names = ["output " + str(i) for i in range(model.output_size)]
    named = edgelora.Model(model.buffer, 0, "infer", 1, labels=names)
    report(name + " given names", named.labels == names)
    few = names[1:]
    why = str(len(few)) + " labels for " + str(len(names)) + " outputs"
    report(name + " too few names", refused(lambda: edgelora.Model(model.buffer, 0, "infer", 1, labels=few), why))
    report(name + " repr", edgelora.hex_id(model.base_id) in repr(model) and "infer" in repr(model), repr(model))


def check_network(path, plain):
    """Runs a network on a file of frames, each followed by its expected outputs."""
    model = edgelora.Model(path[:-7] + ".elm", 0, "infer", 1, plain=plain)
    check_names(path[:-7], model)
    x, right = bytearray(model.input_size), bytearray(model.output_size)
    equal = frames = 0
    with open(path, "rb") as f:
        while f.readinto(x):
            f.readinto(right)
            model.infer(x)
            frames += 1
            equal += bytes(model.output) == right
    report(path + (" plain" if plain else " fast"), equal == frames and frames >= 100, (equal, frames))


def check_signatures():
    """RFC 8032's third vector, and changed versions of it."""
    verify = edgelora._core.verify
    key = unhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
    signature = unhex(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    message = b"\xaf\x82"
    report("signature", verify(key, message, signature) is True)
    for i, name in enumerate(("key", "message", "signature")):
        for at in (0, -1):
            parts = [bytearray(key), bytearray(message), bytearray(signature)]
            parts[i][at] ^= 1
            report("signature, other " + name, verify(*parts) is False)
    report("signature cut", not verify(key, message, signature[:63]) and not verify(key[:31], message, signature))
    report("signature of small order", not verify(b"\x01" + bytes(31), message, b"\x01" + bytes(63)))


def check_order():
    """SPEC.md, section 13."""
    order = edgelora._core.order
    report("order", [order(7, 3, 12, i) for i in range(12)] == [2, 1, 10, 6, 7, 8, 11, 0, 4, 9, 5, 3])
    report("order of many", order(0xFFFFFFFF, 65535, 40000, 39999) == 16267)
    for wrong in ((7, 65536, 12, 0), (7, 0, 12, 12), (7, 0, 0, 0)):
        report("order out of range", refused(lambda wrong=wrong: order(*wrong), "range"))


def check_refusals(name, model, adapter, x):
    other = bytearray(adapter)
    other[20] ^= 1  # base id; the CRC covers it
    report(name + " damaged", refused(lambda: model.adapter(other), "CRC"))
    report(name + " truncated", refused(lambda: model.adapter(adapter[:-4]), "shorter"))
    report(
        name + " not an adapter", refused(lambda: model.adapter(b"hello, this is no adapter file"), "not an EdgeLoRA")
    )
    report(name + " short input", refused(lambda: model.infer_sample(x[:-1]), "wrong size"))
    wrong, why = (bytes(model.target_size + 1), "wrong size") if model.target_size else (9999, "label")
    report(name + " bad target", refused(lambda: model.train(x, wrong, 100), why))
    for label in (-1, 1 << 32, 1 << 64) if not model.target_size else ():
        report(name + " label " + str(label), refused(lambda label=label: model.train(x, label, 100), "label"))
    report(name + " rate of 33 bits", refused(lambda: model.flush(1 << 32), "range"))
    target = bytes(model.target_size) if model.target_size else 0
    report(name + " bad rate", refused(lambda: model.train(x, target, 70000), "range"))
    report(name + " bad arena", refused(lambda: edgelora._core.infer(bytearray(64), x), "arena"))
    model.infer_sample(x)  # still usable


def check_misuse(name, model, checked, x, logits):
    """Adapters of other bases, values of other types and a nested call are refused, and the active adapter remains."""
    model.use(checked)
    for other in strangers:
        report(name + " stranger", refused(lambda other=other: model.use(other), "another base"))
    cut = edgelora.Adapter(memoryview(checked.buffer)[:-4])
    report(name + " cut", refused(lambda: model.use(cut), "shorter"))
    report(name + " empty", refused(lambda: model.use(edgelora.Adapter(b"")), "shorter"))
    for other in (array("f", x[: len(x) // 4]), array("h", x[: len(x) // 2]), "x" * len(x), "x"):
        report(name + " kind", refused(lambda other=other: model.infer_sample(other), "int8"))
    model.arena[BUSY_AT] = 1
    calls = {
        "infer": lambda: model.infer_sample(x),
        "use": lambda: model.use(None),
        "train": lambda: model.train(x, bytes(model.target_size) if model.target_size else 0, 1),
        "reset": model.reset,
        "save": model.save,
        "merge": lambda: model.merge(merged),
        "blend": lambda: model.blend([checked], [1]),
    }
    merged = next(i for i, rank in enumerate(model.ranks) if rank)
    for what in sorted(calls):
        report(name + " busy " + what, refused(calls[what], "another core"))
    model.arena[BUSY_AT] = 0
    for same in (x, array("b", x), array("B", x), bytearray(x), memoryview(x)):
        model.infer_sample(same)
        report(name + " stays", bytes(model.output) == logits)
    core, kept = edgelora._core, []
    edgelora._core = Watched(core, lambda arena, op, buffer: kept.append(model.merged[op] is buffer))
    try:
        model.merge(merged)
    finally:
        edgelora._core = core
    report(name + " merged buffer kept", kept == [True])
    weights = model.merge(merged)
    report(name + " merged twice", refused(lambda: model.merge(merged), "merge") and model.merged[merged] is weights)
    model.use(checked)


def check_changed(case):
    # Bytes that change in memory after their check may cause an error or any result, but never a crash.
    name, data = case["name"], bytearray(unhex(case["elm"]))
    configuration = unhex(case["ranks"]), case["mode"], case["micro_batch"], case["momentum"]
    model = edgelora.Model(data, *configuration, frames=case["frames"])
    x = bytes(model.sample_size)
    logits = model.infer_sample(x), bytes(model.output)
    for at in (28, 33, 44, 70, 80):  # header, tensors
        data[at] ^= 255
        report(name + " changed base", refused(lambda: model.infer_sample(x), "changed in memory"))
        data[at] ^= 255
    report(name + " base as it was", (model.infer_sample(x), bytes(model.output)) == logits)
    model.begin(1)
    changed = bytearray(model.save())
    model.use(model.adapter(changed))
    for at in range(8, len(changed), 3):
        changed[at] = 255
        model.infer_sample(x)
    report(name + " record of anything", edgelora._core.record(changed, 1) is None)
    report(name + " record of nothing", edgelora._core.record(b"", 1) is None)
    arena = memoryview(model.arena)
    report(name + " adapter in the arena", refused(lambda: edgelora._core.use(model.arena, arena[96:]), "overlap"))


def check_cases(path):
    """Trains each case of a file. A board has no room for two: one is dropped before the next is read."""
    with open(path) as f:
        for _ in json.loads(f.readline()):
            case = None
            gc.collect()
            case = json.loads(f.readline())
            check_training(case)
    check_changed(case)


def main(*paths):
    check_public_names()
    check_signatures()
    check_order()
    for path in paths:
        if path.endswith(".frames"):
            strangers.clear()
            for plain in (False, True):
                gc.collect()  # what the cases left would lie in the way of a network's file
                check_network(path, plain)
        else:
            check_cases(path)
    print("SUITE", passed, failed, "free", gc.mem_free() if hasattr(gc, "mem_free") else "-")


if __name__ == "__main__":
    main(*sys.argv[1:])
