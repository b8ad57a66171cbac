#!/bin/sh
# Gateways side by side, in front of the same two stub engines, loaded by the same generator: interleaved rounds, medians.
# Usage: bench/gateway.sh [PEER...]    peers: direct nginx datahall sglang smg vllm litellm; by default all that are installed
# Environment: ROUNDS (3), SECONDS_EACH (5), CONNECTIONS (64), SHAPES ("short stream 64k one"), WORK (a new folder)
#
# Peers: nginx from Debian (`apt-get install nginx-light`); the others from PyPI, each in an environment of its own whose `bin` is
# on PATH: `pip install sglang-router` (python -m sglang_router.launch_router), `pip install smg`, `pip install vllm-router`,
# `pip install 'litellm[proxy]'`.
# Shapes: short  chats of 40 tokens          stream  65 events an answer
#         64k    prompts of 64 KB            one     short, over one connection
# datahall runs with a key that has quotas, prefix routing and metrics; nginx is a plain proxy with one worker and keepalive.
# Load generator, gateway and stubs share the machine: compare within one table only. The load average is printed for that reason.
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

# start NAME COMMAND...: in the background, its words in a file.
start() {
    name="$1"
    shift
    "$@" >"$work/$name.log" 2>&1 &
    pids="$pids $!"
}

# await PORT: until something answers a request there, for a minute.
await() {
    for _ in $(seq 300); do
        if "$datahall" bench gateway "127.0.0.1:$1" --connections 1 --requests 1 --quiet >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    echo "nothing answers on port $1; see $work" >&2
    return 1
}

have() {
    case "$1" in
        direct | datahall) true ;;
        nginx) command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] ;;
        sglang) python3 -c 'import sglang_router' 2>/dev/null ;;
        smg) command -v smg >/dev/null ;;
        vllm) command -v vllm-router >/dev/null ;;
        litellm) command -v litellm >/dev/null ;;
        *) false ;;
    esac
}

"$datahall" bench stub --engines 2 --port 9101 --answer 65 --quiet >"$work/stub.log" 2>&1 &
pids="$pids $!"
await 9101

peers="${*:-direct nginx datahall sglang smg vllm litellm}"
running=""
for peer in $peers; do
    have "$peer" || { echo "# $peer is not installed"; continue; }
    case "$peer" in
        direct) port=9101 ;;
        nginx)
            port=9201
            cat >"$work/nginx.conf" <<CONF
worker_processes 1;
daemon off;
pid $work/nginx.pid;
error_log $work/nginx.err;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path $work/body;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/f;
    uwsgi_temp_path $work/u;
    scgi_temp_path $work/s;
    client_body_buffer_size 1m;
    keepalive_requests 100000000;
    upstream stubs { server 127.0.0.1:9101; server 127.0.0.1:9102; keepalive 256; keepalive_requests 100000000; }
    server {
        listen 127.0.0.1:$port;
        location / { proxy_pass http://stubs; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }
    }
}
CONF
            start nginx "$(command -v nginx || echo /usr/sbin/nginx)" -c "$work/nginx.conf" -p "$work"
            ;;
        datahall)
            port=9202
            key="$("$datahall" gateway --engine stub=http://127.0.0.1:9101 --keys "$work/keys.json" --add-key bench --rpm 1000000000 --tpm 1000000000000 --budget 1000000)"
            export DATAHALL_BENCH_KEY="$key"
            start datahall "$datahall" gateway --listen "127.0.0.1:$port" --keys "$work/keys.json" \
                --engine stub=http://127.0.0.1:9101 --engine stub=http://127.0.0.1:9102
            ;;
        sglang)
            port=9203
            start sglang python3 -m sglang_router.launch_router --host 127.0.0.1 --port "$port" --policy cache_aware \
                --prometheus-port 9303 --worker-urls http://127.0.0.1:9101 http://127.0.0.1:9102
            ;;
        smg)
            port=9204
            start smg smg launch --host 127.0.0.1 --port "$port" --policy cache_aware --prometheus-port 9304 \
                --worker-urls http://127.0.0.1:9101 http://127.0.0.1:9102
            ;;
        vllm)
            port=9205
            start vllm vllm-router --host 127.0.0.1 --port "$port" --policy cache_aware --prometheus-port 9305 \
                --worker-urls http://127.0.0.1:9101 http://127.0.0.1:9102
            ;;
        litellm)
            port=9206
            cat >"$work/litellm.yaml" <<CONF
model_list:
  - { model_name: stub, litellm_params: { model: openai/stub, api_base: "http://127.0.0.1:9101/v1", api_key: none } }
  - { model_name: stub, litellm_params: { model: openai/stub, api_base: "http://127.0.0.1:9102/v1", api_key: none } }
CONF
            LITELLM_LOCAL_MODEL_COST_MAP=True start litellm litellm --host 127.0.0.1 --port "$port" --config "$work/litellm.yaml"
            ;;
    esac
    if await "$port"; then running="$running $peer:$port"; fi
done

flags() {
    case "$1" in
        short) echo "--connections ${CONNECTIONS:-64} --prompt 40 --answer 16" ;;
        stream) echo "--connections ${CONNECTIONS:-64} --prompt 40 --answer 65 --stream" ;;
        64k) echo "--connections ${CONNECTIONS:-64} --prompt 16384 --answer 16" ;;
        one) echo "--connections 1 --prompt 40 --answer 16" ;;
    esac
}

echo "# load average $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores, ${ROUNDS:-3} rounds of ${SECONDS_EACH:-5} s"
for shape in ${SHAPES:-short stream 64k one}; do
    : >"$work/$shape"
    for _ in $(seq "${ROUNDS:-3}"); do
        for one in $running; do
            # shellcheck disable=SC2046
            "$datahall" bench gateway "127.0.0.1:${one#*:}" $(flags "$shape") --duration "${SECONDS_EACH:-5}s" -o json >"$work/out" || true
            awk -v peer="${one%:*}" '
                /"broken":/ { broken = $2 } /"latency_us":/ { latency = 1 }
                latency && /"p50":/ { p50 = $2 } latency && /"p99":/ { p99 = $2; latency = 0 }
                /"requests_per_second":/ { rate = $2 }
                END { print peer, broken + 0, p50 + 0, p99 + 0, rate + 0 }' "$work/out" >>"$work/$shape"
        done
    done
    echo
    printf '%-10s %10s %10s %10s %8s   %s\n' "$shape" requests/s "p50 us" "p99 us" broken "of $(echo "$running" | wc -w) peers"
    for one in $running; do
        grep "^${one%:*} " "$work/$shape" | sort -k5 -n | awk '{ row[NR] = $0 } END { split(row[int((NR + 1) / 2)], f, " "); printf "%-10s %10d %10d %10d %8d\n", f[1], f[5], f[3], f[4], f[2] }'
    done
done
