/* SPDX-License-Identifier: Apache-2.0 */
/* Bad input: a clear error that names the thing and the fix; nothing is lost. */
import assert from "node:assert/strict";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { CLI, Service } from "../lib/stack.mjs";
import { freePort, run } from "../lib/util.mjs";

/* `up` with this configuration must refuse to start; returns what it printed */
async function refused(yaml, { args = [], file, prepare } = {}) {
	const dir = Service.scratch();

	try {
		const service = new Service(dir, { yaml });

		if (file)
			fs.writeFileSync(path.join(dir, "etc/cloister", file.name), file.text);
		await prepare?.(dir);
		const got = await run(CLI, ["--dir", dir, "up", "--model-listen", "off", ...args], { ms: 20000 });

		assert.ok(service && got.code !== 0 && got.code !== "SIGKILL", `it started, or hung: ${got.code} ${got.err}`);
		return got.err + got.out;
	} finally {
		fs.rmSync(dir, { recursive: true, force: true });
	}
}

const nothing = "nothing";

export const tests = [
	{
		needs: nothing,
		name: "an unknown configuration key: file, line and the nearest known key",
		async fn() {
			const said = await refused("listen: \"127.0.0.1:1\"\nlisten_modle: \"127.0.0.1:1\"\n");

			assert.match(said, /cloister\.yaml:2/);
			assert.match(said, /listen_modle/);
			assert.match(said, /listen_model/);
		},
	},
	{
		needs: nothing,
		name: "a duplicate configuration key: file and line",
		async fn() {
			const said = await refused("uid_base: 800000\nuid_base: 800001\n");

			assert.match(said, /cloister\.yaml:2/);
			assert.match(said, /uid_base/);
		},
	},
	{
		needs: nothing,
		name: "a value that is none, YAML that is none: file and line, no start",
		async fn() {
			assert.match(await refused("uid_base: many\n"), /cloister\.yaml:1.*uid_base|uid_base.*cloister\.yaml:1/s);
			assert.match(await refused("listen: [1, 2\n"), /cloister\.yaml:/);
			assert.match(await refused("listen: \"not an address\"\n"), /listen/);
		},
	},
	{
		needs: nothing,
		name: "a port in use: which address, and what to do",
		async fn() {
			const port = await freePort();
			const holder = net.createServer();

			await new Promise((ok) => holder.listen(port, "127.0.0.1", ok));
			try {
				const said = await refused(`listen: "127.0.0.1:${port}"\nuid_base: 800000\n`);

				assert.match(said, new RegExp(`127\\.0\\.0\\.1:${port}`));
				assert.match(said, /in use/i);
			} finally {
				holder.close();
			}
		},
	},
	{
		needs: nothing,
		name: "no root: says so at once",
		async fn() {
			const dir = Service.scratch();

			try {
				const got = await run("setpriv", ["--reuid", "65534", "--regid", "65534", "--clear-groups", CLI, "--dir", dir, "up"], { ms: 20000 });

				assert.equal(got.code, 1);
				assert.match(got.err + got.out, /root/i);
				const script = await run("setpriv", ["--reuid", "65534", "--regid", "65534", "--clear-groups", path.join(import.meta.dirname, "../../run")], { ms: 20000 });

				assert.equal(script.code, 1);
				assert.match(script.err, /root/);
			} finally {
				fs.rmSync(dir, { recursive: true, force: true });
			}
		},
	},
	{
		needs: nothing,
		name: "a kernel feature that is missing stops the start and is named, by doctor too",
		async fn() {
			for (const [call, word] of [["landlock_create_ruleset", /landlock/i], ["clone3", /process-descriptors/]]) {
				const dir = Service.scratch();
				const without = (...args) => run("strace", ["-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e", `inject=${call}:error=ENOSYS`,
					CLI, "--dir", dir, ...args], { ms: 30000 });

				try {
					for (const got of [await without("doctor"), await without("up", "--listen", "off", "--model-listen", "off")]) {
						assert.equal(got.code, 1, `${call}: ${got.out}${got.err}`);
						assert.match(got.out + got.err, word);
					}
				} finally {
					fs.rmSync(dir, { recursive: true, force: true });
				}
			}
		},
	},
	{
		needs: nothing,
		name: "doctor names each kernel feature, found or missing",
		async fn() {
			const got = await run(CLI, ["doctor"], { ms: 30000 });

			assert.equal(got.code, 0, got.out + got.err);
			for (const word of ["Landlock", "seccomp", "cgroup", "namespace"])
				assert.match(got.out, new RegExp(word, "i"));
			const json = await run(CLI, ["doctor", "--json"], { ms: 30000 });

			assert.ok(JSON.parse(json.out));
		},
	},
	{
		needs: nothing,
		name: "without a running service every command says so, with exit code 3",
		async fn() {
			const dir = Service.scratch();

			try {
				for (const args of [["status"], ["tenant", "list"], ["secret", "list"]]) {
					const got = await run(CLI, ["--dir", dir, ...args], { ms: 20000 });

					assert.equal(got.code, 3, args.join(" "));
					assert.match(got.err, /not run/i);
				}
			} finally {
				fs.rmSync(dir, { recursive: true, force: true });
			}
		},
	},
	{
		name: "a bad tenant id is refused with the rule; one that exists, and one that does not, are named",
		async fn(s) {
			for (const id of ["Alice", "-a", "a-", "a_b", "a".repeat(41), "../x", "a b", "ä", ""]) {
				const got = await s.cli(["tenant", "create", id]);

				assert.ok([1, 2].includes(got.code), `${id}: ${got.code}`);
				assert.match(got.err, /id|name|option/i);
			}
			const twice = await s.cli(["tenant", "create", "alice"]);

			assert.equal(twice.code, 1);
			assert.match(twice.err, /alice.*(exists|already)/i);
			for (const args of [["tenant", "show", "nobody"], ["tenant", "start", "nobody"], ["invite", "nobody"], ["exec", "nobody", "--", "true"], ["logs", "nobody"]]) {
				const got = await s.cli(args);

				assert.equal(got.code, 4, args.join(" ") + ": " + got.err);
				assert.match(got.err, /nobody/);
			}
		},
	},
	{
		name: "unknown commands and options: exit code 2 and what there is",
		async fn(s) {
			for (const args of [["frobnicate"], ["tenant", "frobnicate"], ["status", "--frobnicate"]]) {
				const got = await s.cli(args);

				assert.equal(got.code, 2, args.join(" "));
				assert.match(got.err, /frobnicate/);
			}
		},
	},
	{
		name: "a message of 1 MB is refused with 413 and the conversation goes on",
		async fn(s) {
			const b = s.web.alice, before = (await b.history()).messages.length;
			const got = await b.ask("POST", "/c/alice/send", JSON.stringify({ text: "x".repeat(1 << 20), client_id: "big" }));

			assert.equal(got.status, 413, got.text.slice(0, 200));
			assert.equal((await b.history()).messages.length, before);
			await b.asks("please: say after-the-big-one", "after-the-big-one");
		},
	},
	{
		name: "invalid UTF-8, NUL, broken JSON, unknown fields and empty text are refused; nothing is stored",
		async fn(s) {
			const b = s.web.alice, before = (await b.history()).messages.length;
			const bodies = [
				Buffer.from([...Buffer.from('{"client_id":"u1","text":"'), 0xc3, 0x28, ...Buffer.from('"}')]),
				Buffer.from('{"client_id":"u2","text":"\\ud800"}'),
				Buffer.from('{"client_id":"u3","text":""}'),
				Buffer.from('{"client_id":"u4","text":"a","text":"b"}'),
				Buffer.from('{"client_id":"u5"'),
				Buffer.from('{"client_id":"u6","text":7}'),
				Buffer.from("[]"),
			];

			for (const body of bodies) {
				const got = await b.ask("POST", "/c/alice/send", body);

				assert.ok([400, 422].includes(got.status), `${body.toString("latin1")}: ${got.status}`);
			}
			assert.equal((await b.history()).messages.length, before);
		},
	},
	{
		name: "an upstream that cannot be reached: the person reads a sentence, the message is answered later",
		async fn(s) {
			const port = s.model.tap.port;

			await s.model.tap.close();
			const at = await s.web.alice.send("please: say lost-in-the-fog");
			const m = await s.web.alice.hears("", at, 180000);

			assert.ok(m.text.length > 10 && !/ECONNREFUSED|at .*\.js|127\.0\.0\.1/.test(m.text), m.text);
			await s.model.tap.listen(port);
			await s.web.alice.asks("please: say out-of-the-fog", "out-of-the-fog", 180000);
		},
	},
	{
		name: "an upstream that fails (429, 500) does not end the conversation",
		async fn(s) {
			for (const status of [429, 500]) {
				s.model.mock.nextRequestError(status, { message: "slow down", type: "rate_limit_error" });
				await s.web.bob.asks(`please: say weathered-${status}`, "", 180000);
			}
			await s.web.bob.asks("please: say calm-again", "calm-again", 180000);
		},
	},
	{
		needs: nothing,
		name: "a full disk: an error that says so, and what was accepted before is still there",
		async fn() {
			/* a small file system of its own, in a mount namespace that ends with the test */
			const dir = Service.scratch();
			const script = `
				set -eu
				mount -t tmpfs -o size=300m,mode=755 none "$1"
				mkdir -p "$1/etc/cloister"
				printf 'listen: "127.0.0.1:%s"\\nuid_base: 800000\\n' "$2" > "$1/etc/cloister/cloister.yaml"
				"$0" --dir "$1" up --model-listen off > /dev/null 2>&1 &
				up=$!
				trap 'kill -TERM $up; wait $up || true' EXIT
				i=0; until "$0" --dir "$1" status >/dev/null 2>&1; do i=$((i+1)); [ $i -lt 100 ] || exit 9; sleep 0.1; done
				"$0" --dir "$1" tenant create before > /dev/null
				dd if=/dev/zero of="$1/fill" bs=64k 2>/dev/null || true
				dd if=/dev/zero of="$1/fill2" bs=1k 2>/dev/null || true
				n=0
				while [ $n -lt 200 ]; do
					n=$((n+1))
					if ! "$0" --dir "$1" tenant create "t$n" > "$1.out" 2>&1; then echo "refused after $n: $(cat "$1.out")"; break; fi
				done
				kill -TERM $up; wait $up || true
				"$0" --dir "$1" up --model-listen off 2>&1 && exit 8 || true
				rm -f "$1/fill" "$1/fill2"
				"$0" --dir "$1" up --model-listen off > /dev/null 2>&1 &
				up=$!
				i=0; until "$0" --dir "$1" status >/dev/null 2>&1; do i=$((i+1)); [ $i -lt 100 ] || exit 9; sleep 0.1; done
				"$0" --dir "$1" tenant create after > /dev/null && echo created-after
				"$0" --dir "$1" tenant show before > /dev/null && echo before-is-there
			`;

			try {
				const got = await run("unshare", ["--mount", "/bin/sh", "-c", script, CLI, dir, String(await freePort())], { ms: 90000 });

				assert.match(got.out, /refused after \d+: .*(space|full|disk)/i, got.out + got.err);
				assert.match(got.out, /the disk of .* is full/);
				assert.match(got.out, /created-after/);
				assert.match(got.out, /before-is-there/);
			} finally {
				fs.rmSync(dir, { recursive: true, force: true });
				fs.rmSync(dir + ".out", { force: true });
			}
		},
	},
];
