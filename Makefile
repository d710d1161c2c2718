# SPDX-License-Identifier: GPL-2.0
# Targets for people; the kernel build reads Kbuild instead. `make help` lists them.
#
# Everything runs inside the toolbox, a pinned Debian with kernel, compilers and QEMU that the first
# `make` makes in ~/.cache/emd (or $EMD_CACHE). Output goes to build/.

MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
BUILD := $(CURDIR)/build
ENTER := tools/toolbox/enter
KERNEL_CC := $(shell sed -n 's/^KERNEL_GCC=//p' tools/toolbox/versions)
DEBUG_LLVM := $(shell sed -n 's/^DEBUG_LLVM=//p' tools/toolbox/versions)
# One kernel build of a kind at a time: several people may share a clone.
ONE_AT_A_TIME = mkdir -p $(BUILD) && flock $(BUILD)/$(1).lock
# Of debug information the lines, which a stack trace names: all of it is twenty megabytes more.
KBUILD = $(ENTER) $(MAKE) -s -j$$(nproc) -C /kernel/build M=$(CURDIR) CC=$(KERNEL_CC) CONFIG_DEBUG_INFO_BTF_MODULES= KRUSTFLAGS=-Cdebuginfo=line-tables-only $(if $(V),V=$(V))
CARGO = $(ENTER) tools/toolbox/cargo
# Optional: which test (T=name), more output (V=1), tests at a time (JOBS=n).
export CARGO_TARGET_DIR := $(BUILD)/cargo

.PHONY: all help toolbox modules emdadm built-modules built-emdadm initramfs test test-whole release-check test-host test-guest debug-kernel debug-modules test-debug simulate fuzz demo bench shell fmt fmt-check clippy \
	shellcheck check-docs check-udev check in-tree-check toolbox-check modules_install install clean prune

all: modules emdadm ## the module and the tool (default)

help: ## this list
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile
	@echo "  KDIR=DIR builds with this machine's own compilers, for another prepared kernel tree; T=NAME picks a test"

toolbox: ## the toolbox (5 minutes, once; then nothing)
	@tools/toolbox/make

ifdef KDIR
modules: ## emd.ko, in build/module
	@$(call ONE_AT_A_TIME,module) $(MAKE) -C $(KDIR) M=$(CURDIR) MO=$(BUILD)/module modules

modules_install: built-modules ## emd.ko, as built, into the running kernel's modules (or KDIR's)
	@$(MAKE) -C $(KDIR) M=$(CURDIR) MO=$(BUILD)/module $(if $(DESTDIR),INSTALL_MOD_PATH=$(abspath $(DESTDIR))) modules_install
	@# The kernel's own rule leaves the index alone where it has no System.map.
	@tools/toolbox/install-module --index $(BUILD)/module/emd.ko $(if $(DESTDIR),$(abspath $(DESTDIR)))
else
modules: toolbox
	@mkdir -p $(BUILD)/module
	@$(call ONE_AT_A_TIME,module) $(KBUILD) MO=$(BUILD)/module modules
	@echo "build/module/emd.ko"

modules_install: built-modules
	@tools/toolbox/install-module $(BUILD)/module/emd.ko $(if $(DESTDIR),$(abspath $(DESTDIR)))
endif

# Static, and compiled like the tests: what they run is what is installed (Cargo.toml, .cargo/config.toml).
EMDADM_BUILD = $(1) build --quiet -p emdadm
EMDADM_BUILT = $(CARGO_TARGET_DIR)/x86_64-unknown-linux-gnu/debug/emdadm
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
ifdef KDIR
emdadm: # one static program: build/emdadm
	@command -v cargo >/dev/null || { echo "emdadm: there is no cargo here; 'make emdadm' without KDIR builds it in the toolbox" >&2; exit 1; }
	@$(call EMDADM_BUILD,cargo)
else
emdadm: toolbox ## the tool, one static program: build/emdadm
	@$(call EMDADM_BUILD,$(CARGO))
endif
	@cmp -s $(EMDADM_BUILT) $(BUILD)/emdadm || install -m 755 $(EMDADM_BUILT) $(BUILD)/emdadm
	@echo "build/emdadm"

# Installing builds nothing: it may run as another user, who has another cache.
built-modules:
	@test -e $(BUILD)/module/emd.ko || { echo "build/module/emd.ko is missing: make modules$(if $(KDIR), KDIR=$(KDIR))" >&2; exit 1; }

built-emdadm:
	@test -e $(BUILD)/emdadm || { echo "build/emdadm is missing: make emdadm" >&2; exit 1; }

install: built-modules built-emdadm modules_install ## both, as built, for the running kernel (or KDIR's), and what udev, initramfs and systemd want (DESTDIR=DIR: below it)
	install -D -m 755 $(BUILD)/emdadm $(DESTDIR)/usr/local/sbin/emdadm
	install -D -m 644 tools/udev/60-emd.rules $(DESTDIR)/usr/lib/udev/rules.d/60-emd.rules
	install -D -m 755 tools/udev/emd-id $(DESTDIR)/usr/lib/udev/emd-id
	install -D -m 755 tools/udev/initramfs-hook $(DESTDIR)/usr/share/initramfs-tools/hooks/emd
	install -D -m 644 tools/udev/dracut.conf $(DESTDIR)/usr/lib/dracut/dracut.conf.d/50-emd.conf
	install -D -m 755 -t $(DESTDIR)/usr/local/sbin tools/systemd/emd-check tools/systemd/emd-mail
	install -D -m 644 -t $(DESTDIR)/usr/lib/systemd/system tools/systemd/emd-check.service tools/systemd/emd-check.timer tools/systemd/emd-mail.service

initramfs: toolbox ## what test guests boot from (cached)
	@$(ENTER) tools/vm/run-tests --prepare

test: toolbox ## all tests, for every day; the last line is "N passed, N failed"
	@$(ENTER) tools/vm/test-all

test-whole: toolbox ## the same with all of each matrix (much longer)
	@EMD_WHOLE=1 EMD_TIMEOUT_SCALE=9 EMD_GUEST_OPTIONS=emdtest.whole=1 $(ENTER) tools/vm/test-all

# What no machine runs by itself, on the last commit of a piece of work: an hour.
release-check: ## all that can be checked: check, test-whole, in-tree-check, demo
	@$(MAKE) check
	@$(MAKE) test-whole
	@$(MAKE) in-tree-check
	@$(MAKE) demo

test-host: toolbox ## host tests (T=NAME: those that match)
	@$(CARGO) test --workspace --quiet --no-fail-fast $(T)

simulate: toolbox ## the crash simulator for SECONDS=n (10), or one SEED=n; FORMAT=name, KIND=regions, HOLE=closed, MISTAKE=name
	@SECONDS=$(or $(SECONDS),10) SEED=$(SEED) FORMAT=$(FORMAT) KIND=$(KIND) LEVELS=$(LEVELS) HOLE=$(HOLE) MISTAKE=$(MISTAKE) METADATA_ERRORS=$(METADATA_ERRORS) TAKE_BACK=$(TAKE_BACK) ALL=$(ALL) \
		$(CARGO) run --quiet --profile simulate -p emd-simulator

fuzz: toolbox ## libFuzzer for SECONDS=n (60) on each TARGET (ddf, imsm, asr, md, ioctl; all); RUN=FILE replays one input
	@SECONDS=$(or $(SECONDS),60) $(ENTER) tools/fuzz $(if $(RUN),--replay $(or $(TARGET),$(notdir $(patsubst %/,%,$(dir $(RUN))))) $(RUN),$(TARGET))

test-guest: modules emdadm ## tests in virtual machines (T="NAME...")
	@$(ENTER) tools/vm/run-tests $(T)

# The debug guest: a kernel that checks locks, sleeping and memory. EMD_KERNEL_DIR has it as /kernel.
IN_DEBUG = EMD_KERNEL_DIR=$$(tools/toolbox/debug-kernel) && export EMD_KERNEL_DIR &&
DEBUG_TESTS = level-raid1 level-raid6 tasks fault-unplug fault-write-error fault-metadata crash-hole set-lifecycle assemble-late ioctl-hostile

debug-kernel: toolbox # made by who needs it
	@tools/toolbox/debug-kernel >/dev/null

debug-modules: debug-kernel
	@mkdir -p $(BUILD)/debug/module
	@$(IN_DEBUG) $(call ONE_AT_A_TIME,debug) $(KBUILD) LLVM=$(DEBUG_LLVM) CC=clang$(DEBUG_LLVM) MO=$(BUILD)/debug/module modules

test-debug: debug-modules emdadm ## guest tests on a kernel with lockdep and KASAN (T="NAME..."; the first time it is compiled)
	@$(IN_DEBUG) EMD_TIMEOUT_SCALE=$(or $(EMD_TIMEOUT_SCALE),15) EMD_GUEST_OPTIONS="$(EMD_GUEST_OPTIONS) emdtest.patience=20" \
		$(ENTER) tools/vm/run-tests $(or $(T),$(DEBUG_TESTS))

demo: modules emdadm ## shows EMD at work in a virtual machine
	@$(ENTER) tools/vm/run-tests --stream tests/guest/_demo.sh

bench: modules emdadm ## EMD beside md, in a virtual machine (QUICK=1: one short round; LEVELS=5,6x8); results in build/vm/md-emd/out
	@EMD_GUEST_OPTIONS="$(if $(QUICK),emdtest.quick=1) $(if $(LEVELS),emdtest.levels=$(LEVELS))" $(ENTER) tools/vm/run-tests --stream $(or $(T),$(wildcard tests/bench/*.sh))

shell: modules emdadm ## a prompt in a virtual machine with emd and disks (DISKS="4x256M virtio")
	@$(ENTER) tools/vm/shell $(if $(DISKS),"$(DISKS)")

RUST_FILES = git ls-files -co --exclude-standard '*.rs' | xargs -r ls -d 2>/dev/null
fmt: toolbox ## formats all Rust sources
	@$(RUST_FILES) | xargs $(ENTER) rustfmt --config-path rustfmt.toml --edition 2021

fmt-check: toolbox ## whether they are formatted
	@$(RUST_FILES) | xargs $(ENTER) rustfmt --config-path rustfmt.toml --edition 2021 --check

clippy: toolbox ## clippy over module and host code, warnings are errors
	@$(call ONE_AT_A_TIME,clippy) $(KBUILD) MO=$(BUILD)/clippy CLIPPY=1 KRUSTFLAGS=-Dwarnings modules
	@$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings

SHELL_FILES = git ls-files -co --exclude-standard | xargs awk 'FNR == 1 && /^\#!.*sh$$/ || FNR < 4 && /shellcheck shell=bash/ {print FILENAME; nextfile}'
shellcheck: toolbox ## shellcheck over all scripts
	@$(SHELL_FILES) | xargs $(ENTER) shellcheck -x -P SCRIPTDIR
	@! git grep -nE '\b(ask|emd_[a-z]+|md_[a-z]+)\b.*[^&]&$$' -- tests/guest || { echo "asked of arrays in the background: see ask in tests/guest/lib-raid.sh" >&2; false; }

check-docs: toolbox ## whether links in the documentation lead somewhere
	@$(ENTER) tools/check-docs

check-udev: toolbox ## udev's own check of its rules
	@$(ENTER) udevadm verify --no-summary $(CURDIR)/tools/udev/60-emd.rules

check: fmt-check clippy shellcheck check-docs check-udev ## the last five: all that does not run anything
	@echo "formatting, clippy, shellcheck, links, udev's rules: nothing to complain of"

in-tree-check: toolbox ## whether EMD builds inside a kernel tree, and for another one (15 minutes; not part of test)
	@tools/toolbox/in-tree-check

toolbox-check: ## whether the toolbox makes itself: interrupted, twice at once, without root (8 GB, half an hour; not part of test)
	@tools/toolbox/check-toolbox

clean: ## removes build/
	rm -rf $(BUILD)

prune: ## removes toolboxes of other versions from the cache
	@tools/toolbox/prune
