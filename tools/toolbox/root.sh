#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# root.sh TARGET: makes the toolbox's Debian root there. Part of the root's key: see lib.sh.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

target=$1
mirror=$("$TOOLBOX_DIR/mirror")
packages=$(package_list "$TOOLBOX_DIR/packages.build" "$TOOLBOX_DIR/packages.run" | paste -sd,)

options=(
  --variant=minbase
  --architectures=amd64
  --include="$packages"
  --skip=check/empty
  --dpkgopt='path-exclude=/usr/share/man/*'
  --dpkgopt='path-exclude=/usr/share/locale/*'
  --dpkgopt='path-exclude=/usr/share/doc/*'
  --dpkgopt='path-include=/usr/share/doc/*/copyright'
  --aptopt='Acquire::Retries "3"'
  --aptopt='Acquire::Languages "none"'
)
# The machine's way through a proxy, if it has one.
while IFS= read -r line; do options+=(--aptopt="$line"); done < <(
  apt-config dump | grep -E '^Acquire::https?::(Proxy|Proxy::[^ ]*|Verify-Peer|CaInfo) ' | grep -v '""' || true
)

# Three things after the packages: crates (unpacked, not installed: their dependencies are those of all that they can do),
# or none if the mirror lacks one, which cargo says then; dmraid from the last suite that has it (unpacked too, so that none
# of its dependencies come along), if the mirror has that; and the versions that the kernel's key is made of.
crates=$(package_list "$TOOLBOX_DIR/packages.crates" | paste -sd' ')
build_list=$(package_list "$TOOLBOX_DIR/packages.build" | paste -sd' ')
hooks=(
  --customize-hook="chroot \"\$1\" sh -ec '
    mkdir /tmp/crates && cd /tmp/crates
    if apt-get -q --print-uris download $crates >/dev/null; then
      apt-get -q -o APT::Sandbox::User=root download $crates
      for deb in ./*.deb; do
        dpkg-deb --fsys-tarfile \$deb | tar -x -C / ./usr/share/cargo/registry
        dpkg-deb -W \$deb
      done >/etc/emd-crates
    fi
    rm -rf /tmp/crates'"
  --customize-hook="chroot \"\$1\" sh -ec '
    echo \"deb $mirror $DMRAID_SUITE main\" >/etc/apt/sources.list.d/dmraid.list
    cd /tmp
    if apt-get update -q && apt-get download -q dmraid libdmraid1.0.0.rc16; then
      for deb in ./*dmraid*.deb; do dpkg-deb -x \$deb /tmp/dmraid; done
      cp -a /tmp/dmraid/usr/. /usr/
      for dir in sbin lib; do [ ! -d /tmp/dmraid/\$dir ] || cp -a /tmp/dmraid/\$dir/. /usr/\$dir/; done
    else
      echo \"no dmraid in $DMRAID_SUITE of $mirror: tests that need it are skipped\"
    fi
    rm -rf /tmp/*dmraid* /etc/apt/sources.list.d/dmraid.list && ldconfig'"
  --customize-hook="chroot \"\$1\" dpkg-query -W $build_list >\"\$1/etc/emd-build-tools\""
  --customize-hook="ln -sf llvm-objdump-19 \"\$1/usr/bin/llvm-objdump\"; mkdir -p \"\$1/kernel\""
)

sources=("deb $mirror $SUITE main" "deb $mirror $BACKPORTS main")
if [[ $(id -u) == 0 ]]; then
  mkdir -p "$target"
  mmdebstrap --mode=root "${options[@]}" "${hooks[@]}" --format=directory "$SUITE" "$target" "${sources[@]}"
else
  # The root belongs to this user's subordinate ids, so it is unpacked where those are mapped.
  mmdebstrap --mode=unshare "${options[@]}" "${hooks[@]}" --format=tar "$SUITE" - "${sources[@]}" |
    unshare --user --map-root-user --map-auto sh -ec "mkdir -p '$target' && tar -C '$target' --numeric-owner --exclude='./dev/*' -xf -"
fi
