/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model that speaks Anthropic's Messages API: the agent is rendered for that
 * protocol, the key arrives where that API wants it. Bob is put back afterwards.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

async function modelOf(s, id, model) {
	const file = path.join(s.dir, `policy-${id}.yaml`);

	fs.writeFileSync(file, model ? `model:\n  route: ${model}\n  id: test-model\n` : "{}\n");
	await s.ok(["policy", "set", id, file]);
	await s.ok(["tenant", "restart", id], { ms: 120000 });
	await s.ok(["tenant", "start", id, "--wait", "180"], { ms: 200000 });
}

export const tests = [
	{
		name: "a model behind the Anthropic Messages API answers, with a tool call, and gets its key once per call",
		async fn(s) {
			await modelOf(s, "bob", "aimock-messages");
			try {
				const before = s.model.calls().length;

				await s.web.bob.asks("please: keep messages-api in anthropic.txt", "The file says: messages-api", 180000);
				const calls = s.model.calls().slice(before);
				const mine = calls.filter((c) => c.path.endsWith("/v1/messages"));

				assert.ok(mine.length >= 3, "three steps of one turn: " + calls.map((c) => c.path).join(" "));
				assert.ok(mine.every((c) => c.status === 200), "the key was accepted");
				const raw = s.model.tap.connections().map((b) => b.toString("latin1")).join("\n");
				const sent = raw.split("POST /v1/messages").slice(1).map((t) => t.split("\r\n\r\n")[0]);

				for (const head of sent) {
					assert.equal(head.split(s.keys.model).length - 1, 1, "the key stands once in a head");
					assert.match(head, new RegExp("^x-api-key: " + s.keys.model + "$", "mi"));
					assert.doesNotMatch(head, /sk-cloister-/);
				}
				assert.ok(sent.length >= 3);
			} finally {
				await modelOf(s, "bob", null);
			}
		},
	},
];
