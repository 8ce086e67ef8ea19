#!/usr/bin/env bash
# Requests a second and CPU of the broker on one core, beside nginx and haproxy,
# which only add a header: ours parses strictly, checks token, route, model and budget,
# scrubs the answer, counts tokens and records twice. Same request (1.3 KB), same
# answer (591 B), keep-alive, plain upstream that answers 401 without the credential.
# Proxy on the first core, load and upstream on the last; A B A B.
source "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || { echo "bench: broker-throughput needs root" >&2; exit 1; }
repeats=${REPEATS:-3} ms=${MS:-4000} conns=${CONNS:-32}
[ -n "${CLOISTER_BUILD:-}" ] || need_build bench/http-load src/broker/cloister-broker tests/unit/broker_driver
need_peer nginx nginx-light
need_peer haproxy haproxy
build=${CLOISTER_BUILD:-$ROOT/build} load=${CLOISTER_BUILD:-$ROOT/build}/bench/http-load
dir=$(mktemp -d /tmp/cloister-bench.XXXXXX)
key=sk-bench-0123456789abcdef last=$(($(nproc) - 1)) pids=()
end() { exec 7>&- || true; for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$dir"; }
trap end EXIT
chmod 755 "$dir"
up=18401 ngx=18402 hap=18403

taskset -c "$last" "$load" upstream $up $key & pids+=($!)
cat > "$dir/nginx.conf" <<CONF
daemon off; worker_processes 1; pid $dir/nginx.pid; error_log $dir/nginx.err;
events { worker_connections 1024; }
http { access_log $dir/nginx.log; keepalive_requests 10000000;
upstream u { server 127.0.0.1:$up; keepalive 128; keepalive_requests 10000000; }
server { listen 127.0.0.1:$ngx; location / { proxy_pass http://u; proxy_http_version 1.1;
proxy_set_header Connection ""; proxy_set_header Authorization "Bearer $key"; proxy_buffering off; } } }
CONF
cat > "$dir/haproxy.cfg" <<CONF
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend f
  bind 127.0.0.1:$hap
  http-request set-header Authorization "Bearer $key"
  default_backend b
backend b
  server s 127.0.0.1:$up
CONF
taskset -c 0 nginx -c "$dir/nginx.conf" -p "$dir" & pids+=($!)
taskset -c 0 haproxy -f "$dir/haproxy.cfg" -db & pids+=($!)
mkdir "$dir/state"
chown 64999:64999 "$dir/state"
chmod 700 "$dir/state"
mkfifo "$dir/in"
taskset -c "$last" "$build/tests/unit/broker_driver" "$build/src/broker/cloister-broker" "$dir/state" 64999 \
	< "$dir/in" 2> "$dir/broker.log" | grep --line-buffered -v '^record' > "$dir/out" & pids+=($!)
exec 7> "$dir/in"
for _ in $(seq 100); do grep -q ^ready "$dir/out" && break; sleep 0.1; done
read -r _ ours _ pid < <(grep ^ready "$dir/out")
taskset -acp 0 "$pid" >/dev/null
{
	echo "secret openai $key"
	echo "route.put {\"name\":\"openai\",\"kind\":\"openai\",\"upstream\":\"http://127.0.0.1:$up\",\"secret\":\"openai\"}"
	echo 'tenant.put {"no":1,"id":"alice","generation":1,"policy":{"model":{"route":"openai","id":"m"},"routes":["openai"],"budget":{"calls_per_hour":1000000000,"tokens_per_day":1000000000000}}}'
	echo 'sync.end {}'
} >&7
for _ in $(seq 100); do grep -q '"tokens"' "$dir/out" && break; sleep 0.1; done
token=$(sed -nE 's/.*"api":"([^"]*)".*/\1/p' "$dir/out")
sleep 0.5

cpu() { local t=0 p; for p in "$@"; do t=$((t + $(awk '{print $14 + $15}' "/proc/$p/stat"))); done; echo $((t * 10000)); }
one() { # WHO PORT TOKEN PID...: one repeat
	local who=$1 port=$2 tok=$3 before after n took wrong
	shift 3
	before=$(cpu "$@")
	taskset -c "$last" "$load" load "$port" "$tok" "$conns" "$ms" > "$dir/run"
	after=$(cpu "$@")
	read -r n took wrong < "$dir/run"
	[ "$wrong" = 0 ] || { echo "bench: $who gave $wrong wrong answers" >&2; exit 1; }
	echo $((n * 1000 / took)) >> "$dir/$who.rps"
	awk -v a="$before" -v b="$after" -v n="$n" 'BEGIN { printf "%.2f\n", (b - a) / n }' >> "$dir/$who.cpu"
	taskset -c "$last" "$load" load "$port" "$tok" 1 1000 | tail -n +2 >> "$dir/$who.lat"
}
nginx_worker=$(pgrep -P "${pids[1]}" | head -1)
for r in $(seq "$repeats"); do
	say "repeat $r of $repeats"
	one ours "$ours" "$token" "$pid"
	one nginx $ngx "$token" "$nginx_worker"
	one haproxy $hap "$token" "${pids[2]}"
	one direct $up "$key" "${pids[0]}"
done
for who in ours nginx haproxy direct; do
	samples "$who" rps "$dir/$who.rps"
	samples "$who" cpu_us "$dir/$who.cpu"
	samples "$who" us_c1 "$dir/$who.lat"
done
for peer in nginx haproxy; do
	ratio "$peer-cpu" "$(better "$(value_of ours p50_cpu_us)" "$(value_of $peer p50_cpu_us)")"
	ratio "$peer-rps" "$(better "$(value_of $peer p50_rps)" "$(value_of ours p50_rps)")"
done
finish "one core: $(value_of ours p50_rps) requests a second, $(value_of ours p50_cpu_us) us of CPU each (nginx $(value_of nginx p50_cpu_us), haproxy $(value_of haproxy p50_cpu_us)), with policy, budget, scrub and ledger"
