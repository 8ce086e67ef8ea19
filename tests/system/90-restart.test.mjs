/* SPDX-License-Identifier: Apache-2.0 */
/* A stop leaves nothing behind; a start finds everything; two at once are refused. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { CLI, processes, UID_BASE } from "../lib/stack.mjs";
import { root } from "../lib/packages.mjs";
import { run, until } from "../lib/util.mjs";

const tenants = () => processes().filter((p) => p.uid > UID_BASE && p.uid < UID_BASE + 1000);
const mounts = () => fs.readFileSync("/proc/self/mountinfo", "utf8").split("\n").map((l) => l.split(" ")[4]).filter(Boolean);
const namespaces = (kind) => {
	const seen = new Set();

	for (const p of processes())
		try {
			seen.add(fs.readlinkSync(`/proc/${p.pid}/ns/${kind}`));
		} catch {
			/* it ended */
		}
	return seen;
};

function cgroups() {
	const all = [];

	for (const d of fs.readdirSync("/sys/fs/cgroup", { withFileTypes: true })) {
		const base = path.join("/sys/fs/cgroup", d.name);

		if (!d.isDirectory())
			continue;
		for (const e of fs.readdirSync(base, { recursive: true, withFileTypes: true }))
			if (e.isDirectory() && /cloister/.test(path.join(e.parentPath, e.name)))
				all.push(path.join(e.parentPath, e.name));
	}
	return all;
}

export const tests = [
	{
		name: "a second start of the same directory is refused and says so; the first goes on",
		async fn(s) {
			const up = await run(CLI, ["--dir", s.dir, "up"], { ms: 20000 });

			assert.equal(up.code, 1);
			assert.match(up.err + up.out, /already running/i);
			const again = await run(path.join(root, "run"), ["--dir", s.dir], { ms: 60000 });

			assert.equal(again.code, 1);
			assert.match(again.err + again.out, /already running/i);
			await s.web.alice.asks("please: say not-disturbed", "not-disturbed");
		},
	},
	{
		name: "SIGTERM ends all, and leaves no process, mount, namespace or cgroup behind",
		async fn(s) {
			const w = "kept-over-the-stop";

			await s.web.alice.asks(`please: keep ${w} in kept.txt`, w);
			s.kept = (await s.web.alice.history()).messages;
			s.keptBob = (await s.web.bob.history()).messages;
			const before = { cgroups: cgroups(), nets: namespaces("net"), pids: tenants().map((p) => p.pid) };

			assert.ok(before.pids.length >= 4 && before.cgroups.length > 0, "nothing to leave behind?");
			const mine = new Set(before.pids.map((p) => {
				try {
					return fs.readlinkSync(`/proc/${p}/ns/net`);
				} catch {
					return "";
				}
			}));
			const programs = ["cloisterd", "cloister-broker", "cloister-api", "cloister-ledger", "cloister-spawner"].map((n) => s.service.pid(n));

			assert.ok(programs.every(Boolean), programs.join(" "));
			assert.equal(await s.service.stop(), 0);
			assert.deepEqual(tenants(), []);
			for (const p of programs)
				assert.ok(!fs.existsSync(`/proc/${p}`), `program ${p} lives on`);
			assert.deepEqual(mounts().filter((m) => m.includes(s.dir) || /cloister-test/.test(m)), []);
			const left = [...namespaces("net")].filter((ns) => mine.has(ns));

			assert.deepEqual(left, [], "network namespaces");
			assert.deepEqual(cgroups().filter((c) => before.cgroups.includes(c) && !s.foreignCgroups?.includes(c)), []);
			assert.ok(!fs.existsSync(path.join(s.dir, "run/cloister/api.sock")), "the socket is still there");
		},
	},
	{
		name: "after a start, tenants, conversations and workspaces are as they were",
		async fn(s) {
			await s.service.start();
			const list = await s.json(["tenant", "list"]);
			const rows = Array.isArray(list) ? list : list.tenants;

			assert.deepEqual(rows.map((t) => t.id).sort(), ["alice", "bob"]);
			await Promise.all(["alice", "bob"].map((id) => s.ok(["tenant", "start", id, "--wait", "180"], { ms: 200000 })));
			/* sessions hold, too */
			assert.deepEqual((await s.web.alice.history()).messages.map((m) => m.text), s.kept.map((m) => m.text));
			assert.deepEqual((await s.web.bob.history()).messages.map((m) => m.text), s.keptBob.map((m) => m.text));
			await s.web.alice.asks("please: run cat $(find /workspace -name kept.txt)", "kept-over-the-stop");
			await s.web.bob.asks("please: say me-too", "me-too");
		},
	},
	{
		name: "tenant stop and start; a message sent in between waits and is answered",
		async fn(s) {
			await s.ok(["tenant", "stop", "bob"]);
			const uid = UID_BASE + (await s.json(["tenant", "show", "bob"])).no;

			await until("bob's processes are gone", 10000, () => !processes().some((p) => p.uid === uid));
			const at = await s.web.bob.send("please: say you-waited-for-me");

			await s.ok(["tenant", "start", "bob", "--wait", "180"], { ms: 200000 });
			await s.web.bob.hears("you-waited-for-me", at, 180000);
		},
	},
	{
		name: "a removed tenant's sandbox, workspace and conversation are gone",
		async fn(s) {
			const { no } = await s.json(["tenant", "show", "bob"]);

			await s.ok(["tenant", "rm", "bob", "--yes"]);
			assert.ok(!fs.existsSync(path.join(s.dir, "var/lib/cloister/tenants", String(no))), "its directory");
			assert.ok(!processes().some((p) => p.uid === UID_BASE + no), "its processes");
			assert.equal((await s.web.bob.ask("GET", "/c/bob/history?after=0&limit=10")).status, 401);
			assert.equal((await s.cli(["tenant", "show", "bob"])).code, 4);
			await s.web.alice.asks("please: say alone-now", "alone-now");
		},
	},
];
