#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Makes a kernel tree that Rust modules can be built against, in /kernel. Runs inside the toolbox.
# kernel.sh fetch | unpack | prepare | check; part of the kernel's key: see lib.sh.
#
# Debian's headers package has Module.symvers but none of the Rust metadata, so the tree is made from
# the source package with Debian's own config. What makes the result fit the unmodified Debian kernel is
# that release, compilers and mangled symbol names are the same, and that is what `check` proves.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

kernel_make() {
  local release suffix
  release=$(</kernel/release)
  suffix=+${release#*+}
  make -C /kernel/source O=/kernel/build -j"$(nproc)" CC="$KERNEL_GCC" HOSTCC="$KERNEL_GCC" LOCALVERSION="$suffix" "$@"
}

fetch() {
  local version release
  export DEBIAN_FRONTEND=noninteractive
  mkdir -p /kernel/debs
  cd /kernel/debs
  apt-get -o APT::Sandbox::User=root update
  version=$(apt-cache madison "linux-source-$KERNEL_SERIES" | awk '{print $3}' | sort -V | tail -n 1)
  [[ -n $version ]] || die "no linux-source-$KERNEL_SERIES in $BACKPORTS; set KERNEL_SERIES in tools/toolbox/versions to one that is there"
  release=$(apt-cache search --names-only "^linux-headers-${KERNEL_SERIES//./\\.}\\.[^-]*-$KERNEL_FLAVOUR\$" | awk '{print $1}' |
    while read -r package; do
      if apt-cache madison "$package" | awk '{print $3}' | grep -qxF "$version"; then echo "${package#linux-headers-}"; fi
    done | head -n 1)
  [[ -n $release ]] || die "no linux-headers of version $version and flavour $KERNEL_FLAVOUR"
  apt-get -o APT::Sandbox::User=root download \
    "linux-source-$KERNEL_SERIES=$version" "linux-config-$KERNEL_SERIES=$version" "linux-headers-$release=$version" \
    "linux-binary-$release=$version" "linux-modules-$release=$version"
  echo "$version" >/kernel/version
  echo "$release" >/kernel/release
}

unpack() {
  local deb
  cd /kernel
  rm -rf pkg source image
  for deb in debs/*.deb; do dpkg-deb -x "$deb" pkg; done
  mkdir -p source
  tar -C source --strip-components=1 -xf "pkg/usr/src/linux-source-$KERNEL_SERIES.tar.xz"
  mkdir -p image/lib
  mv pkg/usr/lib/modules image/lib/modules
}

prepare() {
  local config="/kernel/pkg/usr/src/linux-config-$KERNEL_SERIES/config.amd64_none_$KERNEL_FLAVOUR.xz"
  mkdir -p /kernel/build
  xz -dc "$config" >/kernel/build/.config
  kernel_make olddefconfig
  kernel_make prepare modules_prepare
  cp "/kernel/pkg/usr/src/linux-headers-$(</kernel/release)/Module.symvers" /kernel/build/
}

# Every name must be the same as in the running kernel, or a module built here would not load there.
check() {
  local release built tool config line
  release=$(</kernel/release)
  built=$(sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' /kernel/build/include/generated/utsrelease.h)
  [[ $built == "$release" ]] || die "the tree calls itself $built, the image is $release"
  [[ -e /kernel/image/lib/modules/$release/vmlinuz ]] || die "no kernel image of $release"
  [[ -d /kernel/image/lib/modules/$release/kernel ]] || die "no modules of $release"
  for tool in rustfmt clippy-driver cargo-clippy; do command -v "$tool" >/dev/null || die "$tool is missing"; done

  config="/kernel/pkg/usr/src/linux-config-$KERNEL_SERIES/config.amd64_none_$KERNEL_FLAVOUR.xz"
  for line in CONFIG_RUST= CONFIG_CC_VERSION_TEXT= CONFIG_RUSTC_VERSION_TEXT= CONFIG_RUSTC_LLVM_VERSION=; do
    diff <(xz -dc "$config" | grep "^$line") <(grep "^$line" /kernel/build/.config) ||
      die "$line differs from Debian's build (< theirs, > ours): packages.build must give Debian's compilers"
  done

  # rust/*.o define what the kernel exports to Rust modules.
  comm -23 \
    <(nm --defined-only /kernel/build/rust/{core,kernel,bindings}.o 2>/dev/null | awk '$2 ~ /[TRDB]/ && $3 ~ /^_R/ {print $3}' | sort -u) \
    <(awk '{print $2}' /kernel/build/Module.symvers | sort -u) >/kernel/symbols-missing
  nm --defined-only /kernel/build/rust/kernel.o | awk '$2 ~ /[TRDB]/ && $3 ~ /^_R/' | wc -l >/kernel/symbols-checked
  [[ ! -s /kernel/symbols-missing ]] ||
    die "$(wc -l </kernel/symbols-missing) Rust symbols of our build are not in Debian's Module.symvers, e.g. $(head -n 1 /kernel/symbols-missing)"
  (($(</kernel/symbols-checked) > 100)) || die "found only $(</kernel/symbols-checked) Rust symbols to check"
  rm -rf /kernel/debs /kernel/pkg
}

"$1"
