/* SPDX-License-Identifier: Apache-2.0 */
/* The credential arrives at the upstream exactly once per call and nowhere else. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { until } from "../lib/util.mjs";

const count = (bytes, what) => bytes.toString("latin1").split(what).length - 1;

export const tests = [
	{
		name: "the model's key arrives exactly once per call, in the header where it belongs",
		async fn(s) {
			const calls = s.model.calls(), bytes = s.model.tap.connections();
			const keys = bytes.reduce((n, b) => n + count(b, s.keys.model), 0);
			const heads = bytes.reduce((n, b) => n + (b.toString("latin1").match(/^authorization: bearer sk-planted-/gim) || []).length, 0);

			assert.ok(calls.length >= 8);
			assert.ok(calls.every((c) => c.status === 200), "aimock demands the real key: " + calls.map((c) => c.status).join(" "));
			assert.equal(keys, calls.length);
			assert.equal(heads, calls.length);
			assert.ok(!bytes.some((b) => b.includes("sk-cloister-")), "a capability token left the broker");
			assert.ok(!bytes.some((b) => b.includes(s.keys.telegram)));
		},
	},
	{
		name: "the bot's token arrives in the path of the Bot API and nowhere else",
		async fn(s) {
			const good = s.telegram.requests.filter((r) => !r.refused);

			assert.ok(good.length > 0);
			assert.equal(s.telegram.requests.length, good.length, "a call with another token");
			for (const r of good) {
				assert.equal(count(Buffer.from(r.url), s.keys.telegram), 1);
				assert.ok(!r.body.includes(s.keys.telegram) && !JSON.stringify(r.headers).includes(s.keys.telegram));
				assert.ok(!JSON.stringify(r).includes(s.keys.model));
			}
		},
	},
	{
		name: "no credential lies on the host's disk or in a log in the clear",
		async fn(s) {
			for (const f of fs.readdirSync(s.dir, { recursive: true, withFileTypes: true })) {
				if (!f.isFile())
					continue;
				const bytes = fs.readFileSync(path.join(f.parentPath, f.name));

				for (const k of [s.keys.model, s.keys.telegram])
					assert.ok(!bytes.includes(k), `${f.parentPath}/${f.name}`);
			}
			assert.ok(!s.service.logs.includes(s.keys.model) && !s.service.logs.includes(s.keys.telegram));
		},
	},
	{
		name: "secret list shows a name and a fingerprint, never the secret",
		async fn(s) {
			const out = await s.ok(["secret", "list"]);

			assert.match(out, /aimock/);
			assert.ok(!out.includes(s.keys.model.slice(0, 20)));
		},
	},
	{
		name: "no program's arguments or environment hold a credential",
		async fn(s) {
			for (const d of fs.readdirSync("/proc").filter((n) => /^\d+$/.test(n) && Number(n) !== process.pid))
				for (const f of ["cmdline", "environ"]) {
					let text = "";

					try {
						text = fs.readFileSync(`/proc/${d}/${f}`, "latin1");
					} catch {
						continue;
					}
					assert.ok(!text.includes(s.keys.model) && !text.includes(s.keys.telegram), `process ${d}`);
				}
		},
	},
	{
		name: "with a wrong key the person reads a sentence, and all is well again with the right one",
		async fn(s) {
			await s.ok(["secret", "set", "aimock"], { input: "sk-wrong-key-wrong-key\n" });
			const at = await s.web.bob.send("please: say this-needs-the-key");
			const m = await s.web.bob.hears("", at);

			assert.ok(!m.text.includes("sk-wrong"), m.text);
			assert.ok(m.text.length > 10 && !/^\s*[{<]/.test(m.text), m.text);
			await s.ok(["secret", "set", "aimock"], { input: s.keys.model + "\n" });
			/* OpenClaw rests a provider for a while after a 401; the person may have to ask again */
			let n = 0;

			await until("bob is answered again", 240000, () =>
				s.web.bob.asks(`please: say well-again-${++n}`, `well-again-${n}`, 15000).catch(() => null));
		},
	},
];
