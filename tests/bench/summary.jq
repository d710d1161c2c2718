# SPDX-License-Identifier: GPL-2.0
# From single runs to one row for each level and workload: medians, and EMD's ratio to md with its spread.
# A ratio is made within one round, where both ran one after the other. "tuned" is in each round the better of the
# tuned settings, or md as it comes where md has none. Of what is counted in microseconds less is better, and ratios are md's to EMD's.
# Beside the rows, each driver's ratio to itself: what the second CPU brings (scaling), what a check takes from readers (latency).

def median: sort | if length == 0 then null elif length % 2 == 1 then .[length / 2 | floor] else (.[length / 2] + .[length / 2 - 1]) / 2 end;
def spread: {median: median, min: min, max: max, rounds: length};
def round2: . * 100 | round / 100;
def ratios: map(select(. != null)) | if length == 0 then null else spread | .median |= round2 | .min |= round2 | .max |= round2 end;
def ratio($over; $under): if $over and $under and $under > 0 then $over / $under else null end;
def is_time: . == "us";
def plain: ltrimstr("degraded ") | ltrimstr("logged ") | ltrimstr("1 CPU ") | ltrimstr("checking ");

# Of the runs of one row: a value for each driver and round.
def rounds:
  (.[0].unit | is_time) as $time
  | [
      group_by(.round)[]
      | .[0].round as $round
      | (map({key: .variant, value: .value}) | from_entries) as $v
      | {
          $round,
          emd: $v.emd,
          md: $v.md,
          tuned: ([$v["md-4096"], $v["md-8192"]] | map(select(. != null)) | if length == 0 then $v.md elif $time then min else max end)
        }
    ];

# Of two rows' runs: each driver's own ratio, $over's to $under's.
def own($over; $under):
  ($under | rounds | map({key: "\(.round)", value: .}) | from_entries) as $under
  | def of($driver): [$over | rounds[] | ratio(.[$driver]; $under["\(.round)"][$driver])] | ratios;
    {emd: of("emd"), md: of("md"), md_tuned: of("tuned")};

.about as $about
| (.runs | map(select(.variant == "disk")) | group_by(.workload) | map({workload: .[0].workload, unit: .[0].unit, disk: map(.value) | median})) as $limits
| ($limits | map({key: .workload, value: .disk}) | from_entries) as $own
| (.runs | map(select(.variant != "disk"))) as $runs
| ([$runs[] | [.level, .workload]] | reduce .[] as $key ([]; if index([$key]) then . else . + [$key] end)) as $keys
| def runs_of($level; $workload): [$runs[] | select(.level == $level and .workload == $workload)];
  # Rows that are called like another one, but for $prefix.
  def beside($prefix): $keys[] | select(.[1] | startswith($prefix)) | [.[0], (.[1] | ltrimstr($prefix))] | select(. as $key | $keys | index([$key]));
  {
    about: $about,
    limits: $limits,
    rows: [
      $keys[] as [$level, $workload]
      | runs_of($level; $workload) as $mine
      | ($mine | rounds) as $rounds
      | ($mine[0].unit | is_time) as $time
      | def faster($other): if $time then ratio($other; .emd) else ratio(.emd; $other) end;
        {
          level: $level,
          workload: $workload,
          unit: $mine[0].unit,
          # The members' own speed times what is left of it for users. Tasks read, most of all.
          raw_limit: (($own[$workload | plain] // $own["read 1M"] // 0) * $mine[0].share),
          emd: ($rounds | map(.emd) | spread),
          md: ($rounds | map(.md) | spread),
          md_tuned: ($rounds | map(.tuned) | spread),
          has_tuning: any($mine[]; .variant == "md-4096"),
          emd_to_tuned: ($rounds | map(faster(.tuned)) | ratios),
          emd_to_md: ($rounds | map(faster(.md)) | ratios)
        }
    ],
    scaling: [beside("1 CPU ") as [$level, $workload] | {$level, $workload} + own(runs_of($level; $workload); runs_of($level; "1 CPU \($workload)"))],
    latency: [beside("checking ") as [$level, $workload] | {$level, $workload} + own(runs_of($level; "checking \($workload)"); runs_of($level; $workload))]
  }
