# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sets with damaged metadata, and disks of another size than they had: what is clear is started with right data, the rest is shown
# with its reason, and nothing is written to it.
# disks: 3x64M virtio, 1x64M virtio, 1x80M virtio, 1x48M virtio
# cpus: 1
# emd: manual
# timeout: 90

# shellcheck source=tests/guest/lib-raid.sh
source /emd/tests/guest/lib-raid.sh
# shellcheck source=tests/guest/lib-faults.sh
source /emd/tests/guest/lib-faults.sh
# shellcheck source=tests/guest/lib-assemble.sh
source /emd/tests/guest/lib-assemble.sh

boot_1() {
  local before name sector anchor
  make_set
  anchor=$(($(blockdev --getsz "$(disk disk1)") - 1))
  step "metadata that is damaged here and there"
  # The anchor leads to the primary headers; sections behind them stand twice.
  restore good "${MEMBERS[@]}"
  local primary secondary
  primary=$(be64 disk2 "$anchor" 96) secondary=$(be64 disk2 "$anchor" 104)
  say "anchor $anchor, primary $primary, secondary $secondary"
  for sector in "$primary" "$secondary"; do
    smash disk2 "$sector"
    load
    wait_for 10 emd_runs emd0
    expect_equal "sector $sector of disk2 is noise: state" "$(emd_state emd0)" optimal
    data_is_right
    unload
    restore good "${MEMBERS[@]}"
  done
  for sector in $(whole && echo 1 64 65 100 || echo 1 65); do
    smash disk2 $((primary + sector))
    load
    wait_for 10 emd_runs emd0
    grep -qE "^(optimal|degraded)$" <<<"$(emd_state emd0)" || fail "sector $sector of the metadata: $(emd_state emd0)"
    say "sector $((primary + sector)) of disk2 is noise: $(emd_state emd0)"
    data_is_right
    unload
    restore good "${MEMBERS[@]}"
  done
  smash disk2 "$anchor"
  load
  wait_for 10 emd_runs emd0
  say "the anchor of disk2 is noise: $(emd_state emd0)"
  data_is_right
  unload

  step "both copies of all metadata of two disks are damaged"
  restore good "${MEMBERS[@]}"
  for name in disk1 disk2; do
    smash $name "$primary" 400
    smash $name "$secondary" 400
  done
  before=$(host contents "${ALL[@]}")
  load
  not_started "damaged" "^2 of 3 members are lost, more than raid5 bears$" "$before"
  says "what is wrong with the disks" "^no DDF primary header where one should be$" "$(disk disk1)" "$(disk disk2)"
  unload

  step "disks of other sizes"
  restore good "${MEMBERS[@]}"
  # The metadata at the end of a larger disk, and of a smaller one, with the first megabytes as they were.
  # On the larger one there is the second header where the first should be; the smaller one has no such place.
  declare -A why=([disk5]="^the DDF primary header carries type " [disk6]="^the DDF anchor places the primary header at block 98304, beyond the disk's 98304$")
  for name in disk5 disk6; do
    wipe disk2
    dd if="/run/good.disk2" of="$(disk $name)" bs=1M \
      seek=$(($(blockdev --getsz "$(disk $name)") / 2048 - TAIL_MIB)) oflag=direct conv=notrunc status=none
    before=$(host contents disk5 disk6)
    load
    wait_for 10 emd_runs emd0
    expect_equal "state with the disk of another size" "$(emd_state emd0)" degraded
    says "what is wrong with it" "${why[$name]}" "$(disk $name)"
    unchanged "nothing was written to it" "$before" disk5 disk6
    data_is_right
    unload
    wipe $name
    restore good "${MEMBERS[@]}"
  done
}
