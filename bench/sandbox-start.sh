#!/usr/bin/env bash
# How long from the request for a sandbox to the first instruction of the
# command in it, and how long until nothing is left; beside bwrap, crun, runc.
# Ours: the engine that the spawner runs, every wall, control groups with limits
# and the self-test of every wall from inside (the peers test nothing).
# "ours-ahead": as an idle spawner does it, with a network namespace made before.
# Interleaved (A B A B), one image for all: a directory with one static program.
source "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || { echo "bench: sandbox-start needs root" >&2; exit 1; }
rounds=${ROUNDS:-20} repeats=${REPEATS:-5}
need_build bench/sandbox-start src/init/cloister-init
need_peer bwrap bubblewrap
need_peer crun crun
need_peer runc runc
tool=$ROOT/build/bench/sandbox-start init=$ROOT/build/src/init/cloister-init
dir=$(mktemp -d /tmp/cloister-bench.XXXXXX)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
mkdir -p "$dir/root"/{bin,proc,dev,tmp,workspace,etc,sys}
cp "$tool" "$dir/root/bin/stamp"

spec() { # an OCI bundle with the same command, no capability, no terminal
	mkdir -p "$dir/$1"
	cat > "$dir/$1/config.json" <<JSON
{"ociVersion":"1.0.2","process":{"terminal":false,"user":{"uid":1000,"gid":1000},"args":["/bin/stamp","--stamp"],
"env":["PATH=/bin"],"cwd":"/","noNewPrivileges":true,
"capabilities":{"bounding":[],"effective":[],"permitted":[],"ambient":[],"inheritable":[]}},
"root":{"path":"$dir/root","readonly":true},"hostname":"bench",
"mounts":[{"destination":"/proc","type":"proc","source":"proc"},
{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755"]},
{"destination":"/tmp","type":"tmpfs","source":"tmpfs","options":["nosuid","nodev"]}],
"linux":{"uidMappings":[{"containerID":0,"hostID":701000,"size":1001}],"gidMappings":[{"containerID":0,"hostID":701000,"size":1001}],
"namespaces":[{"type":"pid"},{"type":"network"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},{"type":"user"}],
"maskedPaths":["/proc/kcore","/proc/keys","/proc/timer_list"],"readonlyPaths":["/proc/sys","/proc/sysrq-trigger"]}}
JSON
}
spec oci
# crun refuses v1 beside v2 while it sees the v2 mount: hidden outside of the clock
oci() { local n=$1 who=$2; for _ in $(seq "$n"); do
	unshare -m --propagation private sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"' sh \
		"$tool" --peer 1 "$who" ${3:+"$3"} --root "$dir/state-$who" run --bundle "$dir/oci" "b$RANDOM$RANDOM"; done; }

run_ours() { "$tool" "$rounds" "$dir/root" "$init" /bin/stamp; }
run_ours-ahead() { SANDBOX_START_AHEAD=1 "$tool" "$rounds" "$dir/root" "$init" /bin/stamp; }
run_bwrap() { "$tool" --peer "$rounds" bwrap --unshare-all --uid 1000 --gid 1000 --ro-bind "$dir/root" / --proc /proc \
	--dev /dev --tmpfs /tmp --new-session --die-with-parent --clearenv /bin/stamp --stamp; }
run_crun() { oci "$rounds" crun --cgroup-manager=disabled; }
run_runc() { oci "$rounds" runc; }

whos="ours ours-ahead bwrap"
for peer in crun runc; do
	if rounds=1 "run_$peer" > "$dir/try" 2> "$dir/why"; then whos="$whos $peer"
	else say "$peer does not run here: $(head -1 "$dir/why")"; fi
done
for r in $(seq "$repeats"); do
	say "repeat $r of $repeats"
	for who in $whos; do "run_$who" >> "$dir/$who.all"; done
done
for who in $whos; do
	awk '{print $1}' "$dir/$who.all" > "$dir/$who.start"
	awk '{print $3}' "$dir/$who.all" > "$dir/$who.end"
	samples "$who" us "$dir/$who.start"
	samples "$who-teardown" us "$dir/$who.end"
done
for who in $whos; do
	case $who in ours*) ;; *) ratio "$who" "$(better "$(value_of ours p50_us)" "$(value_of "$who" p50_us)")" ;; esac
done
finish "a sandbox with every wall, limits and self-test: p50 $(value_of ours p50_us) us cold, $(value_of ours-ahead p50_us) us with a network namespace ready"
