# shellcheck shell=bash
#
# Functions shared by the image recipes (agents/*/build-image).
#
# How this works: a recipe fills IMAGE.tmp/rootfs step by step, seals it
# (fixed times, owner root, no setuid bit), writes files.sha256 and image.json,
# and renames IMAGE.tmp to IMAGE as its last act. An IMAGE that exists is
# therefore always a whole one. IMAGE/recipe.sha256 holds the hash of
# everything in this repository that the recipe reads: when it still fits, a
# second call returns at once.

# All file times in an image: 2026-01-01 00:00:00 UTC.
IMAGE_EPOCH=1767225600

# Debian packages of every image; a recipe may add some. Their dependencies are added by apt.
# shellcheck disable=SC2034
DEBIAN_PACKAGES=(
	base-files bash bzip2 ca-certificates coreutils curl dash debianutils
	diffutils file findutils fonts-dejavu-core gawk git grep gzip hostname jq less libc-bin
	media-types ncurses-base patch perl-base poppler-utils procps python3
	ripgrep sed sqlite3 tar tzdata unzip xz-utils zip
)

# Packages that apt must believe to be there: maintainer scripts never run in
# an image, and git's Perl commands (send-email, svn) are not wanted in it.
DEBIAN_LEFT_OUT=(
	adduser debconf dpkg fontconfig-config init-system-helpers liberror-perl
	openssl perl ucf usr-is-merged
)

# What the packages may not bring: documents, translations, package manager.
DEBIAN_PRUNE=(
	./etc ./var ./run ./dev ./boot ./home ./media ./mnt ./opt ./root ./srv
	./tmp ./proc ./sys ./usr/games ./usr/local ./usr/src
	./usr/include ./usr/share/bug ./usr/share/doc ./usr/share/doc-base
	./usr/share/info ./usr/share/lintian ./usr/share/locale ./usr/share/man
	./usr/share/menu ./usr/share/applications ./usr/share/pixmaps
	./usr/share/bash-completion ./usr/share/zsh ./usr/share/gcc
	./usr/share/X11 ./usr/share/dpkg ./usr/share/common-licenses
	./usr/share/zoneinfo/right ./usr/share/zoneinfo/posix
	./lib/systemd ./usr/lib/systemd ./lib/udev ./lib/init
	./usr/lib/python3.11/test ./usr/lib/python3.11/ensurepip
	./usr/lib/python3.11/idlelib ./usr/lib/python3.11/tkinter
	./usr/lib/python3.11/lib2to3 ./usr/lib/python3.11/pydoc_data
	./usr/share/git-core/contrib ./usr/lib/git-core/git-gui
)

STEP=0
STEPS=0

# step TEXT - one line of progress: "[3/9] text"
step() {
	STEP=$((STEP + 1))
	printf '[%d/%d] %s\n' "$STEP" "$STEPS" "$1"
}

# note TEXT - a detail below a step
note() {
	printf '      %s\n' "$1"
}

# die TEXT - end with a message; the unfinished IMAGE.tmp is removed on exit
die() {
	printf '%s: error: %s\n' "${0##*/}" "$1" >&2
	exit 1
}

# need PROGRAM:PACKAGE... - check that programs exist; name the packages if not
need() {
	local item missing=()

	for item in "$@"; do
		command -v "${item%%:*}" >/dev/null || missing+=("${item#*:}")
	done
	if ((${#missing[@]})); then
		die "missing: apt-get install --no-install-recommends ${missing[*]}"
	fi
}

# recipe_hash FILE... - hash over names and contents of a recipe's inputs.
# A directory stands for all files below it. Paths are relative to agents/.
recipe_hash() {
	(
		cd "$AGENTS_DIR" || exit
		find "$@" -type f -print0 | sort -z | xargs -0 sha256sum
	) | sha256sum | cut -d' ' -f1
}

# image_begin IMAGE RECIPE_HASH FORCE - lock, leave early when IMAGE is up to date,
# make an empty IMAGE.tmp otherwise. Sets IMAGE, ROOT, WORK.
image_begin() {
	local parent

	[[ $(id -u) == 0 ]] || die "must run as root (files of the image belong to root)"
	[[ -n $1 && $1 != / ]] || die "no image directory given"
	parent=$(dirname -- "$1")
	mkdir -p -- "$parent"
	IMAGE=$(cd -- "$parent" && pwd)/$(basename -- "$1")
	exec {IMAGE_LOCK}<"$parent"
	flock "$IMAGE_LOCK"
	if [[ $3 == 0 && -f $IMAGE/recipe.sha256 &&
		$(<"$IMAGE/recipe.sha256") == "$2" ]]; then
		printf 'up to date: %s\n' "$IMAGE"
		exit 0
	fi
	if [[ -e $IMAGE && ! -f $IMAGE/image.json ]]; then
		# An empty directory is fine; anything else may be somebody's data.
		rmdir -- "$IMAGE" 2>/dev/null ||
			die "$IMAGE exists and is not an image"
	fi
	rm -rf -- "$IMAGE.tmp"
	trap image_abort EXIT
	ROOT=$IMAGE.tmp/rootfs
	WORK=$IMAGE.tmp/work
	umask 022
	mkdir -p -- "$ROOT" "$WORK"
	printf '%s\n' "$2" >"$IMAGE.tmp/recipe.sha256"
}

image_abort() {
	rm -rf -- "$IMAGE.tmp"
}

# image_end - put the finished image in its place
image_end() {
	rm -rf -- "$WORK"
	rm -rf -- "$IMAGE.old"
	if [[ -e $IMAGE ]]; then
		mv -T -- "$IMAGE" "$IMAGE.old"
	fi
	mv -T -- "$IMAGE.tmp" "$IMAGE"
	trap - EXIT
	rm -rf -- "$IMAGE.old"
}

# debian_download WORK PACKAGE... - resolve and fetch with apt in a private state
# directory. Sources, proxies and keys are the host's; its package state is
# neither read nor changed. The .deb files land in WORK/apt/cache/archives.
debian_download() {
	local apt=$1/apt p
	shift

	mkdir -p "$apt"/lists/partial "$apt"/cache/archives/partial
	for p in "${DEBIAN_LEFT_OUT[@]}"; do
		printf 'Package: %s\nStatus: install ok installed\n' "$p"
		printf 'Architecture: amd64\nMulti-Arch: foreign\n'
		printf 'Version: 999\nMaintainer: none\nDescription: left out\n\n'
	done >"$apt/status"
	cat >"$apt/apt.conf" <<-CONF
		Dir::State "$apt";
		Dir::State::status "$apt/status";
		Dir::State::lists "$apt/lists";
		Dir::State::extended_states "$apt/extended_states";
		Dir::Cache "$apt/cache";
		Dir::Log "$apt";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Install-Recommends "false";
		APT::Install-Suggests "false";
		APT::Sandbox::User "root";
		Acquire::Retries "3";
		Acquire::Languages "none";
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear DPkg::Pre-Invoke;
		#clear DPkg::Pre-Install-Pkgs;
		#clear DPkg::Post-Invoke;
	CONF
	apt-get -c "$apt/apt.conf" -qq update >"$apt/log" 2>&1 ||
		{ tail -n 5 "$apt/log" >&2; die "apt-get update failed"; }
	apt-get -c "$apt/apt.conf" -qq -y --download-only install "$@" >"$apt/log" 2>&1 ||
		{ tail -n 5 "$apt/log" >&2; die "apt-get could not fetch the packages"; }
}

# debian_root ROOT WORK - a Debian root from DEBIAN_PACKAGES at ROOT, /usr merged,
# nothing of it ever run. The list of packages goes to WORK/debian.txt.
debian_root() {
	local root=$1 work=$2 deb p excludes=()

	for p in bin sbin lib lib64; do
		mkdir -p "$root/usr/$p"
		ln -s "usr/$p" "$root/$p"
	done
	for p in "${DEBIAN_PRUNE[@]}"; do
		excludes+=("--exclude=$p")
	done
	for deb in "$work"/apt/cache/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" |
			tar -x --keep-directory-symlink --no-same-owner \
				--anchored "${excludes[@]}" -C "$root"
		dpkg-deb -f "$deb" Package Version |
			sed 's/^[A-Za-z]*: //' | paste -sd' '
	done | LC_ALL=C sort >"$work/debian.txt"

	# What maintainer scripts would have linked.
	ln -sf gawk "$root/usr/bin/awk"
	[[ -e $root/usr/bin/sh ]] || ln -s dash "$root/usr/bin/sh"

	# Certificate authorities, for hosts that a policy opens by CONNECT.
	mkdir -p "$root/etc/ssl/certs"
	find "$root/usr/share/ca-certificates" -name '*.crt' -print0 |
		LC_ALL=C sort -z | xargs -0 cat >"$root/etc/ssl/certs/ca-certificates.crt"
	rm -rf "$root/usr/share/ca-certificates"
	rm -rf "$root/usr/lib/ssl"
	ln -s ../../etc/ssl "$root/usr/lib/ssl"
	ln -s certs/ca-certificates.crt "$root/etc/ssl/cert.pem"

	# Fonts, for PDF files that bring none.
	mkdir -p "$root/etc/fonts"
	cat >"$root/etc/fonts/fonts.conf" <<-'E'
		<?xml version="1.0"?>
		<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
		<fontconfig>
		  <dir>/usr/share/fonts</dir>
		  <cachedir prefix="xdg">fontconfig</cachedir>
		</fontconfig>
	E

	# Translations of messages and their converters, Python's caches.
	rm -rf "$root"/usr/lib/locale/C.utf8/LC_MESSAGES/*/ \
		"$root"/usr/share/perl5/Debconf
	find "$root/usr/lib/python3" "$root/usr/lib/python3.11" \
		-depth -name __pycache__ -exec rm -rf {} +
}

# debian_etc ROOT - the tiny /etc, the mount points, and nothing of the host
debian_etc() {
	local etc=$1/etc d

	mkdir -p "$etc"
	for d in workspace tmp proc dev etc/agent opt/agent; do
		mkdir -p "$1/$d"
	done
	cat >"$etc/passwd" <<-'E'
		root:x:0:0:root:/workspace:/usr/sbin/nologin
		agent:x:1000:1000:agent:/workspace:/bin/bash
	E
	cat >"$etc/group" <<-'E'
		root:x:0:
		agent:x:1000:
	E
	cat >"$etc/nsswitch.conf" <<-'E'
		passwd: files
		group: files
		hosts: files
		services: files
		protocols: files
	E
	cat >"$etc/hosts" <<-'E'
		127.0.0.1 localhost
		::1 localhost
	E
	cat >"$etc/gitconfig" <<-'E'
		[user]
			name = agent
			email = agent@localhost
		[init]
			defaultBranch = main
		[gc]
			auto = 0
	E
	printf 'sandbox\n' >"$etc/hostname"
	: >"$etc/resolv.conf"
	ln -sf ../usr/lib/os-release "$etc/os-release"
	ln -sf ../usr/share/zoneinfo/UTC "$etc/localtime"
	printf 'UTC\n' >"$etc/timezone"
	ln -sf ../proc/self/mounts "$etc/mtab"
}

# tree_seal ROOT - fixed times, owner root, readable by all and writable by none but
# root, no setuid bit, no dangling link, no special file
tree_seal() {
	local root=$1 link target odd

	odd=$(find "$root" ! -type f ! -type d ! -type l -print -quit)
	[[ -z $odd ]] || die "special file in the image: $odd"
	# Absolute targets are meant inside the root, so find -xtype cannot judge.
	while IFS= read -r -d '' link; do
		target=$(readlink -- "$link")
		case $target in
		/*) target=$root$target ;;
		*) target=$(dirname -- "$link")/$target ;;
		esac
		[[ -e $target || -L $target ]] || rm -f -- "$link"
	done < <(find "$root/usr" "$root/opt" -type l -print0)
	chown -hR 0:0 "$root"
	# For all to read, for root alone to change. Also what came with mode 0600.
	find "$root" ! -type l -perm /7022 -exec chmod u-s,g-s,-t,go-w {} +
	find "$root" ! -type l ! -perm -444 -exec chmod a+rX {} +
	find "$root" -type d ! -perm -555 -exec chmod a+rx {} +
	tree_times "$root"
}

# tree_times ROOT - set all times to the fixed one
tree_times() {
	find "$1" -print0 | xargs -0 touch -h -d "@$IMAGE_EPOCH"
}

# tree_list ROOT - the list of everything below ROOT, sorted by path, one line
# each: KIND MODE SHA256 PATH. KIND is f, d or l; for a link the hash is over its
# target, for a directory it is "-". PATH has no leading slash.
tree_list() {
	(
		cd -- "$1" || exit
		odd=$(find . -name '*[[:cntrl:]\\]*' -print -quit)
		[[ -z $odd ]] || die "control character or backslash in a name: $odd"
		find . -mindepth 1 -type d -printf 'd %04m - %P\n'
		find . -type l -printf '%P\0%l\0' |
			while IFS= read -r -d '' path && IFS= read -r -d '' target; do
				printf 'l 0777 %s %s\n' \
					"$(printf '%s' "$target" | sha256sum | cut -d' ' -f1)" "$path"
			done
		awk 'NR == FNR {
			mode = $1; sub(/^[0-9]+ /, ""); modes[$0] = mode; next
		} {
			hash = substr($0, 1, 64); path = substr($0, 69)
			print "f", modes[path], hash, path
		}' <(find . -type f -printf '%04m %P\n') \
			<(find . -type f -print0 | xargs -0 -r sha256sum)
	) | LC_ALL=C sort -k4
}

# json_string TEXT - TEXT as a JSON string; image facts are plain ASCII
json_string() {
	local s=${1//\\/\\\\}

	printf '"%s"' "${s//\"/\\\"}"
}

# image_manifest NAME KEY=VALUE... - write IMAGE.tmp/files.sha256 and image.json.
# The digest is the SHA-256 of files.sha256. KEY=VALUE are the versions in it.
image_manifest() {
	local name=$1 list=$IMAGE.tmp/files.sha256 sep kv line
	shift

	tree_list "$ROOT" >"$list"
	{
		printf '{\n  "format": 1,\n  "name": '
		json_string "$name"
		printf ',\n  "digest": "sha256:%s",\n' \
			"$(sha256sum <"$list" | cut -d' ' -f1)"
		printf '  "recipe": "sha256:%s",\n' "$(<"$IMAGE.tmp/recipe.sha256")"
		printf '  "architecture": "amd64",\n'
		printf '  "files": %d,\n' "$(grep -c . "$list")"
		printf '  "size_bytes": %d,\n' \
			"$(find "$ROOT" -type f -printf '%s\n' | awk '{s += $1} END {printf "%.0f", s}')"
		printf '  "versions": {'
		sep=
		for kv in "$@"; do
			printf '%s\n    ' "$sep"
			json_string "${kv%%=*}"
			printf ': '
			json_string "${kv#*=}"
			sep=,
		done
		printf '\n  },\n  "debian": ['
		sep=
		while IFS= read -r line; do
			printf '%s\n    ' "$sep"
			json_string "$line"
			sep=,
		done <"$WORK/debian.txt"
		printf '\n  ]\n}\n'
	} >"$IMAGE.tmp/image.json"
}

# image_check IMAGE - compare an image with its own list
image_check() {
	local want got

	[[ -f $1/image.json && -f $1/files.sha256 ]] || die "$1 is not an image"
	want=$(sed -n 's/^  "digest": "sha256:\([0-9a-f]*\)",$/\1/p' "$1/image.json")
	got=$(sha256sum <"$1/files.sha256" | cut -d' ' -f1)
	[[ $want == "$got" ]] || die "files.sha256 does not fit the digest of image.json"
	tree_list "$1/rootfs" | diff "$1/files.sha256" - >&2 ||
		die "the tree differs from files.sha256"
	printf 'ok: sha256:%s\n' "$want"
}

# yaml_list FILE KEY - the items of a block list, one a line, as agent.yaml has it
yaml_list() {
	awk -v key="$2:" '
		$0 == key { on = 1; next }
		on && /^  - / { s = substr($0, 5); gsub(/^"|"$/, "", s); print s; next }
		on { exit }' "$1"
}

# yaml_map FILE KEY - the entries of a map as NAME=VALUE lines
yaml_map() {
	awk -v key="$2:" '
		$0 == key { on = 1; next }
		on && /^  [A-Za-z_]+: / {
			k = $1; sub(/:$/, "", k); v = substr($0, length(k) + 5)
			gsub(/^"|"$/, "", v); print k "=" v; next }
		on { exit }' "$1"
}

# jail_run ROOT JAIL AGENT_YAML ARGUMENT... - run something in the image as at a tenant:
# all namespaces, no network, uid 1000, image read-only, JAIL/workspace writable. ARGUMENTs
# are further ones of bwrap and the command; "@JAIL@" in them is the directory JAIL.
# JAIL is given to uid 1000.
jail_run() {
	local root=$1 jail=$2 yaml=$3 kv args=()
	shift 3

	while IFS= read -r kv; do
		args+=(--setenv "${kv%%=*}" "${kv#*=}")
	done < <(yaml_map "$yaml" env)
	chown -R 1000:1000 "$jail"
	# The mounts let uid 1000 in, wherever the image lies; they end with the process.
	# shellcheck disable=SC2016
	unshare --mount -- bash -euc '
		mount -t tmpfs -o mode=755 tmpfs /mnt
		mkdir /mnt/root /mnt/jail
		mount --bind "$1" /mnt/root
		mount --bind "$2" /mnt/jail
		shift 2
		exec setpriv --reuid 1000 --regid 1000 --clear-groups bwrap "$@"
	' jail "$root" "$jail" \
		--unshare-all --unshare-user --uid 1000 --gid 1000 --hostname sandbox \
		--die-with-parent --new-session --cap-drop ALL --clearenv "${args[@]}" \
		--ro-bind /mnt/root / --proc /proc --dev /dev --tmpfs /tmp \
		--bind /mnt/jail/workspace /workspace --chdir /workspace \
		"${@//@JAIL@//mnt/jail}"
}
