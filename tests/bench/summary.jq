# SPDX-License-Identifier: GPL-2.0
# From single runs to one row for each level and workload: medians, and EMD's ratio to md with its spread.
# A ratio is made within one round, where both ran one after the other. "tuned" is in each round the better of the
# tuned settings, or md as it comes where md has none.

def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor] else (.[length / 2] + .[length / 2 - 1]) / 2 end;
def spread: {median: median, min: min, max: max, rounds: length};
def round2: . * 100 | round / 100;
def ratios: map(select(. != null)) | if length == 0 then null else spread | .median |= round2 | .min |= round2 | .max |= round2 end;
def ratio($over; $under): if $over and $under and $under > 0 then $over / $under else null end;

.about as $about
| (.runs | map(select(.variant == "disk")) | group_by(.workload) | map({workload: .[0].workload, unit: .[0].unit, disk: map(.value) | median})) as $limits
| ($limits | map({key: .workload, value: .disk}) | from_entries) as $own
| (.runs | map(select(.variant != "disk"))) as $runs
| ([$runs[] | [.level, .workload]] | reduce .[] as $key ([]; if index([$key]) then . else . + [$key] end)) as $keys
| {
    about: $about,
    limits: $limits,
    rows: [
      $keys[] as [$level, $workload]
      | [$runs[] | select(.level == $level and .workload == $workload)] as $mine
      | [
          $mine | group_by(.round)[]
          | (map({key: .variant, value: .value}) | from_entries) as $v
          | {emd: $v.emd, md: $v.md, tuned: ([$v["md-4096"], $v["md-8192"]] | map(select(. != null)) | if length == 0 then $v.md else max end)}
        ] as $rounds
      | {
          level: $level,
          workload: $workload,
          unit: $mine[0].unit,
          # The members' own speed times what is left of it for users. Tasks read, most of all.
          raw_limit: (($own[$workload | ltrimstr("degraded ") | ltrimstr("logged ") | ltrimstr("1 CPU ")] // $own["read 1M"] // 0) * $mine[0].share),
          emd: ($rounds | map(.emd) | spread),
          md: ($rounds | map(.md) | spread),
          md_tuned: ($rounds | map(.tuned) | spread),
          has_tuning: any($mine[]; .variant == "md-4096"),
          emd_to_tuned: ($rounds | map(ratio(.emd; .tuned)) | ratios),
          emd_to_md: ($rounds | map(ratio(.emd; .md)) | ratios)
        }
    ]
  }
