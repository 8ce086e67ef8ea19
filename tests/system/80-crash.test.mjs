/* SPDX-License-Identifier: Apache-2.0 */
/* kill -9 of any one program is survived and no accepted message is lost. */
import assert from "node:assert/strict";
import { processes, UID_BASE } from "../lib/stack.mjs";
import { sleep, until } from "../lib/util.mjs";
import { telegramPeople } from "./10-conversation.test.mjs";

let n = 0;

/* send, and go on trying with the same client_id as the page does, until it is accepted */
async function accepted(b, text) {
	const body = JSON.stringify({ text, client_id: `crash-${++n}` });

	return until("the message is accepted", 30000, async () => {
		const got = await b.ask("POST", `/c/${b.id}/send`, body);

		return got.status === 200 && got.json.message_id;
	}, 300);
}

function kill(name) {
	return {
		name: `kill -9 of ${name} loses no accepted message`,
		async fn(s) {
			const pid = s.service.pid(name);

			assert.ok(pid, `${name} does not run`);
			/* one accepted before, answered slowly, one while it is away */
			const w1 = `before-${name}-${Date.now()}`, w2 = `after-${name}-${Date.now()}`;
			const first = await accepted(s.web.alice, `please: wait 1500 say ${w1}`);

			await sleep(300);
			process.kill(pid, "SIGKILL");
			await until(`${name} runs again`, 20000, () => {
				const now = s.service.pid(name);

				return now && now !== pid;
			});
			const second = await accepted(s.web.alice, `please: say ${w2}`);

			await s.web.alice.hears(w1, first, 180000);
			await s.web.alice.hears(w2, second, 180000);
			const messages = (await s.web.alice.history()).messages;

			for (const w of [w1, w2]) {
				assert.equal(messages.filter((m) => m.from === "owner" && m.text.includes(w)).length, 1, `${w} from the owner`);
				assert.equal(messages.filter((m) => m.from === "agent" && m.text.includes(w)).length, 1, `${w} from the agent`);
			}
			/* the neighbour did not notice, or was restarted cleanly */
			await s.web.bob.asks(`please: say fine-after-${name}`, `fine-after-${name}`, 180000);
			assert.equal(s.service.ended, null, "up ended");
		},
	};
}

export const tests = [
	kill("cloister-broker"),
	kill("cloister-api"),
	kill("cloister-ledger"),
	kill("cloisterd"),
	{
		name: "a message over Telegram is answered after all of that",
		async fn(s) {
			const { bob } = await telegramPeople(s);

			await bob.send("please: say still-here-over-telegram");
			await bob.hears("still-here-over-telegram", 180000);
		},
	},
	{
		name: "an agent that dies is started again and answers",
		async fn(s) {
			const uid = UID_BASE + (await s.json(["tenant", "show", "bob"])).no;
			const agents = processes().filter((p) => p.uid === uid && p.name !== "cloister-init");

			assert.ok(agents.length > 0);
			for (const p of agents)
				try {
					process.kill(p.pid, "SIGKILL");
				} catch {
					/* went with its parent */
				}
			const at = await accepted(s.web.bob, "please: say born-again");

			await s.web.bob.hears("born-again", at, 180000);
		},
	},
];
