#!/bin/sh
# How long plans take and how much memory: each size three times in a process of its own, then the medians.
# Usage: bench/plan.sh [ACCELERATORS...]
set -eu
cd "$(dirname "$0")/.."
cargo build --release --quiet -p dh-plan --example scale
scale="${CARGO_TARGET_DIR:-target}/release/examples/scale"
[ $# -gt 0 ] || set -- 16384 65536 262144 1048576
printf '%12s %8s %9s %10s %9s %9s %9s %9s\n' accelerators racks switches cables 'plan ms' 'plan MB' 'list ms' 'list MB'
for size in "$@"; do
    for _ in 1 2 3; do "$scale" "$size"; done | awk '
        # The number before a word of the line.
        function before(word, nth,    i) { for (i = 2; i <= NF; i++) if ($i == word && --nth == 0) return $(i - 1) }
        # The number after a word.
        function after(word,    i) { for (i = 1; i < NF; i++) if ($i == word) return $(i + 1) }
        function median(a, b, c) { return a > b ? (b > c ? b : (a > c ? c : a)) : (a > c ? a : (b > c ? c : b)) }
        { plan[NR] = after("plan") + 0; list[NR] = after("list") + 0
          mb[NR] = before("MB", 1) + 0; all[NR] = before("MB", 2) + 0
          size = $1; racks = before("racks", 1); switches = before("switches", 1); cables = before("cables", 1) }
        END { printf "%12d %8d %9d %10d %9.1f %9d %9.1f %9d\n", size, racks, switches, cables,
              median(plan[1], plan[2], plan[3]), median(mb[1], mb[2], mb[3]),
              median(list[1], list[2], list[3]), median(all[1], all[2], all[3]) }'
done
