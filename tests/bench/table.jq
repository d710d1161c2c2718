# SPDX-License-Identifier: GPL-2.0
# summary.jq's answer as a table for people.

def left($width): tostring | . + ([range([$width - length, 0] | max)] | map(" ") | join(""));
def right($width): tostring | ([range([$width - length, 0] | max)] | map(" ") | join("")) + .;
def fixed: . * 100 | round | tostring | if length < 3 then ("000" + .)[-3:] else . end | .[:-2] + "." + .[-2:];
def ratio: if . == null then "-" else "\(.median | fixed) (\(.min | fixed)-\(.max | fixed))" end;
def value: if . == null then "-" else .median | round end;

# Each driver's ratio to itself.
def own($heading; $rows):
  if $rows == [] then empty
  else
    ("LEVEL     " + ($heading | left(34)) + ("EMD" | right(20)) + ("md tuned" | right(20)) + ("md" | right(20))),
    ($rows[] | ("RAID " + (.level | left(5))) + (.workload | left(34)) + (.emd | ratio | right(20)) + (.md_tuned | ratio | right(20)) + (.md | ratio | right(20))),
    ""
  end;

"EMD beside md: medians, and EMD's ratio to md: median (lowest-highest) over the rounds. Above 1 EMD is faster.",
"kernel \(.about.kernel), \(.about.cpus) x \(.about.cpu), \(.about.milliseconds_per_run) ms a run, \(.rows[0].emd.rounds) rounds",
"",
("LEVEL     " + ("WORKLOAD" | left(28)) + ("UNIT" | left(6)) + ("raw limit" | right(10)) + ("EMD" | right(9)) + ("md tuned" | right(10)) + ("md" | right(9))
  + ("EMD / md tuned" | right(24)) + ("EMD / md" | right(24))),
(.rows[]
  | ("RAID " + (.level | left(5))) + (.workload | left(28)) + (.unit | left(6)) + (.raw_limit | round | right(10)) + (.emd | value | right(9))
    + ((if .has_tuning then .md_tuned | value else "-" end) | right(10)) + (.md | value | right(9))
    + ((if .has_tuning then .emd_to_tuned | ratio else "-" end) | right(24)) + (.emd_to_md | ratio | right(24))),
"",
own("TWO CPUS' SPEED TO ONE'S"; .scaling),
own("LATENCY WITH A CHECK TO WITHOUT"; .latency),
"One ramdisk alone: " + ([.limits[] | "\(.workload) \(.disk) \(.unit)"] | join(", ")) + ".",
"Raw limit: that, times the part of the members' I/O that is the user's: of RAID 5 over five, 4/5 of a sequential write, 1/4 of a random one;",
"for tasks, what is left for one member. One fio thread with one disk does not fill two CPUs, so it can be passed.",
"Logged: EMD closes the write hole with its log, md does nothing about it.",
"p99: what 99 of 100 reads of 4 KiB, one at a time, take no longer than; less is better, and the ratio is md's to EMD's. Checking: while a check runs.",
"With 1 CPU: the other one is off line. 5x8 is RAID 5 over eight members.",
"Check, rebuild and resync count MiB/s of each member. md's own limit for these is 200 MB/s unless tuned.",
"Tuned: group_thread_cnt 4, stripe_cache_size 4096 or 8192 (the better one), no speed limit. RAID 0 and 1 have no such settings."
