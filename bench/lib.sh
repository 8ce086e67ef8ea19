# shellcheck shell=bash
# bench/lib.sh - what each benchmark shares: build, peers, figures, output.
#
#   need_build TARGET...   builds release binaries into build/
#   need_peer CMD PACKAGE  installs a peer from Debian's packages if missing
#   figure WHO KEY VALUE   one figure (a number)
#   samples WHO UNIT FILE  FILE has one number a line: figures min/p50/p90/p99
#                          with that unit
#   ratio PEER VALUE       how many times better ours is (above 1: ours is)
#   finish "LINE"          prints everything; LINE is the figure that counts
set -euo pipefail
BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$BENCH_DIR")
BENCH_NAME=${BENCH_NAME:-unknown}
BENCH_JSON=${BENCH_JSON:-0}
FIGURES=()
RATIOS=()

say() { [ "$BENCH_JSON" = 1 ] && echo "$*" >&2 || echo "$*"; }

need_build() {
	[ -f "$ROOT/build/build.ninja" ] || meson setup "$ROOT/build" "$ROOT" >&2
	ninja -C "$ROOT/build" "$@" >&2
}

need_peer() {
	command -v "$1" >/dev/null && return 0
	say "installing $2"
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >&2
}

figure() { FIGURES+=("$1 $2 $3"); }
ratio() { RATIOS+=("$1 $2"); }

samples() {
	local who=$1 unit=$2 file=$3 line
	while read -r line; do FIGURES+=("$who $line"); done < <(sort -n "$file" | awk -v u="$unit" '
		{ v[NR] = $1 }
		function q(p,  i) { i = int(p * NR + 0.9999); if (i < 1) i = 1; return v[i] }
		END { if (NR == 0) exit 1
			printf "min_%s %s\np50_%s %s\np90_%s %s\np99_%s %s\n", u, v[1], u, q(.5), u, q(.9), u, q(.99) }')
}

# value_of WHO KEY - a figure again
value_of() {
	local f
	for f in "${FIGURES[@]}"; do
		# shellcheck disable=SC2086
		set -- $1 $2 $f
		[ "$1 $2" = "$3 $4" ] && { echo "$5"; return 0; }
	done
	return 1
}

better() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f\n", (a > 0) ? b / a : 0 }'; }

machine_json() {
	printf '{"cores":%s,"memory_mb":%s,"kernel":"%s","cpu":"%s"}' "$(nproc)" \
		"$(awk '/MemTotal/{print int($2/1024)}' /proc/meminfo)" "$(uname -r)" \
		"$(awk -F': ' '/model name/{print $2; exit}' /proc/cpuinfo | tr -d '"\\')"
}

finish() {
	local who last="" f key value sep
	if [ "$BENCH_JSON" = 1 ]; then
		printf '{"bench":"%s","machine":%s,"figures":{' "$BENCH_NAME" "$(machine_json)"
		for who in $(printf '%s\n' "${FIGURES[@]}" | awk '!s[$1]++{print $1}'); do
			printf '%s"%s":{' "$last" "$who"
			sep=""
			for f in "${FIGURES[@]}"; do
				read -r w key value <<<"$f"
				[ "$w" = "$who" ] || continue
				printf '%s"%s":%s' "$sep" "$key" "$value"
				sep=","
			done
			printf '}'
			last=","
		done
		printf '},"ratios":{'
		sep=""
		for f in "${RATIOS[@]+"${RATIOS[@]}"}"; do
			read -r key value <<<"$f"
			printf '%s"%s":%s' "$sep" "$key" "$value"
			sep=","
		done
		printf '}}\n'
	else
		echo "machine: $(nproc) cores, $(awk '/MemTotal/{print int($2/1024)}' /proc/meminfo) MB, kernel $(uname -r)"
		printf '%s\n' "${FIGURES[@]}" | awk '{printf "%-22s %-18s %s\n", $1, $2, $3}'
		for f in "${RATIOS[@]+"${RATIOS[@]}"}"; do
			read -r key value <<<"$f"
			echo "ratio to $key: $value"
		done
		echo "$1"
	fi
}
