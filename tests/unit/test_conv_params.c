/* SPDX-License-Identifier: Apache-2.0 */
/* The parameter reader of the virtual Bot API, and formatted text. */
#include "test.h"

#include "broker/conv/entities.h"
#include "broker/conv/params.h"

static struct param_refusal why;

static int read_as(struct params *p, const char *method, const char *type, const char *query, const char *body, size_t n)
{
	why = (struct param_refusal){ 0 };
	return params_read(p, method_find(span_str(method)), span_str(type), span_str(query), (struct span){ body, n },
			   &why);
}

static void the_table_has_every_method_of_the_bot_api_once(void **state)
{
	(void)state;
	assert_int_equal(nmethods, 180);
	for (size_t i = 0; i < nmethods; i++) {
		assert_ptr_equal(method_find(span_str(methods[i].name)), &methods[i]);
		for (size_t k = 0; k < methods[i].nfields; k++) {
			const struct method_field *f = &methods[i].fields[k];

			assert_ptr_equal(method_field(&methods[i], span_str(f->name)), f);
			/* nothing that names a chat or person may be an ordinary field */
			if (strstr(f->name, "chat_id") || !strcmp(f->name, "user_id"))
				assert_true(f->kind == FK_CHAT || f->kind == FK_USER);
			if (!strcmp(f->name, "business_connection_id") || !strcmp(f->name, "inline_message_id"))
				assert_true(f->kind == FK_DENY);
		}
	}
	assert_null(method_find(SPAN("sendEverything")));
}

static void only_the_canonical_spelling_of_the_own_chat_is_the_own_chat(void **state)
{
	static const char *const bad[] = { "", " ", "1001 ", " 1001", "+1001", "01001", "1001.0", "1.001e3", "0x3e9", "-1001",
		"10010", "100", "@cloister", "\xef\xbc\x91\xef\xbc\x90\xef\xbc\x90\xef\xbc\x91", "1001\n", "18446744073709552617",
		"4294968297", "8377" };

	(void)state;
	assert_true(own_chat_ok(SPAN("1001")));
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++)
		assert_false(own_chat_ok(span_str(bad[i])));
	assert_false(own_chat_ok((struct span){ "1001\0", 5 }));
}

static void each_source_alone_is_read_and_two_are_refused(void **state)
{
	static const char json[] = "{\"chat_id\":1001,\"text\":\"a b\"}";
	static const char form[] = "method=sendMessage&chat_id=1001&text=a+b";	/* method: as Telegraf says it */
	struct params p;

	(void)state;
	assert_int_equal(read_as(&p, "sendMessage", "application/json; charset=utf-8", "", json, sizeof(json) - 1), 0);
	assert_true(span_eq_str(params_text(&p, "text"), "a b"));
	params_done(&p);
	assert_int_equal(read_as(&p, "sendMessage", "application/x-www-form-urlencoded", "", form, sizeof(form) - 1), 0);
	assert_true(span_eq_str(params_text(&p, "text"), "a b"));
	params_done(&p);
	assert_int_equal(read_as(&p, "sendMessage", "", "chat_id=1001&text=%61%20b", "", 0), 0);
	assert_true(span_eq_str(params_text(&p, "text"), "a b"));
	params_done(&p);
	assert_int_equal(read_as(&p, "sendMessage", "application/json", "chat_id=1001", json, sizeof(json) - 1), -EACCES);
	assert_string_equal(why.rule, "conversation.duplicate");
	assert_int_equal(read_as(&p, "sendMessage", "text/plain", "", json, sizeof(json) - 1), -EACCES);
	assert_int_equal(why.code, 415);
}

static void unknown_repeated_missing_and_broken_parameters_are_refused(void **state)
{
	static const struct { const char *query; int code; const char *rule; } bad[] = {
		{ "chat_id=1001&text=x&colour=red", 400, "conversation.unknown_field" },
		{ "chat_id=1001&chat_id=1001&text=x", 400, "conversation.duplicate" },
		{ "chat_id=1001", 400, NULL }, { "text=x", 400, NULL }, { "chat_id=1001&text=%zz", 400, NULL },
		{ "chat_id=1001&text=%f", 400, NULL }, { "chat_id=1001&text=%ff", 400, NULL },
		{ "chat_id=1001&text=a%00b", 400, NULL }, { "chat_id=1001&text", 400, NULL },
		{ "chat_id=1001&text=x&disable_notification=maybe&business_connection_id=1", 403, "conversation.field" },
		{ "chat_id=1001&text=x&reply_to_message_id=1.5", 400, NULL },
		{ "chat_id=1001&text=x&method=sendPhoto", 400, "conversation.duplicate" },
		{ "chat_id=1001&text=x&reply_markup={", 400, NULL },
		{ "chat_id=1001&text=x&reply_markup={\"a\":1,\"a\":2}", 400, NULL },
	};
	struct params p;

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++) {
		assert_int_equal(read_as(&p, "sendMessage", "", bad[i].query, "", 0), -EACCES);
		if (why.code != bad[i].code || (bad[i].rule ? !why.rule || strcmp(why.rule, bad[i].rule) : why.rule != NULL))
			fail_msg("%s: %d %s", bad[i].query, why.code, why.rule);
	}
}

#define PART(name, value) "--b\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"

static void multipart_is_read_as_the_sdks_write_it_and_nothing_else(void **state)
{
	static const char grammy[] = "------------x\r\ncontent-disposition:form-data;name=\"chat_id\"\r\n\r\n1001\r\n"
		"------------x\r\ncontent-disposition:form-data;name=\"document\"\r\n\r\nattach://q\r\n"
		"------------x\r\ncontent-disposition:form-data;name=\"q\";filename=a b; c.txt\r\n"
		"content-type:application/octet-stream\r\n\r\nda\r\n--ta\r\n------------x--\r\n";
	static const char *const bad[] = {
		"junk" PART("chat_id", "1001") "--b--\r\n",
		PART("chat_id", "1001"),
		PART("chat_id", "1001") "--b-- junk",
		"--b\nContent-Disposition: form-data; name=\"chat_id\"\n\n1001\n--b--\n",
		"--b\r\nContent-Disposition: form-data; name=\"chat_id\"; name=\"text\"\r\n\r\n1001\r\n--b--\r\n",
		"--b\r\nContent-Disposition: form-data; name=chat_id\r\n\r\n1001\r\n--b--\r\n",
		"--b\r\nContent-Disposition: form-data; name=\"chat_id\"; filename*=utf-8''x\r\n\r\n1001\r\n--b--\r\n",
		"--b\r\nContent-Disposition: form-data; name=\"chat_id\"; filename=\"x\"\r\n\r\n1001\r\n--b--\r\n",
		"--b\r\nContent-Disposition: form-data; name=\"chat_id\"\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n"
		"1001\r\n--b--\r\n",
		"--b\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n"
		"MTAwMQ==\r\n--b--\r\n",
		PART("chat_id", "1001") PART("chat_id", "1001") PART("document", "x") "--b--\r\n",
		"--b--\r\n", "--b", "",
	};
	struct params p;

	(void)state;
	assert_int_equal(read_as(&p, "sendDocument", "multipart/form-data; boundary=----------x", "", grammy,
				 sizeof(grammy) - 1), 0);
	assert_int_equal(p.nfiles, 1);
	assert_true(span_eq_str(p.files[0].filename, "a b; c.txt"));
	assert_true(span_eq_str(p.files[0].data, "da\r\n--ta"));
	params_done(&p);
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++)
		if (read_as(&p, "sendDocument", "multipart/form-data; boundary=b", "", bad[i], strlen(bad[i])) != -EACCES)
			fail_msg("passed: %s", bad[i]);
	assert_int_equal(read_as(&p, "sendDocument", "multipart/form-data; boundary=----------x; boundary=y", "", grammy,
				 sizeof(grammy) - 1), -EACCES);
	assert_int_equal(read_as(&p, "sendDocument", "multipart/form-data", "", grammy, sizeof(grammy) - 1), -EACCES);
}

static void no_prefix_of_a_request_is_read_past_its_end(void **state)
{
	static const char *const types[] = { "application/json", "application/x-www-form-urlencoded",
					     "multipart/form-data; boundary=b" };
	static const char *const bodies[] = {
		"{\"chat_id\":1001,\"text\":\"x\",\"reply_parameters\":{\"message_id\":1}}",
		"chat_id=1001&text=%41%42&reply_markup=%7b%7d",
		PART("chat_id", "1001") PART("text", "hello") "--b--\r\n",
	};

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(bodies); i++)
		for (size_t n = 1; n < strlen(bodies[i]); n++) {
			char *edge = test_at_edge(bodies[i], n);
			struct params p;

			if (read_as(&p, "sendMessage", types[i], "", edge, n) == 0)
				params_done(&p);
			test_edge_free(edge, n);
		}
}

static void check_text(const char *mode, const char *in, const char *text, const char *entities)
{
	CL_BUF struct buf t = { 0 };
	CL_BUF struct buf e = { 0 };
	char err[160] = "";
	int rc;

	buf_init(&t, 65536);
	buf_init(&e, 65536);
	rc = entities_read(span_str(in), span_str(mode), NULL, &t, &e, err, sizeof(err));
	if (!text) {
		assert_int_equal(rc, -EINVAL);
		assert_non_null(strstr(err, "can't parse entities"));
		return;
	}
	if (rc || !span_eq_str(buf_span(&t), text) || !span_eq_str(buf_span(&e), entities))
		fail_msg("%s: %d '%.*s' '%.*s' %s", in, rc, (int)t.n, t.p, (int)e.n, e.p, err);
}

static void html_and_markdown_become_plain_text_and_entities(void **state)
{
	(void)state;
	check_text("", "a <b>", "a <b>", "");
	check_text("HTML", "a <b>b\xf0\x9f\x98\x80</b> &lt;c&gt; &#65;&#x1F600;", "a b\xf0\x9f\x98\x80 <c> A\xf0\x9f\x98\x80",
		   "[{\"type\":\"bold\",\"offset\":2,\"length\":3}]");
	check_text("html", "<pre><code class=\"language-c\">x</code></pre>", "x",
		   "[{\"type\":\"pre\",\"offset\":0,\"length\":1,\"language\":\"c\"}]");
	check_text("HTML", "<a href=\"https://x.y/?a=1&amp;b=2\">go</a>", "go",
		   "[{\"type\":\"text_link\",\"offset\":0,\"length\":2,\"url\":\"https://x.y/?a=1&b=2\"}]");
	check_text("HTML", "<pre><code class=\"language-a\x01 b\">x</code></pre>", "x",
		   "[{\"type\":\"pre\",\"offset\":0,\"length\":1}]");
	check_text("HTML", "<a href=\"tg://user?id=5\">him</a><a href=\"javascript:x\">js</a>", "himjs", "");
	check_text("HTML", "<i><b>x</i></b>", NULL, NULL);
	check_text("HTML", "<b>x", NULL, NULL);
	check_text("HTML", "<script>x</script>", NULL, NULL);
	check_text("HTML", "a < b", NULL, NULL);
	check_text("HTML", "&#0; x", NULL, NULL);
	check_text("HTML", "AT&T & co &nope;", "AT&T & co &nope;", "");
	check_text("MarkdownV2", "*b* _i_ __u__ `a*b` \\*x\\*", "b i u a*b *x*",
		   "[{\"type\":\"bold\",\"offset\":0,\"length\":1},{\"type\":\"italic\",\"offset\":2,\"length\":1},"
		   "{\"type\":\"underline\",\"offset\":4,\"length\":1},{\"type\":\"code\",\"offset\":6,\"length\":3}]");
	check_text("Markdown", "[t](https://x.y) ~no~", "t ~no~",
		   "[{\"type\":\"text_link\",\"offset\":0,\"length\":1,\"url\":\"https://x.y\"}]");
	check_text("MarkdownV2", "*open", NULL, NULL);
	check_text("MarkdownV2", "[t](tg://user?id=5)", "t", "");
	check_text("BBCode", "x", NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_has_every_method_of_the_bot_api_once),
		cmocka_unit_test(only_the_canonical_spelling_of_the_own_chat_is_the_own_chat),
		cmocka_unit_test(each_source_alone_is_read_and_two_are_refused),
		cmocka_unit_test(unknown_repeated_missing_and_broken_parameters_are_refused),
		cmocka_unit_test(multipart_is_read_as_the_sdks_write_it_and_nothing_else),
		cmocka_unit_test(no_prefix_of_a_request_is_read_past_its_end),
		cmocka_unit_test(html_and_markdown_become_plain_text_and_entities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
