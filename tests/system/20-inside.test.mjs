/* SPDX-License-Identifier: Apache-2.0 */
/* What an agent that means harm finds in its sandbox, as its own user. */
import assert from "node:assert/strict";
import fs from "node:fs";
import { processes, UID_BASE } from "../lib/stack.mjs";
import { until } from "../lib/util.mjs";

/* every encoding in which a key may lie about */
function forms(key) {
	const b = Buffer.from(key);

	return [key, b.toString("base64").replace(/=+$/, "").slice(0, -2), b.toString("hex"), encodeURIComponent(key), b.toString("utf16le"),
		[...key].reverse().join("")];
}

const planted = (s) => [s.keys.model, s.keys.telegram].flatMap(forms);

/* the token that the agent was given for @what, read from its sealed configuration */
async function token(s, id, what) {
	const text = await s.ok(["exec", id, "--", "cat", "/etc/agent/openclaw.json"]);
	const config = JSON.parse(text);

	return what === "api" ? config.models.providers.cloister.apiKey : config.channels.telegram.botToken;
}

const call = (url, opt) => `const r = await fetch(${JSON.stringify(url)}, ${JSON.stringify(opt)});
	console.log(JSON.stringify({ status: r.status, body: await r.text() }));`;

export async function fetchInside(s, id, url, opt = {}) {
	return JSON.parse(await s.node(id, call(url, opt)));
}

export const tests = [
	{
		name: "the root directory holds the image, /workspace and /tmp, and nothing of the host",
		async fn(s) {
			const seen = (await s.ok(["exec", "alice", "--", "ls", "-A", "/"])).trim().split(/\s+/).sort();

			for (const never of ["home", "root", "var", "run", "mnt", "sys", "boot", "media", "srv"])
				assert.ok(!seen.includes(never), `/${never} is there`);
			for (const must of ["usr", "workspace", "tmp", "proc", "dev", "etc", "opt"])
				assert.ok(seen.includes(must), `/${must} is missing`);
			const etc = await s.ok(["exec", "alice", "--", "cat", "/etc/passwd", "/etc/hostname"]);

			assert.ok(!etc.includes(fs.readFileSync("/etc/hostname", "utf8").trim() + "\n"), "the host's name");
			assert.equal((await s.ok(["exec", "alice", "--", "id", "-u"])).trim(), "1000");
		},
	},
	{
		name: "only /workspace and /tmp can be written",
		async fn(s) {
			const out = await s.python("alice", `
import os
for d in ["/", "/usr", "/usr/bin", "/etc", "/etc/agent", "/opt/agent", "/opt/agent/bin", "/dev", "/proc", "/lib", "/workspace", "/tmp"]:
    try:
        p = os.path.join(d, "probe-file")
        open(p, "w").close(); os.unlink(p); print(d, "yes")
    except OSError as e:
        print(d, "no")
`);
			const writable = out.trim().split("\n").filter((l) => l.endsWith("yes")).map((l) => l.split(" ")[0]);

			assert.deepEqual(writable, ["/workspace", "/tmp"]);
		},
	},
	{
		name: "no process but its own is visible, each with its own user",
		async fn(s) {
			const out = await s.python("alice", `
import os
for p in sorted(int(d) for d in os.listdir("/proc") if d.isdigit()):
    try: print(p, os.stat(f"/proc/{p}").st_uid, open(f"/proc/{p}/cmdline").read().replace(chr(0), " ")[:80])
    except OSError: pass
`);
			const lines = out.trim().split("\n");

			assert.ok(lines.length < 40);
			assert.ok(!/cloisterd|cloister-broker|cloister-api|cloister-ledger|spawner/.test(out), out);
			const uids = new Set(processes().filter((p) => p.uid > UID_BASE && p.uid < UID_BASE + 1000).map((p) => p.uid));

			assert.equal(uids.size, 2, "host uids of two tenants: " + [...uids].join(" "));
		},
	},
	{
		name: "one loopback port is the whole network",
		async fn(s) {
			const out = await s.python("alice", `
import socket, os
print("interfaces", sorted(n for _, n in socket.if_nameindex()))
def tcp(h, p):
    try:
        c = socket.create_connection((h, p), 2); c.close(); return "open"
    except OSError as e: return "closed"
print("broker", tcp("127.0.0.1", 8377))
for h, p in [("127.0.0.1", ${s.port}), ("127.0.0.1", ${s.model.tap.port}), ("127.0.0.1", 22), ("169.254.169.254", 80), ("10.0.0.1", 80), ("1.1.1.1", 443), ("::1", 8377)]:
    print("other", h, p, tcp(h, p))
for fam, typ, pro in [("AF_INET", "SOCK_DGRAM", 0), ("AF_INET", "SOCK_RAW", 1), ("AF_PACKET", "SOCK_RAW", 0), ("AF_VSOCK", "SOCK_STREAM", 0), ("AF_INET", "SOCK_STREAM", 262)]:
    try:
        k = socket.socket(getattr(socket, fam), getattr(socket, typ), pro)
        try:
            k.settimeout(1); k.connect(("8.8.8.8", 53)); print("socket", fam, typ, pro, "connected")
        except Exception: print("socket", fam, typ, pro, "useless")
    except Exception: print("socket", fam, typ, pro, "refused")
try: print("name", socket.gethostbyname("example.org"))
except OSError: print("name none")
`);

			assert.match(out, /interfaces \['lo'\]/);
			assert.match(out, /broker open/);
			assert.ok(!/other .* open/.test(out), out);
			assert.ok(!/socket .* connected/.test(out), out);
			assert.match(out, /name none/);
		},
	},
	{
		name: "neither namespaces, ptrace of pid 1, mounts nor keyrings are to be had",
		async fn(s) {
			const out = await s.python("alice", `
import ctypes, os
c = ctypes.CDLL(None, use_errno=True)
def t(name, r):
    print(name, "yes" if r >= 0 else "no")
pid = os.fork()
if pid == 0:
    t("userns", c.unshare(0x10000000)); t("mountns", c.unshare(0x00020000)); t("netns", c.unshare(0x40000000)); os._exit(0)
os.waitpid(pid, 0)
t("ptrace", c.ptrace(16, 1, 0, 0))
t("mount", c.mount(b"none", b"/tmp", b"tmpfs", 0, 0))
t("keyctl", c.syscall(250, 0, -3, 0)); t("bpf", c.syscall(321, 0, 0, 0)); t("io_uring", c.syscall(425, 1, 0))
t("perf", c.syscall(298, 0, 0, -1, -1, 0)); t("setuid0", c.setuid(0)); t("chroot", c.chroot(b"/tmp"))
s = open("/proc/self/status").read()
print([l for l in s.splitlines() if l.startswith(("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp:"))])
`);

			assert.ok(!/ yes$/m.test(out), out);
			assert.match(out, /CapEff:\\t0000000000000000/);
			assert.match(out, /CapBnd:\\t0000000000000000/);
			assert.match(out, /NoNewPrivs:\\t1/);
			assert.match(out, /Seccomp:\\t2/);
		},
	},
	{
		name: "an archive of everything readable, environments and memory of visible processes hold no credential",
		async fn(s) {
			const tar = await s.exec("alice", ["/bin/sh", "-c",
				"tar -c --ignore-failed-read --exclude=/proc --exclude=/usr --exclude=/opt/agent/node_modules -C / . 2>/dev/null; true"], { binary: true, ms: 240000 });

			assert.ok(tar.out.length > 100000, "the archive is too small to be true");
			const env = await s.python("alice", `
import os, glob, sys
for p in glob.glob("/proc/[0-9]*"):
    for f in ("environ", "cmdline", "maps", "status"):
        try: sys.stdout.write(open(p + "/" + f, errors="replace").read())
        except OSError: pass
`);
			const own = await s.python("alice", `
import glob, re, os
# every process of its own user that it may read, its own left out
total = 0
keys = ["sk-plan" + "ted", "4242:plan" + "ted"]
for p in glob.glob("/proc/[0-9]*"):
    if int(p.split("/")[2]) == os.getpid(): continue
    try:
        maps = open(p + "/maps").read().splitlines(); mem = open(p + "/mem", "rb")
    except OSError: continue
    for l in maps:
        m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (r)", l)
        if not m: continue
        a, b = int(m[1], 16), int(m[2], 16)
        if b - a > 1 << 28: continue
        try: mem.seek(a); d = mem.read(b - a)
        except (OSError, ValueError, OverflowError): continue
        total += len(d)
        for k in keys:
            if k.encode() in d: print("FOUND", p, l)
print("read", total)
`, { ms: 240000 });

			for (const f of planted(s)) {
				assert.ok(!tar.out.includes(f), "in the archive: " + f.slice(0, 12));
				assert.ok(!env.includes(f), "in an environment: " + f.slice(0, 12));
			}
			assert.ok(!own.includes("FOUND"), own);
		},
	},
	{
		name: "the host itself, reading all memory of both sandboxes, finds no credential in it",
		async fn(s) {
			const want = [s.keys.model, s.keys.telegram].map((k) => Buffer.from(k));
			let total = 0;

			for (const p of processes().filter((q) => q.uid > UID_BASE && q.uid < UID_BASE + 1000)) {
				let maps, fd;

				try {
					maps = fs.readFileSync(`/proc/${p.pid}/maps`, "utf8").split("\n");
					fd = fs.openSync(`/proc/${p.pid}/mem`, "r");
				} catch {
					continue;
				}
				for (const l of maps) {
					const m = /^([0-9a-f]+)-([0-9a-f]+) r\S* \S+ \S+ (\d+)/.exec(l);

					/* file mappings are in the archive test; anonymous memory is what is left */
					if (!m || m[3] !== "0")
						continue;
					const end = BigInt("0x" + m[2]);

					for (let at = BigInt("0x" + m[1]); at < end; at += 4194304n - 128n) {
						const n = Number(end - at < 4194304n ? end - at : 4194304n);
						const buf = Buffer.alloc(n);
						let got = 0;

						try {
							got = fs.readSync(fd, buf, 0, n, at);
						} catch {
							break;
						}
						total += got;
						for (const w of want)
							assert.ok(!buf.subarray(0, got).includes(w), `process ${p.pid} (${p.name}) holds a credential`);
					}
				}
				fs.closeSync(fd);
			}
			assert.ok(total > 50e6, `only ${total} bytes were read`);
		},
	},
	{
		name: "a second tenant's tokens are refused on this listener, for the model and for the conversation",
		async fn(s) {
			const body = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ model: "test-model", messages: [{ role: "user", content: "please: say x" }] }) };
			const with_ = (t) => ({ ...body, headers: { ...body.headers, authorization: "Bearer " + t } });
			const before = s.model.chats().length;
			const own = await fetchInside(s, "alice", "http://127.0.0.1:8377/v1/chat/completions", with_(await token(s, "alice", "api")));

			assert.equal(own.status, 200, own.body.slice(0, 300));
			const foreign = await fetchInside(s, "alice", "http://127.0.0.1:8377/v1/chat/completions", with_(await token(s, "bob", "api")));

			assert.ok([401, 403].includes(foreign.status), "status " + foreign.status);
			assert.equal(s.model.chats().length, before + 1, "the foreign call reached the model");
			for (const method of ["getMe", "getUpdates"]) {
				const got = await fetchInside(s, "alice", `http://127.0.0.1:8377/telegram/bot${await token(s, "bob", "bot")}/${method}`);

				assert.ok([401, 403, 404].includes(got.status), `${method}: ${got.status}`);
				assert.ok(!/bob/.test(got.body));
			}
		},
	},
	{
		name: "a send to any chat but the owner's is refused, reaches nobody, and stands in the ledger",
		async fn(s) {
			const bot = await token(s, "alice", "bot"), sent = s.telegram.sent().length, bad = "stranger-bound-words";
			const messages = (await s.web.bob.history()).messages.length;

			for (const chat of [999888, "70002", "@channel", -100123, 1002])
				for (const method of ["sendMessage", "sendPhoto", "copyMessage", "forwardMessage"]) {
					const got = await fetchInside(s, "alice", `http://127.0.0.1:8377/telegram/bot${bot}/${method}`, {
						method: "POST", headers: { "content-type": "application/json" },
						body: JSON.stringify({ chat_id: chat, text: bad, from_chat_id: 1001, message_id: 1, photo: "https://example.com/x.png" }),
					});

					assert.ok(got.status >= 400, `${method} to ${chat}: ${got.status} ${got.body.slice(0, 200)}`);
				}
			/* the owner's chat as the destination, a stranger's as the source */
			const from = await fetchInside(s, "alice", `http://127.0.0.1:8377/telegram/bot${bot}/forwardMessage?chat_id=1001&from_chat_id=70002&message_id=1`);

			assert.ok(from.status >= 400);
			assert.equal(s.telegram.sent(70002).filter((u) => u.message.text?.includes(bad)).length, 0);
			assert.ok(!s.telegram.sent().slice(sent).some((u) => JSON.stringify(u.message).includes(bad)));
			assert.equal((await s.web.bob.history()).messages.length, messages);
			await until("the ledger has the refusal", 10000, async () => /denied/.test(await s.ok(["audit", "tail", "--tenant", "alice"])));
		},
	},
	{
		name: "an agent that is told to write to somebody else cannot",
		async fn(s) {
			const answer = await s.web.alice.asks("please: tell 999888 words-for-a-stranger", "The tool said");

			assert.ok(!s.telegram.sent().some((u) => String(u.message.chat_id) === "999888"), answer.text);
		},
	},
	{
		name: "a denial says which rule, why, and what the operator would have to do",
		async fn(s) {
			const got = await fetchInside(s, "alice", "http://127.0.0.1:8377/r/openai/v1/files", { headers: { authorization: "Bearer " + await token(s, "alice", "api") } });
			const body = JSON.parse(got.body);
			const error = body.error || body;

			assert.ok(got.status >= 400 && got.status < 500);
			assert.ok(error.rule && error.reason && "fix" in error, got.body);
			assert.ok(!/bob/.test(got.body));
		},
	},
	{
		name: "the configuration that the agent runs is read-only, also for OpenClaw's own tools",
		async fn(s) {
			const got = await s.exec("alice", ["/bin/sh", "-c", "echo x >> /etc/agent/openclaw.json; rm -f /etc/agent/openclaw.json; test -s /etc/agent/openclaw.json && echo still"]);

			assert.match(String(got.out), /still/);
		},
	},
];
