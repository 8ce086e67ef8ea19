/* SPDX-License-Identifier: Apache-2.0 */
#include "model-sim/brain.h"

#include "model-sim/words.h"

#include <string.h>

#define SAID_MAX (256u * 1024)
#define SHOWN_MAX 3000		/* bytes of a tool result, or of the person's words, in an answer */
#define MARK "\n\n(simulated model)"
#define REMIND_WORD "Remind the owner: "

struct turn {
	const json_t *request;
	struct span said;	/* the person's words */
	bool scheduled;		/* no person: one of our reminders is due */
	size_t pictures;
	size_t results;		/* tool results since then */
	const json_t *result;	/* the last of them, NULL: none */
	int64_t now_us;
	struct thought *out;
};

void thought_done(struct thought *t)
{
	buf_done(&t->text);
	json_decref(t->args);
	t->args = NULL;
}

/* ---- reading the request ------------------------------------------------------ */

/* Text of a message's content, which is a string or an array of parts. */
static void content_text(const json_t *content, struct buf *out)
{
	size_t i;
	json_t *part;

	if (json_is_string(content)) {
		(void)buf_add(out, json_string_value(content), json_string_length(content));
		return;
	}
	json_array_foreach(content, i, part) {
		const json_t *text = json_object_get(part, "text");

		if (json_is_string(text))
			(void)buf_add(out, json_string_value(text), json_string_length(text));
	}
}

static size_t pictures(const json_t *content)
{
	size_t i, n = 0;
	json_t *part;

	json_array_foreach(content, i, part)
		n += json_object_get(part, "image_url") != NULL;
	return n;
}

static bool role_is(const json_t *message, const char *role)
{
	const char *r = json_string_value(json_object_get(message, "role"));

	return r && strcmp(r, role) == 0;
}

/* Take off what OpenClaw puts around a person's words. Seen in real requests:
 * "[Mon 2026-11-23 21:10 GMT+1] Conversation info: ...```\n\nWORDS\n\nRuntime: agent=..."
 * "[cron:ID NAME] WORDS\nCurrent time: ..." */
static struct span unwrap(struct span s, bool *scheduled)
{
	size_t at;

	*scheduled = span_starts(s, SPAN("[cron:"));
	if (s.n && s.p[0] == '[' && words_find(s, "] ", &at))
		s = words_from(s, at + 2);
	if (span_starts(s, SPAN("Conversation info")) && words_find(s, "\n```\n\n", &at))
		s = words_from(s, at + 6);
	if (words_find(s, "\n\nRuntime: agent=", &at))
		s.n = at;
	if (words_find(s, "\nCurrent time: ", &at))
		s.n = at;
	return words_trim(s);
}

/* Index of the last message of a person, or -1. Appends its text to @out. */
static ssize_t last_said(const json_t *messages, struct buf *out)
{
	for (size_t i = json_array_size(messages); i-- > 0; ) {
		const json_t *m = json_array_get(messages, i);

		if (!role_is(m, "user"))
			continue;
		buf_clear(out);
		content_text(json_object_get(m, "content"), out);
		if (out->failed || span_starts(buf_span(out), SPAN("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>")))
			continue;
		return (ssize_t)i;
	}
	buf_clear(out);
	return -1;
}

int brain_said(const json_t *request, struct buf *out)
{
	CL_BUF struct buf all;
	bool scheduled;

	buf_init(&all, SAID_MAX);
	if (last_said(json_object_get(request, "messages"), &all) < 0)
		return -EINVAL;
	return buf_add_span(out, unwrap(buf_span(&all), &scheduled));
}

/* The schema of an offered tool's parameters, or NULL when it is not offered. */
static const json_t *offered(const struct turn *t, const char *name)
{
	size_t i;
	json_t *tool;

	json_array_foreach(json_object_get(t->request, "tools"), i, tool) {
		const json_t *f = json_object_get(tool, "function");
		const char *n = json_string_value(json_object_get(f, "name"));

		if (n && strcmp(n, name) == 0) {
			const json_t *p = json_object_get(f, "parameters");

			return p ? p : f;
		}
	}
	return NULL;
}

/* ---- answers -------------------------------------------------------------------- */

/* @args is taken over. Return: false when the tool is not offered */
static bool call(struct turn *t, const char *tool, json_t *args)
{
	if (!offered(t, tool)) {
		json_decref(args);
		return false;
	}
	(void)span_copy(span_str(tool), t->out->tool, sizeof t->out->tool);	/* our own constants */
	t->out->args = args;
	return true;
}

static void shown(struct buf *b, struct span s)
{
	bool cut = s.n > SHOWN_MAX;

	if (cut) {
		s.n = SHOWN_MAX;
		while (s.n && ((unsigned char)s.p[s.n] & 0xc0) == 0x80)
			s.n--;		/* not inside a character */
	}
	(void)buf_add_span(b, s);
	if (cut)
		(void)buf_add_str(b, " […]");
}

static void result_text(const struct turn *t, struct buf *out)
{
	buf_init(out, SAID_MAX);
	content_text(json_object_get(t->result, "content"), out);
}

/* "words" and, as they are, what the tool gave. */
static void tell_result(struct turn *t, const char *words)
{
	CL_BUF struct buf r;

	result_text(t, &r);
	struct span s = words_trim(buf_span(&r));

	(void)buf_printf(&t->out->text, "%s\n", words);
	if (s.n)
		shown(&t->out->text, s);
	else
		(void)buf_add_str(&t->out->text, "(nothing)");
}

static void no_tool(struct turn *t, const char *what)
{
	(void)buf_printf(&t->out->text, "I would %s, but I was given no tool for it.", what);
}

/* Did the last tool say that it failed? */
static bool failed(const struct turn *t)
{
	CL_BUF struct buf r;
	size_t at;

	result_text(t, &r);
	return words_find(buf_span(&r), "error", &at) || words_find(buf_span(&r), "denied", &at);
}

/* Did the last tool say that there is no such file? */
static bool nothing(const struct turn *t)
{
	CL_BUF struct buf r;
	size_t at;

	result_text(t, &r);
	return words_find(buf_span(&r), "not_found", &at) || words_find(buf_span(&r), "ENOENT", &at);
}

/* "2 minutes": in the largest unit that fits evenly */
static void add_delay(struct buf *out, int64_t s)
{
	static const struct { const char *name; int64_t s; } units[] = {
		{ "day", 86400 }, { "hour", 3600 }, { "minute", 60 }, { "second", 1 },
	};
	size_t i = 0;

	while (s % units[i].s)
		i++;
	(void)buf_printf(out, "%lld %s%s", (long long)(s / units[i].s), units[i].name,
			 s == units[i].s ? "" : "s");
}

/* ---- intents: each returns false when the words are about something else --------- */

static bool do_write(struct turn *t)
{
	struct span file, text;

	if (!words_write(t->said, &file, &text))
		return false;
	json_t *path = json_stringn(file.p, file.n);

	if (t->results == 0) {
		if (!call(t, "write", json_pack("{s:o, s:o}", "path", path, "content",
						json_stringn(text.p, text.n))))
			no_tool(t, "write that file");
	} else if (t->results == 1 && offered(t, "read")) {
		(void)call(t, "read", json_pack("{s:o}", "path", path));
	} else {
		CL_BUF struct buf words;

		buf_init(&words, 1024);
		(void)buf_printf(&words, "I wrote %.*s and read it back. It says:", SPAN_FMT(file));
		(void)buf_add_ch(&words, '\0');
		tell_result(t, words.failed ? "I wrote it and read it back. It says:" : words.p);
		json_decref(path);
	}
	return true;
}

static bool do_read(struct turn *t)
{
	struct span file;

	if (!words_read(t->said, &file))
		return false;
	if (t->results)
		tell_result(t, "It says:");
	else if (!call(t, "read", json_pack("{s:o}", "path", json_stringn(file.p, file.n))))
		no_tool(t, "read that file");
	return true;
}

static bool run(struct turn *t, struct span command, const char *words)
{
	if (t->results)
		tell_result(t, words);
	else if (!call(t, "exec", json_pack("{s:o}", "command", json_stringn(command.p, command.n))))
		no_tool(t, "run that");
	return true;
}

static bool do_run(struct turn *t)
{
	struct span command;

	return words_run(t->said, &command) && run(t, command, "I ran it. The output:");
}

static bool do_list(struct turn *t)
{
	static const char *const cues[] = { "list files", "list my files", "list the files", "which files",
					    "what files", "show files", "show my files" };

	return words_any(t->said, cues, CL_ARRAY_LEN(cues)) &&
	       run(t, SPAN("ls -la"), "These are the files:");
}

static bool do_time(struct turn *t)
{
	static const char *const cues[] = { "what time is it", "what day is it", "what date is it" };

	return words_any(t->said, cues, CL_ARRAY_LEN(cues)) && run(t, SPAN("date"), "It is:");
}

static bool do_recall(struct turn *t)
{
	static const char *const cues[] = { "what do you remember", "what did i tell you",
					    "what do you know about me", "do you remember" };

	if (!words_any(t->said, cues, CL_ARRAY_LEN(cues)))
		return false;
	if (t->results && nothing(t)) {
		(void)buf_add_str(&t->out->text, "I remember nothing yet. Tell me: remember that ...");
		return true;
	}
	if (t->results) {
		tell_result(t, "This is in my memory:");
	} else {
		const json_t *schema = offered(t, "read");
		const json_t *optional = json_object_get(json_object_get(schema, "properties"), "optional");
		json_t *args = json_pack("{s:s}", "path", "MEMORY.md");

		if (optional)
			(void)json_object_set_new(args, "optional", json_true());
		if (!call(t, "read", args))
			no_tool(t, "look into my memory");
	}
	return true;
}

static bool do_remember(struct turn *t)
{
	CL_BUF struct buf command;
	struct span what;

	if (!words_remember(t->said, &what))
		return false;
	if (t->results && failed(t)) {
		tell_result(t, "I could not keep that:");
		return true;
	}
	if (t->results) {
		(void)buf_add_str(&t->out->text, "I will remember: ");
		shown(&t->out->text, what);
		return true;
	}
	buf_init(&command, SAID_MAX * 2);
	(void)buf_add_str(&command, "printf '%s\\n' ");
	words_shell_quote(what, "- ", &command);
	(void)buf_add_str(&command, " >> MEMORY.md");
	return !command.failed && run(t, buf_span(&command), "");
}

static bool do_remind(struct turn *t)
{
	struct span what;
	int64_t in_s;
	char at[40];
	CL_BUF struct buf message;

	if (!words_remind(t->said, &in_s, &what))
		return false;
	if (t->results && failed(t)) {
		tell_result(t, "I could not set the reminder:");
		return true;
	}
	if (t->results) {
		(void)buf_add_str(&t->out->text, "I will remind you in ");
		add_delay(&t->out->text, in_s);
		(void)buf_add_str(&t->out->text, ": ");
		shown(&t->out->text, what);
		return true;
	}
	cl_time_rfc3339(t->now_us + in_s * 1000000, at, sizeof at);
	buf_init(&message, SAID_MAX);
	(void)buf_add_str(&message, REMIND_WORD);
	(void)buf_add_span(&message, what);

	json_t *args = json_pack("{s:s, s:{s:s, s:{s:s, s:s}, s:s, s:{s:s, s:o}, s:b}}",
		"action", "add", "job", "name", "reminder", "schedule", "kind", "at", "at", at,
		"sessionTarget", "isolated", "payload", "kind", "agentTurn",
		"message", json_stringn(message.p, message.n), "deleteAfterRun", 1);

	if (!call(t, "automations", args))
		no_tool(t, "remind you");
	return true;
}

/* Nobody spoke: a reminder of ours is due. Anything else that is scheduled needs no answer. */
static bool do_scheduled(struct turn *t)
{
	size_t at;

	if (!t->scheduled)
		return false;
	if (words_find(t->said, REMIND_WORD, &at)) {
		(void)buf_add_str(&t->out->text, "Reminder: ");
		shown(&t->out->text, words_from(t->said, at + sizeof REMIND_WORD - 1));
	} else {
		(void)buf_add_str(&t->out->text, "NO_REPLY");
	}
	return true;
}

static bool do_help(struct turn *t)
{
	static const char *const cues[] = { "help", "who are you", "what can you do", "/start" };

	if (!words_starts_any(t->said, cues, CL_ARRAY_LEN(cues)))
		return false;
	(void)buf_add_str(&t->out->text,
		"I am a simulated model, so that this works without a key: I know a few sentences by heart.\n"
		"- write good morning into note.txt\n- read note.txt\n- list files\n- run `uname -a`\n"
		"- remember that I like tea\n- what do you remember?\n- remind me in 1 minute to drink it\n"
		"The agent around me, its sandbox and its tools are real. To connect a real model:\n"
		"cloister secret set openai, then cloister model set openai --model gpt-4.1-mini");
	return true;
}

static bool do_hello(struct turn *t)
{
	static const char *const cues[] = { "hello", "hi", "hey", "good morning", "good evening", "good day" };

	if (!words_starts_any(t->said, cues, CL_ARRAY_LEN(cues)))
		return false;
	(void)buf_add_str(&t->out->text, "Hello! Good to hear from you. You said: ");
	shown(&t->out->text, t->said);
	(void)buf_add_str(&t->out->text, "\nSay \"help\" for what I can show.");
	return true;
}

static bool do_picture(struct turn *t)
{
	if (!t->pictures)
		return false;
	(void)buf_printf(&t->out->text, "I got %zu picture%s. I am simulated and cannot see what is in it.",
			 t->pictures, t->pictures == 1 ? "" : "s");
	return true;
}

static bool do_echo(struct turn *t)
{
	if (t->results) {	/* somebody else's tool call: end the turn with what it gave */
		tell_result(t, "The tool answered:");
		return true;
	}
	(void)buf_add_str(&t->out->text, "You said: ");
	shown(&t->out->text, t->said);
	(void)buf_add_str(&t->out->text, "\nSay \"help\" for what I can show.");
	return true;
}

/* In this order: the first that fits answers. */
static bool (*const intents[])(struct turn *) = {
	do_scheduled, do_help, do_remind, do_recall, do_remember, do_write, do_read, do_list, do_run,
	do_time, do_picture, do_hello, do_echo,
};

int brain_think(const json_t *request, int64_t now_us, struct thought *out, struct cl_err *err)
{
	const json_t *messages = json_object_get(request, "messages");
	CL_BUF struct buf said;
	struct turn t = { .request = request, .now_us = now_us, .out = out };
	ssize_t at;

	*out = (struct thought){ .args = NULL };
	buf_init(&out->text, 4 * SAID_MAX);
	buf_init(&said, SAID_MAX);
	if (!json_is_array(messages) || json_array_size(messages) == 0)
		return cl_fail(err, EINVAL, "'messages' must be an array with at least one message");
	at = last_said(messages, &said);
	if (at < 0)
		return cl_fail(err, EINVAL, "there is no message with role 'user' of at most %u bytes",
			       SAID_MAX);
	t.said = unwrap(buf_span(&said), &t.scheduled);
	t.pictures = pictures(json_object_get(json_array_get(messages, (size_t)at), "content"));
	for (size_t i = (size_t)at + 1; i < json_array_size(messages); i++) {
		const json_t *m = json_array_get(messages, i);

		if (role_is(m, "tool")) {
			t.results++;
			t.result = m;
		}
	}
	for (size_t i = 0; i < CL_ARRAY_LEN(intents); i++)
		if (intents[i](&t))
			break;
	if (!out->tool[0] && !span_eq_str(buf_span(&out->text), "NO_REPLY"))
		(void)buf_add_str(&out->text, MARK);
	if (out->text.failed || (out->tool[0] && !out->args)) {
		thought_done(out);
		return cl_fail(err, ENOMEM, "the answer does not fit");
	}
	return 0;
}
